"""Metronome's SQL metrics → the neutral model, where one SELECT says what we can count (CM13).

SQL's NULL makes a condition neither true nor false, so unknown is false throughout. Whatever is
not spelled out here is not translated: the definition is kept, and the reason names what it was.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import sqlglot
from sqlglot import exp

from ..metric import (
    Aggregation,
    Class,
    Comparison,
    Condition,
    EventSelector,
    Field,
    Measure,
    Operator,
)
from ..values import decimal_of_text
from .sql_words import AGGREGATES, COMPARED, MIRRORED, NAMED, NEGATED, NODES, WINDOWS

_PLACE_DIGITS_MAX: Final = 4  # of a column's number in GROUP BY


class Untranslatable(Exception):
    """Why a statement is kept as it is."""


@dataclass(frozen=True, slots=True)
class Translated:
    """What a statement counts."""

    measure: Measure
    dimensions: tuple[tuple[str, ...], ...]
    execution: Class


@dataclass(slots=True)
class _Where:
    """The conditions found so far, all of which must hold."""

    conditions: list[Condition] = field(default_factory=list)
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()


def translate(sql: str) -> Translated:
    """Return what a statement counts.

    Raises:
        Untranslatable: with the reason.
    """
    try:
        return _translate(sql)
    except RecursionError as error:
        raise Untranslatable("the SQL is nested too deeply; write it flatter") from error


def _translate(sql: str) -> Translated:
    try:
        statements = sqlglot.parse(sql)
    except (sqlglot.errors.SqlglotError, RecursionError, ValueError) as error:
        first = str(error).splitlines()[0][:200]
        raise Untranslatable(f"the SQL is not understood: {first}") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        raise Untranslatable("only a single SELECT is translated")
    select = statements[0]
    select.set("order", None)
    for node in select.walk():
        known = NODES.get(type(node))  # type: ignore[arg-type]  # sqlglot's own base class
        given = {name for name, held in node.args.items() if held and not name.startswith("_")}
        if known is None or given - known:
            what = min(given - known).upper().replace("_", " ") if known else node.sql()[:100]
            raise Untranslatable(f"{what} is not translated")
    source = select.args.get("from_") or select.args.get("from")
    table = None if source is None else source.this
    if not isinstance(table, exp.Table) or table.sql().lower() != "events":
        raise Untranslatable("only FROM events is translated")
    where = _Where()
    if select.args.get("where"):
        _conjunct(select.args["where"].this, where)
    measure, columns = _columns(select, where)
    execution = (
        Class.COMBINE_AT_READ if measure.aggregation is Aggregation.MEAN else Class.INCREMENTAL
    )
    return Translated(measure, (columns,) if columns else (), execution)


def _columns(select: exp.Select, where: _Where) -> tuple[Measure, tuple[str, ...]]:
    """The one aggregate, and the properties it is grouped by."""
    aggregates: list[exp.Expression] = []
    columns: list[str] = []
    for item in select.expressions:
        inner = item.this if isinstance(item, exp.Alias) else item
        if _is_window(inner):
            continue
        name = _property(inner)
        if name is None:
            aggregates.append(item)
        elif isinstance(item, exp.Alias) and item.alias != name:
            raise Untranslatable(f"column {name!r} under another name is not translated")
        else:
            columns.append(name)
    if len(aggregates) != 1:
        raise Untranslatable("exactly one aggregate, the column `value`, is translated")
    (value,) = aggregates
    if isinstance(value, exp.Alias) and value.alias.lower() != "value":
        raise Untranslatable("the column of the aggregate is named value")
    grouped = _grouped(select, columns)
    if set(columns) - set(grouped):
        raise Untranslatable(f"column {columns[0]!r} is not in GROUP BY")
    return _measure(value.this if isinstance(value, exp.Alias) else value, where), grouped


def _grouped(select: exp.Select, columns: list[str]) -> tuple[str, ...]:
    group = select.args.get("group")
    if group is None:
        return ()
    if any(given for name, given in group.args.items() if name != "expressions"):
        raise Untranslatable("ROLLUP, CUBE and GROUPING SETS are not translated")
    names: dict[str, None] = {}
    for item in (_meant(each, select) for each in group.expressions):
        if _is_window(item):
            continue
        bare = isinstance(item, exp.Column) and not item.table and item.name in columns
        name = item.name if bare else _property(item)
        if name is None:
            raise Untranslatable(f"GROUP BY {item.sql()} is not translated")
        names[name] = None
    return tuple(names)


def _meant(item: exp.Expression, select: exp.Select) -> exp.Expression:
    """The selected column that a number or another name in GROUP BY stands for, or the item."""
    chosen: exp.Expression | None = None
    if isinstance(item, exp.Literal) and not item.is_string and str(item.this).isdigit():
        at = int(item.this) if len(item.this) <= _PLACE_DIGITS_MAX else 0
        chosen = select.expressions[at - 1] if 0 < at <= len(select.expressions) else None
    elif isinstance(item, exp.Column) and not item.table:
        named = [each for each in select.expressions if isinstance(each, exp.Alias)]
        chosen = next((each for each in named if each.alias == item.name), None)
    if chosen is None:
        return item
    return chosen.this if isinstance(chosen, exp.Alias) else chosen


def _is_window(item: exp.Expression) -> bool:
    """Whether a column is a window of time, which every answer of ours has anyway."""
    if not isinstance(item, exp.DateTrunc | exp.TimestampTrunc):
        return False
    unit = str(item.args["unit"].name).upper()
    if unit not in WINDOWS or not _is_timestamp(item.this):
        raise Untranslatable(f"{item.sql()} is not translated")
    return True


def _is_timestamp(item: exp.Expression | None) -> bool:
    return isinstance(item, exp.Column) and not item.table and item.name.lower() == "timestamp"


def _property(item: exp.Expression) -> str | None:
    """The property that an expression names, or None."""
    if isinstance(item, exp.Column) and item.table.lower() == "properties" and not item.db:
        return item.name
    if isinstance(item, exp.Bracket) and len(item.expressions) == 1:
        holder, key = item.this, item.expressions[0]
        named = isinstance(holder, exp.Column) and holder.name.lower() == "properties"
        if named and isinstance(key, exp.Literal) and key.is_string:
            return str(key.this)
    return None


def _measure(item: exp.Expression, where: _Where) -> Measure:
    aggregation, name = _aggregate(item, where)
    return Measure(
        name="m0",
        events=EventSelector(include=where.include, exclude=where.exclude or None),
        where=tuple(where.conditions),
        aggregation=aggregation,
        field=None if name is None else Field(source="property", key=name),
    )


def _aggregate(item: exp.Expression, where: _Where) -> tuple[Aggregation, str | None]:
    if isinstance(item, exp.Count):
        return _count(item, where)
    aggregation = AGGREGATES.get(type(item))
    inner = item.this
    if isinstance(item, exp.Anonymous) and len(item.expressions) == 1:
        aggregation, inner = NAMED.get(str(item.this).lower()), item.expressions[0]
    if isinstance(item, exp.ArgMax | exp.ArgMin) and not _is_timestamp(item.expression):
        aggregation = None
    name = None if aggregation is None else _property(_uncast(inner))
    if aggregation is None or name is None:
        raise Untranslatable(f"{item.sql()} is not translated")
    return aggregation, name


def _count(item: exp.Count, where: _Where) -> tuple[Aggregation, str | None]:
    inner = item.this
    if inner is None or isinstance(inner, exp.Star) or inner.sql() == "1":
        return Aggregation.COUNT, None
    if isinstance(inner, exp.Distinct) and len(inner.expressions) == 1:
        name = _property(inner.expressions[0])
        if name is not None:
            return Aggregation.UNIQUE, name
    name = _property(inner)
    if name is None:
        raise Untranslatable(f"{item.sql()} is not translated")
    where.conditions.append(_existence(name, Operator.IS_SET))
    return Aggregation.COUNT, None


def _uncast(item: exp.Expression) -> exp.Expression:
    """What stands inside a cast to a number: our numbers are decimals anyway."""
    if not isinstance(item, exp.Cast):
        return item
    kinds = (*exp.DataType.NUMERIC_TYPES, exp.DataType.Type.BIGDECIMAL)
    if item.to.this not in kinds or item.to.this in exp.DataType.INTEGER_TYPES:
        raise Untranslatable(f"{item.sql()}: only a cast to a decimal is translated")
    return item.this  # type: ignore[no-any-return]


def _existence(name: str, operator: Operator) -> Condition:
    return Condition(
        field=Field(source="property", key=name),
        operator=operator,
        comparison=Comparison.EXISTENCE,
        if_unknown=False,
    )


def _conjunct(item: exp.Expression, where: _Where, *, negated: bool = False) -> None:
    """Add a condition; AND is taken apart, everything else must be one condition."""
    if isinstance(item, exp.Paren):
        _conjunct(item.this, where, negated=negated)
    elif isinstance(item, exp.And) and not negated:
        _conjunct(item.this, where)
        _conjunct(item.expression, where)
    elif isinstance(item, exp.Not):
        _conjunct(item.this, where, negated=not negated)
    elif isinstance(item, exp.Between) and not negated:
        _conjunct(exp.GTE(this=item.this, expression=item.args["low"]), where)
        _conjunct(exp.LTE(this=item.this, expression=item.args["high"]), where)
    else:
        _single(item, where, negated=negated)


def _single(item: exp.Expression, where: _Where, *, negated: bool) -> None:
    subject, operator, operands, comparison = _taken_apart(item)
    operator = NEGATED[operator] if negated else operator
    if isinstance(subject, exp.Column) and not subject.table and subject.name == "event_type":
        _select_types(operator, operands, where, item)
        return
    name = _property(_uncast(subject))
    if name is None:
        raise Untranslatable(f"{item.sql()} is not translated")
    if comparison is Comparison.EXISTENCE:
        where.conditions.append(_existence(name, operator))
        return
    where.conditions.append(
        Condition(
            field=Field(source="property", key=name),
            operator=operator,
            operands=operands,
            comparison=comparison,
            if_unknown=False,
        )
    )


def _taken_apart(
    item: exp.Expression,
) -> tuple[exp.Expression, Operator, tuple[Any, ...], Comparison]:
    """Subject, operator, operands and how both are read."""
    if isinstance(item, exp.Is) and isinstance(item.expression, exp.Null):
        return item.this, Operator.IS_NOT_SET, (), Comparison.EXISTENCE
    if isinstance(item, exp.In) and item.expressions:
        operands = tuple(_literal(each) for each in item.expressions)
        if all(isinstance(each, str) for each in operands):
            return item.this, Operator.IN, operands, Comparison.TEXT
    if isinstance(item, exp.Like):
        return _like(item)
    operator = COMPARED.get(type(item))
    if operator is not None:
        subject, other = item.this, item.expression
        if _is_literal(subject):
            subject, other = other, subject
            operator = MIRRORED.get(operator, operator)
        if _is_literal(other):
            literal = _literal(other)
            numeric = isinstance(literal, Decimal)
            if numeric or operator in {Operator.EQUAL, Operator.NOT_EQUAL}:
                return (
                    subject,
                    operator,
                    (literal,),
                    Comparison.NUMBER if numeric else Comparison.TEXT,
                )
    raise Untranslatable(f"{item.sql()} is not translated")


def _like(item: exp.Like) -> tuple[exp.Expression, Operator, tuple[Any, ...], Comparison]:
    pattern = _literal(item.expression)
    if isinstance(pattern, str):
        text = pattern.strip("%")
        shape = (pattern.startswith("%"), pattern.endswith("%") and len(pattern) > 1)
        plain = not {"%", "_", "\\"} & set(text) and pattern in {
            text,
            f"%{text}",
            f"{text}%",
            f"%{text}%",
        }
        if plain:
            operator = {
                (True, True): Operator.CONTAINS,
                (False, True): Operator.STARTS_WITH,
                (True, False): Operator.ENDS_WITH,
                (False, False): Operator.EQUAL,
            }[shape]
            operator = NEGATED[operator] if item.args.get("negate") else operator
            return item.this, operator, (text,), Comparison.TEXT
    raise Untranslatable(f"{item.sql()}: a pattern is %x%, x%, %x or x")


def _is_literal(item: exp.Expression) -> bool:
    inner = item.this if isinstance(item, exp.Neg) else item
    return isinstance(inner, exp.Literal | exp.Boolean)


def _literal(item: exp.Expression) -> str | Decimal:
    """A text, a number, or a boolean as its text form."""
    if isinstance(item, exp.Boolean):
        return "true" if item.this else "false"
    if isinstance(item, exp.Neg) and isinstance(item.this, exp.Literal):
        inner = _literal(item.this)
        if isinstance(inner, Decimal):
            return inner.copy_negate()  # minus would round to the context's digits
    if isinstance(item, exp.Literal) and item.is_string:
        return str(item.this)
    if isinstance(item, exp.Literal):
        number = decimal_of_text(str(item.this))
        if number is None:
            raise Untranslatable(f"{str(item.this)[:100]} is no number that events can have (C04)")
        return number
    raise Untranslatable(f"{item.sql()} is no literal")


def _select_types(
    operator: Operator, operands: tuple[Any, ...], where: _Where, item: exp.Expression
) -> None:
    if operator in {Operator.EQUAL, Operator.IN}:
        both = (
            operands
            if where.include is None
            else tuple(each for each in where.include if each in operands)
        )
        where.include = both
    elif operator in {Operator.NOT_EQUAL, Operator.NOT_IN}:
        where.exclude += operands
    else:
        raise Untranslatable(f"{item.sql()} is not translated")
