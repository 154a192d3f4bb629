"""When slices of the past are counted: live events first, within a share of the time and memory.

Cells that wait to be mended (app/mending.py) take turns with the past, each as long as the other:
so corrections that never end hold no past up, and no past holds them up.

Rule: nothing here decides a number. A slice that is put off, or taken twice by two workers, leaves
the same cells (app/backfill.py).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from ..core.limits import is_scarce
from ..errors import Damage, Unavailable
from ..ports import Clock, RollupStore
from .backfill import Backfill
from .mending import Mender
from .opening import Released, SeekBack
from .owner import Owner

_IDLE_S: Final = 0.5
_BESIDE_S: Final = 0.05
_TURN_S: Final = 5.0  # of a partition, where others have a past too
_LOOK_S: Final = 0.005  # whether live batches are done
_LIVE_FLUSHES: Final = 4  # between two slices, while live events wait
_RETRY_S: Final = 1.0
_MEMORY_S: Final = 1.0

Seek = Callable[[int, int], Awaitable[None]]


class Served(Protocol):
    """A partition that the process owns. waiting: live batches that were fetched and not taken."""

    @property
    def owner(self) -> Owner: ...

    @property
    def past(self) -> Backfill: ...

    @property
    def mender(self) -> Mender: ...

    @property
    def waiting(self) -> int: ...

    async def halts(self, error: Damage) -> None:
        """Stop this partition, and say why."""
        ...


class Filling:
    """Counts the past of every owned partition, slice by slice.

    Two partitions at once while no live event comes: one waits for the log or the store while the
    other one folds. One alone as soon as events come: the stream waits for one slice at most.

    share: of the time, while live events come. is_paused: whether Redis is too full for it.
    """

    def __init__(
        self,
        served: Callable[[], Mapping[int, Served]],
        *,
        store: RollupStore,
        clock: Clock,
        share: float,
    ) -> None:
        self._served = served
        self._store = store
        self._clock = clock
        self._share = share
        self._looked_s = -_MEMORY_S
        self._flushed = 0  # live flushes when the last slice was taken
        self._busy: set[int] = set()  # partitions whose turn it is
        self._is_live = True  # whether live events came since the slice before the last
        self.is_paused = False

    async def run(self, seek: Seek) -> None:
        """Go on for ever."""
        await asyncio.gather(self._go_on(seek), self._go_on(seek, beside=True))

    async def _go_on(self, seek: Seek, *, beside: bool = False) -> None:
        """Give one partition after another its turn. beside: only while no live event comes."""
        while True:
            for number, each in list(self._served().items()):
                if number not in self._busy and not (beside and self._is_live):
                    self._busy.add(number)
                    try:
                        await self._turn(number, each, seek, beside=beside)
                    finally:
                        self._busy.discard(number)
            if beside and self._is_live:
                await asyncio.sleep(_BESIDE_S)
            elif self.is_paused or not self._due():
                await asyncio.sleep(_IDLE_S)

    def _due(self) -> list[int]:
        """The partitions with cells to be mended or a past, whose turn it is not."""
        return [
            number
            for number, each in self._served().items()
            if number not in self._busy and (each.mender.is_due or each.past.due is not None)
        ]

    async def _turn(self, number: int, each: Served, seek: Seek, *, beside: bool) -> None:
        """Count slices of one partition until none is left, or it is another one's turn."""
        ends = self._clock.monotonic() + _TURN_S
        spent: dict[Backfill | Mender, float] = {each.mender: 0.0, each.past: 0.0}
        while (work := await self._work_of(each, spent)) is not None:
            await self._live_first()
            flushed = self._flushes()
            try:
                await work.step()
            except SeekBack as back:
                await seek(number, back.offset)
            except Released:
                break
            except Damage as error:
                await each.halts(error)
                break
            except Unavailable:
                await asyncio.sleep(_RETRY_S)
                break
            spent[work] += work.took_s
            self._is_live = flushed != self._flushed
            if self._is_live:
                await asyncio.sleep(work.took_s * (1 - self._share) / self._share)
            self._flushed = flushed
            if each.mender.is_amid:
                continue
            if (beside and self._is_live) or (self._clock.monotonic() > ends and self._due()):
                break
        await each.mender.close()
        await each.past.close()

    async def _work_of(
        self, each: Served, spent: Mapping[Backfill | Mender, float]
    ) -> Backfill | Mender | None:
        """What comes next of a partition. spent: seconds of this turn."""
        mender, past = each.mender, each.past
        if mender.is_due and (mender.is_amid or spent[mender] <= spent[past]):
            return mender
        if past.due is not None and not await self._is_scarce():
            return past
        return mender if mender.is_due else None

    def _flushes(self) -> int:
        return sum(each.owner.flushes for each in self._served().values())

    async def _live_first(self) -> None:
        """Wait until no live batch waits, or enough of them were flushed."""
        while any(each.waiting for each in self._served().values()):
            if abs(self._flushes() - self._flushed) >= _LIVE_FLUSHES:
                return
            await asyncio.sleep(_LOOK_S)

    async def _is_scarce(self) -> bool:
        """Whether Redis has too little memory left for more cells; looked at once a second."""
        now = self._clock.monotonic()
        if now - self._looked_s >= _MEMORY_S:
            self._looked_s = now
            try:
                self.is_paused = is_scarce(*await self._store.memory())
            except Unavailable:
                return True
        return self.is_paused
