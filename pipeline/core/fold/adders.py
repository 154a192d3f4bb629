"""Rules → what adds the events of one type to all their cells, column by column (columns.py).

A rule keeps the rows that pass its tests, one test after the other, then reads their values and
adds them. Loops over rows are comprehensions where they can be: a call is paid for a rule and a
column, not for an event. What is uncommon calls the same compiled test or reader as anybody else.
tests/property holds it to the interpreter and to the naive recount.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from definitions.conditions import Test
from definitions.matcher import Rule
from definitions.metric import Aggregation, Condition, Field, Operator, Scope
from definitions.values import ABSENT, EXACT, NUMBER_CHARS_MAX

from ..event import Decoder
from .columns import (
    ALIKE,
    DECIMAL,
    INT,
    NOTHING,
    TEXT,
    Column,
    Columns,
    Kept,
    NewPlace,
    PlaceOf,
    RowReader,
    Rows,
)

INTEGERS: Final = frozenset({Aggregation.SUM, Aggregation.MAX})  # totals may be ints meanwhile
_PLAIN_INT: Final = 10**18  # whole numbers up to it stay ints within a plan
_CUSTOMER: Final = Field(source="customer_id")

# Rows → how many of them any rule matched
Adder = Callable[[Rows], int]
# (accumulators of the rules, places of the totals, what makes a place, bucket in ns) → Adder
Binder = Callable[[Sequence[Any], PlaceOf, NewPlace, int], Adder]


@lru_cache(maxsize=256)
def adder_for(rules: tuple[Rule, ...], decoder: Decoder) -> Binder:
    """Return what binds the rules' accumulators (tally.py), in order, to a function that adds.

    Args:
        decoder: What decodes the events that will be added.
    """
    reader = RowReader(decoder)
    adding = [_Adding(rule, reader) for rule in rules]

    def bind(
        accumulators: Sequence[Any], place_of: PlaceOf, new_place: NewPlace, bucket_ns: int
    ) -> Adder:
        both = list(zip(adding, accumulators, strict=True))

        def add(rows: Rows) -> int:
            columns = Columns(rows, reader, place_of, new_place, bucket_ns)
            matched = [each.add(columns, accumulator) for each, accumulator in both]
            if len(matched) == 1 or any(len(kept) == len(rows.events) for kept in matched):
                return max(map(len, matched))
            return len(set[int]().union(*matched))

        return add

    return bind


class _Adding:
    """How one rule adds rows. Each step leaves fewer of them."""

    def __init__(self, rule: Rule, reader: RowReader) -> None:
        measure = rule.measure
        self._from_ns = rule.from_ns
        self._field = None if measure.field is None else reader.field(measure.field)
        self._asked = any(
            each.field == measure.field and each.operator is Operator.IS_SET
            for each in measure.where
        )
        self._tests = [
            (
                reader.question(measure.where[:number]),
                reader.field(condition.field),
                _keeping(condition, test),
            )
            for number, (condition, test) in enumerate(
                zip(measure.where, rule.tests, strict=True), 1
            )
        ]
        self._unit = None if measure.unit is None else reader.field(measure.unit)
        self._customer = reader.field(_CUSTOMER)
        self._everybody = rule.scope is Scope.DEPLOYMENT
        self._sets = [list(map(reader.field, fields)) for fields in rule.sets]
        self._values = None if rule.read is None else _values_of(rule, rule.read)
        self._join = _JOINS.get(measure.aggregation)

    def add(self, columns: Columns, accumulator: Any) -> Kept:
        """Add the rows that match; return which do."""
        matched = columns.every
        for question, field, keep in self._tests:
            passed = columns.matched[question]
            if passed is None:
                passed = columns.matched[question] = keep(columns.read(field), matched)
            matched = passed
        kept = self._contributing(columns, matched)
        if not kept:
            return matched
        owners = self._owners(columns)
        values: Sequence[Any] = [1] * len(kept)
        if self._field is not None and self._values is not None:
            values = self._values(columns.read(self._field), kept)
        if self._join is None:
            _put(accumulator, columns, owners, kept, values)
        else:
            places = columns.places(owners)
            here = places if len(kept) == len(places) else [places[at] for at in kept]
            if not self._join(accumulator.totals, here, values):
                odd = [at for at, value in zip(kept, values, strict=True) if value is None]
                _put(accumulator, columns, owners, odd, [None] * len(odd))
        for grouping_set, fields in enumerate(self._sets, 1):
            groups: Sequence[Any] = [()] * len(columns.every)  # of a set without fields
            if fields:
                groups = list(zip(*(columns.read(field).names for field in fields), strict=True))
            _put(accumulator, columns, owners, kept, values, (grouping_set, groups))
        return matched

    def _owners(self, columns: Columns) -> Sequence[Any]:
        """Whose the cells are; None is nobody's."""
        if self._unit is not None:
            return columns.read(self._unit).names
        return columns.everybody if self._everybody else columns.read(self._customer).values

    def _contributing(self, columns: Columns, kept: Kept) -> Kept:
        """Leave out the rows that match and add nothing."""
        # Cells before effective_from are dead: nobody reads them, so nobody writes them.
        if self._from_ns is not None and kept:
            from_ns, times = self._from_ns, columns.rows.times
            kept = [at for at in kept if times[at] >= from_ns]
        if self._field is not None and not self._asked and kept:
            column = columns.read(self._field)
            if not column.kinds.isdisjoint(NOTHING):
                given = column.values
                kept = [at for at in kept if given[at] is not ABSENT]
        if self._unit is not None and kept:
            column = columns.read(self._unit)
            if not column.kinds <= TEXT:
                names = column.names
                kept = [at for at in kept if names[at] is not None]
        return kept


def _put(
    accumulator: Any,
    columns: Columns,
    owners: Sequence[str],
    kept: Kept,
    values: Iterable[Any],
    group: tuple[int, Sequence[Any]] | None = None,
) -> None:
    """Add values the long way: to groups, to uncommon aggregations, or where unreadable."""
    _, times, clocks, records, _ = columns.rows
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


def _keeping(condition: Condition, test: Test) -> Callable[[Column, Kept], Kept]:
    """What keeps the rows whose value passes a test, asked once of equal values if it can be."""
    if condition.operator is Operator.IS_SET:
        return _set_ones

    def keep(column: Column, kept: Kept) -> Kept:
        seen = column.values
        if not column.kinds <= ALIKE or len(column.distinct) > len(kept):
            return [at for at in kept if test(seen[at])]
        passing = set(filter(test, column.distinct))
        if len(passing) == len(column.distinct):
            return kept
        return [at for at in kept if seen[at] in passing]

    return keep


def _set_ones(column: Column, kept: Kept) -> Kept:
    if column.kinds.isdisjoint(NOTHING):
        return kept
    seen = column.values
    return [at for at in kept if (value := seen[at]) is not None and value is not ABSENT]


def _values_of(
    rule: Rule, read: Callable[[object], Any]
) -> Callable[[Column, Kept], Sequence[Any]]:
    """What reads the values of rows: None is unreadable; columns of one kind are read as one."""
    numeric_text = rule.measure.numeric_text
    # Whole numbers stay ints within a plan where they can: they add faster, as exactly.
    whole = rule.measure.aggregation in INTEGERS
    made = int if whole else Decimal

    def values(column: Column, kept: Kept) -> Sequence[Any]:
        given, kinds = column.values, column.kinds
        if len(kept) < len(given):
            given = [given[at] for at in kept]
            kinds = set(map(type, given))
        if rule.measure.aggregation is Aggregation.UNIQUE:
            return given if kinds == TEXT else list(map(read, given))
        if kinds == DECIMAL:
            return given
        if numeric_text and kinds == TEXT and _are_digits(given):
            return list(map(made, given))
        if whole and kinds == INT and min(given) > -_PLAIN_INT and max(given) < _PLAIN_INT:
            return given
        return [
            value
            if type(value) is Decimal
            or (whole and type(value) is int and -_PLAIN_INT < value < _PLAIN_INT)
            else read(value)
            for value in given
        ]

    return values


def _are_digits(texts: Sequence[str]) -> bool:
    """Whether each is a short whole number without a sign."""
    if not all(texts) or max(map(len, texts)) > NUMBER_CHARS_MAX:
        return False
    together = "".join(texts)
    return together.isdigit() and together.isascii()


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
