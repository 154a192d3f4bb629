"""(records, state, matcher, index) → Plan: what one flush changes.

Rule 1: a plan follows from the log, the partition's active versions, the rules number and the
deployment's settings, and from nothing else: who folds, when, and in which batches cannot matter.
Rule 2: judgement is in the order decode, age, keying, duplicate, match; a rejected record leaves
no id, so that a repaired copy can count (DESIGN 2).
Rule 3: a plan never spans two generations, and never touches more than CELLS_MAX cells by more
than one event's worth: it is cut by offset, and the caller folds the rest next.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from definitions.matcher import Matcher, Rule
from definitions.metric import Aggregation

from .aggregations import RULES, Partial, Place, element_of
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
from .windows import NS_PER_MS, bucket_of

CELLS_MAX: Final = 5_000


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


class CellKey(NamedTuple):
    """Which cell: measure (`metric_id#version.n`), customer, base bucket, grouping set, groups.

    grouping_set 0 is the total, n the n-th of the definition's dimensions.
    """

    measure: str
    customer: str
    bucket: int
    grouping_set: int
    groups: tuple[str | None, ...]


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
    cells: dict[CellKey, tuple[Aggregation, Partial]] = field(default_factory=dict)
    elements: dict[CellKey, set[str]] = field(default_factory=dict)
    new_ids: bytes = b""
    counters: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)


class _Judged(NamedTuple):
    """A record with its verdict and the log clock at it; id: empty where rejected."""

    record: LogRecord
    verdict: Event | Rejected
    clock_ms: int
    id: bytes
    away: bool


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
    seen = index.seen(b"".join(item.id for item in judged)).tolist()
    plan = Plan(state.next, state.next, state.clock_ms, state.last, generation)
    counts = dict.fromkeys(("consumed", "counted", "unmatched", "duplicate", "rejected"), 0)
    misplaced, known = 0, iter(seen)
    fresh: dict[bytes, None] = {}
    for record, verdict, clock_ms, identity_, away in judged:
        if len(plan.cells) + len(plan.elements) >= CELLS_MAX:
            break
        misplaced += away
        if isinstance(verdict, Rejected):
            fate = "rejected"
            plan.rejected[verdict.reason] = plan.rejected.get(verdict.reason, 0) + 1
            plan.dead_letters.append(DeadLetter(record, verdict))
        elif next(known) or identity_ in fresh:
            fate = "duplicate"
        else:
            fresh[identity_] = None
            place = Place(verdict.event_ns, clock_ms, partition, record.offset)
            fate = "counted" if _count(plan, verdict, place, matcher, deployment) else "unmatched"
        counts["consumed"] += 1
        counts[fate] += 1
        plan.hi, plan.clock_ms = record.offset + 1, clock_ms
        plan.last = (record.offset, record.timestamp)
    plan.new_ids = b"".join(fresh)
    plan.counters = counts | {"misplaced": misplaced}
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
        judged.append(_Judged(record, verdict, clock, id_, away))
    return generation, judged


def _count(
    plan: Plan, event: Event, place: Place, matcher: Matcher, deployment: Deployment
) -> bool:
    """Add an event to every cell it counts towards; return whether any metric matched."""
    properties, matched = event.properties, False
    bucket = bucket_of(event.event_ns, deployment.base_bucket_s)
    for rule in matcher.candidates(event.event_type):
        if not rule.matches(properties):
            continue
        matched = True
        # Cells before effective_from are dead: nobody reads them, so nobody writes them.
        if rule.from_ns is not None and event.event_ns < rule.from_ns:
            continue
        if rule.value_key is not None and rule.value_key not in properties:
            continue
        value = None if rule.read is None else rule.read(properties)
        for number, groups in enumerate(((), *rule.groups(properties))):
            key = CellKey(rule.key, event.customer_id, bucket, number, groups)
            _add(plan, key, rule, value, place)
    return matched


def _add(plan: Plan, key: CellKey, rule: Rule, value: object, place: Place) -> None:
    aggregation = rule.measure.aggregation
    table = RULES[aggregation]
    unreadable = value is None and rule.read is not None
    if aggregation is Aggregation.UNIQUE and not unreadable:
        plan.elements.setdefault(key, set()).add(element_of(value))  # type: ignore[arg-type]
        return
    partial = Partial(table.zero, 1) if unreadable else Partial(table.one(value, place), 0)
    held = plan.cells.get(key)
    if held is not None:
        partial = Partial(
            table.merge(held[1].value, partial.value), held[1].unreadable + partial.unreadable
        )
    plan.cells[key] = (aggregation, partial)


def nothing(state: PartitionState, hi: int) -> Plan:
    """Return the plan of a span without records: [state.next, hi), often empty itself."""
    return Plan(state.next, hi, state.clock_ms, state.last, None)


def id_count(packed: bytes) -> int:
    """Return how many ids a packed element holds."""
    return len(packed) // ID_BYTES
