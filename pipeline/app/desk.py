"""One owner with the batches that wait for it; and what happens when its partition halts.

A halted partition stops alone. Its owner gives up what it held in memory, takes nothing, and is
not fetched for. It tells readers beside the partition's state, and operators on stderr.

Rule 1: a halted partition is looked at again every few seconds: its state, its log around `next`.
If either has changed it is opened again; if neither has, still once a minute, for what was
mended may be something else: an id log, a key, a clock.
Rule 2: it goes on from the store's `next`, as after any opening: nothing is stepped over.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from ..core.raw import Delivered
from ..errors import Damage, PartitionHalt
from ..ports import Clock
from ..telemetry.logs import LOG
from .backfill import Backfill
from .crash import guarded
from .mending import Mender
from .opening import Released, SeekBack
from .owner import Owner

RELEASE_S_MAX: Final = 2.0
_BATCHES_MAX: Final = 2  # fetches that may wait for an owner
_LOOK_EVERY_S: Final = 5.0
_OPEN_EVERY_S: Final = 60.0  # where nothing has changed: opening loads every living id

Seek = Callable[[int, int], Awaitable[None]]


class BadBatch(NamedTuple):
    """Stands in a fetch where a batch cannot be read. It comes behind what lies before it."""

    offset: int
    why: Damage
    timestamp: int = 0
    timestamp_type: int = 1
    key: bytes | None = None
    value: bytes | None = None


class _Halt(NamedTuple):
    """Why a partition does not go on."""

    reason: str


class Desk:
    """An owner, its queue, and the task that takes from it.

    Owners work side by side: while one waits for the store, another one folds.
    """

    def __init__(self, owner: Owner, clock: Clock, past: Backfill, mender: Mender) -> None:
        self.owner = owner
        self.past = past
        self.mender = mender
        self.waiting = 0  # batches handed over and not yet taken
        self.is_closed = False  # nothing is fetched for it
        self._clock = clock
        self._halt: _Halt | None = None
        self._look_at = self._open_at = 0.0
        self._seen: Any = None  # when it was opened last after it had halted
        self._batches: asyncio.Queue[tuple[Delivered, Seek]] = asyncio.Queue(_BATCHES_MAX)
        self._task: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether one fetch is taken while two wait: the next would hold up whoever hands over."""
        return self.waiting > _BATCHES_MAX

    @property
    def halted(self) -> str | None:
        """Why the partition has halted, and what to do; None: it has not."""
        return None if self._halt is None else self._halt.reason

    async def open(self) -> int | None:
        """Open the partition; return the offset to fetch from, None where it has halted."""
        began = self._clock.monotonic()
        try:
            start = await self.owner.open()
        except Damage as error:
            await self.halts(error)
            return None
        took_ms = round(1_000 * (self._clock.monotonic() - began))
        ids = self.owner.kept.ids
        LOG.info("opened", partition=self.owner.partition, next=start, ids=ids, ms=took_ms)
        return start

    async def put(self, fetch: Delivered, seek: Seek) -> None:
        """Hand a fetch over; wait while two are waiting, which Lane.closed sees to."""
        if self._task is None:
            self._task = asyncio.create_task(guarded(self._work()))
        await self._batches.put((fetch, seek))

    async def _work(self) -> None:
        while not self.owner.released:
            fetch, seek = await self._batches.get()
            try:
                await self._take(fetch)
            except SeekBack as back:
                self.owner.done["seeks"] += 1
                LOG.info("seek", partition=self.owner.partition, to=back.offset)
                await seek(self.owner.partition, back.offset)
            except Released:
                return
            except Damage as error:
                await self.halts(error)
            finally:
                self.waiting -= 1
                fetch.clear()  # Faust keeps the last message of a stream until the next comes

    async def _take(self, fetch: Delivered) -> None:
        first, stood = fetch[0], self.owner.stands
        if isinstance(first, BadBatch):
            raise first.why
        await self.owner.take(fetch)
        if self.owner.stands != stood:
            self._seen = None  # should it halt again, that is another time
            await self.owner.note.clear()

    async def tick(self, position: int | None, seek: Seek) -> None:
        """Do what an idle partition needs (Owner.tick), or look at a halted one again."""
        if self._halt is not None:
            if self._looking is None and self._clock.monotonic() >= self._look_at:
                # Beside the ticks of others: it may take as long as an opening.
                self._looking = asyncio.create_task(guarded(self._look(self._halt, seek)))
            return
        try:
            await self.owner.tick(position)
            if position is not None:
                await self.owner.note.clear()
        except SeekBack as back:
            LOG.info("seek", partition=self.owner.partition, to=back.offset)
            await seek(self.owner.partition, back.offset)
        except Released:
            return
        except Damage as error:
            await self.halts(error)

    # -- halted ----------------------------------------------------------------------------------

    async def halts(self, error: Damage) -> None:
        """Stop this partition, and say why."""
        text = str(error)
        if not isinstance(error, PartitionHalt):
            text = f"partition {self.owner.partition}: {text}"
        before, self._halt, self.is_closed = self._halt, _Halt(text), True
        if before is None or before.reason != text:
            LOG.error("halted", partition=self.owner.partition, why=text)
        await self.owner.drop()
        await self.owner.note.write(text)
        self._look_at = self._clock.monotonic() + _LOOK_EVERY_S

    async def _look(self, halt: _Halt, seek: Seek) -> None:
        """Look at the halted partition; open it if something has changed."""
        try:
            seen, now = await self.owner.opening.glance(), self._clock.monotonic()
            if seen == self._seen and now < self._open_at:
                await self.owner.note.write(halt.reason)
                self._look_at = now + _LOOK_EVERY_S
                return
            self._seen, self._open_at = seen, now + _OPEN_EVERY_S
            offset = await self.owner.open()
            await seek(self.owner.partition, offset)
            if self._halt is halt:  # else what still waited here has halted it again
                self._halt, self.is_closed = None, False
                LOG.info("looked_again", partition=self.owner.partition, next=offset)
        except Released:
            return
        except Damage as error:
            await self.halts(error)
        finally:
            self._looking = None

    async def release(self) -> None:
        """Let the partition go, within the limit."""
        await self.owner.release(RELEASE_S_MAX)
        tasks = self._task, self._looking
        self._task = self._looking = None  # they would keep the owner, and the owner's ids
        for task in tasks:
            if task is not None:
                task.cancel()
        # Whoever waits to hand over a batch must go on: the next owner reads it again.
        while not self._batches.empty():
            self._batches.get_nowait()[0].clear()
