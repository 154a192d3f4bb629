"""Metronome's SQL metrics → the neutral model, where one SELECT says what we can count (CM13).

Where a statement has GROUP BY, its usage is the sum over its rows (Metronome's documents: over all
results, unless the question groups by the column). reads/results.py adds them up.

SQL's NULL makes a condition neither true nor false, so unknown is false throughout. Whatever is
not spelled out here is not translated: the definition is kept, and the reason names what it was.
"""

from dataclasses import dataclass, replace

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


def _of_events(select: exp.Select, table: exp.Expression | None, column: str) -> Translated:
    """A statement over the events themselves. column: how its aggregate is named."""
    if not isinstance(table, exp.Table) or table.sql().lower() != "events":
        raise Untranslatable("only FROM events is translated")
    where = select.args.get("where")
    within = WHOLE if where is None else split(where.this).passes
    value, grouped = _columns(select, column)
    measures = _measures(value.terms, within, 0)
    below = _measures(value.divided_by, within, len(measures))
    # Counts and sums of any windows add up to those of the whole: no window cuts them.
    additive = value.aggregation in ADDITIVE
    windows = () if additive else grouped.windows
    in_rows = bool(grouped.columns or windows)
    if below and (grouped.columns or grouped.windows):
        raise Untranslatable("a division with GROUP BY is not translated: rows do not add up")
    args, denominator = (tuple(each.name for each in side) for side in (measures, below))
    op = ResultKind.RATIO if below else ResultKind.ADD_ROWS if in_rows else ResultKind.ADD
    result = Result(op=op, args=args, denominator=denominator, windows=windows)
    combined = below or value.aggregation is Aggregation.MEAN or (in_rows and not additive)
    execution = Class.COMBINE_AT_READ if combined else Class.INCREMENTAL
    dimensions = (grouped.columns,) if grouped.columns else ()
    return Translated((*measures, *below), result, dimensions, execution)


def _nested(select: exp.Select, inner: exp.Expression) -> Translated:
    """The sum over the rows of a grouped statement: what usage of that statement is anyway."""
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
    column = total.this if isinstance(total, exp.Sum) else None
    if (
        not isinstance(column, exp.Column)
        or column.table
        or column.name not in {each.alias for each in named}
    ):
        what = f"{total.sql()[:100]} FROM (SELECT …)"
        raise Untranslatable(f"{what}: only the SUM of the inner aggregate is translated")
    found = _of_events(inner, None if source is None else source.this, column.name)
    if found.result.op is ResultKind.RATIO:
        raise Untranslatable("a division inside a nested SELECT is not translated")
    grouped = grouped_by(select, columns)
    keys = set(grouped.columns)
    if (
        grouped.windows
        or set(columns) - keys
        or (keys and (keys,) != (*map(set, found.dimensions),))
    ):
        raise Untranslatable("GROUP BY of the outer SELECT names the columns of the inner one")
    return replace(found, dimensions=(grouped.columns,)) if keys else found


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


def _measures(terms: tuple[Term, ...], within: Parts, first: int) -> tuple[Measure, ...]:
    """A measure for each term and part; what no event can pass is left out, but for one."""
    made: list[Measure] = []
    for term in terms:
        for part in both(within, (term.part,)):
            looks = selector(part)
            if looks is not None:
                made.append(_measure(term, first + len(made), *looks))
    if terms and not made:
        made.append(_measure(terms[0], first, EventSelector(include=()), ()))
    return tuple(made)


def _measure(
    term: Term, number: int, events: EventSelector, where: tuple[Condition, ...]
) -> Measure:
    return Measure(
        name=f"m{number}",
        events=events,
        where=where,
        aggregation=term.aggregation,
        field=None if term.key is None else Field(source="property", key=term.key),
    )
