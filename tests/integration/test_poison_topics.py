"""Poison on the real topics: every command, worker and door goes on, and says what it ignored."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import Producer

from pipeline.edges.clock import SystemClock
from pipeline.edges.kafka_names import topic_names

from ..property.test_poison import ODD, _mutate, _places, records
from ..services import Recount
from .doors import serving

SEED, COUNT = 7, 120
RAW = [b"", b"{", b"\xff\xfe", b"null", b"[]", b'{"type":"definition"}', None, b"[" * 900]
DAY = ("--starting-on", "2020-01-01T00:00:00Z", "--ending-before", "2100-01-01T00:00:00Z")
SOURCE = random.Random(SEED)


def produce(recount: Recount, role: str, found: list[tuple[Any, Any, Any]]) -> None:
    """Append records, each key, value and headers, to a topic of the deployment."""
    producer = Producer({"bootstrap.servers": recount.services.kafka})
    for key, value, headers in found:
        producer.produce(topic_names(recount.deployment)[role], value, key, 0, headers=headers)
    assert producer.flush(30) == 0


def usage(recount: Recount) -> Any:
    """What the one metric counts."""
    return recount.run("usage", "n", "--customer", "c", *DAY)[0]["value"]


def control_records() -> list[tuple[Any, Any, Any]]:
    """Valid records of every kind with one member changed, and bytes that are no record."""
    found: list[Any] = []
    for _ in range(COUNT):
        record = copy.deepcopy(SOURCE.choice(records()))
        changed = _mutate(record, SOURCE.choice(_places(record)), SOURCE.choice([*ODD, "gone"]))
        found.append((b"x", json.dumps(changed).encode(), None))
    return [*found, *((None, raw, [("seal", b"\xff")]) for raw in RAW)]


def letters(topic: str) -> list[tuple[Any, Any, Any]]:
    """Dead letters whose key, headers and values nobody of ours would write."""
    keys = [f"{topic}/0@²", f"{topic}/0@1", "x", f"{topic}/99999999999@1", "\x1b]0;x\x07/0@2", ""]
    times = [b"-1", b"1", b"\xff", b"9" * 30, b"0x1", b"", "²".encode()]
    return [
        (
            SOURCE.choice(keys).encode(),
            SOURCE.choice([*RAW, b"[/x]", b"\x1b[31m"]),
            [
                (SOURCE.choice(["reason", "detail", "redriven", "é"]), SOURCE.choice(times)),
                ("append_time", SOURCE.choice(times)),
                (SOURCE.choice(["omitted", "key"]), b"\xff"),
            ],
        )
        for _ in range(COUNT)
    ]


def test_poison_on_every_topic_stops_nobody(recount: Recount, tmp_path: Path) -> None:
    """What counted goes on counting; lists, doors, redrive and audit answer."""
    recount.run("init", "--partitions", "1")
    recount.create({"name": "n", "aggregation_type": "count"})
    event = {"transaction_id": "t1", "customer_id": "c", "event_type": "e"}
    recount.publish([{**event, "timestamp": SystemClock().now().isoformat()}])
    recount.catch_up()
    assert usage(recount) == "1"

    produce(recount, "control", control_records())
    produce(recount, "rejected", letters(topic_names(recount.deployment)["events"]))
    produce(recount, "events", [(raw, raw, [("h", raw)]) for raw in RAW])
    recount.catch_up()

    assert usage(recount) == "1"
    total = recount.run("status")[-1]
    assert total["rejected"] >= len(RAW)
    assert total["balanced"]
    for command in (("metrics", "list"), ("keys", "list"), ("rejected", "list")):
        recount.run(*command)
        assert b"\x1b" not in recount.ended(*command, "--table").stdout
    recount.run("rejected", "redrive")
    assert recount.run("audit")[-1]["mismatches"] == 0
    with (
        serving(recount, tmp_path / "serve.log") as server,
        httpx.Client(headers={"Authorization": f"Bearer {server.keys['manage']}"}) as client,
    ):
        for path in ("status", "metrics", "rejected", "metrics/n", "explain/t1"):
            answer = client.get(f"{server.url}/recount/v1/{path}", timeout=30)
            assert answer.status_code == 200, (path, answer.text)
        assert client.get(f"{server.url}/v1/billable-metrics").status_code == 200
