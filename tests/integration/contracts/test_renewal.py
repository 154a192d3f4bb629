"""A producer that failed is replaced: a poisoned record never costs the next send."""

import asyncio
from typing import Any

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from pipeline.core.reasons import Reason, Rejected
from pipeline.core.records import DeadLetter
from pipeline.edges.kafka import KafkaLog, all_records
from pipeline.edges.kafka_client import KafkaAddress, KafkaAdmin, RecordRefused
from pipeline.edges.kafka_sender import sender

from ...services import Services, fresh

LARGE = bytes(60_000)


async def _topic(stack: Services, bytes_max: int) -> tuple[KafkaAddress, str]:
    address, name = KafkaAddress(stack.kafka, {}), fresh("small")
    config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(bytes_max)}
    await KafkaAdmin(address).create(name, partitions=1, replication=1, config=config)
    return address, name


async def _values(address: KafkaAddress, topic: str) -> list[Any]:
    return [record.value async for record in all_records(address, topic)]


async def test_a_record_that_is_refused_fails_its_own_send_only(stack: Services) -> None:
    """Sends that share its batches are durable, and so is what comes after it."""
    address, topic = await _topic(stack, 50_000)
    async with sender(address, topic) as made:
        sends = [made.send({0: [(b"k", b"%d" % number)]}) for number in range(20)]
        sends.insert(10, made.send({0: [(b"k", LARGE)]}))

        ended = await asyncio.gather(*sends, return_exceptions=True)
        await made.send({0: [(b"k", b"after")]})

        assert [type(each) for each in ended if each is not None] == [RecordRefused]
        assert isinstance(ended[10], RecordRefused)
        assert made.failed is False
    assert {*await _values(address, topic)} == {b"%d" % n for n in range(20)} | {b"after"}


async def test_a_dead_letter_that_is_refused_goes_without_its_original(stack: Services) -> None:
    """A topic of dead letters that takes less than it should stops no partition."""

    class Record:
        offset, timestamp, timestamp_type, key, value = 7, 1, 1, b"k", LARGE

    address, topic = await _topic(stack, 50_000)
    log = KafkaLog(address, events="events", rejected=topic)
    letter = DeadLetter(Record(), Rejected(Reason.NOT_JSON, "why"))

    await log.reject(0, [letter])
    await log.reject(0, [letter])

    found = [record async for record in all_records(address, topic)]
    assert [record.value for record in found] == [None, None]
    assert dict(found[0].headers)["omitted"].startswith(b"60000 bytes, sha256 ")
    await log.close()


def _set_limit(address: KafkaAddress, topic: str, bytes_max: int) -> None:
    entry = ConfigEntry(
        "max.message.bytes", str(bytes_max), incremental_operation=AlterConfigOpType.SET
    )
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient(address.rdkafka())
    admin.incremental_alter_configs([resource])[resource].result(20)


async def test_a_topic_that_takes_more_again_is_used_again(stack: Services) -> None:
    """What was refused is taken once the topic takes it: no producer stays broken."""
    address, topic = await _topic(stack, 50_000)
    async with sender(address, topic) as made:
        with pytest.raises(RecordRefused):
            await made.send({0: [(b"k", LARGE)]})
        await asyncio.to_thread(_set_limit, address, topic, 500_000)

        await made.send({0: [(b"k", LARGE)]})

    assert await _values(address, topic) == [LARGE]
