"""Events → what they change, cell by cell. The innermost loop of the worker.

Rule: inside the loop a cell is a plain tuple within its rule, and a value a bare payload; they get
their names once for each cell, not once for each event.
"""

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from definitions.matcher import Matcher, Rule
from definitions.metric import Aggregation
from definitions.times import NS_PER_S

from ..aggregations import AGGREGATIONS, Partial, Position, element_of
from ..cells import CellKey, Change
from ..event import Decoded, Event, decoder_for
from ..reasons import Rejected
from ..records import LogRecord
from .adders import INTEGERS, Adder, adder_for
from .columns import Rows
from .judge import Accepted, PythonShare

# customer, base bucket, grouping set, group values
_Where = tuple[str, int, int, tuple[str | None, ...]]


class _Accumulator:
    """What one rule gathers. totals: payloads of the cells without groups, by place; None is none.

    The rest by where: values: payloads; elements: of UNIQUE.
    """

    def __init__(self, partition: int, rule: Rule, places: int) -> None:
        self._partition = partition
        self.rule = rule
        self.kind = rule.measure.aggregation
        self.totals: list[Any] = [None] * places
        self.values: dict[_Where, Any] = {}
        self.unreadable: dict[_Where, int] = {}
        self.elements: dict[_Where, set[str]] = {}

    def add(self, where: _Where, value: Any, event_ns: int, clock_ms: int, offset: int) -> None:
        """Add one value to a cell that the adder does not spell out."""
        if value is None:
            self.unreadable[where] = self.unreadable.get(where, 0) + 1
            return
        if self.kind is Aggregation.UNIQUE:
            self.elements.setdefault(where, set()).add(element_of(value))
            return
        rule = AGGREGATIONS[self.kind]
        value = rule.one(value, Position(event_ns, clock_ms, self._partition, offset))
        held = self.values.get(where)
        self.values[where] = value if held is None else rule.merge(held, value)

    def cells(self, places: list[tuple[str, int]]) -> dict[CellKey, Change]:
        """The cells whose text changes; of UNIQUE ones only those with unreadable values."""
        key, kind, zero = self.rule.key, self.kind, AGGREGATIONS[self.kind].zero
        payload = Decimal if kind in INTEGERS else _as_it_is
        found = {
            CellKey(key, *places[at], 0, ()): Change(kind, Partial(payload(value), 0))
            for at, value in enumerate(self.totals)
            if value is not None
        }
        for where, value in self.values.items():
            found[CellKey(key, *where)] = Change(kind, Partial(payload(value), 0))
        for where, count in self.unreadable.items():
            cell = CellKey(key, *where)
            value = found[cell].partial.value if cell in found else zero
            found[cell] = Change(kind, Partial(value, count))
        return found


def _as_it_is(value: Any) -> Any:
    return value


class Tally:
    """The changes of one plan.

    first: by event type, the offset of its first event.
    """

    def __init__(self, partition: int, matcher: Matcher, bucket_s: int) -> None:
        self._partition = partition
        self.first: dict[str, int] = {}
        self._matcher = matcher
        self._decoder = decoder_for(matcher.properties, matcher.reads_context)
        self._bucket_ns = bucket_s * NS_PER_S
        self._adders: dict[str, Adder] = {}  # by event type
        self._adders_of: dict[tuple[Rule, ...], Adder] = {}  # of shares, by their rules
        self._types: set[str] = set()  # of the events decoded last
        self._accumulators: dict[str, _Accumulator] = {}
        # Of every customer and bucket, in the order of the places of their totals.
        self._places: list[tuple[str, int]] = []
        self._place_of: dict[int, dict[str, int]] = defaultdict(dict)  # by bucket, then customer

    @property
    def size(self) -> int:
        """How many cells are touched so far, at most."""
        return sum(
            len(self._places)
            + len(accumulator.values)
            + len(accumulator.elements)
            + len(accumulator.unreadable)
            for accumulator in self._accumulators.values()
        )

    def decode(self, values: Sequence[bytes]) -> list[Decoded]:
        """Decode values, as far as the rules of their event types read them."""
        events = self._decoder.decode_all(values)
        types = {event.event_type for event in events}
        types.discard(Rejected.event_type)
        if [each for each in types - self._adders.keys() if self._matcher.see(each)]:
            # Seldom, for a type is met once. Adders name what their decoder makes.
            self._decoder = decoder_for(self._matcher.properties, self._matcher.reads_context)
            self._adders.clear()
            self._adders_of.clear()
            events = self._decoder.decode_all(values)
        self._types = types
        return events

    def add(self, rows: Accepted) -> int:
        """Add events decoded last to every cell they count towards.

        Returns:
            How many count towards any.
        """
        if not rows.events:
            return 0
        if len(self._types) == 1:
            (event_type,) = self._types
            same = Rows(rows.events, rows.times, rows.clocks, rows.records, rows.span)
            return self._add(event_type, same)
        by_type: dict[str, list[int]] = {}
        for at, event in enumerate(rows.events):
            by_type.setdefault(event.event_type, []).append(at)
        return sum(
            self._add(
                event_type,
                Rows(
                    [rows.events[at] for at in same],
                    [rows.times[at] for at in same],
                    [rows.clocks[at] for at in same],
                    [rows.records[at] for at in same],
                    rows.span,
                ),
            )
            for event_type, same in by_type.items()
        )

    def _add(self, event_type: str, rows: Rows) -> int:
        """Add events of one type."""
        add = self._adders.get(event_type)
        if add is None:
            add = self._adders[event_type] = self._adder(self._matcher.candidates(event_type))
            self.first.setdefault(event_type, rows.records[0].offset)
        return add(rows)

    def add_whole(self, event: Event, at: int, clock_ms: int, record: LogRecord) -> None:
        """Add one event of which everything is decoded, to a tally of no others."""
        self._decoder = decoder_for(None, context=True)
        self._add(event.event_type, Rows([event], [at], [clock_ms], [record], (at, at)))

    def add_shares(self, events: Sequence[Any], shares: Sequence[PythonShare]) -> int:
        """Add Python's shares of events decoded last.

        Returns:
            How many count for the sake of these rules alone.
        """
        by_rules: dict[tuple[tuple[Rule, ...], bool], list[Any]] = {}
        for event, share in zip(events, shares, strict=True):
            row = event, share.event_ns, share.clock_ms, share.record
            by_rules.setdefault((share.rules, share.is_counted), []).append(row)
        counted = 0
        for (rules, are_counted), rows in by_rules.items():
            add = self._adders_of.get(rules)
            if add is None:
                add = self._adders_of[rules] = self._adder(rules)
            events, times, clocks, records = zip(*rows, strict=True)
            matched = add(Rows(events, times, clocks, records, (min(times), max(times))))
            counted += 0 if are_counted else matched
        return counted

    def _adder(self, rules: tuple[Rule, ...]) -> Adder:
        accumulators = [
            self._accumulators.setdefault(
                rule.key, _Accumulator(self._partition, rule, len(self._places))
            )
            for rule in rules
        ]
        bind = adder_for(rules, self._decoder)
        return bind(accumulators, self._place_of, self._new_place, self._bucket_ns)

    def _new_place(self, customer: str, bucket: int) -> int:
        at = self._place_of[bucket][customer] = len(self._places)
        self._places.append((customer, bucket))
        for accumulator in self._accumulators.values():
            accumulator.totals.append(None)
        return at

    def cells(self) -> dict[CellKey, Change]:
        """The cells whose text changes."""
        found: dict[CellKey, Change] = {}
        for accumulator in self._accumulators.values():
            found |= accumulator.cells(self._places)
        return found

    def elements(self) -> dict[CellKey, set[str]]:
        """The elements that UNIQUE cells gain."""
        return {
            CellKey(accumulator.rule.key, *where): elements
            for accumulator in self._accumulators.values()
            for where, elements in accumulator.elements.items()
        }
