"""Cells that corrections have reached: counted again from the log by the owner, step by step.

A job takes some corrections that wait, and the cells that their originals reach. It reads the log
from where events of these base buckets can lie up to `next`, beside the live batches: a step
reads some records, and holds nothing up. The last step, under the owner's lock, reads what was
applied meanwhile, and commits.

Rule 1: a job counts by what was taken back when it began. If the past of one of its versions was
counted meanwhile, or the partition was dropped or read again, it begins anew: live batches can
do that at every await of a step. Other versions change nothing:
a metric that comes every second holds no job up.
Rule 2: what the log has lost cannot be counted again. These cells stay as they are, and stale.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from definitions.metric import Scope

from ..core.clocked import VerdictsDiffer
from ..core.correction import TakenBack
from ..core.fold.again import Whose, count_again
from ..core.fold.amend import Amend, added_in
from ..core.mending import (
    CountedAgain,
    Mending,
    Reached,
    counting_at,
    joined_reached,
    mending_of,
    parts_of,
    stale_of,
    version_of,
)
from ..core.past import Past
from ..core.records import LogRecord
from ..core.stale import Buckets, joined_stale
from ..core.state import PartitionState
from ..core.voids import Voids
from ..deploy.checks import REBUILD
from ..errors import Halt, PartitionHalt
from ..ports import Clock, EventLog
from .backfill import LogReading
from .catalogue import Definitions
from .correcting import matcher_of
from .fold_thread import folded
from .opening import SeekBack
from .owner import Owner
from .slices import SliceSize

_FOLD_S_MAX: Final = 0.05
_RECORDS_MAX: Final = 20_000  # of a step
_TOGETHER_MAX: Final = 1_000  # corrections of a job
_LEFT_MAX: Final = 5_000  # offsets that are read while the partition is held


class _Job:
    """Cells that are counted again, and how far.

    taken: the corrections. dropped: of the owner, when it began. upto: what is counted. clock_ms:
    the log clock there.
    """

    def __init__(
        self,
        state: PartitionState,
        dropped: int,
        taken: Sequence[TakenBack],
        reached: Reached,
        voids: Voids,
        whose: Whose,
    ) -> None:
        self.taken = taken
        self._dropped = dropped
        self.found = CountedAgain(reached)
        self.versions = frozenset(map(version_of, reached.cells))
        self._pasts = self._pasts_in(state)
        self.voids = voids
        self.whose = whose
        self.upto = 0
        self.clock_ms = -1

    def _pasts_in(self, state: PartitionState) -> dict[str, Past | None]:
        return {version: state.hist.by_version.get(version) for version in self.versions}

    def is_void(self, owner: Owner) -> bool:
        """Whether it counts what is not so any more."""
        return owner.dropped != self._dropped or self._pasts_in(owner.state) != self._pasts


class Mender:
    """Mends the cells of one partition, step by step."""

    def __init__(
        self, owner: Owner, *, log: EventLog, definitions: Definitions, clock: Clock
    ) -> None:
        self._owner = owner
        self._log = log
        self._definitions = definitions
        self._clock = clock
        self._job: _Job | None = None
        self._reading: LogReading | None = None
        self._most = _TOGETHER_MAX
        self.size = SliceSize(most=_RECORDS_MAX, fold_s_max=_FOLD_S_MAX)
        self.took_s = 0.0  # how long the last step held the partition, or the loop

    @property
    def is_due(self) -> bool:
        """Whether cells wait to be mended, and the partition is open."""
        owner = self._owner
        return not owner.released and owner.stands is not None and bool(owner.correcting.waiting)

    @property
    def is_amid(self) -> bool:
        """Whether a job has read something, which would be lost."""
        return self._job is not None

    async def step(self) -> None:
        """Read some records, or commit.

        Raises:
            SeekBack: see Owner. LogUnavailable, StoreUnavailable: nothing was done; come again.
            Damage: the partition cannot be gone on with.
        """
        began, is_done = self._clock.monotonic(), False
        try:
            await self._step()
            is_done = True
        finally:
            if not is_done:
                await self.close()
        self.took_s = self._clock.monotonic() - began

    async def _step(self) -> None:
        if not self.is_due:
            return await self.close()
        job, reading = self._job, self._reading
        if job is None or job.is_void(self._owner):
            await self.close()
            await self._begin()
        elif reading is not None:
            await self._read(job, reading)
        elif self._owner.state.next - job.upto > _LEFT_MAX:
            self._reading = self._from(job.upto)
        else:
            await self._owner.mend(lambda state: self._ended(job, state))
            self._most = _TOGETHER_MAX
            await self.close()
        return None

    def _from(self, offset: int) -> LogReading:
        return LogReading(self._log, self._owner.partition, offset, self._owner.state.next)

    # -- one job ---------------------------------------------------------------------------------

    async def _begin(self) -> None:
        """Begin a job with the corrections that wait longest."""
        if not self.is_due:
            return None
        state, dropped = self._owner.state, self._owner.dropped
        correcting = self._owner.correcting
        taken = correcting.waiting[: self._most]
        found: list[Reached] = []
        for each in taken:
            reached = await correcting.reached(each, state, self._owner.opening)
            if reached is None:
                break
            found.append(reached)
        if self._owner.dropped != dropped:
            return None  # all of it hangs on what stood before
        if not found:
            return await self._give_up(taken[:1])
        taken = taken[: len(found)]
        together = joined_reached(found)
        job = _Job(state, dropped, taken, together, correcting.voids, self._whose(together))
        lows = [cell.bucket for cell in together.cells]
        low = await correcting.low(state, min(lows), self._owner.opening) if lows else state.next
        if job.is_void(self._owner):
            return None
        if low is None:
            if len(taken) == 1:
                return await self._give_up(taken)
            self._most = 1  # one by one: others can be counted again
            return None
        job.upto = low
        self._job, self._reading = job, self._from(low)
        return None

    def _whose(self, reached: Reached) -> Whose:
        """Whose events can reach these cells."""
        versions = frozenset(map(version_of, reached.cells))
        for body in self._definitions.bodies(versions).values():
            measures = body.definition.measures
            units = any(measure.unit is not None for measure in measures)
            if units or body.definition.scope is not Scope.CUSTOMER:
                return Whose(None)
        return Whose({cell.customer for cell in reached.cells})

    async def _read(self, job: _Job, reading: LogReading) -> None:
        """Count the next records."""
        try:
            records, upto = await reading.next(self.size.records, reading.end)
        except Halt:
            if (await self._log.spans())[self._owner.partition].start <= job.upto:
                raise
            return await self.close()  # the next job finds out whose cells cannot be counted
        if job.is_void(self._owner):
            return None
        if not await self._count(job, self._owner.state, records, upto):
            raise SeekBack(await self._owner.open())
        reading.counted(upto)
        if upto >= reading.end:
            await reading.close()
            self._reading = None
        return None

    async def _count(
        self, job: _Job, state: PartitionState, records: Sequence[LogRecord], upto: int
    ) -> bool:
        """Count the records of [job.upto, upto), which are applied.

        False: what is kept of duplicates does not add up: the partition must be read again.
        """
        duplicates = await self._owner.correcting.duplicates.between(
            job.upto, upto, self._owner.opening
        )
        if duplicates is None:
            return False
        left_out = duplicates | job.voids.between(job.upto, upto)
        clock_ms = job.clock_ms
        amends = await self._amends(job, state, upto)
        for part in parts_of(state, job.versions, job.upto, upto):
            matcher = None
            if part.versions:
                matcher = await matcher_of(state, part.versions, self._owner.opening)
            here = [record for record in records if part.low <= record.offset < part.high]
            work = partial(
                count_again,
                job.found,
                here,
                job.clock_ms,
                whose=job.whose,
                partition=self._owner.partition,
                state=state,
                deployment=self._definitions.identity.deployment,
                left_out=left_out,
                matcher=matcher,
            )
            try:
                job.clock_ms, took_s = await folded(
                    work, self._clock, records=len(here), is_native=False
                )
                self.size.fit(took_s)
            except VerdictsDiffer as error:
                if job.is_void(self._owner):
                    return False  # the list was read from another state
                number = self._owner.partition
                raise PartitionHalt(
                    number,
                    f"partition {number}: {error}: the list of duplicates was lost, or somebody "
                    f"else wrote to it; {REBUILD}",
                ) from error
        added = added_in(
            amends,
            records,
            clock_ms,
            partition=self._owner.partition,
            bucket_s=self._definitions.identity.deployment.base_bucket_s,
        )
        job.found.take(added.cells, added.elements)
        job.upto = upto
        return True

    async def _amends(self, job: _Job, state: PartitionState, upto: int) -> list[Amend]:
        """The amends of [job.upto, upto), those too that came since the job began."""
        voids, found = self._owner.correcting.voids, []
        for offset in voids.living(job.upto, upto):
            versions = counting_at(state, offset, voids.root_of(offset)) & job.versions
            if versions:
                matcher = await matcher_of(state, versions, self._owner.opening)
                found.append(Amend(offset, matcher))
        return found

    async def _ended(self, job: _Job, state: PartitionState) -> Mending | None:
        """Count what was applied meanwhile, and say what is to be written; None: begin anew."""
        if job.is_void(self._owner):
            return None
        if state.next > job.upto:
            records: list[LogRecord] = []
            async for batch in self._log.read(self._owner.partition, job.upto, state.next):
                records += batch
            if not await self._count(job, state, records, state.next):
                return None
        return mending_of(self._owner.partition, state, await self._after(job, state), job.found)

    async def _after(self, job: _Job, state: PartitionState) -> PartitionState:
        """The state once the cells of a job are mended."""
        correcting, stale = self._owner.correcting, dict[str, Buckets]()
        for each in correcting.waiting:
            if each not in job.taken:
                reached = await correcting.reached(each, state, self._owner.opening)
                if reached is None:  # the log lost it meanwhile: another job gives it up
                    return replace(state, mended=job.taken[-1].by + 1)
                stale = joined_stale(stale, stale_of(reached.cells))
        return replace(state, mended=job.taken[-1].by + 1, stale=stale)

    async def _give_up(self, taken: Sequence[TakenBack]) -> None:
        """Leave cells as they are: the log does not hold all that they would be counted from."""

        async def work(state: PartitionState) -> Mending | None:
            if self._owner.correcting.waiting[: len(taken)] != taken:
                return None
            waits = len(self._owner.correcting.waiting) > len(taken)
            after = replace(
                state,
                mended=taken[-1].by + 1,
                stale=state.stale if waits else {},
                unmended=joined_stale(state.unmended, state.stale),
            )
            return mending_of(self._owner.partition, state, after, CountedAgain(Reached({}, {})))

        await self.close()
        await self._owner.mend(work)

    async def close(self) -> None:
        """Let go of a job, and of the log."""
        reading, self._reading = self._reading, None
        self._job = None
        if reading is not None:
            await reading.close()
