"""Partials of a window → the metric's value: what each ResultKind means, as pure functions.

Rule: numbers stay exact. Quotients have 34 significant digits, half-even, and come with
their numerator and denominator.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, cast

from definitions.metric import Aggregation, Definition, Result, ResultKind
from definitions.values import EXACT, QUOTIENT, canonical

from ..core.aggregations import AGGREGATIONS, Partial, empty_partial, merge_partials
from .answers import Number
from .computing import sum_over, text_of
from .following import followed
from .ranks import at_rank, counted, read_text, winsorized
from .rows import of_rows

# Of one window and group: (number of the measure, whose, when) → partial. A measure kept by unit
# has the unit and its day; one whose value is added over rows has the row's group and windows; one
# that follows units in their groups has both of them and 0; any other has "" and 0.
Group = tuple[str | None, ...]
Place = tuple[int, str | Group, int | tuple[int, ...]]
Held = dict[Place, Partial]
_UnitDay = tuple[str | Group, int | tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Answered:
    """A value, the values that could not be read, and what the value was made of."""

    value: str | None
    unreadable: int = 0
    more: Mapping[str, Number | Sequence[Decimal]] = field(default_factory=dict)


def add_to(held: Held, place: Place, aggregation: Aggregation, partial: Partial) -> None:
    """Merge a partial into what is held at a place."""
    present = held.get(place)
    held[place] = partial if present is None else merge_partials(aggregation, present, partial)


def answer(definition: Definition, held: Held, unit: str | None = None) -> Answered:
    """Return the value of a definition that can be computed from one window's partials.

    unit: of which unit type; None: the overall value.
    """
    result = definition.result_of(unit)
    assert result is not None
    sums = _Sums(definition, held)
    unreadable = sum(partial.unreadable for partial in held.values())
    value, more = _COMPUTE[result.op](sums, result)
    unreadable += more.pop("unreadable", 0)
    return Answered(value, unreadable, more)


def sum_of(values: Iterable[Decimal]) -> Decimal:
    """Return the exact sum."""
    return _sum(values)


def shape_of(definition: Definition) -> tuple[Any, ...]:
    """What two versions must share for one window to be read from both."""
    kinds = tuple((each.aggregation, each.unit) for each in definition.measures)
    return (definition.result, kinds, definition.dimensions, definition.day_offset_minutes)


def adds_up(definition: Definition, wider: Definition) -> bool:
    """Whether one window can be read from both: the wider one only adds more of the same kind."""
    first, second = definition.result, wider.result
    if first is None or second is None:
        return False
    if {first.op, second.op} != {ResultKind.ADD} or first.factors or second.factors:
        return False
    names = [each.name for each in wider.measures[: len(definition.measures)]]
    return (
        [each.name for each in definition.measures] == names
        and set(first.args) <= set(second.args)
        and shape_of(definition)[1] == shape_of(wider)[1][: len(names)]
        and shape_of(definition)[2:] == shape_of(wider)[2:]
    )


def adds_over_customers(definition: Definition) -> bool:
    """Whether the values of customers and windows may be added."""
    result = definition.result
    kinds = {measure.aggregation for measure in definition.measures}
    adding = result is not None and result.op in {ResultKind.ADD, ResultKind.ADD_ROWS}
    return adding and kinds <= {Aggregation.COUNT, Aggregation.SUM}


class _Sums:
    """The partials of a window, by the names of measures."""

    def __init__(self, definition: Definition, held: Held) -> None:
        self._names = [measure.name for measure in definition.measures]
        self._kinds = [measure.aggregation for measure in definition.measures]
        self._by_unit = {measure.name for measure in definition.measures if measure.unit}
        self._held = held

    def _merged(
        self, names: Sequence[str], key_of: Callable[[Place], Any]
    ) -> tuple[Aggregation, dict[Any, Partial]]:
        wanted = {self._names.index(name) for name in names}
        kind = self._kinds[min(wanted)]
        merged: dict[Any, Partial] = {}
        for place, partial in self._held.items():
            if place[0] in wanted:
                key = key_of(place)
                present = merged.get(key)
                merged[key] = (
                    partial if present is None else merge_partials(kind, present, partial)
                )
        return kind, merged

    def total(self, names: Sequence[str]) -> tuple[Aggregation, Any]:
        """The payload of measures added together."""
        kind, merged = self._merged(names, lambda _: None)
        return kind, merged.get(None, empty_partial(kind)).value

    def by_unit_day(
        self, names: Sequence[str], *, flags: Sequence[str] = ()
    ) -> dict[_UnitDay, Decimal]:
        """The numbers of measures added together, for each unit and day that has one.

        flags: measures of which a unit and day that has a number counts as 1.
        """
        found = _numbers(*self._merged(names, lambda place: (place[1], place[2])))
        if not set(names) <= set(flags):
            return found
        return {at: Decimal(1) for at, number in found.items() if number > 0}

    def times(self, names: Sequence[str]) -> dict[str | Group, frozenset[str]]:
        """The elements of UNIQUE measures, for each unit."""
        _, merged = self._merged(names, lambda place: place[1])
        return {unit: partial.value for unit, partial in merged.items()}

    def is_by_unit(self, name: str) -> bool:
        """Whether a measure is kept by unit."""
        return name in self._by_unit

    def rows(self, names: Sequence[str]) -> tuple[Aggregation, list[Any]]:
        """The payload of each row."""
        kind, merged = self._merged(names, lambda place: (place[1], place[2]))
        return kind, [partial.value for partial in merged.values()]

    def by_unit(self, names: Sequence[str]) -> dict[str | Group, Decimal]:
        """The same for each unit."""
        return _numbers(*self._merged(names, lambda place: place[1]))


def _numbers(kind: Aggregation, merged: Mapping[Any, Partial]) -> dict[Any, Decimal]:
    finish = AGGREGATIONS[kind].finish
    texts = {key: finish(partial.value) for key, partial in merged.items()}
    return {key: Decimal(text) for key, text in texts.items() if text is not None}


def _sum(numbers: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for each in numbers:
        total = EXACT.add(total, each)
    return total


def _quotient(numerator: Decimal, denominator: Decimal) -> tuple[str | None, dict[str, Any]]:
    value = canonical(QUOTIENT.divide(numerator, denominator)) if denominator else None
    return value, {"numerator": numerator, "denominator": denominator}


def _add(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    if result.factors:
        return canonical(_sum(_multiplied(sums, result))), {}
    kind, payload = sums.total(result.args)
    if kind is Aggregation.MEAN:
        total, count = payload
        return _quotient(total, Decimal(count))
    return AGGREGATIONS[kind].finish(payload), {}


def _multiplied(sums: _Sums, result: Result) -> Iterable[Decimal]:
    """Counts and sums, each times its factor."""
    for name, factor in zip(result.args, result.factors, strict=True):
        kind, payload = sums.total((name,))
        text = AGGREGATIONS[kind].finish(payload)
        assert text is not None  # a count or a sum has one
        yield EXACT.multiply(Decimal(text), _decimal(factor) or Decimal(0))


def _add_rows(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    if result.factors:  # the sum over rows is that of the totals: nothing is 0 in each row
        return _add(sums, result)
    kind, payloads = sums.rows(result.args)
    if result.outer != "sum":
        return of_rows(result.outer, kind, payloads)
    if len(payloads) < 2:
        return _add(sums, result)
    if kind is Aggregation.MEAN:
        return _sum_of_means(payloads), {}
    finish = AGGREGATIONS[kind].finish
    texts = [text for text in map(finish, payloads) if text is not None]  # SUM skips NULL
    return (canonical(_sum(map(Decimal, texts))) if texts else None), {}


def _sum_of_means(payloads: Iterable[tuple[Decimal, int]]) -> str | None:
    """The exact sum of quotients, rounded once.

    Those of one count are added as decimals first: there are as many fractions as different
    counts, so their denominator stays small.
    """
    by_count: dict[int, Decimal] = {}
    for total, count in payloads:
        if count:
            by_count[count] = EXACT.add(by_count.get(count, Decimal(0)), total)
    if not by_count:
        return None
    exact = sum((Fraction(total) / count for count, total in by_count.items()), Fraction())
    return canonical(QUOTIENT.divide(Decimal(exact.numerator), Decimal(exact.denominator)))


def _ratio(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    sides = []
    for names in (result.args, result.denominator):
        kind, payload = sums.total(names)
        text = AGGREGATIONS[kind].finish(payload)
        if text is None:
            return None, {}
        sides.append(Decimal(text))
    return _quotient(*sides)


def _ratio_same_day(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    below = sums.by_unit_day(result.denominator, flags=result.flags)
    above = sums.by_unit_day(result.args, flags=result.flags)
    counted = (number for at, number in above.items() if at in below)
    return _quotient(_sum(counted), _sum(below.values()))


def _unit_days(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    return str(sum(number > 0 for number in sums.by_unit_day(result.args).values())), {}


def _units(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    return str(sum(number > 0 for number in sums.by_unit(result.args).values())), {}


def _funnel(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    return _of_steps([Decimal(sums.total(names)[1]) for names in _steps(result)])  # COUNTs


def _steps(result: Result) -> Sequence[tuple[str, ...]]:
    return result.steps or tuple((name,) for name in result.args)


def _unit_funnel(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    steps, passed = [], None
    for names in _steps(result):
        here = {at for at, number in sums.by_unit_day(names).items() if number > 0}
        passed = here if passed is None else passed & here
        steps.append(Decimal(len(passed)))
    return _of_steps(steps)


def _of_steps(steps: list[Decimal]) -> tuple[str | None, dict[str, Any]]:
    value, more = _quotient(steps[-1], steps[0])
    return value, {**more, "steps": steps}


def _own_counts(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    """What a sum of metrics counts itself: events, or (unit, day) pairs."""
    total = 0
    for name in result.args:
        if sums.is_by_unit(name):
            total += sum(number > 0 for number in sums.by_unit_day((name,)).values())
        else:
            total += sums.total((name,))[1]
    return str(total), {}


def _unit_totals(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    cap, threshold = _decimal(result.cap), _decimal(result.threshold)
    totals: dict[str | Group, Decimal] = {}
    for (unit, _), number in sums.by_unit_day(result.args).items():
        limited = number if cap is None else min(number, cap)
        totals[unit] = EXACT.add(totals.get(unit, Decimal(0)), limited)
    values = winsorized(totals.values(), _decimal(result.low), _decimal(result.high))
    if threshold is None:
        return canonical(_sum(values)), {}
    return str(sum(value >= threshold for value in values)), {}


def _decimal(operand: Any) -> Decimal | None:
    return None if operand is None else Decimal(operand)


def _unit_means(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    return _mean(sums.by_unit(result.args).values())


def _unit_day_means(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    return _mean(sums.by_unit_day(result.args).values())


def _percentile(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    rank = _decimal(result.high)
    assert rank is not None
    by_value = {
        unit if isinstance(unit, str) else unit[0]: number
        for unit, number in sums.by_unit(result.args).items()
    }
    counts, unread = counted(by_value)
    found = at_rank(counts, rank)
    return (None if found is None else canonical(found)), {"unreadable": unread}


def _sum_values(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    assert result.computed is not None
    counts: Counter[tuple[Decimal | None, ...]] = Counter()
    unread = 0
    for group, times in sums.by_unit(result.args).items():
        row = tuple(None if text is None else read_text(text) for text in group)
        if any(text is not None and value is None for text, value in zip(group, row, strict=True)):
            unread += int(times)
        else:
            counts[row] += int(times)
    return text_of(sum_over(result.computed, counts)), {"unreadable": unread}


def _ordered_funnel(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    assert result.order is not None
    passed = followed([sums.times(names) for names in result.steps], result.order)
    if not result.order.seconds:
        return _of_steps(passed.steps)
    value, more = _quotient(passed.seconds, passed.steps[-1])
    return value, {**more, "steps": passed.steps}


def _retention(sums: _Sums, result: Result) -> tuple[str | None, dict[str, Any]]:
    assert result.retention is not None
    end, length = result.retention.end_days, result.retention.length_days
    returned = set(sums.by_unit_day(result.args, flags=result.args))
    started = sums.by_unit_day(result.denominator, flags=result.denominator)
    kept = sum(
        any((unit, day + later) in returned for later in range(end - length + 1, end + 1))
        for unit, day in cast("Iterable[tuple[str, int]]", started)
    )
    return _quotient(Decimal(kept), Decimal(len(started)))


def _mean(numbers: Iterable[Decimal]) -> tuple[str | None, dict[str, Any]]:
    found = list(numbers)
    return _quotient(_sum(found), Decimal(len(found)))


_COMPUTE: Final[dict[ResultKind, Callable[[_Sums, Result], tuple[str | None, dict[str, Any]]]]] = {
    ResultKind.ADD: _add,
    ResultKind.ADD_ROWS: _add_rows,
    ResultKind.RATIO: _ratio,
    ResultKind.RATIO_SAME_DAY: _ratio_same_day,
    ResultKind.UNIT_DAYS: _unit_days,
    ResultKind.UNITS: _units,
    ResultKind.FUNNEL: _funnel,
    ResultKind.UNIT_FUNNEL: _unit_funnel,
    ResultKind.UNIT_TOTALS: _unit_totals,
    ResultKind.UNIT_MEANS: _unit_means,
    ResultKind.UNIT_DAY_MEANS: _unit_day_means,
    ResultKind.ADD_METRICS: _own_counts,
    ResultKind.PERCENTILE: _percentile,
    ResultKind.ORDERED_FUNNEL: _ordered_funnel,
    ResultKind.RETENTION: _retention,
    ResultKind.SUM_VALUES: _sum_values,
}
