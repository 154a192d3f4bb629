"""What a SQL statement is grouped by: its properties, and its windows of time."""

from dataclasses import dataclass
from typing import Final

from sqlglot import exp

from .sql_words import COLUMNS, WINDOWS, Untranslatable, Window

_PLACE_DIGITS_MAX: Final = 4  # of a column's number in GROUP BY


@dataclass(frozen=True, slots=True)
class Groups:
    """What GROUP BY names: properties, and windows of time."""

    columns: tuple[str, ...] = ()
    windows: tuple[Window, ...] = ()


def grouped_by(select: exp.Select, columns: list[str]) -> Groups:
    """Return what a statement's GROUP BY names; columns: the properties that are selected.

    Raises:
        Untranslatable: with the reason.
    """
    group = select.args.get("group")
    if group is None:
        return Groups()
    if any(given for name, given in group.args.items() if name != "expressions"):
        raise Untranslatable("ROLLUP, CUBE and GROUPING SETS are not translated")
    names: dict[str, None] = {}
    windows: dict[Window, None] = {}
    for item in (_meant(each, select) for each in group.expressions):
        window = window_of(item)
        if window is not None:
            windows[window] = None
            continue
        bare = isinstance(item, exp.Column) and not item.table and item.name in columns
        name = item.name if bare else property_of(item)
        if name is None:
            raise Untranslatable(f"GROUP BY {item.sql()} is not translated")
        names[name] = None
    return Groups(tuple(names), tuple(windows))


def _meant(item: exp.Expression, select: exp.Select) -> exp.Expression:
    """The selected column that a number or another name in GROUP BY stands for, or the item."""
    chosen: exp.Expression | None = None
    if isinstance(item, exp.Literal) and not item.is_string and str(item.this).isdigit():
        at = int(item.this) if len(item.this) <= _PLACE_DIGITS_MAX else 0
        chosen = select.expressions[at - 1] if 0 < at <= len(select.expressions) else None
    elif isinstance(item, exp.Column) and not item.table:
        named = [each for each in select.expressions if isinstance(each, exp.Alias)]
        chosen = next((each for each in named if each.alias == item.name), None)
        if chosen is not None and item.name.lower() in COLUMNS:
            # SQL would group by the column, which is another number.
            raise Untranslatable(f"GROUP BY {item.name}: give the column {item.name} another name")
    if chosen is None:
        return item
    return chosen.this if isinstance(chosen, exp.Alias) else chosen


def window_of(item: exp.Expression) -> Window | None:
    """The window of time, in UTC, that an expression says; None where it says none."""
    if not isinstance(item, exp.DateTrunc | exp.TimestampTrunc):
        return None
    unit = WINDOWS.get(str(item.args["unit"].name).upper())
    if unit is None or not is_timestamp(item.this):
        raise Untranslatable(f"{item.sql()} is not translated")
    return unit


def is_timestamp(item: exp.Expression | None) -> bool:
    """Whether an expression is the time of the event."""
    return isinstance(item, exp.Column) and not item.table and item.name.lower() == "timestamp"


def property_of(item: exp.Expression) -> str | None:
    """The property that an expression names, or None."""
    if isinstance(item, exp.Column) and item.table.lower() == "properties" and not item.db:
        return item.name
    if isinstance(item, exp.Bracket) and len(item.expressions) == 1:
        holder, key = item.this, item.expressions[0]
        named = isinstance(holder, exp.Column) and holder.name.lower() == "properties"
        if named and isinstance(key, exp.Literal) and key.is_string:
            return str(key.this)
    return None
