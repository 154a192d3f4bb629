"""The audit of one deployment: plan passes, read books, recount the log, compare.

Memory is bounded: a pass holds the identities of a share of the customers and the books of a share
of the owners; what is larger takes more passes over the log.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ..control.entities import DeploymentRecord
from ..control.records import ControlState
from ..core.cells import CellAddress, group_number
from ..core.dedup import generation_of
from ..core.records import Span
from ..core.state import PartitionState
from ..core.voids import Voids
from ..deploy.checks import check_state
from ..errors import StoreUnavailable
from ..ports import EventLog, RollupStore
from ..reads.recounting import active_of, terms_of, verifiable_since
from ..reads.verdicts import KeptVerdicts, WentBack, read_corrections, read_verdicts
from ..recount.kept import Kept
from ..recount.ledger import WHOLE, Cell, Closing, Ledger, Share
from .books import NOTHING, Books, count_keys, expected_of, read_books
from .findings import Findings
from .measures import SharedMeasures
from .naming import Naming

EVENTS_PER_PASS: Final = 8_000_000  # some 35 bytes each, for their identities
KEYS_PER_PASS: Final = 100_000
_TRIES_MAX: Final = 5
_MENDING_S: Final = 0.2
_MENDING_TRIES_MAX: Final = 50
_NS_PER_S: Final = 1_000_000_000
_SECONDS_PER_DAY: Final = 86_400
_NOWHERE: Final = Closing(0, 0, 0)
Progress = Callable[[int], None]
Refresh = Callable[[], Awaitable[ControlState]]


@dataclass(frozen=True, slots=True)
class Passes:
    """How often a partition's log is read, and how many offsets each time.

    customers: parts of the customers. rounds: parts of the owners of cells that many customers
    share, each with all parts of the customers.
    """

    customers: int
    rounds: int
    offsets: int

    @property
    def total(self) -> int:
        """How many offsets are read."""
        return self.customers * self.rounds * self.offsets


@dataclass(slots=True)
class _Sums:
    """What passes add up to."""

    fates: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    ids: Counter[int] = field(default_factory=Counter)
    conflicts: int = 0
    clock_ms: int = -1
    otherwise: int = 0
    verdicts: KeptVerdicts | None = None
    corrections: Voids = field(default_factory=Voids)

    def add(self, ledger: Ledger) -> None:
        """Take a part."""
        self.fates += ledger.fates
        self.reasons += ledger.reasons
        self.ids += ledger.ids
        self.conflicts += ledger.conflicts
        self.clock_ms = ledger.clock_until
        self.otherwise += ledger.otherwise


class Auditor:
    """Compares one deployment with a recount of its log.

    Args:
        refresh: Reads the control log to its end: definitions may come while the audit runs.
        share: Whose cells are audited. Of a share that is not the whole only cells of one customer
            each are compared: what many customers add to, it cannot recount.
    """

    def __init__(
        self,
        identity: DeploymentRecord,
        refresh: Refresh,
        store: RollupStore,
        log: EventLog,
        *,
        share: Share = WHOLE,
    ) -> None:
        self._identity = identity
        self._refresh = refresh
        self._store = store
        self._log = log
        self._share = share
        self._terms = terms_of(identity)
        self._bucket_ns = self._terms.bucket_s * _NS_PER_S
        self._naming: dict[int, Naming] = {}  # by partition

    async def run(self, started: Progress, progress: Progress) -> Findings:
        """Audit every partition.

        Args:
            started: Told once how many offsets will be read. progress: told offsets as they go.

        Raises:
            StoreUnavailable: Redis loses writes again and again.
        """
        plans = await self.plan()
        started(sum(passes.total for passes in plans.values()))
        findings = Findings(share=self._share)
        for number, passes in plans.items():
            findings.add(await self.audit(number, passes, progress))
        return findings

    async def plan(self, partition: int | None = None) -> dict[int, Passes]:
        """Say how each partition will be read, or this one."""
        shared = SharedMeasures(await self._refresh())
        numbers = self._identity.starts if partition is None else [partition]
        return {number: await self._plan(number, shared) for number in numbers}

    async def audit(self, number: int, passes: Passes, progress: Progress) -> Findings:
        """Audit one partition.

        Raises:
            StoreUnavailable: Redis loses writes again and again.
        """
        for _ in range(_TRIES_MAX):
            try:
                return await self._partition(number, passes, progress)
            except WentBack:
                continue
        raise StoreUnavailable(
            f"partition {number}: at every attempt to audit it, Redis lost writes or its log was "
            "cut; run the audit again later"
        )

    async def _state(self, number: int) -> PartitionState:
        return check_state(await self._store.state(number), self._identity, number)

    async def _plan(self, number: int, shared: SharedMeasures) -> Passes:
        state, span = await self._state(number), (await self._log.spans())[number]
        own, common = await count_keys(self._store, number, state, self._share, shared.holds)
        offsets = max(state.next - max(state.start, span.start), 0)
        customers = max(
            _parts(offsets // self._share.of, EVENTS_PER_PASS), _parts(own, KEYS_PER_PASS)
        )
        rounds = _parts(common, KEYS_PER_PASS) if self._is_whole else 1
        return Passes(customers, rounds, offsets)

    @property
    def _is_whole(self) -> bool:
        return self._share.of == 1

    async def _partition(self, number: int, passes: Passes, progress: Progress) -> Findings:
        findings, sums = Findings(share=self._share), _Sums()
        span = (await self._log.spans())[number]
        state = await self._state(number)
        self._naming.setdefault(number, Naming()).note(state)
        since = await self._verifiable_since(number, state, span)
        for round_ in range(passes.rounds):
            begun = measures = SharedMeasures(await self._refresh())
            common = None
            if self._is_whole:
                common = await self._books(number, Share(round_, passes.rounds), begun.holds)
            kept: dict[Cell, Kept] = {}
            for share in self._share.parted(passes.customers):
                own = None if round_ else await self._books(number, share, begun.lacks)
                sums.verdicts = await read_verdicts(self._store, self._identity, number)
                sums.corrections = await read_corrections(self._store, self._identity, number)
                ledger, measures = await self._recount(
                    _Pass(number, span, state.next, share, own, common, begun),
                    kept,
                    sums,
                    progress,
                )
                if own is not None:
                    sums.add(ledger)
                    mine = [cell for cell in kept if not measures.holds(cell.measure)]
                    compared = {cell: kept.pop(cell) for cell in mine}
                    self._compare(number, own, compared, measures, since, findings)
            if common is not None:
                self._compare(number, common, kept, measures, since, findings)
        if (await self._log.spans())[number].start > max(span.start, state.start):
            raise WentBack  # retention took records while they were read
        if (await self._state(number)).epoch != state.epoch:
            raise WentBack  # another epoch came meanwhile: what was read is of both
        async for what in self._store.strays(number):
            findings.stray(number, what)
        findings.events = sums.fates["consumed"]
        findings.duplicate_conflicts = sums.conflicts
        findings.offsets[f"{self._identity.topics['events'][0]}/{number}"] = state.next
        if self._is_whole:
            self._compare_verdicts(number, max(span.start, state.start), state, sums, findings)
        if since is None and self._is_whole:
            self._compare_counters(number, state, sums, findings)
        return findings

    async def _books(self, number: int, share: Share, wanted: Callable[[str], bool]) -> Books:
        """Read books; where cells wait to be mended, some seconds later."""
        for _ in range(_MENDING_TRIES_MAX):
            if not (await self._state(number)).stale:
                break
            await asyncio.sleep(_MENDING_S)
        return await read_books(self._store, number, await self._state(number), share, wanted)

    async def _verifiable_since(
        self, number: int, state: PartitionState, span: Span
    ) -> float | None:
        return await verifiable_since(self._log, number, span, state, self._terms)

    async def _recount(
        self,
        asked: "_Pass",
        kept: dict[Cell, Kept],
        sums: "_Sums",
        progress: Progress,
    ) -> tuple[Ledger, SharedMeasures]:
        """Read the log once for a share of the customers, up to where the last book closes."""
        control = await self._refresh()
        measures = SharedMeasures(control, asked.begun)
        latest = asked.latest(await self._state(asked.partition))
        low, high = max(latest.start, asked.span.start), asked.ends
        naming = self._naming[asked.partition]
        ledger = Ledger(
            asked.partition,
            self._terms,
            active_of(control, latest),
            share=asked.share,
            until=asked.until,
            closes=asked.closes(measures),
            kept=kept,
            cut=asked.span.start > latest.start,
            verdicts=sums.verdicts,
            named=await naming.read(self._log, asked.partition, low, high),
            kept_corrections=frozenset(sums.corrections.by.tolist()),
            expected=(high - low) // asked.share.of,
        )
        if low < high:
            async for records in self._log.read(asked.partition, low, high):
                ledger.feed_all(records)
                progress(len(records))
                if ledger.met_unnamed:
                    naming.is_wanted = True
                    raise WentBack  # no counter spoke of a correction, and here is one
        ledger.settle()
        return ledger, measures

    # -- comparing -----------------------------------------------------------------------------

    def _compare_counters(
        self, number: int, state: PartitionState, sums: _Sums, findings: Findings
    ) -> None:
        clock = sums.clock_ms
        pairs: dict[str, tuple[Any, Any]] = {
            name: (stored, sums.fates[name]) for name, stored in state.counters.items()
        }
        pairs["rejected_by_reason"] = (dict(state.rejected), dict(+sums.reasons))
        pairs["clock"] = (state.clock_ms, clock)
        generations = self._terms.generations
        newest = generation_of(max(clock, 0), self._terms.dedup_window_ms, generations)
        oldest = newest - generations
        living = {number: count for number, count in sums.ids.items() if number >= oldest}
        pairs["ids"] = (dict(state.id_counts), living)
        for name, (stored, recounted) in pairs.items():
            if stored != recounted:
                findings.differ(number, {"counter": name}, stored, recounted)

    def _compare_verdicts(
        self, number: int, start: int, state: PartitionState, sums: _Sums, findings: Findings
    ) -> None:
        """Compare what was judged a duplicate: what the log still has, one by one, and the count.

        Where the recount asked the store itself, they agree; the count still tells of a loss.
        """
        assert sums.verdicts is not None
        stored, recounted = sums.verdicts.between(start, state.next), sums.fates["duplicate"]
        if stored != recounted or sums.otherwise:
            what = {"counter": "verdicts", "unlike": sums.otherwise}
            findings.differ(number, what, stored, recounted)
        counted, ever = state.counters["duplicate"], sums.verdicts.below(state.next)
        if ever != counted:
            findings.differ(number, {"counter": "kept verdicts"}, ever, counted)

    def _compare(
        self,
        number: int,
        books: Books,
        kept: dict[Cell, Kept],
        measures: SharedMeasures,
        since: float | None,
        findings: Findings,
    ) -> None:
        """Compare every cell that either side has and that readers may look at."""
        for what in books.foreign:
            findings.stray(number, what)
        numbers = books.latest.worked_out.numbers

        def lies_in(cell: Cell, kind: str) -> CellAddress:
            group = group_number(numbers.get(cell.measure, -1))
            return CellAddress(kind, group, self._day_of(cell), cell.customer)

        expected, wrong = expected_of(kept, books, number, lies_in), []
        for cell in {*books.cells, *books.elements, *kept}:
            opens = cell.bucket * self._bucket_ns
            stored, wanted = books.held(cell), expected(cell)
            if NOTHING == stored == wanted or not measures.covers(cell, opens):
                continue
            findings.cells += 1
            if books.is_stale(cell):
                findings.stale_cells += 1
                findings.unverifiable_cells += 1
            elif since is not None and opens < since:
                findings.unverifiable_cells += 1
            elif stored != wanted:
                wrong.append(cell)
        # In one order, however a process hashes names.
        for cell in sorted(wrong, key=lambda each: (each[:4], repr(each.groups))):
            found = _shown(*books.held(cell)), _shown(*expected(cell))
            findings.differ(number, {"cell": cell._asdict()}, *found)

    def _day_of(self, cell: Cell) -> int:
        return cell.bucket * self._terms.bucket_s // _SECONDS_PER_DAY


def _parts(count: int, most: int) -> int:
    """In how many parts at most `most` each are taken."""
    return max(-(-count // most), 1)


@dataclass(frozen=True, slots=True)
class _Pass:
    """One reading of a partition's log. until: where counters close.

    own: cells of the share's customers, None in later rounds. common: cells of many customers,
    None where they are not audited. begun: what measures there were when the books were begun.
    """

    partition: int
    span: Span
    until: int
    share: Share
    own: Books | None
    common: Books | None
    begun: SharedMeasures

    @property
    def books(self) -> list[Books]:
        """The books of this pass."""
        return [books for books in (self.own, self.common) if books is not None]

    @property
    def ends(self) -> int:
        """The offset at which the last book closes."""
        return max(self.until, *(books.until for books in self.books))

    def latest(self, state: PartitionState) -> PartitionState:
        """The newest state seen: its activations and ends include those of all the others."""
        states = [state, *(books.latest for books in self.books)]
        return max(states, key=lambda each: each.moment)

    def closes(self, measures: SharedMeasures) -> Callable[[str, str], Closing]:
        """Where the book of (measure, owner) closes."""
        own, common = self.own, self.common

        def closes(measure: str, owner: str) -> Closing:
            books = common if measures.holds(measure) else own
            if measures.leaves_out(measure) or books is None or not books.share.holds(owner):
                return _NOWHERE
            return books.closes_at(measure, owner)

        return closes


def _shown(text: str | None, elements: frozenset[str] | None) -> Any:
    if elements is None:
        return text
    return {"text": text, "elements": sorted(elements)[:20], "size": len(elements)}
