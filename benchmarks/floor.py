"""The floors: what reading the topic costs at least, each with one thing more than the last.

`python -m benchmarks.floor VARIANT BOOTSTRAP TOPIC EVENTS PATH` writes what it took to PATH.json.

consume: confluent-kafka's consume(5000). d: aiokafka's getmany with its C-level records, as the
worker has them. e: d and a msgspec Struct decode. b: getmany as it is. c: b and the decode.
All with the collector's settings that workers have.
"""

import asyncio
import gc
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from .peers.common import Timer
from .traffic import PARTITIONS

BATCH = 5_000


class Event(msgspec.Struct):
    """The members that every event has."""

    transaction_id: str
    customer_id: str
    event_type: str
    timestamp: str
    properties: dict[str, Any]


async def read(variant: str, bootstrap: str, topic: str, timer: Timer) -> None:
    """Read every event once with aiokafka."""
    if variant in {"d", "e"}:
        from pipeline.app import transport  # noqa: F401, PLC0415  it replaces aiokafka's classes
    from aiokafka import AIOKafkaConsumer, TopicPartition  # noqa: PLC0415

    decode: Callable[[bytes], Any] | None = None
    if variant in {"c", "e"}:
        decode = msgspec.json.Decoder(Event).decode
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=2 * 1_048_576,
        isolation_level="read_committed",
    )
    await consumer.start()
    consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
    freeze()
    last = False
    while not last:
        batches = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
        for records in batches.values():
            if decode is not None:
                for record in records:
                    decode(record.value)
            last = timer.tick(len(records)) or last
    await consumer.stop()


def consume(bootstrap: str, topic: str, timer: Timer) -> None:
    """Read every event once with confluent-kafka."""
    from confluent_kafka import Consumer, TopicPartition  # noqa: PLC0415

    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "floor"})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
    freeze()
    while not timer.tick(len(consumer.consume(BATCH, 1.0))):
        pass
    consumer.close()


def freeze() -> None:
    """Set the collector as workers do."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def main() -> None:
    """Run a floor."""
    variant, bootstrap, topic, events, path = sys.argv[1:]
    timer = Timer(int(events))
    if variant == "consume":
        consume(bootstrap, topic, timer)
    else:
        asyncio.run(read(variant, bootstrap, topic, timer))
    timer.tell({}, path)


if __name__ == "__main__":
    main()
