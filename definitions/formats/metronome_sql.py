"""Metronome's SQL metrics → the neutral model, where one SELECT says what we can count (CM13).

Where a statement has GROUP BY, its usage is the sum over its rows (Metronome's documents: over all
results, unless the question groups by the column). reads/results.py adds them up.

SQL's NULL makes a condition neither true nor false, so unknown is false throughout. Whatever is
not spelled out here is not translated: the definition is kept, and the reason names what it was.
"""

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final, Literal

import sqlglot
from sqlglot import exp

from ..metric import (
    Aggregation,
    Class,
    Condition,
    EventSelector,
    Field,
    Measure,
    Result,
    ResultKind,
)
from .sql_groups import Groups, grouped_by, property_of, window_of
from .sql_values import Term, Value, value_of
from .sql_where import WHOLE, Parts, both, selector, split
from .sql_words import ADDITIVE, NODES, Untranslatable, Window

Outer = Literal["sum", "max", "min", "mean"]
_OUTER: Final[dict[type, Outer]] = {
    exp.Sum: "sum",
    exp.Max: "max",
    exp.Min: "min",
    exp.Avg: "mean",
}
_ALONE: Final = {ResultKind.RATIO, ResultKind.PERCENTILE, ResultKind.SUM_VALUES}
# Of these a row without any value is 0; of others it is NULL, which no aggregate of rows takes.
_WITH_EMPTY_ROWS: Final = {Aggregation.COUNT, Aggregation.UNIQUE, Aggregation.SUM}


@dataclass(frozen=True, slots=True)
class Translated:
    """What a statement counts."""

    measures: tuple[Measure, ...]
    result: Result
    dimensions: tuple[tuple[str, ...], ...]
    execution: Class


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
    if isinstance(table, exp.Subquery):
        return _nested(select, table.this)
    return _of_events(select, table, "value")


def _of_events(
    select: exp.Select, table: exp.Expression | None, column: str, outer: Outer = "sum"
) -> Translated:
    """A statement over the events themselves.

    column: how its aggregate is named. outer: what is taken of its rows.
    """
    if not isinstance(table, exp.Table) or table.sql().lower() != "events":
        raise Untranslatable("only FROM events is translated")
    where = select.args.get("where")
    within = WHOLE if where is None else split(where.this).passes
    value, grouped = _columns(select, column)
    measures, factors = _measures(value.terms, within, 0)
    below, _ = _measures(value.divided_by, within, len(measures))
    if value.by_value:
        return _by_value(value, measures, grouped)
    if outer != "sum":
        _check_rows(value)
    # Counts and sums of any windows add up to those of the whole: no window cuts them.
    additive = value.aggregation in ADDITIVE and outer == "sum"
    windows = () if additive else grouped.windows
    in_rows = bool(grouped.columns or windows)
    if below and (grouped.columns or grouped.windows):
        raise Untranslatable("a division with GROUP BY is not translated: rows do not add up")
    args, denominator = (tuple(each.name for each in side) for side in (measures, below))
    op = ResultKind.RATIO if below else ResultKind.ADD_ROWS if in_rows else ResultKind.ADD
    plain = value.is_plain
    result = Result(
        op=op,
        args=args,
        denominator=denominator,
        windows=windows,
        factors=() if plain else factors,
        outer=outer,
    )
    combined = below or value.aggregation is Aggregation.MEAN or (in_rows and not additive)
    execution = Class.COMBINE_AT_READ if combined else Class.INCREMENTAL
    dimensions = (grouped.columns,) if grouped.columns else ()
    return Translated((*measures, *below), result, dimensions, execution)


def _by_value(value: Value, measures: tuple[Measure, ...], grouped: Groups) -> Translated:
    """A percentile or a sum of what is computed: how often each value was seen.

    That is a grouping set of its own.
    """
    if grouped.columns or grouped.windows:
        what = "a percentile" if value.computed is None else "a sum of ROUND and the like"
        raise Untranslatable(f"{what} with GROUP BY is not translated")
    args = tuple(each.name for each in measures)
    if value.computed is None:
        result = Result(op=ResultKind.PERCENTILE, args=args, high=value.rank)
        columns: tuple[str, ...] = (str(value.terms[0].key),)
    else:
        result = Result(op=ResultKind.SUM_VALUES, args=args, computed=value.computed)
        columns = value.columns
    return Translated(measures, result, (columns,), Class.COMBINE_AT_READ)


def _nested(select: exp.Select, inner: exp.Expression) -> Translated:
    """The sum, or another aggregate, over the rows of a grouped statement."""
    if not isinstance(inner, exp.Select) or select.args.get("where"):
        raise Untranslatable("FROM (SELECT …) is translated without WHERE behind it")
    source = inner.args.get("from_") or inner.args.get("from")
    named = [each for each in inner.expressions if isinstance(each, exp.Alias)]
    shown = {name for each in inner.expressions if (name := property_of(_inside(each)))}
    sums, columns = list[exp.Expression](), list[str]()
    for item in select.expressions:
        bare = _inside(item)
        if isinstance(bare, exp.Column) and not bare.table and bare.name in shown:
            columns.append(bare.name)
        else:
            sums.append(item)
    if len(sums) != 1 or (isinstance(sums[0], exp.Alias) and sums[0].alias.lower() != "value"):
        raise Untranslatable("exactly one aggregate, the column `value`, is translated")
    total = _inside(sums[0])
    outer = _OUTER.get(type(total))
    column = None if outer is None else total.this
    if (
        outer is None
        or not isinstance(column, exp.Column)
        or column.table
        or column.name not in {each.alias for each in named}
    ):
        what = f"{total.sql()[:100]} FROM (SELECT …)"
        raise Untranslatable(
            f"{what}: only SUM, MAX, MIN and AVG of the inner aggregate are translated"
        )
    found = _of_events(inner, None if source is None else source.this, column.name, outer)
    if found.result.op in _ALONE:
        raise Untranslatable(
            "a division, a percentile, ROUND and the like in a nested SELECT are not translated"
        )
    if outer != "sum":
        return _of_rows(select, found, columns)
    grouped = grouped_by(select, columns)
    keys = set(grouped.columns)
    if (
        grouped.windows
        or set(columns) - keys
        or (keys and (keys,) != (*map(set, found.dimensions),))
    ):
        raise Untranslatable("GROUP BY of the outer SELECT names the columns of the inner one")
    return replace(found, dimensions=(grouped.columns,)) if keys else found


def _of_rows(select: exp.Select, found: Translated, columns: list[str]) -> Translated:
    """Another aggregate than SUM over the rows of a statement."""
    if columns or select.args.get("group"):
        raise Untranslatable(
            "MAX, MIN or AVG of a nested SELECT with GROUP BY around it is not translated"
        )
    if found.result.op is not ResultKind.ADD_ROWS:
        raise Untranslatable("MAX, MIN or AVG of a nested SELECT needs GROUP BY in it")
    return replace(found, execution=Class.COMBINE_AT_READ)


def _check_rows(value: Value) -> None:
    """Refuse an aggregate over rows of which some are 0 without any event: no cell has them."""
    for term in value.terms:
        empty = term.aggregation in _WITH_EMPTY_ROWS
        if empty and (term.part or not value.is_plain or len(value.terms) > 1):
            raise Untranslatable(
                "MAX, MIN or AVG of a nested SELECT is translated where its rows are of COUNT(*), "
                "SUM, MAX, MIN, AVG, LATEST or EARLIEST of a property"
            )
        if term.aggregation is Aggregation.UNIQUE:
            raise Untranslatable("MAX, MIN or AVG of COUNT(DISTINCT …) is not translated")


def _inside(item: exp.Expression) -> exp.Expression:
    """A column without its other name."""
    return item.this if isinstance(item, exp.Alias) else item


def _columns(select: exp.Select, column: str) -> tuple[Value, Groups]:
    """The one aggregate, and what it is grouped by."""
    aggregates: list[exp.Expression] = []
    columns: list[str] = []
    windows: list[Window] = []
    for item in select.expressions:
        inner = _inside(item)
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
    if isinstance(value, exp.Alias) and value.alias.lower() != column.lower():
        raise Untranslatable(f"the column of the aggregate is named {column}")
    grouped = grouped_by(select, columns)
    if lacking := set(columns) - set(grouped.columns):
        raise Untranslatable(f"column {min(lacking)!r} is not in GROUP BY")
    if missing := set(windows) - set(grouped.windows):
        raise Untranslatable(f"DATE_TRUNC by {min(missing)} is not in GROUP BY")
    return value_of(_inside(value)), grouped


def _measures(
    terms: tuple[Term, ...], within: Parts, first: int
) -> tuple[tuple[Measure, ...], tuple[Decimal, ...]]:
    """A measure for each term and part, and its factor; what no event can pass is left out."""
    made: list[Measure] = []
    factors: list[Decimal] = []
    for term in terms:
        for part in both(within, (term.part,)):
            looks = selector(part)
            if looks is not None:
                made.append(_measure(term, first + len(made), *looks))
                factors.append(term.factor)
    if terms and not made:
        made.append(_measure(terms[0], first, EventSelector(include=()), ()))
        factors.append(terms[0].factor)
    return tuple(made), tuple(factors)


def _measure(
    term: Term, number: int, events: EventSelector, where: tuple[Condition, ...]
) -> Measure:
    return Measure(
        name=f"m{number}",
        events=events,
        where=where,
        aggregation=term.aggregation,
        field=Field(source="property", key=term.key) if _reads(term) else None,
    )


def _reads(term: Term) -> bool:
    """Whether a term's measure reads its property; what a percentile counts is a group of it."""
    return term.key is not None and term.aggregation is not Aggregation.COUNT
