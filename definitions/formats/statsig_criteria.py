"""Criteria of Statsig: conditions of an event; a SQL filter may make several parts of the events.

A part is a list of conditions that must all hold, and no event is in two of them. Each is counted
by a measure of its own, and measures add up.
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlglot
from sqlglot import exp

from ..metric import Comparison, Condition, EventSelector, Field, Measure, Operator
from .sql_where import WHOLE, Part, Parts, both, split
from .sql_words import NODES, Untranslatable

_USER_FIELDS: Final = {
    "userID",
    "email",
    "ip",
    "userAgent",
    "country",
    "locale",
    "appVersion",
}
EVENT_VALUE: Final = Field(source="value")
_VALUE_COLUMN: Final = "value"  # how a column of a metric source names the event's value (CS15)
_CONDITIONS: Final = {
    "in": (Operator.IN, Comparison.TEXT),
    "not_in": (Operator.NOT_IN, Comparison.TEXT),
    "=": (Operator.EQUAL, Comparison.NUMBER_OR_TEXT),
    ">": (Operator.GREATER, Comparison.NUMBER),
    "<": (Operator.LESS, Comparison.NUMBER),
    ">=": (Operator.GREATER_OR_EQUAL, Comparison.NUMBER),
    "<=": (Operator.LESS_OR_EQUAL, Comparison.NUMBER),
    "is_null": (Operator.IS_NOT_SET, Comparison.EXISTENCE),
    "non_null": (Operator.IS_SET, Comparison.EXISTENCE),
    "contains": (Operator.CONTAINS, Comparison.TEXT),
    "not_contains": (Operator.NOT_CONTAINS, Comparison.TEXT),
    "starts_with": (Operator.STARTS_WITH, Comparison.TEXT),
    "ends_with": (Operator.ENDS_WITH, Comparison.TEXT),
    "is_true": (Operator.IS_TRUE, Comparison.BOOLEAN),
    "is_false": (Operator.IS_FALSE, Comparison.BOOLEAN),
}
_WITHOUT_VALUES: Final = {"is_null", "non_null", "is_true", "is_false"}
_SQL: Final = "sql_filter"


class NotComputable(Exception):
    """What the event stream does not hold; its only argument names it."""


def counting(
    name: str, event: str, criteria: Sequence[dict[str, Any]], **members: Any
) -> tuple[Measure, ...]:
    """Return what counts the events of a name that meet criteria: a measure for each part.

    Raises:
        NotComputable: a criterion that no single event can answer.
    """
    return tuple(
        Measure(
            name=name if at == 0 else f"{name}.{at}",
            events=EventSelector(include=(event,)),
            where=where,
            **members,
        )
        for at, where in enumerate(_parts(criteria))
    )


def named(measures: Sequence[Measure]) -> tuple[str, ...]:
    """Return the names of measures."""
    return tuple(measure.name for measure in measures)


def user_field(name: str) -> Field:
    """A named field of the user; any other name is one of its custom ids (CS10)."""
    return Field(source="user" if name in _USER_FIELDS else "custom_id", key=name)


def _parts(criteria: Sequence[dict[str, Any]]) -> list[tuple[Condition, ...]]:
    """The parts of the events that meet criteria."""
    plain = tuple(_condition(each) for each in criteria if each["condition"] != _SQL)
    parts: Parts = WHOLE
    for each in criteria:
        if each["condition"] == _SQL:
            parts = _both(parts, _filtered(each.get("values") or ()))
    return [(*plain, *_conditions(part)) for part in parts]


def _both(left: Parts, right: Parts) -> Parts:
    try:
        return both(left, right)
    except Untranslatable as why:
        raise NotComputable(f"a sql_filter criterion: {why}") from why


def _conditions(part: Part) -> tuple[Condition, ...]:
    found = dict.fromkeys(each for each in part if isinstance(each, Condition))
    assert len(found) == len(dict.fromkeys(part))  # every column is a member of the event
    return tuple(found)


def _filtered(values: Sequence[str]) -> Parts:
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
    if field is None or field.key != _VALUE_COLUMN:
        return atom
    return atom.model_copy(update={"field": EVENT_VALUE})


def _condition(criterion: dict[str, Any]) -> Condition:
    word = criterion["condition"]
    if word not in _CONDITIONS:
        raise NotComputable(f"a criterion {word} needs an experiment's exposure stream")
    operator, comparison = _CONDITIONS[word]
    kind, column = criterion["type"], criterion.get("column")
    if kind == "value":
        field = EVENT_VALUE
    elif kind == "metadata":
        field = Field(source="property", key=column)
    elif kind == "user":
        field = user_field(str(column))
    else:
        field = Field(source="user_custom", key=column)
    return Condition(
        field=field,
        operator=operator,
        operands=() if word in _WITHOUT_VALUES else tuple(criterion["values"]),
        comparison=comparison,
        if_unknown=criterion.get("nullVacuousOverride", False),  # CS1, CS2
    )
