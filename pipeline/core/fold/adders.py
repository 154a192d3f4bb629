"""Rules → what adds the events of one type to all their cells, column by column.

A field is read once for all events that are added together. A rule keeps the rows that pass its
tests, one test after the other, then reads their values and adds them. Loops over rows are
comprehensions where they can be: a call is paid for a rule and a column, not for an event. What is
uncommon calls the same compiled test or reader as anybody else. tests/property holds it to the
interpreter and to the naive recount.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final, NamedTuple

from definitions.conditions import Test
from definitions.matcher import Rule
from definitions.metric import Aggregation, Comparison, Condition, Field, Operator, Scope
from definitions.values import ABSENT, EXACT

from ..cells import group_of
from ..event import Decoder, Event
from ..records import LogRecord

EVERYBODY: Final = ""  # the owner of cells of the whole deployment; no customer has this id
INTEGERS: Final = frozenset({Aggregation.SUM, Aggregation.MAX})  # totals may be ints meanwhile
_PLAIN_INT: Final = 10**18  # whole numbers up to it stay ints within a plan
# source of a field → its member of the context (docs/formats.md 4.1)
_MEMBERS: Final = {"user": "user", "user_custom": "custom", "custom_id": "custom_ids"}
_CUSTOMER: Final = Field(source="customer_id")
# Operators that ask whether a text is among others, and whether they hold where it is
_AMONG: Final = {
    Operator.EQUAL: True,
    Operator.IN: True,
    Operator.NOT_EQUAL: False,
    Operator.NOT_IN: False,
}
_OF_TEXTS: Final = frozenset({Comparison.STRING, Comparison.TEXT})


class Rows(NamedTuple):
    """Events of one type, column by column; times in ns, log clocks in ms."""

    events: Sequence[Event]
    times: Sequence[int]
    clocks: Sequence[int]
    records: Sequence[LogRecord]


# Numbers of rows, in order
_Kept = Sequence[int]
# Rows → how many of them any rule matched
Adder = Callable[[Rows], int]
# A base bucket's places by owner, and what makes one
PlaceOf = Mapping[int, dict[str, int]]
NewPlace = Callable[[str, int], int]
# (accumulators of the rules, places of the totals, what makes a place, bucket in ns) → Adder
Binder = Callable[[Sequence[Any], PlaceOf, NewPlace, int], Adder]


@lru_cache(maxsize=256)
def adder_for(rules: tuple[Rule, ...], decoder: Decoder) -> Binder:
    """Return what binds the rules' accumulators (tally.py), in order, to a function that adds.

    Args:
        decoder: What decodes the events that will be added.
    """
    adding = list(map(_Adding, rules))
    fields = {_CUSTOMER, *(field for rule in rules for field in rule.fields)}
    readers = {field: _reader(field, decoder) for field in fields}

    def bind(
        accumulators: Sequence[Any], place_of: PlaceOf, new_place: NewPlace, bucket_ns: int
    ) -> Adder:
        both = list(zip(adding, accumulators, strict=True))

        def add(rows: Rows) -> int:
            columns = _Columns(rows, readers, place_of, new_place, bucket_ns)
            matched = [each.add(columns, accumulator) for each, accumulator in both]
            if len(matched) == 1 or any(len(kept) == len(rows.events) for kept in matched):
                return max(map(len, matched))
            return len(set[int]().union(*matched))

        return add

    return bind


def _reader(field: Field, decoder: Decoder) -> Callable[[Event], Any]:
    """What reads a field of an event; ABSENT where it has none."""
    if field.source == "property":
        return decoder.reader(str(field.key))
    if field.source == "customer_id":
        return attrgetter("customer_id")
    if field.source == "value":
        otherwise = _nothing if field.key is None else decoder.reader(field.key)

        def value(event: Event) -> Any:
            given = (event.context or {}).get("value")
            return otherwise(event) if given is None else given

        return value
    name, key = _MEMBERS[field.source], field.key

    def member(event: Event) -> Any:
        holder = (event.context or {}).get(name)
        return holder.get(key, ABSENT) if type(holder) is dict else ABSENT

    return member


def _nothing(_event: Event) -> Any:
    return ABSENT


class _Columns:
    """Rows, and what was read of all of them so far."""

    def __init__(
        self,
        rows: Rows,
        readers: Mapping[Field, Callable[[Event], Any]],
        place_of: PlaceOf,
        new_place: NewPlace,
        bucket_ns: int,
    ) -> None:
        self.rows = rows
        self.every: _Kept = range(len(rows.events))
        first, last = min(rows.times) // bucket_ns, max(rows.times) // bucket_ns
        self.buckets = [first] * len(rows.events)
        if first != last:
            self.buckets = [event_ns // bucket_ns for event_ns in rows.times]
        self._readers = readers
        self._place_of = place_of
        self._new_place = new_place
        self._read: dict[Field, list[Any]] = {}
        self._named: dict[Field, list[str | None]] = {}
        self.matched: dict[str, _Kept] = {}  # by what rules ask: measures of a metric ask the same
        self._placed: dict[Field | None, tuple[Sequence[Any], list[int]]] = {}

    def read(self, field: Field) -> list[Any]:
        """A field's values."""
        found = self._read.get(field)
        if found is None:
            found = self._read[field] = list(map(self._readers[field], self.rows.events))
        return found

    def named(self, field: Field) -> list[str | None]:
        """What a field's values are called as groups."""
        found = self._named.get(field)
        if found is None:
            found = self._named[field] = list(map(group_of, self.read(field)))
        return found

    def owners(self, rule: Rule) -> tuple[Sequence[Any], list[int]]:
        """Whose the cells are, and the places of their totals; None and -1 where nobody's."""
        unit = rule.measure.unit
        own = _CUSTOMER if rule.scope is Scope.CUSTOMER else None  # None: everybody
        found = self._placed.get(unit or own)
        if found is None:
            owners: Sequence[Any] = [EVERYBODY] * len(self.every)
            if unit is not None:
                owners = self.named(unit)
            elif own is not None:
                owners = self.read(own)
            found = self._placed[unit or own] = owners, self._places(owners)
        return found

    def _places(self, owners: Sequence[Any]) -> list[int]:
        found, bucket, here = [], None, self._place_of[self.buckets[0]]
        for owner, now in zip(owners, self.buckets, strict=True):
            if now != bucket:
                bucket, here = now, self._place_of[now]
            at = here.get(owner)
            if at is None:
                at = -1 if owner is None else self._new_place(owner, now)
            found.append(at)
        return found


class _Adding:
    """How one rule adds rows. Each step leaves fewer of them."""

    def __init__(self, rule: Rule) -> None:
        measure = rule.measure
        self._rule = rule
        self._asks = repr(measure.where)  # not the tuple: 1 and True are equal
        self._field = measure.field
        self._asked = any(
            each.field == measure.field and each.operator is Operator.IS_SET
            for each in measure.where
        )
        self._tests = [
            (condition.field, _keeping(condition, test))
            for condition, test in zip(measure.where, rule.tests, strict=True)
        ]
        self._values = _values_of(rule)
        self._join = _JOINS.get(measure.aggregation)

    def add(self, columns: _Columns, accumulator: Any) -> _Kept:
        """Add the rows that match; return which do."""
        matched = columns.matched.get(self._asks)
        if matched is None:
            matched = columns.every
            for field, keep in self._tests:
                matched = keep(columns.read(field), matched)
            columns.matched[self._asks] = matched
        kept = self._contributing(columns, matched)
        if not kept:
            return matched
        owners, places = columns.owners(self._rule)
        values: Sequence[Any] = [1] * len(kept)
        if self._field is not None:
            given = columns.read(self._field)
            values = self._values([given[at] for at in kept])
        if self._join is None:
            _put(accumulator, columns, owners, kept, values)
        else:
            here = places if len(kept) == len(places) else [places[at] for at in kept]
            if not self._join(accumulator.totals, here, values):
                odd = [at for at, value in zip(kept, values, strict=True) if value is None]
                _put(accumulator, columns, owners, odd, [None] * len(odd))
        for grouping_set, fields in enumerate(self._rule.sets, 1):
            groups: Sequence[Any] = [()] * len(columns.every)  # of a set without fields
            if fields:
                groups = list(zip(*map(columns.named, fields), strict=True))
            _put(accumulator, columns, owners, kept, values, (grouping_set, groups))
        return matched

    def _contributing(self, columns: _Columns, kept: _Kept) -> _Kept:
        """Leave out the rows that match and add nothing."""
        from_ns, unit = self._rule.from_ns, self._rule.measure.unit
        # Cells before effective_from are dead: nobody reads them, so nobody writes them.
        if from_ns is not None and kept:
            times = columns.rows.times
            kept = [at for at in kept if times[at] >= from_ns]
        if self._field is not None and not self._asked and kept:
            given = columns.read(self._field)
            kept = [at for at in kept if given[at] is not ABSENT]
        if unit is not None and kept:
            names = columns.named(unit)
            kept = [at for at in kept if names[at] is not None]
        return kept


def _put(
    accumulator: Any,
    columns: _Columns,
    owners: Sequence[str],
    kept: _Kept,
    values: Iterable[Any],
    group: tuple[int, Sequence[Any]] | None = None,
) -> None:
    """Add values the long way: to groups, to uncommon aggregations, or where unreadable."""
    _, times, clocks, records = columns.rows
    buckets, add = columns.buckets, accumulator.add
    if group is None:
        for at, value in zip(kept, values, strict=True):
            where = (owners[at], buckets[at], 0, ())
            add(where, value, times[at], clocks[at], records[at].offset)
        return
    number, groups = group
    for at, value in zip(kept, values, strict=True):
        where = (owners[at], buckets[at], number, groups[at])
        add(where, value, times[at], clocks[at], records[at].offset)


def _keeping(condition: Condition, test: Test) -> Callable[[list[Any], _Kept], _Kept]:
    """What keeps the rows whose value passes a test; common tests are inline."""
    operator, operands = condition.operator, condition.operands
    if operator is Operator.IS_SET:
        return lambda seen, kept: [
            at for at in kept if (value := seen[at]) is not None and value is not ABSENT
        ]
    texts = all(type(each) is str for each in operands)
    if texts and operator in _AMONG and condition.comparison in _OF_TEXTS:
        wanted, holds = frozenset(operands), _AMONG[operator]
        return lambda seen, kept: [
            at
            for at in kept
            if ((value in wanted) is holds if type(value := seen[at]) is str else test(value))
        ]
    return lambda seen, kept: [at for at in kept if test(seen[at])]


def _values_of(rule: Rule) -> Callable[[list[Any]], list[Any]]:
    """What reads values: None is unreadable; common shapes are inline."""
    read, numeric_text = rule.read, rule.measure.numeric_text
    if read is None or rule.measure.aggregation is Aggregation.UNIQUE:
        return lambda given: list(map(read, given)) if read else given
    # Whole numbers stay ints within a plan where they can: they add faster, as exactly.
    whole = rule.measure.aggregation in INTEGERS
    made = int if whole else Decimal
    return lambda given: [
        value
        if type(value) is Decimal
        else made(value)
        if numeric_text
        and type(value) is str
        and value.isdigit()
        and value.isascii()
        and len(value) < 64
        else value
        if whole and type(value) is int and -_PLAIN_INT < value < _PLAIN_INT
        else read(value)
        for value in given
    ]


def _count(totals: list[Any], places: Iterable[int], _values: Iterable[Any]) -> bool:
    for at in places:
        held = totals[at]
        totals[at] = 1 if held is None else held + 1
    return True


def _sum(totals: list[Any], places: Iterable[int], values: Iterable[Any]) -> bool:
    plus, readable = EXACT.add, True
    for at, value in zip(places, values, strict=True):
        held = totals[at]
        if type(value) is int and type(held) is int:
            totals[at] = held + value
        elif value is None:
            readable = False
        else:
            totals[at] = value if held is None else plus(held, value)
    return readable


def _max(totals: list[Any], places: Iterable[int], values: Iterable[Any]) -> bool:
    readable = True
    for at, value in zip(places, values, strict=True):
        if value is None:
            readable = False
        elif (held := totals[at]) is None or value > held:
            totals[at] = value
    return readable


# How values join the totals at their places, None where there is none yet; whether all were
# readable.
_JOINS: Final = {Aggregation.COUNT: _count, Aggregation.SUM: _sum, Aggregation.MAX: _max}
