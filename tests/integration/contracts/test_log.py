"""The log contract: spans, reads, probes and dead letters, on the twin and on real Kafka."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline.core.reasons import Reason, Rejected
from pipeline.core.records import DeadLetter, Span
from pipeline.edges.kafka import KafkaLog, all_records, producer, runs_of
from pipeline.edges.kafka_client import KafkaAddress, KafkaAdmin
from pipeline.edges.memory import MemoryLog
from pipeline.errors import Halt
from pipeline.ports import EventLog

from ...services import Services, fresh

VALUES = [b"a", b"", None, b"d"]


@dataclass
class Subject:
    """A log with VALUES in partition 0 and nothing in partition 1."""

    log: EventLog
    address: KafkaAddress | None = None
    events: str = ""
    rejected: str = ""


@pytest.fixture(params=["memory", "kafka"])
async def subject(request: pytest.FixtureRequest, stack: Services) -> AsyncIterator[Subject]:
    """The twin and the real thing."""
    if request.param == "memory":
        twin = MemoryLog(2)
        for number, value in enumerate(VALUES):
            twin.append(0, value, 1000 + number)
        yield Subject(twin)
        return
    address, events, rejected = KafkaAddress(stack.kafka, {}), fresh("events"), fresh("rejected")
    admin = KafkaAdmin(address)
    config = {"message.timestamp.type": "LogAppendTime"}
    await admin.create(events, partitions=2, replication=1, config=config)
    await admin.create(rejected, partitions=1, replication=1, config={})
    async with producer(address) as client:
        for value in VALUES:
            await client.send_and_wait(events, value, key=b"k", partition=0)
    log = KafkaLog(address, events=events, rejected=rejected)
    yield Subject(log, address, events, rejected)
    await log.close()


async def read(log: EventLog, partition: int, lo: int, hi: int) -> list[Any]:
    """Every record of a span."""
    found: list[Any] = []
    async for records in log.read(partition, lo, hi):
        found += records
    return found


async def test_spans(subject: Subject) -> None:
    """A span is what the log holds: start inclusive, end exclusive."""
    assert await subject.log.spans() == {0: Span(0, 4), 1: Span(0, 0)}


async def test_reads_are_half_open_and_in_order(subject: Subject) -> None:
    """read() gives just the records of [lo, hi), values as they were sent, with append times."""
    records = await read(subject.log, 0, 1, 3)

    assert [(record.offset, record.value) for record in records] == [(1, b""), (2, None)]
    assert all(record.timestamp_type == 1 for record in records)
    assert await read(subject.log, 1, 0, 0) == []


async def test_probe(subject: Subject) -> None:
    """probe() gives the first record at or after an offset, None at the end."""
    found = await subject.log.probe(0, 3)

    assert found is not None
    assert (found.offset, found.value) == (3, b"d")
    assert await subject.log.probe(0, 4) is None
    assert await subject.log.probe(1, 0) is None


async def test_look(subject: Subject) -> None:
    """look() gives the records at offsets, also where none is, and where the log has ended."""
    log = subject.log
    found = [(each.offset, each.value) async for each in log.look(0, {999, 3, 0, 2, 4})]

    assert found == [(0, b"a"), (2, None), (3, b"d")]
    assert [each async for each in log.look(0, ())] == []
    assert [each async for each in log.look(1, {0})] == []


def test_what_lies_near_is_read_at_once() -> None:
    """Spans hold all that is asked for, and no gap that is longer than what is near."""
    assert list(runs_of([], 10)) == []
    assert list(runs_of([7], 10)) == [(7, 8)]
    assert list(runs_of([0, 10, 21, 22, 40], 10)) == [(0, 11), (21, 23), (40, 41)]


async def test_offsets_of_append_times(subject: Subject) -> None:
    """offset_at() gives the first record that was appended at a time or later; None is none."""
    stamps = [record.timestamp for record in await read(subject.log, 0, 0, 4)]

    for offset, stamp in enumerate(stamps):
        assert await subject.log.offset_at(0, stamp) == stamps.index(stamp) <= offset
    assert await subject.log.offset_at(0, stamps[0] - 1) == 0
    assert await subject.log.offset_at(0, -1) == 0
    assert await subject.log.offset_at(0, stamps[-1] + 1) is None
    assert await subject.log.offset_at(1, 0) is None


async def test_dead_letters_are_durable(subject: Subject) -> None:
    """A dead letter keeps place, reason and original; written twice it has one key."""
    records: Sequence[Any] = await read(subject.log, 0, 0, 4)
    letters = [DeadLetter(record, Rejected(Reason.NOT_JSON, "détail")) for record in records[:2]]

    await subject.log.reject(0, letters)
    await subject.log.reject(0, letters)

    if isinstance(subject.log, MemoryLog):
        assert set(subject.log.dead_letters) == {(0, 0), (0, 1)}
        return
    assert subject.address is not None
    kept = [record async for record in all_records(subject.address, subject.rejected)]
    assert {record.key.decode() for record in kept} == {
        f"{subject.events}/0@0",
        f"{subject.events}/0@1",
    }
    assert kept[0].value == b"a"
    headers = dict(kept[0].headers)
    assert headers["reason"] == b"not_json"
    assert headers["detail"].decode() == "détail"


async def test_a_missing_topic_halts(stack: Services) -> None:
    """A topic that is gone is HALT, not an empty log."""
    log = KafkaLog(KafkaAddress(stack.kafka, {}), events=fresh("none"), rejected="x")

    with pytest.raises(Halt, match="is gone"):
        await log.spans()
    await log.close()


async def test_f17_an_offset_that_is_gone_halts(stack: Services) -> None:
    """A probe before the log's start is HALT: a hole is never stepped over silently."""
    address, events = KafkaAddress(stack.kafka, {}), fresh("events")
    await KafkaAdmin(address).create(events, partitions=1, replication=1, config={})
    async with producer(address) as client:
        for value in VALUES:
            await client.send_and_wait(events, value, key=b"k", partition=0)
    admin = AdminClient(address.rdkafka())
    for future in admin.delete_records([TopicPartition(events, 0, 2)]).values():
        future.result()
    log = KafkaLog(address, events=events, rejected="x")

    with pytest.raises(Halt, match="no longer holds"):
        await log.probe(0, 0)
    await log.close()
