"""The batch lane: every owned partition of this process, opened, fed and kept alive."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..control.records import Identity
from ..core.judge import LogRecord
from ..deploy.checks import check_topics
from ..edges.kafka import KafkaAdmin
from ..errors import LogUnavailable
from ..ports import Clock, EventLog, RollupStore
from .crash import guarded
from .definitions import Definitions
from .owner import Owner, Released, SeekBack

RELEASE_S_MAX: Final = 2.0
_TICK_S: Final = 0.5
_BATCHES_MAX: Final = 2  # fetches that may wait for an owner
_TOPICS_EVERY_S: Final = 5.0
_OPEN_AT_ONCE: Final = 4

Seek = Callable[[int, int], Awaitable[None]]
_Batch = tuple[Sequence[LogRecord], Seek]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker is wired from."""

    identity: Identity
    store: RollupStore
    log: EventLog
    definitions: Definitions
    clock: Clock
    admin: KafkaAdmin
    flush_s: float


class _Desk:
    """One owner with the batches that wait for it, and the task that takes them.

    Owners work side by side: while one waits for the store, another one folds.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.waiting = 0  # batches handed over and not yet taken
        self._batches: asyncio.Queue[tuple[Sequence[LogRecord], Seek]] = asyncio.Queue(
            _BATCHES_MAX
        )
        self._task: asyncio.Task[None] | None = None

    async def put(self, records: Sequence[LogRecord], seek: Seek) -> None:
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
                await seek(self.owner.partition, back.offset)
            except Released:
                return
            finally:
                self.waiting -= 1

    async def release(self) -> None:
        """Let the partition go, within the limit."""
        await self.owner.release(RELEASE_S_MAX)
        if self._task is not None:
            self._task.cancel()
        # Whoever waits to hand over a batch must go on: the next owner reads it again.
        while not self._batches.empty():
            self._batches.get_nowait()


class Lane:
    """The owners of this process. seek and positions come from the transport."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._desks: dict[int, _Desk] = {}

    async def open(self, partitions: Sequence[int]) -> dict[int, int]:
        """Own exactly these partitions, afresh; return where to fetch each from."""
        await self.release()
        parts = self._parts
        owners = {
            number: Owner(
                number,
                identity=parts.identity,
                store=parts.store,
                log=parts.log,
                definitions=parts.definitions,
                clock=parts.clock,
                flush_s=parts.flush_s,
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
        await asyncio.gather(*(desk.release() for desk in desks.values()))

    def queued(self, partition: int) -> None:
        """Note that a batch of a partition was fetched and not yet taken."""
        if partition in self._desks:
            self._desks[partition].waiting += 1

    async def take(self, partition: int, records: Sequence[LogRecord], seek: Seek) -> None:
        """Hand a batch to its partition's owner; seek is for what must be fetched again."""
        desk = self._desks.get(partition)
        if desk is not None:
            await desk.put(records, seek)

    async def tend(self, positions: Callable[[], Mapping[int, int]], seek: Seek) -> None:
        """Tick idle partitions and look at the topics, for ever."""
        last: dict[int, tuple[int, int]] = {}
        looked = self._parts.clock.monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            now = positions()
            for number, desk in list(self._desks.items()):
                # Idle: nothing queued, and neither moved nor took anything since the last tick.
                stands = (now.get(number, -1), desk.owner.taken)
                idle = stands == last.get(number) and not desk.waiting
                last[number] = stands
                try:
                    await desk.owner.tick(now.get(number) if idle else None)
                except SeekBack as back:
                    await seek(number, back.offset)
                except Released:
                    continue
            if self._parts.clock.monotonic() - looked > _TOPICS_EVERY_S:
                looked = self._parts.clock.monotonic()
                await self._look_at_topics()

    async def _look_at_topics(self) -> None:
        identity = self._parts.identity
        try:
            found = await self._parts.admin.describe(
                [name for name, _ in identity.topics.values()]
            )
        except LogUnavailable:
            return  # fetching waits as well; looked at again in a few seconds
        check_topics(identity, found)
