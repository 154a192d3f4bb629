"""The past of versions that were activated later: read from the log, and counted by the owner.

A version counts from its activation on; what lies before it is read once more, in slices, and
folded into the same cells (core/backfill.py). A slice is committed under the owner's fence, with
`next` unchanged and `hist` moved: so whatever happens to the process or to Redis, no event of the
past is counted twice, and none is left out.

Live first. A slice is taken when no batch waits in the process, or after every fourth flush, so
that a worker that never catches up still moves; while live events come, slices take at most
RECOUNT_BACKFILL_SHARE of the time. A slice folds for some 50 ms at most: the stream is
never held up for longer than that and one commit.
"""

from bisect import bisect_left
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from operator import attrgetter
from typing import Final, cast

from ..core.backfill import Due, Slice, add_amends, behind, cut, due_of, slice_of
from ..core.clocked import VerdictsDiffer
from ..core.fold.amend import Amend
from ..core.past import Pasts
from ..core.plan import Plan, nothing
from ..core.records import LogRecord
from ..core.state import PartitionState
from ..deploy.checks import REBUILD
from ..errors import Halt, PartitionHalt
from ..ports import Clock, EventLog
from .catalogue import Definitions
from .fold_thread import folded
from .folding import Foldings
from .opening import SeekBack
from .owner import Owner
from .slices import SliceSize

_FOLD_S_MAX: Final = 0.05
_SLICE_MAX: Final = 20_000  # records
_OFFSET: Final = attrgetter("offset")


class LogReading:
    """The log from an offset on, as far as it was read and not counted yet."""

    def __init__(self, log: EventLog, partition: int, at: int, end: int) -> None:
        self._batches = cast("AsyncGenerator[Sequence[LogRecord]]", log.read(partition, at, end))
        self.end = end
        self._held: Sequence[LogRecord] = ()
        self._first = 0  # of _held, what is not counted yet
        self._is_ended = False
        self.at = at  # the first offset that is not counted yet

    async def next(self, most: int, high: int) -> tuple[Sequence[LogRecord], int]:
        """Return some of the next records, all below `high`, and up to where they are all."""
        while self._first == len(self._held) and not self._is_ended:
            batch = await anext(self._batches, None)
            self._is_ended = batch is None
            self._held, self._first = batch or (), 0
        last = min(self._first + most, bisect_left(self._held, high, key=_OFFSET))
        records = self._held[self._first : last]
        if last < len(self._held):
            return records, min(self._held[last].offset, high)
        if self._is_ended:
            return records, min(self.end, high)
        return records, records[-1].offset + 1

    def counted(self, upto: int) -> None:
        """Let go of what lies below an offset."""
        self._first = bisect_left(self._held, upto, lo=self._first, key=_OFFSET)
        self.at = upto

    async def close(self) -> None:
        """Stop reading."""
        await self._batches.aclose()


class Backfill:
    """Counts the past of one partition's versions, step by step."""

    def __init__(
        self, owner: Owner, *, log: EventLog, definitions: Definitions, clock: Clock
    ) -> None:
        self._owner = owner
        self._log = log
        self._definitions = definitions
        self._clock = clock
        self._reading: LogReading | None = None
        self._foldings = Foldings(owner.partition, definitions)
        self.size = SliceSize(most=_SLICE_MAX, fold_s_max=_FOLD_S_MAX)
        self.took_s = 0.0  # how long the last slice held the partition

    @property
    def due(self) -> Due | None:
        """What comes next; None where all is counted, or the partition is not open."""
        if self._owner.released or self._owner.stands is None:
            return None
        return due_of(self._owner.state, self._definitions.with_past())

    @property
    def behind(self) -> int:
        """How many offsets of the past are still to be read; the partition is open."""
        return behind(self._owner.state, self._definitions.with_past())

    async def step(self) -> bool:
        """Count a slice of the past; False where nothing is due.

        Raises:
            SeekBack: see Owner. LogUnavailable, StoreUnavailable: nothing was done; come again.
            Damage: the partition cannot be gone on with.
        """
        due = self.due
        if due is None:
            await self.close()
            return False
        reading = await self._reading_of(due)
        if reading is None:
            return True
        try:
            records, upto = await reading.next(self.size.records, due.high)
        except Halt:
            await self.close()  # retention took what was to be read: the next step sees it
            if not await self._is_cut(due):
                raise
            return True
        duplicates = await self._owner.correcting.duplicates.between(
            due.low, upto, self._owner.opening
        )
        if duplicates is None:
            await self.close()
            raise SeekBack(await self._owner.open())
        made: Slice | None = None
        began = self._clock.monotonic()

        async def work(state: PartitionState) -> tuple[Plan, Pasts] | None:
            nonlocal made, began
            began = self._clock.monotonic()
            made = await self._folded(state, due, records, upto, duplicates)
            return None if made is None else (made.plan, made.hist)

        if await self._owner.add_past(work) and made is not None:
            reading.counted(made.upto)
            self._owner.done["backfilled"] += made.events
        self.took_s = self._clock.monotonic() - began
        return True

    async def _folded(
        self,
        state: PartitionState,
        due: Due,
        records: Sequence[LogRecord],
        upto: int,
        duplicates: frozenset[int],
    ) -> Slice | None:
        """Fold a slice on the state that its commit will stand on; None where it is not due."""
        if self._moved(state, due):
            return None
        folding = await self._foldings.of_versions(due.versions, self._owner.module)
        amends = await self._amends(state, due, upto)
        try:
            work = partial(
                slice_of,
                due,
                records,
                upto,
                partition=self._owner.partition,
                state=state,
                deployment=self._definitions.identity.deployment,
                # What was taken back so far: this is what the slice's commit stands on.
                left_out=duplicates | self._owner.correcting.voids.between(due.low, upto),
                matcher=folding.matcher,
                native=folding.native,
            )
            is_native = folding.native is not None
            made, took_s = await folded(
                work, self._clock, records=len(records), is_native=is_native
            )
        except VerdictsDiffer as error:
            raise PartitionHalt(
                self._owner.partition,
                f"partition {self._owner.partition}: {error}: the list of duplicates was "
                f"lost, or somebody else wrote to it; {REBUILD}",
            ) from error
        self.size.fit(took_s)
        add_amends(
            made,
            due,
            amends,
            records,
            partition=self._owner.partition,
            bucket_s=self._definitions.identity.deployment.base_bucket_s,
        )
        return made

    async def _amends(self, state: PartitionState, due: Due, upto: int) -> list[Amend]:
        """The applied amends of a slice, and which of its versions count them."""
        voids, pasts, found = self._owner.correcting.voids, state.hist.by_version, []
        for offset in voids.living(due.low, upto):
            root = voids.root_of(offset)
            versions = frozenset(each for each in due.versions if pasts[each].start <= root)
            if versions:
                found.append(Amend(offset, await self._definitions.matcher(versions)))
        return found

    def _moved(self, state: PartitionState, due: Due) -> bool:
        """Whether something else is due by now: another owner, or a Redis that went back."""
        return due_of(state, self._definitions.with_past()) != due

    async def _reading_of(self, due: Due) -> LogReading | None:
        """What reads from where the past stands; None: the log no longer holds that."""
        if self._reading is not None and self._reading.at == due.low < self._reading.end:
            return self._reading
        await self.close()
        if await self._is_cut(due):
            return None
        self._reading = LogReading(self._log, self._owner.partition, due.low, due.high)
        return self._reading

    async def _is_cut(self, due: Due) -> bool:
        """Whether the log has lost what is due; then the past begins where the log does."""
        start = (await self._log.spans())[self._owner.partition].start
        if start <= due.low:
            return False

        async def work(state: PartitionState) -> tuple[Plan, Pasts] | None:
            if self._moved(state, due):
                return None
            latest = max(state.active[version].clock_ms for version in due.versions)
            lost = await self._owner.opening.lost_before(start, latest)
            begins = min(start, due.high)
            return nothing(state, state.next), cut(state.hist, due, begins, lost)

        await self._owner.add_past(work)
        return True

    async def close(self) -> None:
        """Let go of the log, and of what was loaded."""
        reading, self._reading = self._reading, None
        if reading is not None:
            await reading.close()
