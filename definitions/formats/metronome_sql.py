"""Metronome's SQL metrics → the neutral model, where one SELECT says what we can count (CM13).

Where a statement has GROUP BY, its usage is the sum over its rows (Metronome's documents: over all
results, unless the question groups by the column). reads/results.py adds them up.

SQL's NULL makes a condition neither true nor false, so unknown is false throughout. Whatever is
not spelled out here is not translated: the definition is kept, and the reason names what it was.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

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
    Result,
    ResultKind,
)
from ..values import decimal_of_text
from .sql_groups import Groups, grouped_by, is_timestamp, property_of, window_of
from .sql_words import (
    ADDITIVE,
    AGGREGATES,
    COMPARED,
    MIRRORED,
    NAMED,
    NEGATED,
    NODES,
    Untranslatable,
    Window,
)


@dataclass(frozen=True, slots=True)
class Translated:
    """What a statement counts."""

    measure: Measure
    result: Result
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
    measure, grouped = _columns(select, where)
    # Counts and sums of any windows add up to those of the whole: no window cuts them.
    windows = () if measure.aggregation in ADDITIVE else grouped.windows
    in_rows = bool(grouped.columns or windows)
    result = Result(
        op=ResultKind.ADD_ROWS if in_rows else ResultKind.ADD,
        args=(measure.name,),
        windows=windows,
    )
    combined = measure.aggregation is Aggregation.MEAN or (
        in_rows and measure.aggregation not in ADDITIVE
    )
    execution = Class.COMBINE_AT_READ if combined else Class.INCREMENTAL
    dimensions = (grouped.columns,) if grouped.columns else ()
    return Translated(measure, result, dimensions, execution)


def _columns(select: exp.Select, where: _Where) -> tuple[Measure, Groups]:
    """The one aggregate, and what it is grouped by."""
    aggregates: list[exp.Expression] = []
    columns: list[str] = []
    windows: list[Window] = []
    for item in select.expressions:
        inner = item.this if isinstance(item, exp.Alias) else item
        window = window_of(inner)
        name = property_of(inner)
        if window is not None:
            windows.append(window)
        elif name is None:
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
    grouped = grouped_by(select, columns)
    if lacking := set(columns) - set(grouped.columns):
        raise Untranslatable(f"column {min(lacking)!r} is not in GROUP BY")
    if missing := set(windows) - set(grouped.windows):
        raise Untranslatable(f"DATE_TRUNC by {min(missing)} is not in GROUP BY")
    return _measure(value.this if isinstance(value, exp.Alias) else value, where), grouped


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
    if isinstance(item, exp.ArgMax | exp.ArgMin) and not is_timestamp(item.expression):
        aggregation = None
    name = None if aggregation is None else property_of(_uncast(inner))
    if aggregation is None or name is None:
        raise Untranslatable(f"{item.sql()} is not translated")
    return aggregation, name


def _count(item: exp.Count, where: _Where) -> tuple[Aggregation, str | None]:
    inner = item.this
    if item.expressions:
        raise Untranslatable(f"{item.sql()}: COUNT of one column is translated")
    if inner is None or isinstance(inner, exp.Star) or inner.sql() == "1":
        return Aggregation.COUNT, None
    if isinstance(inner, exp.Distinct) and len(inner.expressions) == 1:
        name = property_of(inner.expressions[0])
        if name is not None:
            return Aggregation.UNIQUE, name
    name = property_of(inner)
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
    name = property_of(_uncast(subject))
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
    if not all(isinstance(each, str) for each in operands):
        raise Untranslatable(f"{item.sql()}: event_type is compared with text")
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
