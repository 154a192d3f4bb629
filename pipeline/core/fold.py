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
    taken = counted = duplicate = 0
    new_ids: list[bytes] = []
    # In slices that stay in the processor's cache: decoded, judged, looked up, tallied, forgotten.
    for start in range(0, len(records), SLICE):
        if judge.ended or tally.size >= CELLS_MAX:
            break
        part = records[start : start + SLICE]
        rows = judge.take(part, tally.decode([record.value or b"" for record in part]))
        new = index.add(rows.ids, judge.generation)
        if not all(new):
            duplicate += new.count(False)
            rows.keep(new)
        new_ids += rows.ids
        counted += tally.add(rows)
        taken += rows.taken
    if taken:
        last = records[taken - 1]
        plan.hi, plan.last = last.offset + 1, (last.offset, last.timestamp)
    plan.clock_ms = judge.clock_ms
    plan.cells, plan.elements = tally.cells(), tally.elements()
    plan.new_ids, plan.first = b"".join(new_ids), tally.first
    plan.dead_letters = judge.dead_letters
    for letter in plan.dead_letters:
        reason = letter.rejected.reason
        plan.rejected[reason] = plan.rejected.get(reason, 0) + 1
    plan.counters = {
        "consumed": taken,
        "counted": counted,
        "unmatched": len(new_ids) - counted,
        "duplicate": duplicate,
        "rejected": len(plan.dead_letters),
        "misplaced": judge.misplaced,
    }
    return plan


def nothing(state: PartitionState, hi: int) -> Plan:
    """Return the plan of a span without records: [state.next, hi), often empty itself."""
    return Plan(state.next, hi, state.clock_ms, state.last, None)


def id_count(packed: bytes) -> int:
    """Return how many ids a packed element holds."""
    return len(packed) // ID_BYTES
