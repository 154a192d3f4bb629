"""The events of the benchmarks, and what must come out of them."""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

import numpy as np
from confluent_kafka import Producer

from .jobs import METRONOME, Job
from .peers.common import EMPTY, Cell, add, hour_of

PARTITIONS = 4
Cells = dict[tuple[str, int], Cell]
CLOSER = "closer-"  # customers of the events that end a topic


@dataclass(frozen=True)
class Traffic:
    """Events of about 300 bytes over two hours before `now`, in order but for duplicates.

    duplicates: the share of events that repeat an earlier one, byte for byte. filler: bytes more
    an event. law: whose an event is: each in turn, drawn uniformly, or zipf: the customer of rank
    r with a share of r ** -exponent.
    """

    events: int
    now: datetime
    customers: int = 1_000
    duplicates: float = 0.01
    filler: int = 0
    seed: int = 1
    groups: int = 0
    law: Literal["turns", "uniform", "zipf"] = "turns"
    exponent: float = 1.1
    job: Job = METRONOME

    def __iter__(self) -> Iterator[dict[str, Any]]:
        draw = random.Random(self.seed)  # noqa: S311  a seed, not a secret
        began, step = self.now - timedelta(seconds=7200), 7200 / self.events
        for number in range(self.events):
            same = draw.random() < self.duplicates and number
            own = draw.randrange(number) if same else number
            yield self.event(own, began + timedelta(seconds=own * step))

    @cached_property
    def _drawn(self) -> Any:
        """The customer of each event's number, where it is drawn."""
        draw = np.random.default_rng(self.seed)
        if self.law == "uniform":
            return draw.integers(0, self.customers, self.events)
        shares = np.cumsum(np.arange(1, self.customers + 1, dtype=float) ** -self.exponent)
        ranks = np.searchsorted(shares, draw.random(self.events) * shares[-1], side="right")
        return np.minimum(ranks, self.customers - 1)

    def event(self, own: int, at: datetime) -> dict[str, Any]:
        """The event of a number."""
        number = own % self.customers if self.law == "turns" else int(self._drawn[own])
        made = self.job.event(own, f"customer-{number:06d}", at)
        if self.filler:
            made["properties"]["filler"] = "x" * self.filler
        if self.groups:
            made["properties"]["group"] = f"group-{own % self.groups}"
        return made


@dataclass
class Expected:
    """The recount of a topic, kept while it is filled: every event, and without duplicates."""

    every: Cells = field(default_factory=lambda: defaultdict(lambda: EMPTY))
    once: Cells = field(default_factory=lambda: defaultdict(lambda: EMPTY))
    _seen: set[str] = field(default_factory=set)

    def count(self, event: dict[str, Any]) -> None:
        """Count an event."""
        at = event["customer_id"], hour_of(event["timestamp"])
        exact = {**event["properties"], "latency": Decimal(str(event["properties"]["latency"]))}
        event = {**event, "properties": exact}
        self.every[at] = add(self.every[at], event)
        if event["transaction_id"] not in self._seen:
            self._seen.add(event["transaction_id"])
            self.once[at] = add(self.once[at], event)


def fill(
    kafka: str,
    topic: str,
    traffic: Traffic,
    *,
    closed: bool = False,
    expect: bool = True,
    login: Mapping[str, Any] | None = None,
) -> Expected:
    """Publish events keyed by customer, as Kafka's clients do; return what they add up to.

    Args:
        expect: Whether the answer is wanted; it takes longer.
        closed: Whether one event of every partition follows, three days ahead, which closes the
            windows of engines that wait for that. They are not part of what is expected.
        login: How the producer connects, in librdkafka's names.
    """
    producer = Producer(
        {
            **(login or {}),
            "bootstrap.servers": kafka,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "batch.size": 262_144,
            "queue.buffering.max.messages": 500_000,
            "enable.idempotence": True,
        }
    )
    expected = Expected()
    for number, event in enumerate(traffic):
        key = event["customer_id"].encode()
        producer.produce(topic, traffic.job.line(event), key=key)
        if expect:
            expected.count(event)
        if not number % 10_000:
            producer.poll(0)
    producer.flush()
    for number in range(PARTITIONS if closed else 0):
        event = traffic.event(0, traffic.now + timedelta(days=3))
        event |= {"customer_id": f"{CLOSER}{number}", "transaction_id": f"{CLOSER}{number}"}
        key = event["customer_id"].encode()
        producer.produce(topic, traffic.job.line(event), key=key, partition=number)
    producer.flush()
    return expected


def now() -> datetime:
    """A benchmark's own clock."""
    return datetime.now(UTC)  # noqa: TID251  a benchmark's own clock
