"""What the lane depends on in aiokafka and Faust, held to it on real Kafka."""

import asyncio
import json
import subprocess
import sys

import pytest

from pipeline.core.compiled import MODULE
from pipeline.edges.kafka import producer
from pipeline.edges.kafka_client import KafkaAddress, KafkaAdmin

from ..services import ROOT, Services, fresh

_READ = """
import asyncio, gc, json, sys
from aiokafka import AIOKafkaConsumer, TopicPartition
import pipeline.edges.kafka
if sys.argv[3] == "worker":
    import pipeline.app.transport
    from pipeline.edges.kafka_raw import RawBatches
    RawBatches.topics.add(sys.argv[2])
from pipeline.edges.kafka_batches import WholeRecords
async def read():
    client = AIOKafkaConsumer(bootstrap_servers=sys.argv[1], auto_offset_reset="earliest")
    await client.start()
    point = TopicPartition(sys.argv[2], 0)
    client.assign([point])
    found = []
    gc.disable()
    while len(found) < 9:
        if len(found) in (3, 7):
            client.seek(point, 1)  # into the middle of a batch; then while one waits half read
        if len(found) == 5:
            client.seek(point, 0)
        for record in (await client.getmany(timeout_ms=500, max_records=2)).get(point, []):
            found.append([type(record).__module__, record.offset, record.timestamp > 0,
                          record.timestamp_type, record.key, record.value])
    kept = sum(issubclass(type(each), WholeRecords) for each in gc.get_objects())
    await client.stop()
    print(json.dumps({"found": found, "kept": kept}, default=lambda raw: raw.decode()))
asyncio.run(read())
"""


@pytest.mark.parametrize("reader", ["worker", "other"])
def test_batches_are_taken_whole(stack: Services, reader: str) -> None:
    """Whole batches come as they lie, or as aiokafka's own records; entered and split as asked.

    What is dropped at a seek leaves memory at once: a worker's collector hardly ever comes by.
    """
    topic, address = fresh("records"), KafkaAddress(stack.kafka, {})

    async def send() -> None:
        config = {"message.timestamp.type": "LogAppendTime"}
        await KafkaAdmin(address).create(topic, partitions=1, replication=1, config=config)
        async with producer(address) as client:
            batch = client.create_batch()
            for value in (b"a", None, b""):
                batch.append(key=b"k", value=value, timestamp=None)
            await client.send_batch(batch, topic, partition=0)
            await client.flush()

    asyncio.run(send())
    done = subprocess.run(
        [sys.executable, "-c", _READ, stack.kafka, topic, reader],
        capture_output=True,
        check=True,
        cwd=ROOT,
    )

    told = json.loads(done.stdout)
    found = told["found"]
    rows = [[0, True, 1, "k", "a"], [1, True, 1, "k", None], [2, True, 1, "k", ""]]
    assert [row[1:] for row in found] == [*rows, *rows[1:], *rows[:2], *rows[1:]]
    raw = reader == "worker" and MODULE is not None
    assert all(("pipeline.core.raw" if raw else "_crecords") in row[0] for row in found)
    assert told["kept"] <= 1
