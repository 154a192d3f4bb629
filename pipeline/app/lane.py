"""The batch lane: every owned partition of this process, opened, fed and kept alive."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ..core.limits import Limits
from ..core.raw import Delivered
from ..deploy.checks import RIGHTS, check_copies, check_copy, check_policy, check_topics
from ..edges.kafka_client import KafkaAdmin
from ..edges.redis import RedisStore
from ..errors import LogUnavailable, StoreUnavailable
from ..ports import Clock, EventLog
from .catalogue import Definitions
from .crash import guarded
from .opening import Released
from .owner import Owner, SeekBack
from .reporting import Owned

RELEASE_S_MAX: Final = 2.0
OPEN_S_MAX: Final = 80.0  # below Faust's own limit, which is 90 s
_TICK_S: Final = 0.5
CACHED_BYTES_MAX: Final = 192 * 1_048_576  # of cells, in a process: docs/performance.md
_BATCHES_MAX: Final = 2  # fetches that may wait for an owner
_CHECK_EVERY_S: Final = 5.0
_OPEN_AT_ONCE: Final = 4

Seek = Callable[[int, int], Awaitable[None]]
_Batch = tuple[Delivered, Seek]


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


class _Desk:
    """One owner with the batches that wait for it, and the task that takes them.

    Owners work side by side: while one waits for the store, another one folds.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.waiting = 0  # batches handed over and not yet taken
        self._batches: asyncio.Queue[_Batch] = asyncio.Queue(_BATCHES_MAX)
        self._task: asyncio.Task[None] | None = None

    async def put(self, records: Delivered, seek: Seek) -> None:
        """Hand a batch over; wait while two are waiting, which is how fetching is slowed down."""
        if self._task is None:
            self._task = asyncio.create_task(guarded(self._work()))
        await self._batches.put((records, seek))

    async def _work(self) -> None:
        while not self.owner.released:
            records, seek = await self._batches.get()
            try:
                await self.owner.take(records)
            except SeekBack as back:
                self.owner.done["seeks"] += 1
                await seek(self.owner.partition, back.offset)
            except Released:
                return
            finally:
                self.waiting -= 1
                records.clear()  # Faust keeps the last message of a stream until the next comes

    async def release(self) -> None:
        """Let the partition go, within the limit."""
        await self.owner.release(RELEASE_S_MAX)
        task, self._task = self._task, None  # it would keep the owner, and the owner's ids
        if task is not None:
            task.cancel()
        # Whoever waits to hand over a batch must go on: the next owner reads it again.
        while not self._batches.empty():
            self._batches.get_nowait()[0].clear()


class Lane:
    """The owners of this process. seek and positions come from the transport."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._desks: dict[int, _Desk] = {}
        self._done: Counter[str] = Counter()  # by owners that are gone
        self.ends: dict[int, int] = {}  # of the log, as they were looked at last
        self.opening = False  # whether partitions are being opened: that has its own limit
        self.store_answers = True  # when it was looked at last
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

        Raises:
            StoreUnavailable: not within OPEN_S_MAX. The group waits for us meanwhile: the process
                ends, and its successor joins when it can.
        """
        await self.release()
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
        owners = {
            number: Owner(
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
        }
        gate = asyncio.Semaphore(_OPEN_AT_ONCE)

        async def opened(owner: Owner) -> int:
            async with gate:
                return await owner.open()

        starts = await asyncio.gather(*(opened(owner) for owner in owners.values()))
        self._desks = {number: _Desk(owner) for number, owner in owners.items()}
        return dict(zip(owners, starts, strict=True))

    async def release(self) -> None:
        """Let every partition go, within its limit."""
        desks, self._desks = self._desks, {}
        for desk in desks.values():
            self._done += desk.owner.done
        await asyncio.gather(*(desk.release() for desk in desks.values()))

    def queued(self, partition: int) -> None:
        """Note that a batch of a partition was fetched and not yet taken."""
        if partition in self._desks:
            self._desks[partition].waiting += 1

    async def take(self, partition: int, records: Delivered, seek: Seek) -> None:
        """Hand a batch to its partition's owner; seek is for what must be fetched again."""
        desk = self._desks.get(partition)
        if desk is not None:
            await desk.put(records, seek)

    async def tend(self, positions: Callable[[], Mapping[int, int]], seek: Seek) -> None:
        """Tick idle partitions, for ever."""
        last: dict[int, tuple[int, int]] = {}
        while True:
            await asyncio.sleep(_TICK_S)
            now = positions()
            for number in list(self._desks):
                if number in self._desks:
                    await self._tick(number, now.get(number), last, seek)

    async def _tick(
        self, number: int, position: int | None, last: dict[int, tuple[int, int]], seek: Seek
    ) -> None:
        desk = self._desks[number]
        # Idle: nothing queued, and neither moved nor took anything since the last tick.
        stands = (-1 if position is None else position, desk.owner.taken)
        idle = stands == last.get(number) and not desk.waiting
        last[number] = stands
        try:
            await desk.owner.tick(position if idle else None)
        except SeekBack as back:
            await seek(number, back.offset)
        except Released:
            return

    async def check(self) -> None:
        """Look at topics, rights, store and settings for ever, also while owners wait."""
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            await self._check()

    @property
    def done(self) -> Counter[str]:
        """What this process did so far: commits, refused, gaps, seeks, plain events."""
        return sum((desk.owner.done for desk in list(self._desks.values())), self._done)

    def owned(self) -> dict[int, Owned]:
        """The partitions that are open."""
        return {
            number: Owned(desk.owner.state, desk.owner.kept, self.ends.get(number, -1))
            for number, desk in list(self._desks.items())
            if desk.owner.stands is not None
        }

    @property
    def nexts(self) -> dict[int, int | None]:
        """Where every owned partition stands; None while it is being opened."""
        return {number: desk.owner.stands for number, desk in self._desks.items()}

    async def _check(self) -> None:
        """Look at topics and store again. A service that is away is looked at the next time."""
        parts, identity = self._parts, self._parts.definitions.identity
        with suppress(LogUnavailable):
            rights = {name: RIGHTS[role] for role, (name, _) in identity.topics.items()}
            found = await parts.admin.rightful(rights, parts.group)
            identity = parts.definitions.identity
            events = found.get(self.events)
            # `init` tells the control log before it grows the topic: we may be behind it once.
            ahead = events is not None and events.partitions > len(identity.starts)
            check_topics(identity, found, growing=ahead and not self._ahead)
            self._ahead = ahead
            await check_copies(parts.admin, identity)
        self.store_answers = False
        with suppress(StoreUnavailable):
            await check_policy(parts.store)
            await check_copy(parts.store, identity)
            self.store_answers = True
