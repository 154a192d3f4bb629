"""The broker killed, frozen, out of reach; logs cut, made anew, corrupt; partitions added."""

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from pipeline.control.log import ControlLog
from pipeline.edges.kafka import KafkaLog
from pipeline.edges.kafka_client import KafkaAddress
from pipeline.edges.kafka_names import topic_names
from pipeline.stack.probe import kafka_answers

from ..stored import kept
from ..waiting import eventually
from .alone import reads_alone
from .own import OwnKafka
from .proxy import is_commit
from .stage import Stage


def admin_of(stage: Stage) -> AdminClient:
    """An admin client, straight to the broker."""
    return AdminClient({"bootstrap.servers": stage.recount.services.kafka, "log_level": 0})


def topic_of(stage: Stage, role: str = "usage.events") -> str:
    """A topic of the deployment."""
    return f"{stage.recount.deployment}.{role}"


def recreate(stage: Stage, topic: str, partitions: int) -> None:
    """Delete a topic and make it anew under its name."""
    admin = admin_of(stage)
    admin.delete_topics([topic])[topic].result()
    eventually(
        lambda: topic not in admin.list_topics(timeout=5).topics, within_s=20, because="it is gone"
    )
    new = NewTopic(topic, partitions, 1, config={"message.timestamp.type": "LogAppendTime"})
    eventually(lambda: _made(admin, new), within_s=20, because="it is back")


def _made(admin: AdminClient, topic: NewTopic) -> bool:
    try:
        admin.create_topics([topic])[topic.topic].result()
    except Exception as error:  # noqa: BLE001  the broker may still be deleting
        return "ALREADY" in str(error)
    return True


@pytest.mark.parametrize("how", ["killed", "restarted", "frozen", "unreachable"])
def test_f15_broker_bounce(breakable: Stage, broker: OwnKafka, how: str) -> None:
    """The broker gone in the middle of a flush: the stream goes on by itself, exact."""
    stage = breakable
    stage.running()
    stage.proxy.hold(is_commit)
    stage.publish()
    if how == "killed":
        broker.kill()
        broker.start()
    elif how == "restarted":
        broker.terminate()
        broker.start()
    elif how == "frozen":
        broker.pause()
        eventually(lambda: not kafka_answers(broker.address), within_s=10, because="it is frozen")
        broker.resume()
    else:
        broker.proxy.refuse()
        eventually(
            lambda: "NodeNotReady" in stage.workers.logs() or "Unable" in stage.workers.logs(),
            within_s=20,
            because="workers cannot reach it",
        )
        broker.proxy.release()
    stage.proxy.release()
    stage.publish()

    stage.recovers(how)
    stage.exact()


def test_f15_reads_go_on_without_the_broker(breakable: Stage, broker: OwnKafka) -> None:
    """Redis alone answers while workers wait; afterwards all is whole and exact again."""
    breakable.running()
    breakable.publish()
    eventually(lambda: kept(breakable.recount) >= 3, within_s=30, because="the copy is there")
    broker.kill()
    try:
        assert reads_alone(breakable.recount, 4) > 0
    finally:
        broker.start()
    breakable.recovers("broker away under reads")
    assert "kafka" not in breakable.recount.run("status")[-1]


def test_f14_corrupt_batch(breakable: Stage, broker: OwnKafka) -> None:
    """A batch that fails its checksum halts its partition, naming where; it is never skipped."""
    stage = breakable
    stage.running()
    before = stage.watch.nexts()
    stage.workers.end()
    stage.publish()
    broker.terminate()
    for number in range(2):
        path = next((broker.folder / "kafka").glob(f"{topic_of(stage)}-{number}/*.log"))
        raw = bytearray(path.read_bytes())
        raw[-5] ^= 1
        path.write_bytes(raw)
    broker.start()

    stage.halted_alone(stage.worker(), f"{topic_of(stage)}/", 0, 1)
    assert stage.watch.nexts() == before


def test_f16_recreated_while_a_worker_runs(breakable: Stage) -> None:
    """A topic made anew under a running worker, once frozen meanwhile: HALT by its id."""
    stage = breakable
    worker = stage.running()
    stage.workers.signal_children(worker, signal.SIGSTOP)
    recreate(stage, topic_of(stage), 2)
    stage.workers.signal_children(worker, signal.SIGCONT)

    stage.halted(worker, "made anew")
    rebuilt = stage.recount.run("rebuild")[0]
    assert rebuilt["rebuilt"] == [0, 1]
    stage.publish()
    stage.worker()
    stage.exact()


def test_f17_retention_overtakes_a_running_worker(breakable: Stage) -> None:
    """Records deleted beyond `next` while the worker is frozen halt it, never stepped over."""
    stage = breakable
    worker = stage.running()
    stage.workers.signal_children(worker, signal.SIGSTOP)
    stage.publish()  # the fetch that was under way may still deliver these
    delivered = stage.watch.ends()
    stage.publish()
    admin, ends = admin_of(stage), stage.watch.ends()
    points = [TopicPartition(topic_of(stage), n, ends[n] - 5) for n in range(2)]
    for future in admin.delete_records(points).values():
        future.result()
    stage.publish(40)
    stage.workers.signal_children(worker, signal.SIGCONT)

    stage.halted_alone(worker, "recount rebuild", 0, 1)
    assert all(at <= last for at, last in zip(stage.watch.nexts(), delivered, strict=True))
    assert stage.recount.run("rebuild")[0]["lost_offsets"] == {
        str(n): ends[n] - 5 for n in range(2)
    }
    audit = stage.recount.run("audit")[-1]
    assert (audit["mismatches"], audit["unverifiable_cells"]) == (0, 0)


def test_f26_partitions_added_under_traffic(breakable: Stage) -> None:
    """Partitions registered under running workers are consumed within the metadata's age."""
    stage = breakable
    worker = stage.running()
    stage.recount.run("init", "--partitions", "4")
    producer = Producer({"bootstrap.servers": stage.recount.services.kafka})
    for event in stage.events(600):  # as producers do: over all partitions there are
        producer.produce(topic_of(stage), json.dumps(event), key=event["customer_id"])
    assert producer.flush(20) == 0
    stage.watch.partitions = 4

    stage.recovers()
    stage.exact()
    status = stage.recount.run("status")
    assert all(line["next"] for line in status[:4])
    assert status[-1]["misplaced"] > 0

    admin = admin_of(stage)
    admin.create_partitions([NewPartitions(topic_of(stage), 5)])[topic_of(stage)].result()
    stage.halted(worker, "recount init --partitions 5")
    stage.recount.run("init", "--partitions", "5")
    stage.watch.partitions = 5
    stage.worker()
    stage.exact()


def test_f35_a_poor_network(breakable: Stage, broker: OwnKafka) -> None:
    """Half a second more each way, half-open connections, resets: slower, and exact."""
    stage = breakable
    worker = stage.running()
    children = stage.workers.children(worker)
    with stage.proxy.delaying(0.25), broker.proxy.delaying(0.25):
        stage.publish()
        stage.caught_up()
    for proxy in (stage.proxy, broker.proxy):
        proxy.hold()
        stage.publish()
        eventually(lambda proxy=proxy: proxy.caught > 0, within_s=20, because="it is half open")  # type: ignore[misc]
        proxy.reset()
        proxy.release()
        stage.caught_up()

    stage.recovers()
    stage.exact()
    assert stage.workers.children(worker) == children


def test_f13_oversized_record(breakable: Stage) -> None:
    """A record over every limit is rejected by size; its dead letter keeps size and digest."""
    stage = breakable
    stage.running()
    producer = Producer(
        {"bootstrap.servers": stage.recount.services.kafka, "message.max.bytes": 4_000_000}
    )
    _alter(stage, "max.message.bytes", "4000000")
    refused: list[Any] = []
    producer.produce(
        topic_of(stage),
        b'{"x":"' + b"y" * 3_145_728 + b'"}',
        partition=0,
        on_delivery=lambda error, _: refused.append(error),
    )
    assert producer.flush(20) == 0
    assert refused == [None]
    stage.publish()
    stage.exact()

    (letter,) = stage.recount.run("rejected", "list", "--reason", "too_large")
    assert letter["original"] is None
    assert letter["omitted"].startswith("3145736 bytes, sha256 ")


def _alter(stage: Stage, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(
        ConfigResource.Type.TOPIC, topic_of(stage), incremental_configs=[entry]
    )
    admin = admin_of(stage)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


def test_f40_mixed_assignors(breakable: Stage) -> None:
    """A member of another protocol is refused by the group; workers and data are untouched."""
    stage = breakable
    worker = stage.running()

    async def join() -> str:
        client = AIOKafkaConsumer(
            topic_of(stage),
            bootstrap_servers=stage.recount.services.kafka,
            group_id=f"{stage.recount.deployment}.recount",
            partition_assignment_strategy=[RangePartitionAssignor],
        )
        try:
            await client.start()
            await client.getmany(timeout_ms=3_000)
        except KafkaError as error:
            return type(error).__name__
        finally:
            await client.stop()
        return ""

    assert asyncio.run(join()) == "InconsistentGroupProtocolError"
    stage.publish()
    stage.exact()
    assert worker.poll() is None


def test_f43_control_topic_made_anew(breakable: Stage) -> None:
    """A control topic with another id is HALT for those who run and for those who start."""
    stage = breakable
    worker = stage.running()
    recreate(stage, topic_of(stage, "metrics.control"), 1)

    assert worker.wait(40) == 5, stage.workers.logs()
    stage.halted(stage.worker(), "control log does not name it")
    done = stage.recount.ended("status")
    assert (done.returncode, b"control log" in done.stderr) == (5, True)


@pytest.mark.parametrize("away", ["kafka", "redis"])
def test_services_away_at_start(breakable: Stage, broker: OwnKafka, away: str) -> None:
    """A worker that starts while a service is away says so, waits, and goes on when it is back."""
    stage = breakable
    stage.publish()
    if away == "kafka":
        broker.kill()
    else:
        stage.redis.kill()
    worker = stage.worker()
    eventually(
        lambda: "starts_again" in stage.workers.logs(), within_s=60, because="it tries again"
    )
    if away == "kafka":
        broker.start()
    else:
        stage.redis.start()

    stage.recovers(away)
    stage.exact()
    assert worker.poll() is None


def test_logs_are_kept_short(breakable: Stage, broker: OwnKafka, tmp_path: Path) -> None:
    """A worker that cannot reach the broker does not repeat itself 75 times a second."""
    stage = breakable
    stage.running()
    broker.proxy.refuse()
    eventually(lambda: "NodeNotReady" in stage.workers.logs(), within_s=30, because="it notices")
    size = sum(path.stat().st_size for path in tmp_path.glob("worker-*.log"))
    broker.proxy.release()
    stage.publish()
    stage.exact()

    assert size < 20_000


async def test_f63_questions_over_a_dead_connection(broker: OwnKafka, breakable: Stage) -> None:
    """A connection that died without a word is left by whoever gave up waiting for it."""
    address = KafkaAddress(broker.proxied, {})
    names = topic_names(breakable.recount.deployment)
    log = KafkaLog(address, events=names["events"], rejected=names["rejected"])
    async with ControlLog(address, names["control"]) as control:
        asks: list[Callable[[], Awaitable[Any]]] = [
            lambda: log.marks(partitions=2),
            lambda: log.spans(partitions=2),
            lambda: log.probe(0, 0),
            control.catch_up,
        ]
        for ask in asks:
            await ask()
        broker.proxy.swallow()
        for ask in asks:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(2):
                    await ask()
        broker.proxy.release()

        for ask in asks:
            async with asyncio.timeout(10):
                await ask()
    await log.close()
