"""What a SQL aggregate adds up: terms, each a part of the events with a property or nothing.

A term is what one measure counts. Every term of an aggregate is of one aggregation, so that what
the measures hold adds up to what the aggregate would be over all events.
"""

from dataclasses import dataclass
from typing import Final

from sqlglot import exp

from ..metric import Aggregation, Operator
from .sql_groups import is_timestamp, property_of
from .sql_where import WHOLE, Part, Parts, both, existence, is_literal, literal, split, uncast
from .sql_words import AGGREGATES, NAMED, Untranslatable

# Sides of a quotient are finished values; a mean has no place among them.
_DIVIDED: Final = frozenset(Aggregation) - {Aggregation.MEAN}
_SUMMED: Final = frozenset({Aggregation.SUM, Aggregation.COUNT})
_EMPTY_IS_ZERO: Final = frozenset({Aggregation.SUM, Aggregation.COUNT, Aggregation.UNIQUE})


@dataclass(frozen=True, slots=True)
class Term:
    """What one measure counts. key: a property; None counts the events themselves."""

    part: Part
    aggregation: Aggregation
    key: str | None


@dataclass(frozen=True, slots=True)
class Value:
    """What the column `value` is: terms that add up, divided by others where there are any."""

    terms: tuple[Term, ...]
    divided_by: tuple[Term, ...] = ()

    @property
    def aggregation(self) -> Aggregation:
        """How the terms combine."""
        return self.terms[0].aggregation


def value_of(item: exp.Expression) -> Value:
    """Return what an expression of aggregates is.

    Raises:
        Untranslatable: with the reason.
    """
    item = _bare(item)
    if isinstance(item, exp.Div):
        above, below = value_of(item.this), value_of(_without_nullif(item.expression))
        if above.divided_by or below.divided_by:
            raise Untranslatable(f"{item.sql()[:100]}: one division is translated")
        for each in (above, below):
            if each.aggregation not in _DIVIDED:
                raise Untranslatable(f"{item.sql()[:100]}: AVG in a division is not translated")
        return Value(above.terms, below.terms)
    if isinstance(item, exp.Mul):
        for one, other in ((item.this, item.expression), (item.expression, item.this)):
            if is_literal(one) and literal(one) == 1:
                return value_of(other)
        raise Untranslatable(f"{item.sql()[:100]}: a product is not translated")
    if isinstance(item, exp.Add):
        sides = [value_of(each) for each in (item.this, item.expression)]
        kinds = {side.aggregation for side in sides}
        if len(kinds) > 1 or kinds - _SUMMED or any(side.divided_by for side in sides):
            raise Untranslatable(f"{item.sql()[:100]}: only SUM + SUM, COUNT + COUNT are added")
        return Value(sides[0].terms + sides[1].terms)
    if isinstance(item, exp.Coalesce):
        return _coalesced(item)
    return Value(_aggregate(item, WHOLE))


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
        if found.aggregation in _EMPTY_IS_ZERO and not found.divided_by:
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
        if is_literal(value) and literal(value) == 1:
            terms += _terms(parts, Aggregation.COUNT, None)
            continue
        if isinstance(value, exp.Coalesce) and [*map(_is_zero, value.expressions)] == [True]:
            value = value.this  # noqa: PLW2901  what is not there adds 0 as well as nothing
        keys = _added(value, item)
        there = tuple(existence(key, Operator.IS_SET) for key in keys) if len(keys) > 1 else ()
        for key in keys:
            terms += _terms(both(parts, (there,)), Aggregation.SUM, key)
    if len({term.aggregation for term in terms}) > 1:
        raise Untranslatable(
            f"{item.sql()[:100]}: CASE gives either 1, or properties; both are not translated"
        )
    return _some(terms, item)


def _added(value: exp.Expression, item: exp.Expression) -> list[str]:
    """The properties that a sum of them names; an event adds where it has all of them."""
    value = _bare(value)
    if isinstance(value, exp.Add):
        return [*_added(value.this, item), *_added(value.expression, item)]
    return [_key(value, item)]


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


def _terms(parts: Parts, aggregation: Aggregation, key: str | None) -> tuple[Term, ...]:
    return tuple(Term(part, aggregation, key) for part in parts)


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
