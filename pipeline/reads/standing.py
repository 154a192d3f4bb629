"""Where the partitions of a deployment stand, and what may be said of numbers read there.

Rule R-2 (docs/semantics.md): a window is complete if the stream has passed its end plus lateness,
nothing that was durable when the question was asked is unapplied, no partition has halted, every
version that is read has counted its past, and none of its cells waits to be counted again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from definitions.times import NS_PER_MS, NS_PER_S, rfc3339

from ..control.entities import Metric, Version
from ..core.buckets import moment_of, ns_of
from ..core.records import Span
from ..core.stale import Stale, joined_stale
from ..core.state import COUNTERS, PartitionState
from ..core.windows import Window
from ..errors import StoreUnavailable
from .answers import AsOf
from .history import history_of, joined_histories
from .query import versions_of

# What an answer says that was made without Kafka.
UNREACHABLE: Final[Mapping[str, Any]] = {"complete": False, "kafka": "unreachable"}


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a partition stands for a reader: its state, the log's span, and how far that is.

    span: None while Kafka is away: nobody knows what the log holds.
    unapplied: offsets that were durable when the question was asked, and are not applied.
    closed: why the partition is not open for reading; None where it is. halted: why it does not
    go on; None where it does.
    """

    state: PartitionState
    span: Span | None
    applied_through: datetime | None
    unapplied: int = 0
    closed: str | None = None
    halted: str | None = None


def standing_of(
    state: PartitionState, passed: PartitionState, span: Span | None, asked_at: datetime
) -> Standing:
    """Applied through: when the question was asked if nothing is left, else the last append time.

    passed: the state past offsets that hold no record. span None: the log lacks the partition, or
    ends before what was applied. It was made anew or cut, and nothing is applied through there.
    """
    halted = _halted(state)
    if span is None:
        return Standing(state, Span(state.next, state.next), None, halted=halted)
    unapplied = span.durable - passed.next
    if unapplied <= 0:
        return Standing(state, span, asked_at, halted=halted)
    return Standing(state, span, _last_append(state), unapplied, halted=halted)


def standing_away(state: PartitionState) -> Standing:
    """A partition while Kafka is away: applied through the append time of its last record."""
    return Standing(state, None, _last_append(state), halted=_halted(state))


def _halted(state: PartitionState) -> str | None:
    return None if state.halted is None else state.halted.reason


def _last_append(state: PartitionState) -> datetime | None:
    stamp = state.last[1]
    return None if stamp < 0 else moment_of(stamp * NS_PER_MS)


@dataclass(frozen=True, slots=True)
class Stands:
    """What an answer stands on. first and last: where its first and its last read stood.

    unapplied: over all partitions, those that nobody registered too; None while Kafka is away.
    stale: version → where some of its cells were not right yet at any of the reads.
    """

    first: Mapping[int, Standing]
    last: Mapping[int, PartitionState]
    unapplied: int | None
    stale: Stale = field(default_factory=dict)

    def later(self, states: Mapping[int, PartitionState]) -> "Stands":
        """Return the same after another read, which stood at these states.

        Raises:
            StoreUnavailable: Redis went back meanwhile.
        """
        if any(state.next < self.last[number].next for number, state in states.items()):
            raise StoreUnavailable("Redis went back while it was read; ask again")
        stale = stale_in(states.values(), self.stale)
        return replace(self, last={**self.last, **states}, stale=stale)

    def as_of(self, topic: str, *metrics: Metric) -> AsOf:
        """Where the answer stands (R-3), and what the metrics have seen of the log."""
        through = [standing.applied_through for standing in self.first.values()]
        known = [moment for moment in through if moment is not None]
        offsets = {at: each.state.next for at, each in self.first.items()}
        until = {at: self.last[at].next for at in self.first}
        states = [each.state for each in self.first.values()]
        return AsOf(
            topic,
            offsets,
            min(known) if known and len(known) == len(through) else None,
            self.unapplied,
            None if until == offsets else until,
            self.halted,
            joined_histories(history_of(metric, states) for metric in metrics),
        )

    @property
    def halted(self) -> tuple[int, ...]:
        """The partitions that have halted: what they hold is right, and not all that is there."""
        return tuple(number for number, each in self.first.items() if each.halted is not None)


def stale_in(states: Iterable[PartitionState], before: Stale) -> Stale:
    """Where cells are not right yet in any of these states, or were before."""
    for state in states:
        before = joined_stale(before, joined_stale(state.stale, state.unmended))
    return before


def is_stale(metric: Metric, window: Window, stands: Stands, bucket_s: int) -> bool:
    """Whether some cell of a window waits to be counted again after a correction."""
    if not stands.stale:
        return False
    size = bucket_s * NS_PER_S
    first, last = ns_of(window.starting_on) // size, (ns_of(window.ending_before) - 1) // size
    spans = (stands.stale.get(version.key) for version in versions_of(metric, window))
    return any(span and span.first <= last and first <= span.last for span in spans)


def is_complete(
    metric: Metric,
    window: Window,
    stands: Stands,
    *,
    lateness: timedelta,
    bucket_s: int,
) -> tuple[bool, bool]:
    """Whether nothing that was durable can be missing from a window (R-2); whether it is stale."""
    stale = is_stale(metric, window, stands, bucket_s)
    return not stale and _is_whole(metric, window, stands, lateness), stale


def _is_whole(metric: Metric, window: Window, stands: Stands, lateness: timedelta) -> bool:
    if stands.unapplied or stands.unapplied is None or stands.halted:
        return False
    versions = versions_of(metric, window)
    for standing in stands.first.values():
        through = standing.applied_through
        if through is None or window.ending_before > through - lateness:
            return False
        if not all(_seen_whole(each, window, standing.state) for each in versions):
            return False
    return True


def _seen_whole(version: Version, window: Window, state: PartitionState) -> bool:
    """Whether a version has counted every event of a window that this partition holds."""
    if not state.is_ready(version.key):
        return False
    past = state.hist.by_version.get(version.key)
    return past is None or ns_of(window.starting_on) >= past.exact_from_ms * NS_PER_MS


def status_line(number: int, stands: Standing, built: PartitionState | None) -> dict[str, Any]:
    """A partition's line of `recount status`. built: what a rebuild builds beside it."""
    state = stands.state
    through = stands.applied_through
    line = {
        "partition": number,
        "state": _word_of(stands),
        "next": state.next,
        "end": None if stands.span is None else stands.span.end,
        "lag": None if stands.span is None else max(stands.span.end - state.next, 0),
        **state.counters,
        "rejected_by_reason": dict(state.rejected),
        "applied_through": None if through is None else rfc3339(through),
        "balanced": state.balanced,
        **({"stale": True} if state.stale or state.unmended else {}),
    }
    if built is not None:
        line["rebuild"] = _built(built, stands.span)
    if stands.halted is not None:
        looked = None if state.halted is None else moment_of(state.halted.looked_ms * NS_PER_MS)
        told = None if looked is None else rfc3339(looked)
        return {**line, "looked_at": told, "reason": stands.halted}
    if stands.closed is None:
        return line
    return {**line, "rebuilt_to": state.rebuilt_to or None, "reason": stands.closed}


def _built(built: PartitionState, span: Span | None) -> dict[str, Any]:
    """How far a rebuild is."""
    percent = None
    if span is not None:
        percent = min(100 * (built.next - built.start) // max(span.end - built.start, 1), 100)
    return {"epoch": built.epoch, "next": built.next, "percent": percent}


def _word_of(stands: Standing) -> str:
    """What a partition is for who reads it."""
    if stands.halted is not None:
        return "halted"
    return "open" if stands.closed is None else "rebuilding"


def status_total(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The total of the partitions' lines."""
    total: dict[str, Any] = {
        name: sum(line[name] for line in lines) for name in ("next", *COUNTERS)
    }
    away = any(line["end"] is None for line in lines)
    reasons: Counter[str] = Counter()
    for line in lines:
        reasons.update(line["rejected_by_reason"])
    through = min((line["applied_through"] or "" for line in lines), default="")
    halted = [line["partition"] for line in lines if line["state"] == "halted"]
    return {
        "next": total.pop("next"),
        **{name: None if away else sum(line[name] for line in lines) for name in ("end", "lag")},
        **total,
        **({"halted_partitions": halted} if halted else {}),
        "rejected_by_reason": dict(reasons),
        "applied_through": through or None,
        "balanced": all(line["balanced"] for line in lines),
        **(UNREACHABLE if away else {}),
    }


def closed_as(standing: Standing, why: str, *, has_halted: bool) -> Standing:
    """The same of a partition that is not open for reading."""
    halted = why if has_halted else standing.halted
    return replace(standing, applied_through=None, closed=why, halted=halted)
