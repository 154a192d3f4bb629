"""Seeded traffic: good, repeated, late, misplaced, malformed events, and aborted transactions.

And voids and amends of what was sent before: good ones, repeated ones, of amends, and bad ones.
"""

import json
import random
import threading
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer

from pipeline.edges.kafka_client import KafkaAddress

CUSTOMERS = 300
_RUBBISH = [b"rubbish", b"{}", b"", b'{"a":1}', b"[" * 60, b'{"transaction_id":"\\ud800"}']
_TICK_S = 0.05
_CORRECTED = 0.001  # of the records: each has a flush of its own, with some hundred metrics
_NOTED = 0.02  # records of which it is noted where they lie
_NOTED_MAX = 2_000


class Sent(NamedTuple):
    """A record that can be named by a correction."""

    partition: int
    offset: int
    transaction_id: str
    customer_id: str
    timestamp: str


class Traffic:
    """A thread that produces at a rate until it is told to stop.

    sent: records handed over; every one is durable once stop() returned.
    """

    def __init__(
        self, kafka: KafkaAddress, topic: str, *, partitions: int, seed: int, rate: int
    ) -> None:
        self.sent = 0
        self.aborted = 0
        self.corrections = 0
        self.paused = threading.Event()
        self._topic = topic
        self._partitions = partitions
        self._rate = rate
        self._draw = random.Random(seed)
        self._number = 0
        self._noted: deque[Sent] = deque(maxlen=_NOTED_MAX)
        self._stop = threading.Event()
        self._settings = {
            **kafka.rdkafka(),
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "message.timeout.ms": 120_000,
            "queue.buffering.max.messages": 1_000_000,
            "linger.ms": 5,
            "topic.metadata.refresh.interval.ms": 3_000,
        }
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._aborting = threading.Thread(target=self._run_transactions, daemon=True)
        self.failed: list[str] = []

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._aborting.start()

    def slow_down(self, rate: int) -> None:
        """Go on at another rate."""
        self._rate = rate

    def stop(self) -> None:
        """End; everything is durable afterwards."""
        self.end()
        self._thread.join()
        self._aborting.join()
        assert not self.failed, self.failed

    def end(self) -> None:
        """End, and do not wait."""
        self._stop.set()

    def line(self, draw: random.Random) -> tuple[str | None, bytes]:
        """One more event, or a copy of an earlier one, or rubbish: its key and its bytes."""
        if draw.random() < 0.005:
            return None, draw.choice(_RUBBISH)
        number = self._number
        if draw.random() < 0.1 and number:
            number = max(number - int(draw.expovariate(1 / 3000)) - 1, 0)
        else:
            self._number += 1
        event = event_of(number)
        return event["customer_id"], json.dumps(event).encode()

    def _run(self) -> None:
        producer = Producer(self._settings)
        began, due = time.monotonic(), 0.0
        while not self._stop.is_set():
            self._stop.wait(_TICK_S)
            due += (time.monotonic() - began) * self._rate
            began = time.monotonic()
            # What could not be sent while the broker was away is not made up for at once.
            for _ in range(min(int(due), self._rate)):
                where: dict[str, int] = {}
                key: str | None
                if self._noted and self._draw.random() < _CORRECTED:
                    original = self._draw.choice(self._noted)
                    key, value = original.customer_id, correction_of(original, self._draw)
                    where = {"partition": original.partition}
                    self.corrections += 1
                else:
                    key, value = self.line(self._draw)
                    if self._draw.random() < 0.01:
                        where = {"partition": self._draw.randrange(self._partitions)}
                producer.produce(self._topic, value, key=key, on_delivery=self._told, **where)
                self.sent += 1
            due = 0.0 if due > self._rate else due % 1
            producer.poll(0)
        if producer.flush(180):
            self.failed.append("not everything was durable within three minutes")

    def _told(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self.failed.append(str(error))
            return
        value = message.value() or b""
        if b'"amend"' in value or self._draw.random() < _NOTED:
            with suppress(ValueError, KeyError, TypeError):
                body = json.loads(value)
                name = body.get("amends", body)["transaction_id"]
                named = name, body["customer_id"], body["timestamp"]
                self._noted.append(Sent(message.partition(), message.offset(), *named))

    def _run_transactions(self) -> None:
        """Small transactions of their own customers; a third are aborted, any may fail."""
        draw, number = random.Random(self._draw.random()), 0
        while not self._stop.is_set():
            producer = Producer(
                {
                    **self._settings,
                    "message.timeout.ms": 9_000,
                    "transactional.id": f"{self._topic}-t",
                    "transaction.timeout.ms": 10_000,
                }
            )
            try:
                producer.init_transactions(30)
                while not self._stop.wait(0.4):
                    producer.begin_transaction()
                    for _ in range(draw.randrange(1, 20)):
                        number += 1
                        event = event_of(number, prefix="x")
                        producer.produce(
                            self._topic, json.dumps(event).encode(), key=event["customer_id"]
                        )
                    producer.flush(10)
                    if draw.random() < 0.33:
                        producer.abort_transaction(10)
                        self.aborted += 1
                    else:
                        producer.commit_transaction(10)
            except KafkaException:
                continue  # broker away: it aborts the transaction, by time-out at the latest


_BASE = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251  a test's own clock
HOUR = timedelta(hours=1)
EARLIER = _BASE.replace(minute=0, second=0) - 30 * HOUR  # the hour that is closed (periods.py)
_OF_EARLIER = 0.01  # of the events


def correction_of(original: Sent, draw: random.Random) -> bytes:
    """A void or an amend of a record; some are of what lies behind it, some are sent again."""
    kind = draw.choice(["void", "amend"])
    offset = original.offset + draw.choice([0, 0, 0, 0, 0, 0, 0, 1])
    place = f"{original.partition}@{offset}"
    line: dict[str, Any] = {
        "kind": kind,
        "transaction_id": f"{kind}:{place}.{draw.randrange(2)}",
        "customer_id": original.customer_id,
        "timestamp": original.timestamp,
        f"{kind}s": {"transaction_id": original.transaction_id, "at": place},
    }
    if kind == "amend":
        said = event_of(draw.randrange(10**6), prefix="a")
        line["event"] = {name: said[name] for name in ("event_type", "properties", "context")}
    return json.dumps(line).encode()


def event_of(number: int, prefix: str = "t") -> dict[str, Any]:
    """The event of a number: the same whenever it is asked for, so that a copy is a copy."""
    draw = random.Random(f"{prefix}{number}")
    late = timedelta(seconds=draw.randrange(7200))
    if draw.random() < 0.002:
        late = timedelta(days=draw.choice([35, 36, 400]))
    if draw.random() < 0.1:
        late = -timedelta(seconds=draw.randrange(10_800))  # in hours that a later version counts
    if draw.random() < 0.001:
        late = -timedelta(days=2)
    at = _BASE - late
    if draw.random() < _OF_EARLIER:
        at = EARLIER + timedelta(seconds=draw.randrange(3600))
    return {
        "transaction_id": f"{prefix}{number}",
        "customer_id": f"{prefix}c{draw.randrange(CUSTOMERS)}",
        "event_type": draw.choice(["use", "use", "use", "other"]),
        "timestamp": at.isoformat(),
        "properties": {
            "v": draw.choices(
                [draw.randrange(1000), f"{draw.randrange(10**6)}e-3", "x", None], [10, 6, 1, 1]
            )[0],
            "g": draw.choice(["a", "b"]),
            "k": str(draw.randrange(40)),
        },
        "context": {"user": {"userID": f"u{draw.randrange(500)}"}, "value": draw.randrange(9)},
    }
