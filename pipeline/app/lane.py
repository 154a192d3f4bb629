"""The batch lane: every owned partition of this process, opened, fed and kept alive."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from ..core.limits import Limits
from ..core.raw import Delivered
from ..deploy.checks import (
    RIGHTS,
    check_copies,
    check_copy,
    check_policy,
    check_release,
    check_topics,
)
from ..edges.kafka_client import KafkaAdmin
from ..edges.kafka_owners import rightful
from ..edges.redis import RedisStore
from ..errors import LogUnavailable, StoreUnavailable, Unavailable
from ..ports import Clock, EventLog
from ..telemetry.logs import LOG
from .backfill import Backfill
from .catalogue import Definitions
from .crash import guarded
from .desk import Desk, Seek
from .mending import Mender
from .owner import Owner
from .reporting import Owned

OPEN_S_MAX: Final = 80.0  # below Faust's own limit, which is 90 s
_TICK_S: Final = 0.5
CACHED_BYTES_MAX: Final = 192 * 1_048_576  # of cells, in a process: docs/performance.md
_CHECK_EVERY_S: Final = 5.0
_OPEN_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker is wired from."""

    store: RedisStore
    log: EventLog
    definitions: Definitions
    clock: Clock
    admin: KafkaAdmin
    group: str
    flush_s: float
    limits: Limits


class Lane:
    """The owners of this process. seek and positions come from the transport."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.desks: dict[int, Desk] = {}
        self._done: Counter[str] = Counter()  # by owners that are gone
        self.ends: dict[int, int] = {}  # of the log, as they were looked at last
        self.opening = False  # whether partitions are being opened: that has its own limit
        self._away = set[str]()  # services that did not answer when they were looked at last
        self._ahead = False  # whether the topic had more partitions than we knew of

    @property
    def definitions(self) -> Definitions:
        """What this process knows of the control log."""
        return self._parts.definitions

    @property
    def events(self) -> str:
        """The topic of events."""
        return self._parts.definitions.identity.topics["events"][0]

    async def open(self, partitions: Sequence[int]) -> dict[int, int]:
        """Own exactly these partitions, afresh; return where to fetch each from.

        One that has halted is owned, and there is nothing to fetch for it.

        Raises:
            StoreUnavailable: not within OPEN_S_MAX. The group waits for us meanwhile: the process
                ends, and its successor joins when it can.
        """
        await self.release()
        LOG.info("assigned", partitions=list(partitions))
        self.opening = True
        try:
            async with asyncio.timeout(OPEN_S_MAX):
                await self._check()
                return await self._open(partitions)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"partitions {list(partitions)} could not be opened within {OPEN_S_MAX:.0f} s: "
                "Redis or Kafka does not answer"
            ) from error
        finally:
            self.opening = False

    async def _open(self, partitions: Sequence[int]) -> dict[int, int]:
        parts = self._parts
        owners = [
            Owner(
                number,
                store=parts.store,
                log=parts.log,
                definitions=parts.definitions,
                clock=parts.clock,
                flush_s=parts.flush_s,
                limits=parts.limits,
                cells_bytes_max=CACHED_BYTES_MAX // len(partitions),
            )
            for number in partitions
        ]
        gate = asyncio.Semaphore(_OPEN_AT_ONCE)

        async def opened(desk: Desk) -> int | None:
            async with gate:
                return await desk.open()

        def desk_of(owner: Owner) -> Desk:
            log, definitions, clock = parts.log, parts.definitions, parts.clock
            past = Backfill(owner, log=log, definitions=definitions, clock=clock)
            mender = Mender(owner, log=log, definitions=definitions, clock=clock)
            return Desk(owner, clock, past, mender)

        desks = {owner.partition: desk_of(owner) for owner in owners}
        starts = await asyncio.gather(*(opened(desk) for desk in desks.values()))
        self.desks = desks
        found = zip(desks, starts, strict=True)
        return {number: start for number, start in found if start is not None}

    async def release(self) -> None:
        """Let every partition go, within its limit."""
        desks, self.desks = self.desks, {}
        if desks:
            LOG.info("released", partitions=[*desks])
        for desk in desks.values():
            self._done += desk.owner.done
        await asyncio.gather(*(desk.release() for desk in desks.values()))

    def queued(self, partition: int) -> None:
        """Note that a batch of a partition was fetched and not yet taken."""
        if partition in self.desks:
            self.desks[partition].waiting += 1

    def close(self, partition: int) -> None:
        """Fetch nothing more of a partition: a batch of it cannot be read."""
        if partition in self.desks:
            self.desks[partition].is_closed = True

    async def take(self, partition: int, fetch: Delivered, seek: Seek) -> None:
        """Hand a fetch to its partition's owner; seek is for what must be fetched again."""
        desk = self.desks.get(partition)
        if desk is not None:
            await desk.put(fetch, seek)

    async def tend(self, positions: Callable[[], Mapping[int, int]], seek: Seek) -> None:
        """Tick idle partitions, for ever; none waits for another one's part of the store."""
        last: dict[int, tuple[int, int]] = {}
        ticking: dict[int, asyncio.Task[None]] = {}
        while True:
            await asyncio.sleep(_TICK_S)
            now = positions()
            for number in list(self.desks):
                if number not in ticking or ticking[number].done():
                    tick = self._tick(number, now.get(number), last, seek)
                    ticking[number] = asyncio.create_task(guarded(tick))

    async def _tick(
        self, number: int, position: int | None, last: dict[int, tuple[int, int]], seek: Seek
    ) -> None:
        desk = self.desks.get(number)
        if desk is None:
            return  # given up since the tick was due
        # Idle: nothing queued, and neither moved nor took anything since the last tick.
        stands = (-1 if position is None else position, desk.owner.taken)
        idle = stands == last.get(number) and not desk.waiting
        last[number] = stands
        await desk.tick(position if idle else None, seek)

    async def check(self) -> None:
        """Look at topics, rights, store and settings for ever, also while owners wait."""
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            await self._check()

    @property
    def done(self) -> Counter[str]:
        """What this process did so far: commits, refused, gaps, seeks, plain events."""
        return sum((desk.owner.done for desk in list(self.desks.values())), self._done)

    def owned(self) -> dict[int, Owned]:
        """The partitions that are open."""
        return {
            number: Owned(
                desk.owner.state, desk.owner.kept, self.ends.get(number, -1), desk.past.behind
            )
            for number, desk in list(self.desks.items())
            if desk.owner.stands is not None
        }

    @property
    def nexts(self) -> dict[int, int | None]:
        """Where every owned partition stands that has not halted; None while it is opened."""
        return {
            number: desk.owner.stands for number, desk in self.desks.items() if desk.halted is None
        }

    @property
    def halted(self) -> dict[int, str]:
        """The owned partitions that have halted, and why."""
        desks = list(self.desks.items())
        return {number: why for number, desk in desks if (why := desk.halted) is not None}

    @property
    def closed(self) -> frozenset[int]:
        """The owned partitions for which nothing is fetched: halted, or with enough to do."""
        desks = self.desks.items()
        return frozenset(number for number, desk in desks if desk.is_closed or desk.is_full)

    async def _check(self) -> None:
        """Look at topics and store again. A service that is away is looked at the next time."""
        parts, identity = self._parts, self._parts.definitions.identity
        with self._answering("kafka", LogUnavailable):
            rights = {name: RIGHTS[role] for role, (name, _) in identity.topics.items()}
            found = await rightful(parts.admin, rights, parts.group)
            identity = parts.definitions.identity
            check_release(identity)
            events = found.get(self.events)
            # `init` tells the control log before it grows the topic: we may be behind it once.
            ahead = events is not None and events.partitions > len(identity.starts)
            check_topics(identity, found, growing=ahead and not self._ahead)
            self._ahead = ahead
            await check_copies(parts.admin, identity)
        with self._answering("redis", StoreUnavailable):
            await check_policy(parts.store)
            await check_copy(parts.store, identity)

    @property
    def store_answers(self) -> bool:
        """Whether Redis answered when it was looked at last."""
        return "redis" not in self._away

    @contextmanager
    def _answering(self, service: str, away: type[Unavailable]) -> Iterator[None]:
        """Note whether a service answers, and tell when that changes."""
        try:
            yield
        except away as error:
            if service not in self._away:
                LOG.warning("away", service=service, why=str(error))
            self._away.add(service)
        else:
            if service in self._away:
                LOG.info("back", service=service)
            self._away.discard(service)
