"""Records of the past → what they add to the cells of versions that were activated later.

Why a slice of the past can be folded alone. Two things decide what an event adds besides the
definition: the log clock, by which it may be rejected and which LATEST and FIRST store; and
whether it is a duplicate, which only the whole log before it tells. The clock where a past begins
needs nothing before it: a past begins with the log, or with the first record that was appended at
a given time or later, and no clock before that was later. The verdicts were kept when the
record was applied the first time (core/verdicts.py). So a slice judges no repetition again:
duplicates are left out, and all that they do is to move the log clock.

Merging is commutative. A slice and a flush may touch the same cell in any order, so the past goes
into the cells that the version counts in already.

What was taken back by a correction before `next` is left out like a duplicate (core/voids.py).
What an amend says instead is added where the amend lies (fold/amend.py).

Rule 1: a record that is left out still moves the log clock (tests/property/test_history.py has
this and other ways to make it wrong).
Rule 2: a slice is folded with an empty index of its own: it belongs to one generation, and there
each identity counts once. If that index finds a repetition, the kept verdicts are wrong.
Rule 3: a slice moves no counter, no identity and no dead letter: each event had its fate already.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from definitions.matcher import Matcher

from .clocked import VerdictsDiffer, clock_of, left_of
from .deployment import Deployment
from .fold.amend import Amend, add_cells, add_elements, added_in
from .fold.fold import fold
from .fold.rust import RustFold
from .id_index import IdIndex
from .past import Past, Pasts
from .plan import Plan, nothing
from .records import LogRecord
from .state import PartitionState

_OFFSET: Final = attrgetter("offset")


class Due(NamedTuple):
    """The part of the past that comes next: [low, high), for these versions.

    clock_ms: the log clock before it, see Past.
    """

    versions: frozenset[str]
    low: int
    high: int
    clock_ms: int


def due_of(state: PartitionState, countable: Collection[str]) -> Due | None:
    """Return what of the past comes next; None where all of it is counted.

    The version that is furthest back goes first. Where it meets others they share slices.

    Args:
        countable: The versions whose past is to be counted.
    """
    open_ = {
        version: past
        for version, past in state.hist.by_version.items()
        if version in countable and past.next < state.active[version].offset
    }
    if not open_:
        return None
    low = min(past.next for past in open_.values())
    together = {version: past for version, past in open_.items() if past.next == low}
    ends = [state.active[version].offset for version in together]
    ends += [past.next for past in open_.values() if past.next > low]
    clock_ms = max(past.clock_ms for past in together.values())
    return Due(frozenset(together), low, min(ends), clock_ms)


def behind(state: PartitionState, countable: Collection[str]) -> int:
    """Return how many offsets of the past are still to be read, each once."""
    spans = sorted(
        (past.next, state.active[version].offset)
        for version, past in state.hist.by_version.items()
        if version in countable
    )
    total = reached = 0
    for low, high in spans:
        total += max(high - max(low, reached), 0)
        reached = max(reached, high)
    return total


class Slice(NamedTuple):
    """What a slice of the past adds (a plan that moves nothing else), and the pasts after it.

    upto: where it ends. events: how many there were.
    """

    plan: Plan
    hist: Pasts
    upto: int
    events: int


def slice_of(
    due: Due,
    records: Sequence[LogRecord],
    upto: int,
    *,
    partition: int,
    state: PartitionState,
    deployment: Deployment,
    left_out: Collection[int],
    matcher: Matcher,
    native: RustFold | None,
) -> Slice:
    """Fold the first records of a past.

    Args:
        records: All committed ones of [due.low, upto), in order.
        upto: At most due.high.
        left_out: The offsets among them that were judged duplicates, or were taken back.
        matcher: Of due.versions.

    Raises:
        VerdictsDiffer: the kept verdicts do not fit the log.
    """
    left = left_of(due.clock_ms, records, left_out) if left_out else records
    plan, hi, clock_ms = nothing(state, state.next), upto, due.clock_ms
    if left:
        folded = fold(
            left,
            partition=partition,
            state=_standing(state, due),
            deployment=deployment,
            matcher=matcher,
            index=IdIndex(),
            native=native,
            is_past=True,
        )
        if folded.duplicates:
            raise VerdictsDiffer(
                f"the record at {folded.duplicates[0]} repeats another one, and no verdict says so"
            )
        taken, clock_ms = folded.counters["consumed"], folded.clock_ms
        hi = left[taken].offset if taken < len(left) else upto
        plan.cells, plan.elements, plan.plain = folded.cells, folded.elements, folded.plain
    passed = bisect_left(records, hi, key=_OFFSET)
    if left_out:
        clock_ms = clock_of(due.clock_ms, records[:passed])
    return Slice(plan, counted(state.hist, due, hi, clock_ms), hi, passed)


def add_amends(
    slice_: Slice,
    due: Due,
    amends: Collection[Amend],
    records: Sequence[LogRecord],
    *,
    partition: int,
    bucket_s: int,
) -> None:
    """Add what amends of a slice say; those behind its end belong to the next one.

    Args:
        amends: Those that are applied and not taken back. records: As slice_of() took them.
    """
    within = [each for each in amends if each.offset < slice_.upto]
    added = added_in(within, records, due.clock_ms, partition=partition, bucket_s=bucket_s)
    add_cells(slice_.plan.cells, added.cells)
    add_elements(slice_.plan.elements, added.elements)


def counted(hist: Pasts, due: Due, hi: int, clock_ms: int) -> Pasts:
    """The pasts once the versions of a slice are counted up to an offset."""
    known = hist.by_version
    return hist.having(
        {each: known[each]._replace(next=hi, clock_ms=clock_ms) for each in due.versions}
    )


def cut(hist: Pasts, due: Due, start: int, exact_from_ms: int) -> Pasts:
    """The pasts where the log has lost what came next: they begin anew, and say from when on.

    Args:
        start: Where the log starts, or the version's activation if that is before it.
    """
    return hist.having(
        {
            each: Past(
                start,
                start,
                past.clock_ms,
                max(past.exact_from_ms, exact_from_ms),
            )
            for each in due.versions
            for past in (hist.by_version[each],)
        }
    )


def _standing(state: PartitionState, due: Due) -> PartitionState:
    """A state at which the past is folded: its clock, and no identities."""
    return PartitionState(
        store_id=state.store_id,
        topic_id=state.topic_id,
        start=state.start,
        next=due.low,
        clock_ms=due.clock_ms,
    )
