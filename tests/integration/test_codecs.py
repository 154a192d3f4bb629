"""Packed batches of any producer, on every topic, through every command; and bombs of them."""

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from pipeline.core.event import EVENT_BYTES_MAX
from pipeline.edges.clock import SystemClock
from pipeline.edges.kafka_names import topic_names

from ..batches import Record, misnamed, produced
from ..services import ROOT, Recount

CODECS = ("gzip", "snappy", "lz4", "zstd")
COUNT = {"name": "n", "aggregation_type": "count"}
DAY = ["--starting-on", "2026-01-01T00:00:00Z", "--ending-before", "2027-01-01T00:00:00Z"]
# A worker that folds next to nothing takes some 150 MiB.
PEAK_MIB_MAX = 420


def _event(name: str) -> bytes:
    """An event; `v` makes it worth packing."""
    body = {
        "transaction_id": name,
        "customer_id": "c",
        "event_type": "use",
        "timestamp": SystemClock().now().isoformat(),
        "properties": {"v": "x" * 200},
    }
    return json.dumps(body).encode()


def _by_librdkafka(recount: Recount, codec: str, values: list[bytes], **more: Any) -> None:
    settings = {
        "bootstrap.servers": recount.services.kafka,
        "compression.type": codec,
        "linger.ms": 1_000,
        "message.max.bytes": 1_000_000_000,
        "queue.buffering.max.kbytes": 2_000_000,
        "queue.buffering.max.messages": 10_000_000,
        "batch.size": 1_000_000_000,
        "batch.num.messages": 1_000_000,
        **more,
    }
    client, failed = Producer(settings), list[Any]()
    topic = topic_names(recount.deployment)["events"]
    for value in values:
        client.produce(
            topic,
            value,
            key=b"c",
            on_delivery=lambda error, _: failed.append(error) if error else 0,
        )
    assert client.flush(60) == 0
    assert failed == []


async def _by_aiokafka(recount: Recount, codec: str, values: list[bytes]) -> None:
    client = AIOKafkaProducer(
        bootstrap_servers=recount.services.kafka, compression_type=codec, linger_ms=100
    )
    await client.start()
    topic = topic_names(recount.deployment)["events"]
    try:
        await asyncio.gather(*[client.send_and_wait(topic, each, key=b"c") for each in values])
    finally:
        await client.stop()


def _pack_topic(recount: Recount, role: str, codec: str) -> None:
    """Have the broker pack everything on a topic."""
    name = topic_names(recount.deployment)[role]
    entry = ConfigEntry("compression.type", codec, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": recount.services.kafka})
    admin.incremental_alter_configs([resource])[resource].result(20)


@pytest.mark.timeout(150)
def test_every_codec_of_every_producer_counts(recount: Recount) -> None:
    """Worker, usage, explain, dead letters, audit and rebuild read batches of all four codecs."""
    recount.run("init", "--partitions", "1")
    for role, codec in (("control", "zstd"), ("rejected", "lz4")):
        _pack_topic(recount, role, codec)
    recount.create(COUNT)
    for codec in CODECS:
        _by_librdkafka(recount, codec, [_event(f"r-{codec}-{number}") for number in range(50)])
        named = [_event(f"a-{codec}-{number}") for number in range(50)]
        asyncio.run(_by_aiokafka(recount, codec, [*named, b"rubbish"]))

    recount.catch_up()

    status = recount.run("status")[-1]
    assert (status["counted"], status["rejected"], status["duplicate"]) == (400, 4, 0)
    assert recount.run("usage", "n", "--customer", "c", *DAY)[0]["value"] == "400"
    assert recount.run("explain", "r-zstd-7")[0]["fate"] == "counted"
    assert len(recount.run("rejected", "list")) == 4
    audit = recount.run("audit")[-1]
    assert (audit["mismatches"], audit["events"]) == (0, 404)
    recount.run("rebuild")
    assert recount.run("usage", "n", "--customer", "c", *DAY)[0]["value"] == "400"


@pytest.mark.parametrize("codec", [0, 4])
def test_a_header_whose_name_is_no_text_stops_nobody(recount: Recount, codec: int) -> None:
    """A record that Kafka takes and aiokafka cannot read counts like any other, everywhere."""
    recount.run("init", "--partitions", "1")
    recount.create(COUNT)
    records: list[Record] = [
        (b"c", _event("odd"), [("ab", b"v")]),
        (b"c", b"rubbish", [("ab", b"v")]),
        (b"c", _event("plain"), []),
    ]
    topic = topic_names(recount.deployment)["events"]
    asyncio.run(produced(recount.services.kafka, topic, misnamed(records, codec)))

    recount.catch_up()

    status = recount.run("status")[-1]
    assert (status["counted"], status["rejected"]) == (2, 1)
    assert recount.run("usage", "n", "--customer", "c", *DAY)[0]["value"] == "2"
    assert recount.run("explain", "odd")[0]["fate"] == "counted"
    assert len(recount.run("rejected", "list")) == 1
    audit = recount.run("audit")[-1]
    assert (audit["mismatches"], audit["events"]) == (0, 3)


_PEAK = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "pipeline", *sys.argv[1:]])
sys.stderr.write("peak %d\\n" % resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def _peak_mib(recount: Recount, *arguments: str) -> int:
    """Run a command to its end; return the most memory that any of its processes took."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, *arguments],
        env=recount.environment,
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return int(done.stderr.decode().rsplit("peak ", 1)[1]) // 1024


@pytest.mark.timeout(180)
@pytest.mark.parametrize("codec", ["gzip", "zstd", "lz4"])
def test_a_record_that_unpacks_to_far_too_much_is_too_large(recount: Recount, codec: str) -> None:
    """300 MiB in a few hundred KiB: one too_large, its neighbours count, memory has its bound."""
    recount.run("init", "--partitions", "1")
    recount.create(COUNT)
    size = 300 * 1_048_576 if codec != "lz4" else 150 * 1_048_576
    bomb = bytes(size)
    _by_librdkafka(recount, codec, [_event("before"), bomb, _event("after")])
    del bomb

    peaks = [_peak_mib(recount, "worker", "--until-caught-up"), _peak_mib(recount, "audit")]

    assert max(peaks) < PEAK_MIB_MAX, peaks
    status = recount.run("status")[-1]
    assert (status["counted"], status["rejected"]) == (2, 1)
    (letter,) = recount.run("rejected", "list")
    assert letter["reason"] == "too_large"
    assert letter["omitted"].startswith(f"{size} bytes, sha256 ")
    assert letter["detail"] == f"{size} bytes, at most {EVENT_BYTES_MAX}"
    assert recount.run("explain", "after")[0]["fate"] == "counted"


@pytest.mark.timeout(180)
def test_a_batch_of_very_many_records_is_folded_in_parts(recount: Recount) -> None:
    """60 MB of equal events in one small batch: one counts, the others are its duplicates."""
    recount.run("init", "--partitions", "1")
    recount.create(COUNT)
    number = 150_000
    _by_librdkafka(recount, "zstd", [_event("same")] * number)

    peaks = [_peak_mib(recount, "worker", "--until-caught-up"), _peak_mib(recount, "audit")]

    status = recount.run("status")[-1]
    assert (status["consumed"], status["counted"], status["duplicate"]) == (number, 1, number - 1)
    assert max(peaks) < PEAK_MIB_MAX, peaks
