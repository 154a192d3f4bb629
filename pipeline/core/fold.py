"""(records, state, matcher, index) → Plan: what one flush changes.

Rule 1: a plan follows from the log, the partition's active versions, the rules number and the
deployment's settings, and from nothing else: who folds, when, and in which batches cannot matter.
Rule 2: judgement is in the order decode, age, keying, duplicate, match; a rejected record leaves
no id, so that a repaired copy can count (DESIGN 2).
Rule 3: a plan never spans two generations, and never touches more than CELLS_MAX cells by more
than what one slice touches: it is cut by offset, and the caller folds the rest next.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from definitions.matcher import Matcher

from .dedup import GENERATIONS_PER_WINDOW, ID_BYTES, IdIndex
from .deployment import Deployment
from .judge import DeadLetter, Judge, LogRecord
from .native import Native
from .state import PartitionState
from .tally import CellKey, Change, Tally

SLICE: Final = 512  # records
CELLS_MAX: Final = 30_000  # fields; of one measure, day and customer they share a key


@dataclass(slots=True)
class Plan:
    """All changes of the records [lo, hi).

    first: event type → offset of the first event of it. learned: see names.py; it may differ with
    the batches, and decides no number.
    """

    lo: int
    hi: int
    clock_ms: int
    last: tuple[int, int]
    generation: int | None
    cells: dict[CellKey, Change] = field(default_factory=dict)
    elements: dict[CellKey, set[str]] = field(default_factory=dict)
    new_ids: bytes = b""
    counters: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    first: dict[str, int] = field(default_factory=dict)
    learned: dict[str, str] = field(default_factory=dict)


def fold(
    records: Sequence[LogRecord],
    *,
    partition: int,
    state: PartitionState,
    deployment: Deployment,
    matcher: Matcher,
    index: IdIndex,
    native: Native | None = None,
) -> Plan:
    """Return the plan of the first records, from state.next on; hi tells how many were taken.

    Args:
        records: In offset order, none below state.next; at least one.
        index: Exactly the ids of the partition's living generations. What has aged out at the
            first record's generation is dropped from it, and the plan's new ids are added: where
            the plan is not committed, the index is of no use any more.
    """
    plan = Plan(state.next, state.next, state.clock_ms, state.last, None)
    judge = Judge(partition, state.clock_ms, deployment, records[0].timestamp)
    plan.generation = judge.generation
    oldest = judge.generation - GENERATIONS_PER_WINDOW
    if any(living < oldest for living in state.id_counts):
        index.forget_before(oldest, judge.generation)
    tally = Tally(partition, matcher, deployment.base_bucket_s)
    sums = _Sums()
    taken = _gather(records, judge, tally, index, native, sums)
    if taken:
        last = records[taken - 1]
        plan.hi, plan.last = last.offset + 1, (last.offset, last.timestamp)
    plan.clock_ms = judge.clock_ms
    plan.cells, plan.elements, plan.first = tally.cells(), tally.elements(), tally.first
    if native is not None:
        found = native.end()
        found.join(plan.cells, plan.elements)
        plan.cells, plan.elements = found.cells, found.elements
        plan.first = _earliest(found.first, plan.first)
        sums.new_ids.append(found.new_ids)
        sums.counted += found.counted
        sums.duplicate += found.duplicate
    plan.new_ids = b"".join(sums.new_ids)
    plan.dead_letters = judge.dead_letters
    for letter in plan.dead_letters:
        reason = letter.rejected.reason
        plan.rejected[reason] = plan.rejected.get(reason, 0) + 1
    plan.counters = {
        "consumed": taken,
        "counted": sums.counted,
        "unmatched": id_count(plan.new_ids) - sums.counted,
        "duplicate": sums.duplicate,
        "rejected": len(plan.dead_letters),
        "misplaced": judge.misplaced,
    }
    return plan


@dataclass(slots=True)
class _Sums:
    counted: int = 0
    duplicate: int = 0
    new_ids: list[bytes] = field(default_factory=list)


def _gather(
    records: Sequence[LogRecord],
    judge: Judge,
    tally: Tally,
    index: IdIndex,
    native: Native | None,
    sums: _Sums,
) -> int:
    """Judge, look up and tally records while the plan has room; return how many were taken."""
    taken = 0
    if native is not None:
        native.begin(records)
    while taken < len(records) and not judge.ended and tally.size < CELLS_MAX:
        plain = 0
        if native is not None:
            plain = native.take(taken, judge, index, CELLS_MAX - tally.size)
            taken += plain
            if taken == len(records) or native.size + tally.size >= CELLS_MAX:
                break
        # In slices that stay in the processor's cache: decoded, judged, looked up, tallied,
        # forgotten. The more was plain before, the sooner the next is.
        part = records[taken : taken + max(SLICE // (plain + 1), 1)]
        rows = judge.take(part, tally.decode([record.value or b"" for record in part]))
        new = index.add(rows.ids, judge.generation)
        if not all(new):
            sums.duplicate += new.count(False)
            rows.keep(new)
        sums.new_ids += rows.ids
        sums.counted += tally.add(rows)
        taken += rows.taken
    return taken


def nothing(state: PartitionState, hi: int) -> Plan:
    """Return the plan of a span without records: [state.next, hi), often empty itself."""
    return Plan(state.next, hi, state.clock_ms, state.last, None)


def _earliest(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    both = {name: min(left[name], right[name]) for name in left.keys() & right.keys()}
    return left | right | both


def id_count(packed: bytes) -> int:
    """Return how many ids a packed element holds."""
    return len(packed) // ID_BYTES
