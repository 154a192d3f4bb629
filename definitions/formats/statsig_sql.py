"""SQL filters of Statsig's criteria → parts of the events, as WHERE of a SQL metric makes them."""

from collections.abc import Sequence
from typing import Any

import sqlglot
from sqlglot import exp

from ..metric import Condition
from .sql_where import WHOLE, Parts, both, split
from .sql_words import NODES, Untranslatable
from .statsig_criteria import EVENT_VALUE, VALUE_COLUMN, NotComputable


def filtered(filters: Sequence[Sequence[str]]) -> list[tuple[Condition, ...]]:
    """Return the parts of the events that pass all filters.

    Raises:
        NotComputable: what is not translated, and why.
    """
    parts: Parts = WHOLE
    for values in filters:
        passing = _parts(values)
        try:
            parts = both(parts, passing)
        except Untranslatable as why:
            raise NotComputable(f"a sql_filter criterion: {why}") from why
    # Every column is a member of the event: there is no part by event types.
    return [
        tuple(dict.fromkeys(each for each in part if isinstance(each, Condition)))
        for part in parts
    ]


def _parts(values: Sequence[str]) -> Parts:
    """What one filter lets through. Every column is a metadata key, or the event's value."""
    if len(values) != 1:
        raise NotComputable("a sql_filter criterion has one value, its SQL")
    try:
        condition: Any = sqlglot.parse_one(values[0], into=exp.Condition)
        _check_known(condition)
        found = split(condition.transform(_member)).passes
    except (sqlglot.errors.SqlglotError, RecursionError, ValueError) as error:
        raise NotComputable("a sql_filter criterion is no SQL condition") from error
    except Untranslatable as why:
        raise NotComputable(f"a sql_filter criterion: {why}") from why
    return tuple(tuple(map(_of_value, part)) for part in found)


def _check_known(condition: Any) -> None:
    for node in condition.walk():
        known = NODES.get(type(node))
        told = {name for name, held in node.args.items() if held and not name.startswith("_")}
        if known is None or told - known or isinstance(node, exp.Bracket):
            raise Untranslatable(f"{node.sql()[:100]} is not translated")


def _member(node: exp.Expression) -> exp.Expression:
    """A column by its name alone is a property of the event."""
    if isinstance(node, exp.Column):
        if node.table:
            raise Untranslatable(f"{node.sql()[:100]}: a column is named without a table")
        return exp.column(node.this.copy(), table="properties")
    return node


def _of_value(atom: Any) -> Any:
    field = atom.field if isinstance(atom, Condition) else None
    if field is None or field.key != VALUE_COLUMN:
        return atom
    return atom.model_copy(update={"field": EVENT_VALUE})
