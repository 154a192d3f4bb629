"""Criteria of Statsig: conditions of an event; a SQL filter may make several parts of the events.

A part is a list of conditions that must all hold, and no event is in two of them. Each is counted
by a measure of its own, and measures add up.
"""

from collections.abc import Sequence
from typing import Any, Final

from ..metric import Comparison, Condition, EventSelector, Field, Measure, Operator

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
VALUE_COLUMN: Final = "value"  # how a column of a metric source names the event's value (CS15)
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
    filters = [each.get("values") or () for each in criteria if each["condition"] == _SQL]
    if not filters:
        return [plain]
    # The SQL parser takes as long to load as all else that a command needs.
    from .statsig_sql import filtered  # noqa: PLC0415

    return [(*plain, *part) for part in filtered(filters)]


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
