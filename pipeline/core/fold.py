"""(records, state, matcher, index) → Plan: what one flush changes.

Rule 1: a plan follows from the log, the partition's active versions, the rules number and the
deployment's settings, and from nothing else: who folds, when, and in which batches cannot matter.
Rule 2: judgement is in the order decode, age, keying, duplicate, match; a rejected record leaves
no id, so that a repaired copy can count (DESIGN 2).
Rule 3: a plan never spans two generations, and never touches more than CELLS_MAX cells by more
than what 64 events touch: it is cut by offset, and the caller folds the rest next.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from definitions.matcher import Matcher

from .dedup import (
    GENERATIONS_PER_WINDOW,
    ID_BYTES,
    IdIndex,
    generation_of,
    home_of,
    identity,
    seed_of,
)
from .deployment import Deployment, Keying
from .event import Event, Rejected, decode
from .reasons import Reason
from .state import PartitionState
from .tally import CellKey, Change, Tally
from .windows import NS_PER_MS

_LOOK_EVERY: Final = 64  # records between two looks at the number of cells
CELLS_MAX: Final = 10_000  # fields; of one measure, day and customer they share a key


class LogRecord(Protocol):
    """A record of the events topic, whoever made the object. timestamp: append time, ms."""

    @property
    def offset(self) -> int:
        """Its offset."""
        ...

    @property
    def timestamp(self) -> int:
        """Its append time, milliseconds."""
        ...

    @property
    def timestamp_type(self) -> int | None:
        """1 for append time."""
        ...

    @property
    def key(self) -> bytes | None:
        """Its key."""
        ...

    @property
    def value(self) -> bytes | None:
        """Its bytes."""
        ...


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected record and why."""

    record: LogRecord
    rejected: Rejected


@dataclass(slots=True)
class Plan:
    """All changes of the records [lo, hi)."""

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


# A record with its verdict, the log clock at it, its id (empty where rejected), and whether it
# lies away from home. A plain tuple: one is made for every record.
_Judged = tuple[LogRecord, Event | Rejected, int, bytes, bool]


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
        index: Exactly the ids of the partition's living generations; what has aged out at the
            first record's generation is dropped from it.
    """
    generation, judged = _judge(records, partition, state, deployment)
    oldest = generation - GENERATIONS_PER_WINDOW
    if any(living < oldest for living in state.id_counts):
        index.forget_before(oldest, generation)
    seen = index.seen(b"".join(id_ for _, _, _, id_, _ in judged)).tolist()
    plan = Plan(state.next, state.next, state.clock_ms, state.last, generation)
    tally, known = Tally(matcher, deployment.base_bucket_s), iter(seen)
    taken = counted = duplicate = misplaced = 0
    fresh: dict[bytes, None] = {}
    for record, verdict, clock_ms, identity_, away in judged:
        if not taken % _LOOK_EVERY and tally.size >= CELLS_MAX:
            break
        taken += 1
        misplaced += away
        if isinstance(verdict, Rejected):
            plan.rejected[verdict.reason] = plan.rejected.get(verdict.reason, 0) + 1
            plan.dead_letters.append(DeadLetter(record, verdict))
        elif next(known) or identity_ in fresh:
            duplicate += 1
        else:
            fresh[identity_] = None
            place = (verdict.event_ns, clock_ms, partition, record.offset)
            counted += tally.add(verdict, place)
    if taken:
        last, _, plan.clock_ms, _, _ = judged[taken - 1]
        plan.hi, plan.last = last.offset + 1, (last.offset, last.timestamp)
    plan.cells, plan.elements = tally.cells(), tally.elements()
    plan.new_ids = b"".join(fresh)
    plan.counters = {
        "consumed": taken,
        "counted": counted,
        "unmatched": len(fresh) - counted,
        "duplicate": duplicate,
        "rejected": len(plan.dead_letters),
        "misplaced": misplaced,
    }
    return plan


def _judge(
    records: Sequence[LogRecord], partition: int, state: PartitionState, deployment: Deployment
) -> tuple[int, list[_Judged]]:
    """Decode and judge by age and keying; stop where another generation begins."""
    clock, window_ms = state.clock_ms, deployment.dedup_window_ms
    max_age, max_ahead = deployment.max_age_ms * NS_PER_MS, deployment.max_ahead_ms * NS_PER_MS
    seed, homes = seed_of(deployment.store_id), deployment.homes
    strict = deployment.keying is Keying.STRICT
    generation = generation_of(max(clock, records[0].timestamp), window_ms)
    judged = []
    for record in records:
        if record.timestamp > clock:
            if generation_of(record.timestamp, window_ms) != generation:
                break
            clock = record.timestamp
        verdict = decode(record.value)
        away, id_ = False, b""
        if isinstance(verdict, Event):
            age = clock * NS_PER_MS - verdict.event_ns
            if max_age and age > max_age:
                verdict = Rejected(Reason.TOO_OLD, f"{age / 1e9:.0f} s behind the log clock")
            elif -age > max_ahead:
                verdict = Rejected(
                    Reason.TOO_FAR_AHEAD, f"{-age / 1e9:.0f} s ahead of the log clock"
                )
            else:
                home = home_of(verdict.customer_id, homes)
                away = home != partition
                if away and strict:
                    verdict = Rejected(
                        Reason.MISPLACED, f"the customer's home is partition {home}"
                    )
                else:
                    id_ = identity(verdict.customer_id.encode(), verdict.transaction_id, seed)
        judged.append((record, verdict, clock, id_, away))
    return generation, judged


def nothing(state: PartitionState, hi: int) -> Plan:
    """Return the plan of a span without records: [state.next, hi), often empty itself."""
    return Plan(state.next, hi, state.clock_ms, state.last, None)


def id_count(packed: bytes) -> int:
    """Return how many ids a packed element holds."""
    return len(packed) // ID_BYTES
