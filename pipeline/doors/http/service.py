"""What every door of a server shares: the deployment, read as fresh as a question is.

Rule: a read sees every write that was acknowledged before it, by whichever server: the end of the
control log is asked for, and read up to, before an answer is made.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from ...control.log import ControlLog
from ...control.records import ControlState, Identity, Metric
from ...control.writer import Writer
from ...core.dedup import home_of
from ...deploy.checks import check_identity, known_identity
from ...edges.clock import SystemClock
from ...edges.kafka import KafkaAdmin, KafkaLog, durable, producer, sending, topic_names
from ...edges.redis import RedisStore
from ...errors import LogUnavailable
from ...publish import line_of
from ...reads.usage import Reader
from ...settings import Settings

IN_FLIGHT_MAX: Final = 20_000  # events that are on their way to Kafka; more are refused for now
DURABLE_S_MAX: Final = 20.0


class Busy(LogUnavailable):
    """More events are on their way than may be. None of this body was taken; come back."""


class Limited(Exception):
    """A key has asked more often than it may. Its only argument: how often it may, a second."""


@dataclass
class Service:
    """One server's hold on a deployment."""

    settings: Settings
    identity: Identity
    control: ControlLog
    store: RedisStore
    log: KafkaLog
    sender: Any  # an idempotent producer (edges/kafka.py)
    clock: SystemClock = field(default_factory=SystemClock)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _read_at: float = -1.0
    _in_flight: int = 0

    async def fresh(self) -> ControlState:
        """Return what the control log says now; questions that come together share one look."""
        asked_at = self.clock.monotonic()
        async with self._lock:
            if self._read_at <= asked_at:
                began = self.clock.monotonic()
                await self.control.catch_up()
                self._read_at = began
            return self.control.state

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Writer]:
        """What writes to the control log, one writer at a time, on a state that is fresh."""
        async with self._lock:
            await self.control.catch_up()
            yield Writer(self.control, self.identity, self.clock)

    @property
    def reader(self) -> Reader:
        """A reader of the numbers."""
        return Reader(self.identity, self.store, self.log, self.clock, self.settings.lateness)

    async def limit(self, key_id: str) -> None:
        """Count a request of a key, over all servers.

        Raises:
            Limited: the key has asked too often in this second.
        """
        most = self.settings.key_requests_per_s_max
        if (
            most
            and await self.store.count_request(key_id, int(self.clock.now().timestamp())) > most
        ):
            raise Limited(most)

    def new_id(self) -> str:
        """A fresh random text."""
        return uuid.uuid4().hex

    async def ingest(self, events: Sequence[dict[str, Any]]) -> None:
        """Send events, each to its customer's home; return once all are durable.

        Raises:
            Busy: too many are on their way already; none was sent. LogUnavailable: not all are
                durable; sending the same again adds nothing twice.
        """
        if self._in_flight + len(events) > IN_FLIGHT_MAX:
            raise Busy(f"{self._in_flight} events are on their way to Kafka; try again")
        self._in_flight += len(events)
        topic, homes = self.identity.topics["events"][0], self.identity.deployment.homes
        try:
            async with asyncio.timeout(DURABLE_S_MAX):
                sent = []
                for event in events:
                    customer = event["customer_id"]
                    made = sending(
                        self.sender,
                        topic,
                        line_of(event),
                        key=customer.encode(),
                        partition=home_of(customer, homes),
                    )
                    sent.append(await made)
                for future in sent:
                    await durable(future)
        except TimeoutError as error:
            raise LogUnavailable(f"not durable within {DURABLE_S_MAX:.0f} s") from error
        finally:
            self._in_flight -= len(events)


def of_format(metrics: Sequence[Metric], format_: str) -> list[Metric]:
    """The metrics that were given in a format."""
    return [
        metric
        for metric in metrics
        if metric.latest.body is not None
        and metric.latest.body.definition.origin.format == format_
    ]


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Service]:
    """Open a deployment for a server.

    Raises:
        UsageError, Halt: it does not exist, or cannot be served. Unavailable: not now.
    """
    names = topic_names(settings.deployment)
    store = RedisStore(settings.redis, settings.deployment)
    log = KafkaLog(settings.address, events=names["events"], rejected=names["rejected"])
    try:
        if names["control"] not in await KafkaAdmin(settings.address).describe([names["control"]]):
            await known_identity(None, store)
        async with (
            ControlLog(settings.address, names["control"]) as control,
            producer(settings.address, linger_ms=2, max_batch_size=262_144) as sender,
        ):
            identity = await known_identity(control.state, store)
            check_identity(identity)
            store.base_bucket_s = identity.deployment.base_bucket_s
            yield Service(settings, identity, control, store, log, sender)
    finally:
        await store.close()
        await log.close()
