"""What every door of a server shares: the deployment, read as fresh as a question is.

Rule: a read sees every write that was acknowledged before it, by whichever server: the end of the
control log is asked for, and read up to, before an answer is made.
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeVar

from definitions.events.common import Arrival, ReadEvent, too_far
from definitions.formats.bodies import Problems
from definitions.times import parse_timestamp

from ...control.clerk import Clerk, patience_of
from ...control.entities import DeploymentRecord, Metric
from ...control.log import ControlLog
from ...control.records import ControlState
from ...control.writer import Writer
from ...core.dedup import home_of
from ...core.event import decoder_for, no_time
from ...core.names import EventType, event_types, merged
from ...core.reasons import Rejected
from ...deploy.checks import check_copies, check_open, identity_of
from ...deploy.opened import Deployed, opened
from ...edges.clock import SystemClock
from ...edges.kafka import KafkaLog
from ...edges.kafka_client import KafkaAdmin
from ...edges.kafka_owners import owners
from ...edges.kafka_sender import Record, Sender, sender
from ...edges.redis import RedisStore
from ...errors import Halt, LogUnavailable, NotOpen, TooBusy
from ...log.publish import line_of
from ...reads.marks import Patience
from ...reads.usage import Reader
from ...settings import Settings
from ...telemetry.logs import LOG
from .contact import Contact, Ends, Shared

IN_FLIGHT_MAX: Final = 20_000  # events that are on their way to Kafka; more are refused for now
LARGE_MAX: Final = 4  # large questions that a server answers at a time; more are refused
T = TypeVar("T")
AGE_MARGIN: Final = timedelta(seconds=60)  # longer than an event is on its way to the log
DURABLE_S_MAX: Final = 20.0
ACTIVE_S_MAX: Final = 3.0
_ACTIVE_POLL_S: Final = 0.05
_DECODER: Final = decoder_for(frozenset(), context=False)


class Busy(LogUnavailable):
    """More events are on their way than may be. None of this body was taken; come back."""


class Limited(Exception):
    """A key has asked more often than it may: at most `most` times in window_s seconds."""

    def __init__(self, most: int, window_s: int, retry_s: int) -> None:
        super().__init__(f"at most {most} requests in {window_s} s")
        self.retry_s = retry_s


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a vendor lets one key make certain calls. limits: (requests, seconds)."""

    name: str
    limits: tuple[tuple[int, int], ...]


@dataclass
class Service:
    """One server's hold on a deployment."""

    settings: Settings
    found: Deployed
    sender: Sender
    opening: AsyncExitStack  # what is opened later ends with it
    clock: SystemClock = field(default_factory=SystemClock)
    unattended_until_s: float = 0.0  # until then nobody waits for workers: none answered
    in_flight: int = 0  # events on their way to Kafka
    taken: int = 0  # events that are durable
    left_out: int = 0  # events that were taken and do not count, as their vendor has it

    def __post_init__(self) -> None:
        self._lock = asyncio.Lock()
        self._control = Shared(self._catch_up, self.clock)
        self.contact = Contact(self.settings.kafka_wait_ms / 1000, self._catch_up)
        self._ends()
        self._patience = Patience(self.settings.read_wait_ms / 1000, self.clock)
        self._admin = KafkaAdmin(self.settings.address)
        self.comparing = (
            asyncio.Lock()
        )  # files of closed periods are read for one answer at a time
        self._single_copy: Halt | None = None
        self._large = 0  # questions that are being answered and are large

    def _ends(self) -> None:
        partitions = lambda: len(self.identity.starts)  # noqa: E731
        self.ends = Ends(self.found.log, partitions, self.clock, self.contact)

    async def _catch_up(self) -> ControlState:
        async with self._lock:
            if self.found.away is not None:  # opened without Kafka: all is read and checked now
                again = opened(self.settings.place, sends=True)
                self.found = await self.opening.enter_async_context(again)
                self._ends()
            return await self.control.catch_up()

    @property
    def control(self) -> ControlLog:
        """The control log; its state is what was read last."""
        return self.found.control

    @property
    def store(self) -> RedisStore:
        """The numbers."""
        return self.found.store

    @property
    def log(self) -> KafkaLog:
        """The events."""
        return self.found.log

    @property
    def identity(self) -> DeploymentRecord:
        """The deployment as the control log says now: partitions are added while servers run."""
        return identity_of(self.control.state)

    def arrival(self) -> Arrival:
        """A body that is whole now. Call it when the body was read, not before.

        An event is judged again by the log's clock, later. What a door takes must still be in time
        then, so it takes less than the deployment does: less by AGE_MARGIN, or by a tenth of the
        limit where that is less.
        """
        deployment = self.identity.deployment
        oldest = None
        if deployment.max_age_ms:
            oldest = _within(timedelta(milliseconds=deployment.max_age_ms))
        return Arrival(
            self.clock.now(),
            new_id=self.new_id,
            oldest=oldest,
            newest=_within(timedelta(milliseconds=deployment.max_ahead_ms)),
            environments=self.settings.counted_environments,
        )

    async def fresh(self) -> ControlState:
        """Return what the control log says now; questions that come together share one look.

        While Kafka is away: what it said last, which nobody waits for (Contact).

        Raises:
            Halt: Kafka is there, and is not what this deployment was made on.
        """
        with suppress(LogUnavailable):
            return await self.contact.within(self._control.get)
        return self.control.state

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Writer]:
        """What writes to the control log, one writer at a time, on a state that is fresh.

        Raises:
            LogUnavailable: Kafka is away.
        """
        self.contact.check()
        async with self._lock:
            await self.control.catch_up()
            yield Writer(self.control, self.identity, self.clock)

    @property
    def reader(self) -> Reader:
        """A reader of the numbers."""
        return Reader(
            self.identity,
            self.store,
            self.ends,
            self.clock,
            self.settings.lateness,
            patience=self._patience,
            heavy=self.large,
        )

    @asynccontextmanager
    async def large(self) -> AsyncIterator[None]:
        """Answer a large question, of which only so many are answered at a time.

        Raises:
            TooBusy: there are that many.
        """
        if self._large >= LARGE_MAX:
            raise TooBusy(f"{LARGE_MAX} large questions are being answered; ask again later")
        self._large += 1
        try:
            yield
        finally:
            self._large -= 1

    async def limit(self, key_id: str, pace: Pace | None) -> None:
        """Count a request of a key, over all servers.

        Raises:
            Limited: the key has asked too often.
        """
        limits = []
        if self.settings.key_requests_per_s_max:
            limits.append((key_id, self.settings.key_requests_per_s_max, 1))
        if pace is not None and self.settings.vendor_limits:
            limits += [(f"{key_id}:{pace.name}", *limit) for limit in pace.limits]
        now_s = int(self.clock.now().timestamp())
        for name, most, window_s in limits:
            if await self.store.count_request(name, now_s // window_s, window_s) > most:
                raise Limited(most, window_s, window_s - now_s % window_s)

    async def owners(self) -> dict[int, str] | None:
        """Return who reads each partition of the events now (edges/kafka_owners.py)."""
        self.contact.check()
        return await owners(self._admin, self.settings.group, self.identity.topics["events"][0])

    async def learned(self) -> dict[str, EventType]:
        """Return what the stream taught of event types (core/names.py)."""
        parts = []
        for number in self.identity.starts:
            state, names = await self.store.learned(number)
            check_open(state, self.identity, number)
            parts.append(event_types(names))
        return merged(parts)

    async def activated(self, keys: Collection[str]) -> bool:
        """Wait until every partition counts these versions; False where that takes too long."""
        deadline = self.clock.monotonic() + ACTIVE_S_MAX
        while self.clock.monotonic() < deadline:
            try:
                states = [await self.store.state(number) for number in self.identity.starts]
            except NotOpen:
                return False  # events are taken while a partition is rebuilt
            if all(state and set(keys) <= set(state.active) for state in states):
                return True
            await asyncio.sleep(_ACTIVE_POLL_S)
        return False

    def new_id(self) -> str:
        """A fresh random text."""
        return uuid.uuid4().hex

    async def check_copies(self) -> None:
        """See whether one copy alone could acknowledge an event; if so, no event is taken.

        Raises:
            Halt: it could, for as long as the operator does not change it.
        """
        try:
            await check_copies(self._admin, self.identity)
        except Halt as error:
            if self._single_copy is None:
                LOG.error("no_event_taken", why=str(error))
            self._single_copy = error
            raise
        self._single_copy = None

    async def ingest(self, events: Sequence[ReadEvent]) -> None:
        """Send events, each to its customer's home; return once all are durable.

        Raises:
            DefinitionError: an event that would be rejected; none was sent. See send().
        """
        await self.send(self.checked(events))

    async def send(
        self, lines: Sequence[tuple[str, bytes]], *, partition: int | None = None
    ) -> None:
        """Send the bytes of events, each with its customer; return once all are durable.

        partition: where all of them go; None: each to its customer's home.

        Raises:
            Busy: too many are on their way already; none was sent. LogUnavailable: not all are
                durable; sending the same again adds nothing twice. Halt: see check_copies().
        """
        if self._single_copy is not None:
            raise self._single_copy
        if self.in_flight + len(lines) > IN_FLIGHT_MAX:
            raise Busy(f"{self.in_flight} events are on their way to Kafka; try again")
        self.in_flight += len(lines)
        homes = self.identity.deployment.homes
        parts: dict[int, list[Record]] = {}
        for customer, line in lines:
            to = home_of(customer, homes) if partition is None else partition
            parts.setdefault(to, []).append((customer.encode(), line))
        try:
            async with asyncio.timeout(DURABLE_S_MAX):
                await self.sender.send(parts)
        except TimeoutError as error:
            raise LogUnavailable(f"not durable within {DURABLE_S_MAX:.0f} s") from error
        finally:
            self.in_flight -= len(lines)
        self.taken += len(lines)

    def checked(self, events: Sequence[ReadEvent]) -> list[tuple[str, bytes]]:
        """Return the customer and the bytes of each event.

        Raises:
            DefinitionError: one that a worker would reject by what it is.
        """
        problems, lines, arrival = Problems(), [], self.arrival()
        for which, pointer, event in events:
            line = line_of(event)
            lines.append((event["customer_id"], line))
            read = _DECODER.decode(line)
            at_ns = None if isinstance(read, Rejected) else parse_timestamp(read.timestamp)
            if isinstance(read, Rejected):
                problems.add("EVENT", pointer, f"{which}: {read.reason}: {read.detail}")
            elif at_ns is None:
                problems.add("EVENT", pointer, f"{which}: {no_time(read).detail}")
            elif (far := too_far(at_ns, arrival)) is not None:
                problems.add("EVENT", pointer, f"{which}: {far}")
        problems.raise_if_any()
        return lines


def _within(limit: timedelta) -> timedelta:
    return limit - min(AGE_MARGIN, limit / 10)


def of_format(metrics: Iterable[Metric], format_: str) -> list[Metric]:
    """The metrics that were given in a format."""
    return [metric for metric in metrics if metric.format == format_]


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Service]:
    """Open a deployment for a server; without Kafka, for reads alone until Kafka is there.

    Raises:
        UsageError, Halt: it does not exist, or cannot be served. Unavailable: not now.
    """
    wait_s = settings.kafka_wait_ms / 1000
    async with AsyncExitStack() as stack:
        found = await stack.enter_async_context(
            opened(settings.place, sends=True, kafka_wait_s=wait_s)
        )
        sending = await stack.enter_async_context(
            sender(settings.address, found.names["events"], at_once=found.away is None)
        )
        service = Service(settings, found, sending, stack)
        if found.away is not None:
            service.contact.lose()
        taking = asyncio.create_task(_clerk_of(service).work())
        try:
            yield service
        finally:
            taking.cancel()
            with suppress(asyncio.CancelledError):
                await taking
            await service.contact.close()


def _clerk_of(service: Service) -> Clerk:
    """What takes requests where no worker does."""
    place = service.settings.place
    return Clerk(
        place.kafka,
        place.name,
        control=lambda: None if service.found.away is not None else service.control,
        secrets=place.control_secrets,
        clock=service.clock,
        patience=lambda: patience_of(os.getpid()),
    )
