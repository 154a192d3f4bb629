"""The floor: aiokafka getmany and a msgspec Struct decode of the same topic, gc tuned alike.

`python -m benchmarks.floor BOOTSTRAP TOPIC PARTITIONS EVENTS` prints seconds and CPU seconds.
"""

import asyncio
import gc
import json
import sys
import time
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition


class Event(msgspec.Struct):
    """The members that every event has."""

    transaction_id: str
    customer_id: str
    event_type: str
    timestamp: str
    properties: dict[str, Any]


async def read(bootstrap: str, topic: str, partitions: int, events: int) -> dict[str, float]:
    """Read and decode every event once."""
    decode = msgspec.json.Decoder(Event).decode
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_partition_fetch_bytes=2 * 1_048_576,
        isolation_level="read_committed",
    )
    await consumer.start()
    consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    seen, began, cpu = 0, 0.0, 0.0
    while seen < events:
        batches = await consumer.getmany(timeout_ms=1000, max_records=5_000)
        if not began:  # the first fetch opens connections: both sides are timed from after it
            began, cpu = time.perf_counter(), time.process_time()
            first = sum(map(len, batches.values()))
        for records in batches.values():
            for record in records:
                decode(record.value)
            seen += len(records)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    await consumer.stop()
    return {"events": events - first, "seconds": took, "cpu": used}


if __name__ == "__main__":
    sys.stdout.write(
        json.dumps(asyncio.run(read(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
    )
