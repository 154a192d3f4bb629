"""One owned partition: open it, take batches, commit them. No faust here, so laws can drive it.

The life of an owner. open() loads the partition's state from the store, checks it against the
deployment, the log and the known definitions, and loads the identities of the living generations.
Then the transport is told to fetch from `next`. take() is given one fetch after another: what
lies before `next` is skipped, a hole after `next` is proved or fetched again, the rest is cut
into flushes. Each flush is folded (core/fold), merged with the stored cells and committed by one
script. tick() does what an idle partition needs: it activates new definitions, moves `next` over
trailing transaction markers, and notices a Redis that went back. release() ends it.

Why a second writer does no harm. Two owners of one partition can exist at the same time: a
process that was frozen wakes up and does not know that it lost its partitions. Both may send a
commit. The script compares the state that a commit was computed on with the stored one, so
exactly one commit of a span is applied. The other owner learns it from the answer, drops what it
holds, and reads the partition again. No lock, no lease and no clock takes part in this.

What an owner may remember. Cells that it wrote are cached, since a commit that was accepted
proves that the cache equals the store; the identities are kept for the same reason. After any
other answer nothing is remembered: state, cells, identities and expectations are dropped together
in _open().

Who retries. The world (Redis or Kafka away) is retried here, in place, with the same flush and
the same numbers, for as long as the partition is owned. While it waits the queue in front of it
fills and fetching stops: this is the only back-pressure. A hole, a refusal and a store that went
back are not retried here: SeekBack tells the transport to fetch again from `next`.

Durable order: 1 dead letters acknowledged by Kafka, 2 one commit in the store. There is no third.
Rule 1: what was computed on a state is dropped with it: any answer but applied or already applied
drops caches and index, and the partition is opened again.
Rule 2: every await may be the last one; nothing here is needed for correctness afterwards.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Final, NoReturn, TypeVar

from ..core.commit import Answer, Commit, transitions
from ..core.compiled import MODULE, Broken
from ..core.cursor import Step, step_of
from ..core.fold.fold import fold
from ..core.id_index import IdIndex
from ..core.limits import Limits, Rejections
from ..core.mending import Mending
from ..core.names import Names
from ..core.past import Pasts
from ..core.plan import Plan, nothing
from ..core.raw import since
from ..core.records import LogRecord
from ..core.state import PartitionState
from ..ports import Clock, EventLog, RollupStore
from ..telemetry.logs import LOG
from .catalogue import Definitions
from .cell_cache import Cells, NativeCells, PythonCells
from .checks import check_clock, check_kind, check_rejections, tell_slow
from .correcting import Correcting
from .fold_thread import folded
from .folding import Foldings
from .note import HaltNote
from .opening import Footprint, Opening, SeekBack, retrying
from .originals import before_correction
from .slices import SliceSize

T = TypeVar("T")
_SLICE_MAX: Final = 50_000  # records of a flush


class Owner:
    """The one writer of a partition, for as long as the fence agrees.

    cells_bytes_max: of the cells that may be kept in memory for the next flushes.
    """

    def __init__(
        self,
        partition: int,
        *,
        store: RollupStore,
        log: EventLog,
        definitions: Definitions,
        clock: Clock,
        flush_s: float,
        limits: Limits,
        cells_bytes_max: int = 40 * 1_048_576,
        native: ModuleType | None = MODULE,
    ) -> None:
        self.partition = partition
        self._deployment = definitions.identity.deployment
        self._store = store
        self._log = log
        self._definitions = definitions
        self._clock = clock
        self._flush_s = flush_s
        self._rejections = Rejections(limits)
        self._state: PartitionState | None = None
        self._index = IdIndex()
        self._names = Names()
        self._cells_bytes_max = cells_bytes_max
        self.module = native
        self._cells = self._new_cells()
        self._changes_seen = -1
        self._foldings = Foldings(partition, definitions)
        self.correcting = Correcting()
        self._expected: int | None = None  # after a seek: the first offset that must come
        self._slice = SliceSize(most=_SLICE_MAX, fold_s_max=flush_s / 2)
        self._lock = asyncio.Lock()
        self.note = HaltNote(partition, store, definitions, clock)
        self.released = False
        self.taken = 0  # batches, for whoever watches progress
        self.flushes = 0
        self.dropped = 0  # how often what was loaded was forgotten: what hangs on it is void then
        self.done: Counter[str] = Counter()  # commits, refused, gaps, seeks, broken, paths

    def _new_cells(self) -> Cells:
        parts, bytes_max = (self.partition, self._store), self._cells_bytes_max
        if self.module is None:
            return PythonCells(*parts, bytes_max=bytes_max)
        return NativeCells(*parts, module=self.module, bytes_max=bytes_max)

    @property
    def state(self) -> PartitionState:
        """What the partition stands on; open() comes first."""
        assert self._state is not None, "the partition is not open"
        return self._state

    @property
    def kept(self) -> Footprint:
        """How much is in memory for the next flushes."""
        index, cells = self._index, self._cells
        return Footprint(len(index), index.nbytes, len(cells), cells.nbytes)

    @property
    def stands(self) -> int | None:
        """The same as an offset, for whoever watches; None while it is being opened."""
        return None if self._state is None else self._state.next

    # -- opening ---------------------------------------------------------------------------------

    async def open(self) -> int:
        """Load everything from the store, check it, and return the offset to fetch from."""
        async with self._lock:
            return await self._open()

    async def drop(self) -> None:
        """Forget what was loaded: until it is opened again, the partition is not gone on with."""
        async with self._lock:
            self._forget()

    def _forget(self) -> None:
        self.dropped += 1
        self._state, self._index, self._expected = None, IdIndex(), None
        self._cells.clear()

    async def _open(self) -> int:
        self._forget()
        state, self._index, voids = await self.opening.load()
        self.correcting.open(voids, state)
        self._names = Names(await self._retry(lambda: self._store.names(self.partition)))
        self.note.is_there = state.halted is not None
        self._state, self._changes_seen = replace(state, halted=None), -1
        return state.next

    @property
    def opening(self) -> Opening:
        """What reads and checks what the partition stands on."""
        return Opening(
            self.partition, self._store, self._log, self._definitions, self._clock, self._retry
        )

    # -- taking ----------------------------------------------------------------------------------

    async def take(self, records: Sequence[LogRecord]) -> None:
        """Apply a delivered batch.

        Raises:
            SeekBack: the batch must be fetched again, from the offset it names.
        """
        async with self._lock:
            if self.released or self._state is None:
                return
            self.taken += 1
            step = step_of(self.state.next, records)
            if step is Step.REPLAY:
                return
            if step is Step.HOLE and not await self._is_gap(records[0].offset):
                return
            self._expected = None
            check_kind(self.partition, records)
            rest, cut = since(records, self.state.next), False
            async with self._checked():
                while rest:
                    most = before_correction(rest) if cut else len(rest)
                    taken, cut = await self._flush(rest, most)
                    rest = rest[taken:]

    @asynccontextmanager
    async def _checked(self) -> AsyncIterator[None]:
        """Where native/ fails go on without it, on what is read again: Python does all of it."""
        try:
            yield
        except Broken:
            LOG.exception("native_failed", partition=self.partition)
            self.module = None
            self._foldings.clear()
            self._cells = self._new_cells()
            self.done["broken"] += 1
            await self._reopen()

    async def _is_gap(self, first: int) -> bool:
        """Whether the log itself holds nothing between next and first; seek once where it does."""
        if self._expected is not None and first > self._expected:
            return False  # still queued from before the seek
        found = await self._retry(lambda: self._log.probe(self.partition, self.state.next))
        if found is not None and found.offset == first:
            self.done["gaps"] += 1
            return True
        if found is None:
            await (
                self._reopen()
            )  # the log holds less than was delivered: open() says what is wrong
        else:
            self._expected = found.offset
        raise SeekBack(self.state.next)

    async def tick(self, position: int | None) -> None:
        """Do what an idle partition needs.

        That is new definitions, markers at the end of the log, and a store that went back while
        nothing new came: no commit would find it out.

        Args:
            position: Where the consumer stands, if nothing it delivered is still queued.

        Raises:
            SeekBack: records lie between next and the position that were never delivered.
        """
        async with self._lock, self._checked():
            if self.released or self._state is None:
                return
            if self._changes_seen != self._definitions.changes:
                await self._flush_nothing(self.state.next)
            if position is None:
                return
            state = self.state
            if await self._retry(lambda: self._store.load(self.partition, [], state)) is None:
                await self._reopen()
            if position <= self.state.next:
                return
            spans = await self._retry(self._log.spans)
            end = spans[self.partition].end
            found = await self._retry(lambda: self._log.probe(self.partition, self.state.next))
            if found is not None:
                self._expected = found.offset
                raise SeekBack(self.state.next)
            await self._flush_nothing(max(end, self.state.next))

    async def add_past(
        self, work: Callable[[PartitionState], Awaitable[tuple[Plan, Pasts] | None]]
    ) -> bool:
        """Commit what a slice of the past adds to cells; `next` stays (core/backfill.py).

        Args:
            work: Makes it on the state that it is told; None where that is not what it expected.

        Raises:
            SeekBack: the partition was read again, and must be fetched from there.
        """
        async with self._lock, self._checked():
            if self.released or self._state is None:
                return False
            made = await work(self.state)
            if made is None:
                return False
            await self._commit(made[0], replace(self.state, hist=made[1]))
            return True

    async def mend(self, work: Callable[[PartitionState], Awaitable[Mending | None]]) -> None:
        """Write cells that were counted again; `next` stays. work, Raises: see add_past()."""
        async with self._lock:
            if self.released or self._state is None or not (mending := await work(self._state)):
                return
            await self._accepted(lambda: self._store.mend(mending))
            self._cells.clear()  # what is cached of them is not what the store holds
            self._state = mending.after
            self.correcting.mended(mending.after)
            self.done["mended"] += len(mending.cells)

    async def release(self, within_s: float) -> None:
        """Let go: wait for a flush in flight, but no longer than within_s."""
        self.released = True
        try:
            async with asyncio.timeout(within_s), self._lock:
                pass
        except TimeoutError:
            pass  # failing is fine: the next owner reads again

    # -- flushing --------------------------------------------------------------------------------

    async def _flush(self, records: Sequence[LogRecord], most: int) -> tuple[int, bool]:
        """Apply the first records of a batch in one commit; return how many were taken.

        most: records that are folded. And return whether the batch has corrections: what lies
        behind one was folded for nothing, so the next flush ends before the next one.
        """
        began = self._clock.monotonic()
        changes, active = await self._transitions()
        folding = await self._foldings.of_state(active, self.module)
        first = records[: min(self._slice.records, most)]
        work = partial(
            fold,
            first,
            partition=self.partition,
            state=active,
            deployment=self._deployment,
            matcher=folding.matcher,
            index=self._index,
            native=folding.native,
        )
        is_native = folding.native is not None
        plan, took_s = await folded(work, self._clock, records=len(first), is_native=is_native)
        reached = None
        if not plan.counters["consumed"]:
            made = await self.correcting.plan(
                records, self.state, active, self._index, self.opening
            )
            plan, reached = made or await self._reopen()
        self.done.update(plan.paths)
        self._slice.fit(took_s)
        check_clock(self.partition, plan.clock_ms, self._clock.now())
        check_rejections(self.partition, self._rejections, records, plan)
        await self._retry(lambda: self._log.reject(self.partition, plan.dead_letters))
        plan.learned = self._names.look(records[: plan.counters["consumed"]], plan.first)
        await self._commit(plan, active)
        tell_slow(self.partition, self._clock.monotonic() - began, len(first), self._flush_s)
        self.correcting.applied(plan, reached)
        self.flushes += 1
        self._changes_seen = changes
        taken = plan.counters["consumed"]
        return taken, most < len(records) or taken < len(first) or plan.taken_back is not None

    async def _flush_nothing(self, hi: int) -> None:
        """Move to hi without records, with whatever activations and ends are due."""
        changes, active = await self._transitions()
        await self._commit(nothing(self.state, hi), active)
        self._changes_seen = changes

    async def _transitions(self) -> tuple[int, PartitionState]:
        """Return the change number and the state with this flush's activations and ends.

        A version that is activated has its past noted with it: where it begins.
        """
        changes = self._definitions.changes
        active = transitions(
            self.state,
            () if changes == self._changes_seen else self._definitions.foldable(),
            ends_ms=self._definitions.ends_ms(),
            max_age_ms=self._deployment.max_age_ms,
        )
        if changes != self._changes_seen and (begun := await self.opening.pasts(active)):
            active = replace(active, hist=active.hist.having(begun))
        return changes, active

    async def _commit(self, plan: Plan, active: PartitionState) -> None:
        commit = await self._cells.settle(self.state, active, plan, self._retry)
        if commit is None:
            await self._reopen()
        if commit.after != commit.before:
            await self._apply(commit)
        else:
            self._cells.keep()  # nothing

    async def _apply(self, commit: Commit) -> None:
        await self._accepted(lambda: self._store.apply(commit))
        self.done["commits"] += 1
        self._cells.keep()
        self._names.keep(commit.learned)
        self._state = commit.after
        self.correcting.duplicates.applied(commit)
        if commit.dropped:  # seldom, and about as often as there are verdicts to let go of
            self._state = await self.opening.trim(commit.after)
            if self._state is None:
                await self._reopen()

    async def _accepted(self, write: Callable[[], Awaitable[Answer]]) -> None:
        """Write, and go on only if the store holds it then."""
        if await self._retry(write) is Answer.REFUSED:
            self.done["refused"] += 1
            LOG.warning("refused", partition=self.partition, next=self.state.next)
            await self._reopen()

    async def _reopen(self) -> NoReturn:
        """Drop what was computed, read the store again, and fetch from where it stands."""
        raise SeekBack(await self._open())

    async def _retry(self, work: Callable[[], Awaitable[T]]) -> T:
        return await retrying(work, lambda: self.released)
