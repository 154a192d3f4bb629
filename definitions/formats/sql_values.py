"""What a SQL aggregate adds up: terms, each a part of the events with a property or nothing.

A term is what one measure counts. Every term of an aggregate is of one aggregation, so that what
the measures hold adds up to what the aggregate would be over all events; counts and sums may stand
beside each other, each times a factor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from sqlglot import exp

from ..metric import Aggregation, Computed, Operator
from ..values import EXACT, canonical
from .sql_computed import computed, is_computed
from .sql_groups import is_timestamp, property_of
from .sql_where import WHOLE, Part, Parts, both, existence, is_literal, literal, split, uncast
from .sql_words import AGGREGATES, NAMED, Untranslatable

# Sides of a quotient are finished values; a mean has no place among them.
_DIVIDED: Final = frozenset(Aggregation) - {Aggregation.MEAN}
_SUMMED: Final = frozenset({Aggregation.SUM, Aggregation.COUNT})
_EMPTY_IS_ZERO: Final = frozenset({Aggregation.SUM, Aggregation.COUNT, Aggregation.UNIQUE})
_ONE: Final = Decimal(1)
# Of a factor: then no product of it and a sum has more digits than EXACT holds.
_FACTOR_DIGITS_MAX: Final = 18
_FACTOR_PLACES_MAX: Final = 9


@dataclass(frozen=True, slots=True)
class Term:
    """What one measure counts. key: a property; None counts the events themselves.

    factor: what its number is multiplied by.
    """

    part: Part
    aggregation: Aggregation
    key: str | None
    factor: Decimal = _ONE


@dataclass(frozen=True, slots=True)
class Value:
    """What the column `value` is: terms that add up, divided by others where there are any.

    rank: the value is the percentile at it, of the property that the terms name. computed: what is
    added of each event, of the properties `columns`.
    """

    terms: tuple[Term, ...]
    divided_by: tuple[Term, ...] = ()
    rank: Decimal | None = None
    computed: Computed | None = None
    columns: tuple[str, ...] = ()

    @property
    def by_value(self) -> bool:
        """Whether events are counted by their values: nothing else is added to such a number."""
        return self.rank is not None or self.computed is not None

    @property
    def aggregation(self) -> Aggregation:
        """How the terms combine; of counts and sums together as sums do."""
        kinds = {term.aggregation for term in self.terms}
        return kinds.pop() if len(kinds) == 1 else Aggregation.SUM

    @property
    def is_plain(self) -> bool:
        """Whether the terms add up as they are: of one aggregation, and each once."""
        kinds = {term.aggregation for term in self.terms}
        return not self.by_value and len(kinds) == 1 and {t.factor for t in self.terms} == {_ONE}

    def times(self, factor: Decimal) -> "Value":
        """Return this value, multiplied."""
        terms = tuple(replace(each, factor=_exact(each.factor, factor)) for each in self.terms)
        return replace(self, terms=terms)


def value_of(item: exp.Expression) -> Value:
    """Return what an expression of aggregates is.

    Raises:
        Untranslatable: with the reason.
    """
    item = _bare(item)
    if isinstance(item, exp.Div):
        return _quotient(item)
    if isinstance(item, exp.Neg):
        return _scaled(item.this, Decimal(-1), item)
    if isinstance(item, exp.Mul):
        for one, other in ((item.this, item.expression), (item.expression, item.this)):
            factor = _number(one)
            if factor is not None:
                return value_of(other) if factor == 1 else _scaled(other, factor, item)
        raise Untranslatable(f"{item.sql()[:100]}: a product of aggregates is not translated")
    if isinstance(item, exp.Add | exp.Sub):
        sides = [value_of(each) for each in (item.this, item.expression)]
        if isinstance(item, exp.Sub):
            sides[1] = _scaled(item.expression, Decimal(-1), item)
        kinds = {side.aggregation for side in sides}
        if kinds - _SUMMED or any(side.divided_by or side.by_value for side in sides):
            raise Untranslatable(f"{item.sql()[:100]}: only SUM and COUNT are added")
        return Value(sides[0].terms + sides[1].terms)
    if isinstance(item, exp.Coalesce):
        return _coalesced(item)
    if isinstance(item, exp.Anonymous) and str(item.this).lower() == "approx_percentile":
        return _percentile(item)
    if isinstance(item, exp.Sum) and is_computed(item.this):
        steps, columns = computed(item.this)
        counted = Term((), Aggregation.COUNT, None)
        return Value((counted,), computed=steps, columns=columns)
    return Value(_aggregate(item, WHOLE))


def _quotient(item: exp.Expression) -> Value:
    above, below = value_of(item.this), value_of(_without_nullif(item.expression))
    if above.divided_by or below.divided_by:
        raise Untranslatable(f"{item.sql()[:100]}: one division is translated")
    for each in (above, below):
        if each.aggregation not in _DIVIDED:
            raise Untranslatable(f"{item.sql()[:100]}: AVG in a division is not translated")
        if not each.is_plain:
            raise Untranslatable(f"{item.sql()[:100]}: a side of a division is one aggregate")
    return Value(above.terms, below.terms)


def _scaled(item: exp.Expression, factor: Decimal, whole: exp.Expression) -> Value:
    found = value_of(item)
    if found.aggregation not in _SUMMED or found.divided_by or found.by_value:
        raise Untranslatable(f"{whole.sql()[:100]}: only SUM and COUNT are multiplied")
    return found.times(factor)


def _percentile(item: exp.Anonymous) -> Value:
    """The value at a rank: how often each value was seen is what is kept."""
    rank = _number(item.expressions[1]) if len(item.expressions) == 2 else None
    if rank is None or not 0 <= rank <= 1:
        raise Untranslatable(f"{item.sql()[:100]}: give a property, and a rank between 0 and 1")
    key = _key(item.expressions[0], item)
    return Value((Term((existence(key, Operator.IS_SET),), Aggregation.COUNT, key),), rank=rank)


def _number(item: exp.Expression) -> Decimal | None:
    """A number that is written out; None where none is."""
    item = _bare(item)
    found = literal(item) if is_literal(item) and not isinstance(item, exp.Boolean) else None
    return found if isinstance(found, Decimal) else None


def _exact(first: Decimal, second: Decimal) -> Decimal:
    """The product of two factors.

    Raises:
        Untranslatable: it has too many digits.
    """
    found = EXACT.multiply(first, second)
    whole, _, places = canonical(found).lstrip("-").partition(".")
    if len(whole) + len(places) > _FACTOR_DIGITS_MAX or len(places) > _FACTOR_PLACES_MAX:
        raise Untranslatable(
            f"the factor {str(found)[:40]} has more than {_FACTOR_DIGITS_MAX} digits, or "
            f"{_FACTOR_PLACES_MAX} after the point"
        )
    return found


def _bare(item: exp.Expression) -> exp.Expression:
    """Without parentheses and casts to decimals, which change no value."""
    while isinstance(item, exp.Paren | exp.Cast):
        item = item.this if isinstance(item, exp.Paren) else uncast(item)
    return item


def _without_nullif(item: exp.Expression) -> exp.Expression:
    """A divisor that is NULL where it is 0: a quotient by 0 is null here anyway."""
    item = _bare(item)
    if isinstance(item, exp.Nullif) and _is_zero(item.expression):
        return _bare(item.this)
    return item


def _coalesced(item: exp.Coalesce) -> Value:
    """Nothing is 0, where it is 0 here anyway."""
    if len(item.expressions) == 1 and _is_zero(item.expressions[0]):
        found = value_of(item.this)
        empty = found.aggregation in _EMPTY_IS_ZERO and found.rank is None
        if empty and not found.divided_by:
            return found
    raise Untranslatable(f"{item.sql()[:100]} is not translated")


def _is_zero(item: exp.Expression) -> bool:
    return is_literal(item) and literal(item) == 0


def _aggregate(item: exp.Expression, within: Parts) -> tuple[Term, ...]:
    """One aggregate over the events that are within."""
    if isinstance(item, exp.Filter):
        passes = split(item.expression.this).passes
        return _aggregate(item.this, both(within, passes))
    if isinstance(item, exp.CountIf):
        return _terms(both(within, split(item.this).passes), Aggregation.COUNT, None)
    if isinstance(item, exp.Count):
        return _count(item, within)
    aggregation = AGGREGATES.get(type(item))
    inner = item.this
    if isinstance(item, exp.Anonymous) and len(item.expressions) == 1:
        aggregation, inner = NAMED.get(str(item.this).lower()), item.expressions[0]
    if isinstance(item, exp.ArgMax | exp.ArgMin) and not is_timestamp(item.expression):
        aggregation = None
    if aggregation is None:
        raise Untranslatable(f"{item.sql()[:100]} is not translated")
    if aggregation is Aggregation.SUM:
        return _sum(inner, item, within)
    terms = [
        term
        for parts, value in _cases(inner, within)
        if not isinstance(value, exp.Null)
        for term in _terms(parts, aggregation, _key(value, item))
    ]
    return _some(terms, item)


def _count(item: exp.Count, within: Parts) -> tuple[Term, ...]:
    inner = item.this
    if item.expressions:
        raise Untranslatable(f"{item.sql()[:100]}: COUNT of one column is translated")
    if inner is None or isinstance(inner, exp.Star):
        return _terms(within, Aggregation.COUNT, None)
    kind = Aggregation.COUNT
    if isinstance(inner, exp.Distinct):
        if len(inner.expressions) != 1:
            raise Untranslatable(f"{item.sql()[:100]}: COUNT of one column is translated")
        kind, inner = Aggregation.UNIQUE, inner.expressions[0]
    terms: list[Term] = []
    for parts, value in _cases(inner, within):
        if isinstance(value, exp.Null):
            continue
        if kind is Aggregation.COUNT and is_literal(value):
            terms += _terms(parts, kind, None)
        elif kind is Aggregation.COUNT:
            there: Parts = ((existence(_key(value, item), Operator.IS_SET),),)
            terms += _terms(both(parts, there), kind, None)
        else:
            terms += _terms(parts, kind, _key(value, item))
    return _some(terms, item)


def _sum(inner: exp.Expression, item: exp.Expression, within: Parts) -> tuple[Term, ...]:
    terms: list[Term] = []
    for parts, value in _cases(inner, within):
        if isinstance(value, exp.Null) or _is_zero(value):
            continue
        linear = _linear(value, item)
        alone = len(linear.factors) == 1 and not linear.constant  # SUM skips what is not there
        needed = [key for key in linear.factors if key in linear.needed and not alone]
        there = tuple(existence(key, Operator.IS_SET) for key in needed)
        passing = both(parts, (there,))
        for key, factor in linear.factors.items():
            terms += _terms(passing, Aggregation.SUM, key, factor)
        if linear.constant:
            terms += _terms(passing, Aggregation.COUNT, None, linear.constant)
    return _some(terms, item)


@dataclass(frozen=True, slots=True)
class _Linear:
    """A sum of properties, each times a factor, and a constant.

    needed: properties without which an event adds nothing.
    """

    factors: Mapping[str, Decimal]
    constant: Decimal
    needed: frozenset[str]

    def plus(self, other: "_Linear") -> "_Linear":
        """Return the sum of both."""
        factors = dict(self.factors)
        for key, factor in other.factors.items():
            factors[key] = _exact(factors.get(key, Decimal(0)) + factor, _ONE)
        return _Linear(factors, self.constant + other.constant, self.needed | other.needed)

    def times(self, factor: Decimal) -> "_Linear":
        """Return it multiplied."""
        factors = {key: _exact(each, factor) for key, each in self.factors.items()}
        return _Linear(factors, _exact(self.constant, factor), self.needed)


def _linear(value: exp.Expression, item: exp.Expression) -> _Linear:
    """What an event adds, as a sum of properties times factors."""
    value = _bare(value)
    constant = _number(value)
    if constant is not None:
        return _Linear({}, _exact(constant, _ONE), frozenset())
    if isinstance(value, exp.Neg):
        return _linear(value.this, item).times(Decimal(-1))
    if isinstance(value, exp.Add | exp.Sub):
        right = _linear(value.expression, item)
        right = right.times(Decimal(-1)) if isinstance(value, exp.Sub) else right
        return _linear(value.this, item).plus(right)
    if isinstance(value, exp.Mul):
        for one, other in ((value.this, value.expression), (value.expression, value.this)):
            factor = _number(one)
            if factor is not None:
                return _linear(other, item).times(factor)
        raise Untranslatable(f"{value.sql()[:100]}: a product of properties is not translated")
    if isinstance(value, exp.Coalesce) and [*map(_is_zero, value.expressions)] == [True]:
        key = _key(value.this, item)
        return _Linear({key: _ONE}, Decimal(0), frozenset())
    key = _key(value, item)
    return _Linear({key: _ONE}, Decimal(0), frozenset({key}))


def _cases(item: exp.Expression, within: Parts) -> list[tuple[Parts, exp.Expression]]:
    """The values of an expression, each with the events that have it."""
    item = _bare(item)
    if isinstance(item, exp.If):
        otherwise = item.args.get("false")
        branches = [(item.this, item.args["true"])]
    elif isinstance(item, exp.Case):
        otherwise, subject = item.args.get("default"), item.this
        branches = [
            (
                each.this if subject is None else exp.EQ(this=subject, expression=each.this),
                each.args["true"],
            )
            for each in item.args["ifs"]
        ]
    else:
        return [(within, item)]
    found, left = list[tuple[Parts, exp.Expression]](), within
    for condition, value in branches:
        parts = split(condition)
        found += _cases(value, both(left, parts.passes))
        left = both(left, parts.fails)
    return [*found, *_cases(exp.Null() if otherwise is None else otherwise, left)]


def _terms(
    parts: Parts, aggregation: Aggregation, key: str | None, factor: Decimal = _ONE
) -> tuple[Term, ...]:
    return tuple(Term(part, aggregation, key, factor) for part in parts)


def _some(terms: list[Term], item: exp.Expression) -> tuple[Term, ...]:
    if not terms:
        raise Untranslatable(f"{item.sql()[:100]} never adds anything")
    return tuple(terms)


def _key(value: exp.Expression, item: exp.Expression) -> str:
    name = property_of(_bare(value))
    if name is None:
        inside = f"{value.sql()[:100]} in {item.sql()[:100]}"
        raise Untranslatable(f"{inside} is not translated: an aggregate is of one property")
    return name
