"""`recount ingest`: topics of other systems become events of ours, each record once."""

import json
import os
import random
import signal
import threading
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ..services import Recount
from ..waiting import eventually

AT = "2026-11-29T01:00:00Z"
PERIOD = ("--starting-on", "2026-11-29T00:00:00Z", "--ending-before", "2026-11-30T00:00:00Z")
COUNT = {
    "name": "calls",
    "aggregation_type": "count",
    "event_type_filter": {"in_values": ["call"]},
}


class Source:
    """A topic of somebody else's producers."""

    def __init__(self, recount: Recount, partitions: int = 2) -> None:
        self.recount = recount
        self.name = f"{recount.deployment}.theirs"
        self._servers = {"bootstrap.servers": recount.services.kafka}
        self.admin = AdminClient(self._servers)
        self.make(partitions)
        self._producer = Producer(self._servers)

    def make(self, partitions: int) -> None:
        """Make the topic."""
        topic = NewTopic(self.name, partitions, 1)
        self.admin.create_topics([topic])[self.name].result(20)

    def send(self, *records: tuple[Any, list[tuple[str, bytes]]]) -> None:
        """Send values with headers; durable at return."""
        for number, (value, headers) in enumerate(records):
            raw = value if isinstance(value, bytes | None) else json.dumps(value).encode()
            self._producer.produce(self.name, raw, str(number).encode(), headers=headers)
        assert self._producer.flush(30) == 0

    def ingest(self, *options: str, exits: int = 0) -> Any:
        """Run the command to the end of the topic; return its line."""
        lines = self.recount.run(
            "ingest", "--from", self.name, "--until-caught-up", *options, exits=exits
        )
        return lines[-1] if lines else None

    def events(self) -> list[dict[str, Any]]:
        """What lies on `usage.events` and is committed."""
        topic = f"{self.recount.deployment}.usage.events"
        settings = {**self._servers, "group.id": "none", "enable.auto.commit": False}
        consumer = Consumer({**settings, "enable.partition.eof": True})
        points = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(2)]
        consumer.assign(points)
        found, ended = list[dict[str, Any]](), set[int]()
        while len(ended) < len(points):
            message = consumer.poll(10)
            assert message is not None
            if message.error() is not None:
                ended.add(message.partition())
            else:
                found.append(json.loads(message.value()))
        consumer.close()
        return found


def cloud(number: int, **members: Any) -> dict[str, Any]:
    """A CloudEvent of customer c."""
    made = {"specversion": "1.0", "id": str(number), "source": "shop", "type": "call"}
    return {**made, "subject": "c", "time": AT, "data": {"n": number}, **members}


def binary(number: int) -> tuple[Any, list[tuple[str, bytes]]]:
    """The same in binary mode: attributes are headers."""
    event = cloud(number)
    data = event.pop("data")
    headers = [(f"ce_{name}", str(text).encode()) for name, text in event.items()]
    return data, [*headers, ("content-type", b"application/json")]


def test_cloudevents_of_a_topic_are_counted_once(recount: Recount) -> None:
    """Structured and binary events count; rubbish is a dead letter; a second run adds nothing."""
    recount.run("init", "--partitions", "2")
    recount.create(COUNT)
    source = Source(recount)
    structured = [("content-type", b"application/cloudevents+json")]
    source.send(
        *((cloud(number), structured) for number in range(20)),
        *(binary(number) for number in range(20, 30)),
        ([cloud(30), cloud(31)], [("content-type", b"application/cloudevents-batch+json")]),
        (cloud(5), structured),
        (b"{", structured),
        (cloud(99, subject=""), structured),
        (None, []),
    )

    first, second = source.ingest(), source.ingest()
    recount.catch_up()
    (usage, _) = recount.run("usage", "calls", "--customer", "c", *PERIOD)
    letters = recount.run("rejected", "list")

    told = {name: first[name] for name in ("read", "sent", "rejected", "left_out", "lag")}
    assert told == {"read": 35, "sent": 33, "rejected": 3, "left_out": 0, "lag": 0}
    assert (second["read"], second["sent"]) == (0, 0)
    assert usage["value"] == "32"
    assert Counter(each["reason"] for each in letters) == {
        "not_json": 1,
        "not_an_event": 1,
        "empty": 1,
    }
    assert {each["topic"] for each in letters} == {source.name}
    assert recount.run("audit")[-1]["mismatches"] == 0


def test_other_systems_of_a_topic(recount: Recount) -> None:
    """Segment's, Statsig's, Klaviyo's and plain events, each by its own format and topic."""
    recount.run("init", "--partitions", "2")
    recount.create(COUNT)
    segment = {"type": "track", "event": "call", "userId": "c", "timestamp": AT}
    profile = {"data": {"type": "profile", "attributes": {"external_id": "c"}}}
    named = {"data": {"type": "metric", "attributes": {"name": "call"}}}
    attributes = {"properties": {}, "time": AT, "metric": named, "profile": profile}
    bodies: dict[str, list[Any]] = {
        "segment": [
            {**segment, "messageId": "1"},
            {"batch": [{**segment, "messageId": "2"}, {**segment, "messageId": "1"}]},
            {"type": "identify", "userId": "c", "messageId": "3"},
        ],
        "statsig": [
            {"eventName": "call", "user": {"userID": "c"}, "time": AT},
            {"events": [{"eventName": "call", "user": {"userID": "c"}, "time": AT}]},
        ],
        "klaviyo": [{"data": {"type": "event", "attributes": {**attributes, "unique_id": "k"}}}],
        "metronome": [
            {
                "transaction_id": "m",
                "customer_id": "c",
                "event_type": "call",
                "timestamp": AT,
                "properties": {},
            }
        ],
    }
    found = {}
    source = Source(recount)
    for system, values in bodies.items():
        source.name = f"{recount.deployment}.{system}"
        source.make(1)
        source.send(*((value, []) for value in values))
        found[system] = source.ingest("--format", system)
    recount.catch_up()
    (usage, _) = recount.run("usage", "calls", "--customer", "c", *PERIOD)

    assert {name: (each["sent"], each["left_out"]) for name, each in found.items()} == {
        "segment": (3, 1),
        "statsig": (2, 0),
        "klaviyo": (1, 0),
        "metronome": (1, 0),
    }
    assert usage["value"] == "6"


def test_what_cannot_be_ingested_is_told(recount: Recount) -> None:
    """An unknown topic, one of our own, an unknown format: exit 2, with what to do."""
    recount.run("init", "--partitions", "1")

    for source, format_, said in (
        ("no.such.topic", "cloudevents", b"there is no such topic"),
        (f"{recount.deployment}.usage.events", "cloudevents", b"of this deployment"),
        ("x", "stripe", b"--format is one of"),
    ):
        done = recount.ended("ingest", "--from", source, "--format", format_, "--until-caught-up")
        assert done.returncode == 2, done.stderr
        assert said in done.stderr


@pytest.mark.long
@pytest.mark.timeout(600)
def test_each_record_becomes_its_events_once_under_kills(recount: Recount, tmp_path: Path) -> None:
    """Killed again and again, and two at once: every record is on our log exactly once."""
    recount.run("init", "--partitions", "2")
    recount.create(COUNT)
    source, chance, total = Source(recount, 3), random.Random(int(os.environ.get("SEED") or 0)), 0
    stop = threading.Event()

    def produce() -> None:
        nonlocal total
        while not stop.is_set() and total < 40_000:
            source.send(*((cloud(total + each), []) for each in range(200)))
            total += 200
            stop.wait(0.05)

    def reached(wanted: int) -> bool:
        return len(source.events()) >= wanted or not producing.is_alive()

    producing = threading.Thread(target=produce)
    producing.start()
    killed = 0
    try:
        with (tmp_path / "ingest.log").open("wb") as log:
            while killed < 12:
                options: dict[str, Any] = {"stdout": log, "stderr": log, "start_new_session": True}
                process = recount.start("ingest", "--from", source.name, **options)
                before = len(source.events())
                wanted = before + chance.randrange(2_000)
                eventually(partial(reached, wanted), within_s=60, because="events are translated")
                other = None
                if killed % 4 == 3:  # a second one takes over from the first
                    other = recount.start("ingest", "--from", source.name, **options)
                    stop.wait(2)
                for each in (process, other):
                    if each is not None and each.poll() is None:
                        os.killpg(each.pid, signal.SIGKILL)
                        each.wait(10)
                killed += 1
    finally:
        stop.set()
        producing.join()
    line = source.ingest()
    recount.catch_up()
    (usage, _) = recount.run("usage", "calls", "--customer", "c", *PERIOD)
    (status,) = [each for each in recount.run("status") if "partition" not in each]

    found = Counter(event["transaction_id"] for event in source.events())
    assert len(found) == total > 0
    assert set(found.values()) == {1}
    assert line["lag"] == 0
    assert usage["value"] == str(total)
    assert status["duplicate"] == 0
    assert recount.run("audit")[-1]["mismatches"] == 0
