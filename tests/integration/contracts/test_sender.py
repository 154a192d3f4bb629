"""The doors' producer: many sends in few batches, each line once, where it belongs, in order."""

import asyncio
from typing import Any

import pytest

from pipeline.edges.kafka import KafkaLog
from pipeline.edges.kafka_client import KafkaAddress, KafkaAdmin
from pipeline.edges.kafka_sender import Record, sender
from pipeline.errors import LogUnavailable

from ...services import Services, fresh

PARTITIONS = 3
LARGE = b"x" * 900_000  # larger than a batch


async def topic_of(stack: Services) -> tuple[KafkaAddress, str, KafkaLog]:
    """A new topic, and what reads it."""
    address, events = KafkaAddress(stack.kafka, {}), fresh("sent")
    config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1200000"}
    await KafkaAdmin(address).create(events, partitions=PARTITIONS, replication=1, config=config)
    return address, events, KafkaLog(address, events=events, rejected="none")


async def held(log: KafkaLog, partition: int) -> list[Any]:
    """What a partition holds."""
    span, found = (await log.spans())[partition], []
    async for records in log.read(partition, span.start, span.end):
        found += [(record.key, record.value) for record in records]
    return found


async def test_every_line_once_in_its_partition_and_in_order(stack: Services) -> None:
    """Sends that come together share batches; a send's lines stay in order; large ones pass."""
    address, events, log = await topic_of(stack)
    sends: list[dict[int, list[Record]]] = [
        {
            partition: [(b"k%d" % n, b"%d-%d" % (number, n)) for n in range(partition, 50, 3)]
            for partition in range(PARTITIONS)
        }
        for number in range(200)
    ]
    sends.append({0: [(b"large", LARGE), (b"small", b"s"), (b"large", LARGE + b"2")]})
    async with sender(address, events) as made:
        await asyncio.gather(*map(made.send, sends))
        for partition in range(PARTITIONS):  # durable when send() returns
            found = await held(log, partition)
            wanted = [each for parts in sends for each in parts.get(partition, [])]
            assert sorted(found) == sorted(wanted)
            for parts in sends:
                places = [found.index(each) for each in parts.get(partition, [])]
                assert places == sorted(places)
        await made.send({})
    await log.close()


async def test_a_broker_that_is_away_is_told_and_nobody_waits_for_ever() -> None:
    """A send that cannot be durable raises; one that is given up leaves the others alone."""
    address = KafkaAddress("127.0.0.1:1", {})
    with pytest.raises(LogUnavailable):
        async with sender(address, "none"):
            raise AssertionError("it cannot open")


async def test_a_send_that_is_given_up_leaves_the_others_alone(stack: Services) -> None:
    """Who stops waiting does not stop what is on its way, nor anybody else."""
    address, events, log = await topic_of(stack)
    async with sender(address, events) as made:
        lines = [(b"k", b"%d" % number) for number in range(100)]
        tasks = [asyncio.create_task(made.send({0: [line]})) for line in lines]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(each, asyncio.CancelledError) for each in ended) == 50
    assert sorted(value for _, value in await held(log, 0)) == sorted(value for _, value in lines)
    await log.close()
