"""A halted partition stops alone, is told of everywhere, and goes on once it is mended."""

import json
import re
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from pipeline.stack.processes import free_port

from ..services import Recount, Services
from ..stored import keys_of
from ..waiting import eventually
from .own import OwnKafka
from .stage import Stage, staged

PERIOD = ("--starting-on", "2026-01-01T00:00:00Z", "--ending-before", "2026-02-01T00:00:00Z")
BAD = 1  # the partition that halts
FLOOD = 20_000


@pytest.fixture
def four(
    broker: OwnKafka, recount: Recount, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """Four partitions on a broker whose files a test may change."""
    own = replace(recount, services=Services(broker.address, recount.services.redis))
    name = request.node.name
    with staged(own, tmp_path, name, kafka=broker.proxied, partitions=4) as made:
        made.prepare()
        yield made


def log_of(stage: Stage, broker: OwnKafka) -> Path:
    """The file that holds the log of the partition that halts."""
    topic = f"{stage.recount.deployment}.usage.events"
    return next((broker.folder / "kafka").glob(f"{topic}-{BAD}/*.log"))


def others_at_the_end(stage: Stage) -> bool:
    """Whether nothing is left to apply but in the halted partition."""
    pairs = zip(stage.watch.nexts(), stage.watch.ends(), strict=True)
    return all(at >= end for number, (at, end) in enumerate(pairs) if number != BAD)


def seconds_of_a_flood(stage: Stage) -> float:
    """Send many events, and wait until the partitions that have not halted applied theirs."""
    began = time.monotonic()
    stage.publish(FLOOD)
    eventually(lambda: others_at_the_end(stage), within_s=60, because="the others go on")
    return time.monotonic() - began


def flip(stage: Stage, broker: OwnKafka, at: int) -> None:
    """Change a byte of this log while the broker is down; a second time, it is as it was."""
    broker.terminate()
    path = log_of(stage, broker)
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    broker.start()


def asked(port: int, path: str) -> tuple[int, str]:
    """What a telemetry port answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_f49_an_unreadable_batch_stops_its_partition_alone(four: Stage, broker: OwnKafka) -> None:
    """Two processes, four partitions, one bad batch: three go on as fast, and all tell of it.

    Mended, the fourth goes on by itself, and everything is exact.
    """
    stage, port = four, free_port()
    stage.running(RECOUNT_TELEMETRY_PORT=str(port))
    stage.worker(RECOUNT_TELEMETRY_PORT=str(port + 1))
    before = seconds_of_a_flood(stage)
    stage.caught_up()
    stood = stage.watch.nexts()[BAD]
    stage.workers.end()
    place = log_of(stage, broker).stat().st_size + 100  # in the batch after `next`
    stage.publish()
    flip(stage, broker, place)
    workers = [stage.worker(RECOUNT_TELEMETRY_PORT=str(port + at)) for at in range(2)]

    for worker in workers:
        stage.halted_alone(worker, "is corrupt", BAD)
    while_halted = seconds_of_a_flood(stage)
    took = f"{before:.1f} s, beside the halted one {while_halted:.1f} s"
    sys.stderr.write(f"{FLOOD} events: {took}\n")
    assert while_halted < 3 * before + 5
    assert stage.watch.nexts()[BAD] == stood
    check_told(stage, port)
    assert [worker.poll() for worker in workers] == [None, None], stage.workers.logs()

    flip(stage, broker, place)
    stage.caught_up(90)
    stage.exact()
    assert "halted_partitions" not in stage.recount.run("status")[-1]
    assert [worker.poll() for worker in workers] == [None, None], stage.workers.logs()


def check_told(stage: Stage, port: int) -> None:
    """Status, telemetry and readers name the halted partition."""
    lines = stage.recount.run("status")
    assert [line["state"] for line in lines[:4]] == ["open", "halted", "open", "open"]
    assert "Restore the partition" in lines[BAD]["reason"]
    table = stage.recount.ended("status", "--table").stdout.decode()
    assert "halted" in table
    assert "CorruptRecordException" in table
    ready = [asked(port + at, "/readyz") for at in range(2)]
    assert [code for code, _ in ready] == [200, 200]
    assert sum("is corrupt" in text for _, text in ready) == 1
    counted = [
        line
        for at in range(2)
        for line in asked(port + at, "/metrics")[1].splitlines()
        if line.startswith("recount_halted_partitions ")
    ]
    assert sorted(counted) == [f"recount_halted_partitions {at}.0" for at in range(2)]
    (metric, *_) = stage.metrics
    row, end = stage.recount.run("usage", metric, "--customer", "c1", *PERIOD)
    assert row["complete"] is False
    assert end["as_of"]["halted_partitions"] == [BAD]


def test_a_worker_that_catches_up_ends_with_5(stage: Stage) -> None:
    """The others reach the end of the log first; the next worker goes on with what was mended."""
    stage.running()
    stage.workers.end()
    key, client = keys_of(stage.recount).state, stage.redis.client
    right: Any = client.hget(key, "ids")
    client.hset(key, "ids", "5=4")
    stage.publish()
    worker = stage.worker("--until-caught-up")

    stage.halted(worker, "the id log holds")
    assert stage.watch.nexts()[1] == stage.watch.ends()[1]
    client.hset(key, "ids", right)
    done = stage.worker("--until-caught-up")
    assert done.wait(40) == 0, stage.workers.logs()
    stage.exact()


def test_f44_a_lost_partition_is_told_by_whoever_looks(stage: Stage) -> None:
    """Without its state nobody can note anything in it: readers see that by themselves.

    The rebuild of it is all that the running worker needs.
    """
    worker = stage.running()
    client = stage.redis.client
    client.delete(*client.keys(f"{keys_of(stage.recount, 1).prefix}*"))
    stage.publish()

    stage.halted_alone(worker, "recount rebuild --partition 1", 1)
    eventually(
        lambda: stage.watch.nexts()[0] == stage.watch.ends()[0],
        within_s=20,
        because="the other one goes on",
    )
    (metric, *_) = stage.metrics
    done = stage.recount.ended("usage", metric, "--customer", "c1", *PERIOD)
    assert (done.returncode, done.stdout) == (5, b"")
    stage.recount.run("rebuild", "--partition", "1")
    stage.exact()
    assert worker.poll() is None, stage.workers.logs()


def test_records_with_the_time_of_their_producer(stage: Stage) -> None:
    """They halt their partition alone; deleted and rebuilt without them, it goes on."""
    worker = stage.running()
    admin = AdminClient(stage.recount.services.address.rdkafka())
    topic = f"{stage.recount.deployment}.usage.events"
    stamp(admin, topic, "CreateTime")
    producer = Producer(stage.recount.services.address.rdkafka())
    for event in stage.events(10):
        producer.produce(topic, json.dumps(event).encode(), partition=BAD)
    producer.flush(20)
    stood, bad_until = stage.watch.nexts()[BAD], stage.watch.ends()[BAD]
    stamp(admin, topic, "LogAppendTime")

    stage.halted_alone(worker, "has no append time", BAD)
    stage.publish()
    eventually(lambda: others_at_the_end(stage), within_s=40, because="the other one goes on")
    assert stage.watch.nexts()[BAD] == stood
    for done in admin.delete_records([TopicPartition(topic, BAD, bad_until)]).values():
        done.result(20)
    stage.recount.run("rebuild", "--partition", str(BAD))
    stage.exact()
    assert worker.poll() is None, stage.workers.logs()


def stamp(admin: AdminClient, topic: str, kind: str) -> None:
    """Say whose time the records of a topic get from now on."""
    entry = ConfigEntry(
        "message.timestamp.type", kind, incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(20)
    eventually(
        lambda: admin.describe_configs([resource])[resource].result(20)[entry.name].value == kind,
        within_s=20,
        because="Kafka has taken it",
    )


def test_a_halted_partition_is_looked_at_at_every_assignment(stage: Stage) -> None:
    """Whoever gets it looks at once, not after a minute: it halts again, or it goes on."""
    worker = stage.running()
    key, client = keys_of(stage.recount).state, stage.redis.client
    right: Any = client.hget(key, "ids")
    client.hset(key, "ids", "5=4")
    stage.publish()
    stage.halted_alone(worker, "the id log holds", 0)

    def told() -> int:
        """How often a worker said it. The same owner says it once for the same reason."""
        return len(re.findall(r" halted +process=\d+ partition=0:", stage.workers.logs()))

    before = told()
    other = stage.worker()
    eventually(lambda: told() > before, within_s=30, because="it was assigned, and halted again")
    client.hset(key, "ids", right)
    stage.workers.kill(other)
    stage.exact()
    assert worker.poll() is None, stage.workers.logs()


def test_a_process_whose_deployment_has_halted_may_stay(stage: Stage) -> None:
    """RECOUNT_HALT=stay: alive and not ready, with the reason; it does nothing until SIGTERM."""
    port = free_port()
    worker = stage.running(RECOUNT_HALT="stay", RECOUNT_TELEMETRY_PORT=str(port))
    children = stage.workers.children(worker)
    stage.redis.client.config_set("maxmemory-policy", "allkeys-lru")

    eventually(
        lambda: "noeviction" in asked(port, "/readyz")[1], within_s=30, because="it has halted"
    )
    stood = stage.watch.nexts()
    assert asked(port, "/readyz")[0] == 503
    assert asked(port, "/healthz")[0] == 200
    stage.redis.client.config_set("maxmemory-policy", "noeviction")
    stage.publish()
    assert stage.workers.children(worker) == children
    assert (worker.poll(), stage.watch.nexts()) == (None, stood)
    caught_up = stage.worker("--until-caught-up", RECOUNT_HALT="stay")
    assert caught_up.wait(40) == 0, stage.workers.logs()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    stage.exact()
