"""Where the partitions of a deployment stand, for readers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from definitions.times import NS_PER_MS, rfc3339

from ..core.buckets import moment_of
from ..core.state import PartitionState
from ..ports import Book, Span


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a partition stands for a reader: its state, the log's span, and how far that is."""

    state: PartitionState
    span: Span
    applied_through: datetime | None


def standing_of(state: PartitionState, span: Span, read_at: datetime) -> Standing:
    """Applied through: when the end was read if nothing is left, else the last append time."""
    if state.next >= span.end:
        return Standing(state, span, read_at)
    stamp = state.last[1]
    return Standing(state, span, None if stamp < 0 else moment_of(stamp * NS_PER_MS))


def standings_of(
    books: Mapping[int, Book],
    spans: Mapping[int, Span],
    read_at: datetime,
    before: Mapping[int, Standing],
) -> dict[int, Standing]:
    """The standings of an answer; of several reads the earliest one counts."""
    found = {}
    for number, book in books.items():
        span = spans.get(number, Span(book.state.next, book.state.next))
        found[number] = before.get(number) or standing_of(book.state, span, read_at)
    return found


def status_line(number: int, stands: Standing) -> dict[str, Any]:
    """A partition's line of `recount status`."""
    state = stands.state
    through = stands.applied_through
    return {
        "partition": number,
        "next": state.next,
        "end": stands.span.end,
        "lag": max(stands.span.end - state.next, 0),
        **state.counters,
        "rejected_by_reason": dict(state.rejected),
        "applied_through": None if through is None else rfc3339(through),
        "balanced": state.balanced,
    }
