"""A recount that counts a candidate, and the metric it is compared with, window by window.

Fates are the Ledger's. What it would put into cells of base buckets goes straight into the windows
of the question, so memory follows customers by windows. What is held becomes partials, and the
values are made by the code that answers usage.
"""

from collections.abc import Mapping
from math import inf
from typing import Any, Final

from definitions.metric import Aggregation, MetricVersion

from ..core.aggregations import Partial, stored_partial
from ..core.cells import CellKey
from ..errors import UsageError
from ..recount.compiled import Active, ActiveMeasure, ActiveMeasures
from ..recount.corrections import Aside
from ..recount.events import NotCounted, Plain, Void, customer_in, read_event
from ..recount.kept import Kept, Reading
from ..recount.ledger import Ledger, LedgerTerms
from ..recount.matching import ABSENT
from .asked import LINES_MAX, Asked
from .clauses import MeasureClauses
from .costs import CellCount
from .merging import Rows
from .query import Part, WindowFinder
from .results import Group, Place, add_to

NUMBERS_MAX: Final = 500_000  # held at a time, some 400 bytes each
_Key = tuple[str, int, Group, Place]
NARROWER: Final = (
    "ask for one customer, for a shorter period, for wider windows, or for a sample of the "
    "customers (1/50 is the first of fifty)"
)


class Room:
    """What one trial may hold: customers by windows, and the numbers that values are made of.

    A number is a measure's in a window, of a unit and a day where it is kept by unit, or an
    element of a UNIQUE.
    """

    def __init__(self, windows: int) -> None:
        self._windows = windows
        self.customers: set[str] = set()
        self._numbers = 0

    def admit(self, customer: str) -> None:
        """Take a customer who has a value.

        Raises:
            UsageError: customers by windows are too many.
        """
        self.customers.add(customer)
        if len(self.customers) * self._windows > LINES_MAX:
            raise UsageError(
                f"the answer has more than {LINES_MAX:,} lines ({len(self.customers):,} customers "
                f"so far, {self._windows:,} windows of each): {NARROWER}"
            )

    def hold(self, numbers: int) -> None:
        """Take more numbers.

        Raises:
            UsageError: they are too many.
        """
        self._numbers += numbers
        if self._numbers > NUMBERS_MAX:
            raise UsageError(
                f"the values are made of more than {NUMBERS_MAX:,} numbers (units by days, or "
                f"different values): {NARROWER}"
            )


class Side:
    """One of the two definitions: its question, and what was counted for it so far.

    rows: customer → what rows_of() makes values of; of a metric of the deployment under "".
    """

    def __init__(self, asked: Asked, finder: WindowFinder, room: Room) -> None:
        self.asked = asked
        self.rows: dict[str, Rows] = {}
        self._finder = finder
        self._room = room
        self._parts: Mapping[str, Part] = {part.measure: part for part in asked.parts}
        self._held: dict[_Key, Kept] = {}

    def take(self, measure: ActiveMeasure, event: Plain, reading: Reading, bucket: int) -> None:
        """Add an event that a measure counts, if a window of the question reads it."""
        part, window = self._parts.get(measure.name), self._finder.window_of(bucket)
        if part is None or window is None or part.grouping is None:
            return
        value, owner = measure.value(event), measure.owner(event)
        if value is ABSENT or owner is None or not part.covers(bucket, self._finder.bucket_s):
            return
        number = part.grouping.number
        groups = measure.groups[number - 1](event) if number else ()
        cell = CellKey(measure.name, owner, bucket, number, groups)
        whose = owner if self.asked.query.is_of_customers else ""
        place = part.place_of(cell, self._finder.bucket_s)
        self._add((whose, window, part.grouping.of(groups), place), measure, value, reading)

    def _add(self, key: _Key, measure: ActiveMeasure, value: Any, reading: Reading) -> None:
        kept = self._held.get(key)
        if kept is None:
            self._room.admit(key[0])
            self._room.hold(1)
            kept = self._held[key] = Kept(measure.kind)
        if value is None:
            kept.skip(reading.offset)
            return
        before = len(kept.elements or ())
        measure.add(kept, value, reading)
        if kept.elements is not None and len(kept.elements) > before:
            self._room.hold(1)

    def close(self, partition: int) -> None:
        """Make partials of what was counted in a partition, and merge them with the others'."""
        for (whose, window, group, place), kept in self._held.items():
            held = self.rows.setdefault(whose, {}).setdefault((window, group), {})
            add_to(held, place, kept.kind, _partial_of(kept, partition))
        self._held.clear()


def _partial_of(kept: Kept, partition: int) -> Partial:
    text, elements = kept.holds(partition)
    if text is None:
        return Partial(elements or frozenset(), 0)
    stored = stored_partial(kept.kind, text, "a number of a trial")
    return stored if elements is None else Partial(elements, stored.unreadable)


class Candidate:
    """The definition that is tried: its measures, their clauses, and the cells it would make.

    in_period, matched: accepted events of the period, and those that a measure counts.
    """

    def __init__(self, version: MetricVersion, side: Side, finder: WindowFinder) -> None:
        definition = version.definition
        active = Active(version, 0, None)
        measures = [ActiveMeasure(active, at) for at in range(len(definition.measures))]
        answering = [measure.name in definition.answering for measure in definition.measures]
        self.side = side
        self.footprint = CellCount()
        self.in_period = 0
        self.matched = 0
        self._finder = finder
        self._measures = [
            (measure, MeasureClauses(own, measure), tells)
            for own, measure, tells in zip(definition.measures, measures, answering, strict=True)
        ]

    @property
    def clauses(self) -> list[MeasureClauses]:
        """Those of the measures that make the value."""
        return [clauses for _, clauses, tells in self._measures if tells]

    def take(self, event: Plain, reading: Reading, bucket: int) -> bool:
        """Count an accepted event; say whether a measure does."""
        is_asked = self._finder.window_of(bucket) is not None
        counted = answered = False
        for measure, clauses, tells in self._measures:
            if is_asked and tells:
                if not clauses.holds(event):
                    continue
                answered = True
            elif not measure.takes(event.event_type) or not all(
                test(event) for test in measure.tests
            ):
                continue
            counted = True
            self.side.take(measure, event, reading, bucket)
            self._note_cells(measure, event, bucket)
        self.in_period += is_asked
        self.matched += answered
        return counted

    def _note_cells(self, measure: ActiveMeasure, event: Plain, bucket: int) -> None:
        value, owner = measure.value(event), measure.owner(event)
        if value is ABSENT or owner is None:
            return
        elements = (value,) if measure.kind is Aggregation.UNIQUE else ()
        sets = [(), *(groups(event) for groups in measure.groups)]
        for number, groups in enumerate(sets):
            cell = (measure.name, owner, bucket, number, groups, *elements)
            self.footprint.add(measure.kind, cell)


class TrialLedger(Ledger):
    """The recount of a partition, or of a share of its customers, for a trial.

    against: the versions of the other metric that count here, as they do; none without one.
    """

    def __init__(
        self,
        partition: int,
        terms: LedgerTerms,
        candidate: Candidate,
        against: tuple[Side, list[Active]] | None,
        **more: Any,
    ) -> None:
        super().__init__(partition, terms, [], **more)
        self._candidate = candidate
        self._other = None if against is None else against[0]
        self._others = ActiveMeasures([] if against is None else against[1])

    def _matches(self, _event: Plain, _offset: int) -> bool:
        return False  # it is counted with the others that corrections named

    def _settle(self, each: Aside) -> None:
        if self._counts(*each) and each.root == each.offset:
            self.fates["unmatched"] -= 1
            self.fates["counted"] += 1

    def _counts(self, event: Plain, offset: int, clock_ms: int, root: int) -> bool:
        """Count an accepted event on both sides; say whether the candidate does."""
        if self._by(offset) < inf:
            return False
        bucket = event.at // self._bucket_ns
        reading = Reading(event.at, clock_ms, offset, offset)
        if self._other is not None:
            for measure in self._others[event.event_type]:
                if measure.counts(offset, root) and all(test(event) for test in measure.tests):
                    self._other.take(measure, event, reading, bucket)
        return self._candidate.take(event, reading, bucket)


def whose(value: bytes | None) -> str | None:
    """The customer of a record; None of one that is no event."""
    found = customer_in(value)
    if found is not None:
        return found.decode()
    try:
        return read_event(value).customer_id
    except Void as void:
        return void.customer_id
    except NotCounted:
        return None
