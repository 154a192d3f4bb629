"""Kafka and Redis are both lost: the export, the events again, and a rebuild give the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.edges.kafka_names import topic_names

from ..integration.test_control_backup import events, prepared, said, totals
from ..services import Recount, Services
from .own import OwnKafka, own_redis


def test_a_deployment_comes_back_on_another_cluster(
    recount: Recount, broker: OwnKafka, tmp_path: Path
) -> None:
    """Without an age limit: the same metrics, keys and numbers, and an audit without mismatch."""
    file = tmp_path / "control.jsonl"
    prepared(recount)
    recount.run("control", "export", "--output", str(file))
    before, number = said(recount), totals(recount, "tokens")
    with own_redis(tmp_path) as redis:
        there = replace(recount, services=Services(broker.address, redis.url))
        without_events = there.ended("control", "import", str(file))
        admin: Any = AdminClient({"bootstrap.servers": broker.address})
        topic = topic_names(recount.deployment)["events"]
        new = NewTopic(topic, 2, 1, config={"message.timestamp.type": "LogAppendTime"})
        admin.create_topics([new])[topic].result()
        (restored,) = there.run("control", "import", str(file))
        halted = there.ended("worker", "--until-caught-up")
        there.publish(events(0, 50))
        (*_, rebuilt) = there.run("rebuild")
        there.catch_up()

        assert (without_events.returncode, topic in without_events.stderr.decode()) == (5, True)
        assert restored["rebuild"] is True
        assert (halted.returncode, b"recount rebuild" in halted.stderr) == (5, True)
        assert rebuilt["lost_offsets"] == {}
        assert said(there) == before
        assert totals(there, "tokens") == number
        assert there.run("status")[-1]["counted"] == 50
        assert there.run("audit")[-1]["mismatches"] == 0
