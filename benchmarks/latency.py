"""How long it takes from producing an event to its being readable, at a steady rate."""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Message, Producer

from tests.services import Recount
from tests.waiting import eventually

from .measuring import Standing, children, cpu_of
from .traffic import PARTITIONS, Traffic, now

_SAMPLE: Final = 100  # of so many events one is timed
_POLL_S: Final = 0.005
_JOINS_S_MAX: Final = 120.0  # until a worker that was started has joined


@dataclass
class Steady:
    """Events at a rate for some seconds. The first second warms up and is not timed."""

    recount: Recount
    rate: int
    seconds: int
    latencies: list[float] = field(default_factory=list)
    cpu: float = 0.0  # seconds of the workers meanwhile

    def __post_init__(self) -> None:
        # Of each partition: offset, and when it was produced.
        self._waiting: list[list[tuple[int, float]]] = [[] for _ in range(PARTITIONS)]
        self._kafka = self.recount.services.kafka
        self._topic = f"{self.recount.deployment}.usage.events"
        self._producing = threading.Thread(target=self._produce)
        self.begun = asyncio.Event()

    @property
    def told(self) -> dict[str, float]:
        """The figures, in milliseconds and CPU microseconds of an event."""
        found = sorted(self.latencies)
        return {
            "events_a_second": self.rate,
            "timed": len(found),
            "p50_ms": found[len(found) // 2] * 1000,
            "p99_ms": found[len(found) * 99 // 100] * 1000,
            "max_ms": found[-1] * 1000,
            "cpu_us": self.cpu / (self.rate * self.seconds) * 1e6,
        }

    @property
    def goes_on(self) -> bool:
        """Whether events are produced, or some that are timed cannot be read yet."""
        return self._producing.is_alive() or any(self._waiting)

    async def run(self, supervisor: int) -> None:
        """Produce, and look until everything that was timed can be read.

        supervisor: the process whose children are the workers.
        """
        standing = Standing(self.recount)
        await self._joined(standing)
        before = sum(map(cpu_of, children(supervisor)))
        self._producing.start()
        self.begun.set()
        while self.goes_on:
            applied = standing.nexts()
            seen = time.perf_counter()
            for open_ones, following in zip(self._waiting, applied, strict=True):
                while open_ones and open_ones[0][0] < following:
                    self.latencies.append(seen - open_ones.pop(0)[1])
            await asyncio.sleep(_POLL_S)
        self.cpu = sum(map(cpu_of, children(supervisor))) - before

    async def _joined(self, standing: Standing) -> None:
        """Wait until a worker applies what comes, in every partition."""
        stood, producer = standing.nexts(), Producer({"bootstrap.servers": self._kafka})
        for number, event in zip(range(PARTITIONS), Traffic(PARTITIONS, now()), strict=True):
            event["transaction_id"] = f"first {number}"
            producer.produce(self._topic, json.dumps(event).encode(), partition=number)
        producer.flush()

        def applies() -> bool:
            return all(new > old for new, old in zip(standing.nexts(), stood, strict=True))

        why = "a worker has joined"
        await asyncio.to_thread(eventually, applies, within_s=_JOINS_S_MAX, because=why)

    def _produce(self) -> None:
        more = {"partitioner": "murmur2_random", "linger.ms": 5}
        producer = Producer({"bootstrap.servers": self._kafka, **more})
        began = time.perf_counter()
        for number, event in enumerate(Traffic(self.rate * self.seconds, now())):
            event["transaction_id"] = f"live {event['transaction_id']}"
            while (left := began + number / self.rate - time.perf_counter()) > 0:
                producer.poll(min(left, 0.005))
            timed = number >= self.rate and not number % _SAMPLE
            producer.produce(
                self._topic,
                json.dumps(event).encode(),
                key=event["customer_id"].encode(),
                on_delivery=self._noted(time.perf_counter()) if timed else None,
            )
            producer.poll(0)
        producer.flush()

    def _noted(self, at: float) -> Callable[[object, Message], None]:
        def acknowledged(_error: object, message: Any) -> None:
            self._waiting[message.partition()].append((message.offset(), at))

        return acknowledged
