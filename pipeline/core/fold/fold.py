"""(records, state, matcher, index) → Plan: what one flush changes.

How a fold works. The owner of a partition hands over records of the log, in offset order, from
`state.next` on. The fold judges each of them, and gathers what the accepted ones add to cells.
The result is a Plan: changes, not final values. Nothing is read and nothing is written here; the
commit (core/commit.py) merges the plan with what the store holds.

Two ways through, one answer. A *plain* event is one that native/ can judge by itself: the
members an event may have, at home, neither too old nor too far ahead. Everything else is *odd*.
native/ takes records from the front while they are plain and stops at the first odd one. Python
judges a slice from there, and native/ is offered the rest. So a stream of odd events costs what
Python costs, and one odd event among plain ones costs one small slice. Both ways ask the same
index and the same log clock, and both end in one plan. Without native/ everything is odd.

Shares. Of a plain event that is new, native/ may leave some rules to Python: a pattern, a number
of 19 digits, a value that cannot be read. Python decodes the event and adds it to the cells of
these rules alone; it counts where any rule matched, whoever evaluated it.

Slices. Python works column by column over at most 512 records: decode all, judge all, look all
identities up at once, add all. A slice stays in the processor's cache, and is forgotten before
the next one begins. Slices cannot be seen in the result: tests/property/test_laws.py cuts a
stream anywhere and compares.

Generations. An identity is remembered in the generation of its record (core/dedup.py). A plan
belongs to one generation: the judge stops where the log clock enters another one, and what has
aged out at the first record is dropped from the index before the fold begins. Therefore a commit
appends ids to one list, and the lists that it deletes are known before it starts.

Why new ids enter the index during the fold, not after the commit: the second of two equal
identities in one plan must be seen as a duplicate. The price: when a plan is not committed, the
index holds ids that the store does not. The owner then drops the index and opens the partition
again, as after any refusal. The owner retries, never this module.

Rule 1: a plan follows from the log, the partition's active versions, the rules number and the
deployment's settings, and from nothing else: who folds, when, and in which batches cannot matter.
Rule 2: judgement is in the order decode, age, keying, duplicate, match; a rejected record leaves
no id, so that a repaired copy can count (docs/design.md 2).
Rule 3: a plan never spans two generations, and never touches more than CELLS_MAX cells by more
than what one slice touches: it is cut by offset, and the caller folds the rest next.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from definitions.matcher import Matcher

from ..compiled import Broken
from ..correction import Correction
from ..deployment import Deployment
from ..id_index import IdIndex
from ..plan import Plan, id_count
from ..reasons import Reason, Rejected
from ..records import LogRecord
from ..state import PartitionState
from .judge import Judge, PythonShare
from .rust import RustFold
from .spelled import path_of
from .tally import Tally

SLICE: Final = 512  # records
CELLS_MAX: Final = 30_000  # fields; of one measure, day and customer they share a key
_PASSED: Final = Rejected(Reason.UNKNOWN_KIND, "a correction, applied when it came")


def fold(
    records: Sequence[LogRecord],
    *,
    partition: int,
    state: PartitionState,
    deployment: Deployment,
    matcher: Matcher,
    index: IdIndex,
    native: RustFold | None = None,
    is_past: bool = False,
) -> Plan:
    """Return the plan of the first records, from state.next on; hi tells how many were taken.

    It ends before a correction: where the first record is one, nothing is taken, and
    fold/correct.py makes its plan.

    Args:
        records: In offset order, none below state.next; at least one.
        index: Exactly the ids of the partition's living generations. What has aged out at the
            first record's generation is dropped from it, and the plan's new ids are added: where
            the plan is not committed, the index is of no use any more.
        is_past: The records were applied before: corrections among them are passed over.
    """
    plan = Plan(state.next, state.next, state.clock_ms, state.last, None)
    judge = Judge(partition, state.clock_ms, deployment, records[0].timestamp)
    plan.generation, plan.oldest = judge.generation, judge.generation - deployment.generations
    if any(living < plan.oldest for living in state.id_counts):
        index.forget_before(plan.oldest, judge.generation)
    tally = Tally(partition, matcher, deployment.base_bucket_s)
    sums = _Sums()
    taken = _gather(records, judge, tally, index, native, sums, is_past=is_past)
    if taken:
        last = records[taken - 1]
        plan.hi, plan.last = last.offset + 1, (last.offset, last.timestamp)
    plan.clock_ms = judge.clock_ms
    plan.cells, plan.elements, plan.first = tally.cells(), tally.elements(), tally.first
    plan.paths = {path_of("python", "absent"): taken}
    if native is not None:
        found, plan.paths = native.end(), native.paths
        plan.plain = found.plain
        plan.first = _earliest(found.first, plan.first)
        sums.new_ids.append(found.new_ids)
        sums.counted += found.counted
        sums.duplicates += found.duplicates
    plan.new_ids = b"".join(sums.new_ids)
    plan.duplicates = sorted(sums.duplicates)
    plan.dead_letters = judge.dead_letters
    for letter in plan.dead_letters:
        reason = letter.rejected.reason
        plan.rejected[reason] = plan.rejected.get(reason, 0) + 1
    plan.counters = {
        "consumed": taken,
        "counted": sums.counted,
        "unmatched": id_count(plan.new_ids) - sums.counted,
        "duplicate": len(plan.duplicates),
        "rejected": len(plan.dead_letters),
        "misplaced": judge.misplaced,
    }
    return plan


@dataclass(slots=True)
class _Sums:
    counted: int = 0
    duplicates: list[int] = field(default_factory=list)  # offsets
    new_ids: list[bytes] = field(default_factory=list)


def _gather(
    records: Sequence[LogRecord],
    judge: Judge,
    tally: Tally,
    index: IdIndex,
    native: RustFold | None,
    sums: _Sums,
    *,
    is_past: bool,
) -> int:
    """Judge, look up and tally records while the plan has room; return how many were taken."""
    taken = 0
    if native is not None:
        native.begin(records)
    while taken < len(records) and not judge.ended and tally.size < CELLS_MAX:
        plain = 0
        if native is not None:
            cells_max = CELLS_MAX - tally.size
            plain = native.take(taken, judge, index, cells_max=cells_max, shares_max=SLICE)
            taken += plain
            if native.shares:
                sums.counted += _add_shares(native.shares, tally)
            if taken == len(records) or native.size + tally.size >= CELLS_MAX:
                break
            if len(native.shares) >= SLICE:
                continue
        # In slices that stay in the processor's cache: decoded, judged, looked up, tallied,
        # forgotten. The more was plain before, the sooner the next is.
        part = list(records[taken : taken + max(SLICE // (plain + 1), 1)])
        events = tally.decode([record.value or b"" for record in part])
        if Correction in set(map(type, events)):
            if not is_past:
                at = next(at for at, each in enumerate(events) if type(each) is Correction)
                if not at:
                    break
                del part[at:], events[at:]
            events = [_PASSED if type(each) is Correction else each for each in events]
        rows = judge.take(part, events)
        new = index.add(rows.ids, judge.generation)
        if not all(new):
            pairs = zip(rows.records, new, strict=True)
            sums.duplicates += [record.offset for record, is_new in pairs if not is_new]
            rows.keep(new)
        sums.new_ids += rows.ids
        sums.counted += tally.add(rows)
        taken += rows.taken
        if native is not None and native.odd is not None:
            native.paths[path_of("python", native.odd)] += rows.taken
    return taken


def _add_shares(shares: Sequence[PythonShare], tally: Tally) -> int:
    """Add Python's shares; return how many of their events count for the sake of them alone."""
    events = tally.decode([share.record.value or b"" for share in shares])
    if Rejected in set(map(type, events)):
        raise Broken("native/ took an event that Python rejects")
    return tally.add_shares(events, shares)


def _earliest(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    both = {name: min(left[name], right[name]) for name in left.keys() & right.keys()}
    return left | right | both
