"""What an applied amend adds: the event that it says, at the time of its original.

It counts at the place of the amend: a flush, a slice of the past and cells that are counted again
meet it there. Neither its age nor whether it repeats is judged again: the original's was.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from definitions.matcher import Matcher
from definitions.times import parse_timestamp

from ..aggregations import merge_partials
from ..cells import CellKey, Change
from ..clocked import clock_of
from ..correction import Correction
from ..event import Decoder, Event
from ..records import LogRecord
from .tally import Tally

_DECODE: Final = Decoder(None, context=True).decode


class Amend(NamedTuple):
    """An applied amend that counts. matcher: of the versions that count it."""

    offset: int
    matcher: Matcher


@dataclass(slots=True)
class Added:
    """What amends add, by cell."""

    cells: dict[CellKey, Change] = field(default_factory=dict)
    elements: dict[CellKey, set[str]] = field(default_factory=dict)

    def take(self, other: "Added") -> None:
        """Add another's."""
        add_cells(self.cells, other.cells)
        add_elements(self.elements, other.elements)


def add_cells(held: dict[CellKey, Change], more: dict[CellKey, Change]) -> None:
    """Merge changes of cells."""
    for cell, change in more.items():
        kind, partial = change
        known = held.get(cell)
        merged = partial if known is None else merge_partials(kind, known.partial, partial)
        held[cell] = Change(kind, merged)


def add_elements(held: dict[CellKey, set[str]], more: dict[CellKey, set[str]]) -> None:
    """Merge elements of UNIQUE cells."""
    for cell, elements in more.items():
        held.setdefault(cell, set()).update(elements)


def amended_event(correction: Correction) -> Event | None:
    """The event that an amend says; None: it is none."""
    said = correction.replacement
    if said is None:
        return None
    own, customer, timestamp = (
        correction.transaction_id,
        correction.customer_id,
        correction.timestamp,
    )
    return Event(own, customer, said.event_type, timestamp, said.properties, said.context)


def added_by(
    record: LogRecord, clock_ms: int, *, partition: int, bucket_s: int, matcher: Matcher
) -> Added | None:
    """Return what the amend in a record adds at a log clock; None: it holds no amend."""
    correction = _DECODE(record.value)
    event = amended_event(correction) if isinstance(correction, Correction) else None
    at = None if event is None else parse_timestamp(event.timestamp)
    if event is None or at is None:
        return None
    tally = Tally(partition, matcher, bucket_s)
    tally.add_whole(event, at, clock_ms, record)
    return Added(tally.cells(), tally.elements())


def added_in(
    amends: Collection[Amend],
    records: Sequence[LogRecord],
    clock_ms: int,
    *,
    partition: int,
    bucket_s: int,
) -> Added:
    """Return what the amends among some records add.

    Args:
        amends: At offsets among those of the records, some of which may be voids.
        clock_ms: The log clock before the records.
    """
    added = Added()
    wanted = {each.offset: each.matcher for each in amends}
    if not wanted:
        return added
    for at, record in enumerate(records):
        matcher = wanted.get(record.offset)
        if matcher is None:
            continue
        clock = clock_of(clock_ms, records[: at + 1])
        found = added_by(record, clock, partition=partition, bucket_s=bucket_s, matcher=matcher)
        if found is not None:
            added.take(found)
    return added
