"""A checked Statsig body → the neutral model: what is computed, and why the rest is not."""

from typing import Any, Final

from ..metric import (
    Aggregation,
    Class,
    Comparison,
    Component,
    Condition,
    EventSelector,
    Field,
    Measure,
    Operator,
    Result,
    ResultKind,
)
from .bodies import Terms

_USER_FIELDS: Final = {
    "userID",
    "email",
    "ip",
    "userAgent",
    "country",
    "locale",
    "appVersion",
}
_EVENT_VALUE: Final = Field(source="value")
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
# Statsig's words for what a number of an event is → how its values combine
_SUMS: Final = {"value", "metadata"}


class NotComputable(Exception):
    """What the event stream does not hold; its only argument names it."""


Built = tuple[tuple[Measure, ...], Result, Class, tuple[str, ...]]


def build_cloud(body: dict[str, Any], _: Terms) -> Built:
    """Return what a metric of any other type than user_warehouse computes.

    Raises:
        NotComputable: it needs what the event stream does not hold.
    """
    kind = body["type"]
    if body.get("rollupTimeWindow") == "custom":
        raise NotComputable(
            "a custom window is counted from exposure: an exposure stream is needed"
        )
    if kind == "composite_sum":
        components = tuple(Component(**each) for each in body["metricComponentMetrics"])
        result = Result(op=ResultKind.ADD_METRICS, components=components)
        return (), result, Class.COMBINE_AT_READ, ()
    if kind == "funnel":
        return _funnel(body)
    if kind not in {"sum", "mean", "event_count_custom", "event_user", "ratio"}:
        raise NotComputable(f"what a {kind} metric computes from events is not documented")
    events = body["metricEvents"]
    if kind == "ratio":
        return _ratio(body, *numerator_and_denominator(events))
    aggregation = {"sum": Aggregation.SUM, "mean": Aggregation.MEAN}.get(kind, Aggregation.COUNT)
    unit = unit_of(body) if kind == "event_user" else None
    measures = tuple(
        Measure(
            name=f"m{index}",
            events=EventSelector(include=(event["name"],)),
            where=conditions(event.get("criteria", [])),
            aggregation=aggregation,
            field=None if aggregation is Aggregation.COUNT else _number_of(event),
            unit=unit,
        )
        for index, event in enumerate(events)
    )
    names = tuple(measure.name for measure in measures)
    if kind == "event_user":
        ever = body.get("rollupTimeWindow") == "max"
        op = ResultKind.UNITS if ever else ResultKind.UNIT_DAYS
        return measures, Result(op=op, args=names), Class.ENTITY_STATE, ()
    execution = Class.COMBINE_AT_READ if kind == "mean" else Class.INCREMENTAL
    return measures, Result(args=names), execution, ()


def numerator_and_denominator(
    events: list[dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the numerator's and the denominator's event: the denominator comes first (CS11)."""
    denominator, numerator = events
    return numerator, denominator


def _ratio(body: dict[str, Any], numerator: dict[str, Any], denominator: dict[str, Any]) -> Built:
    unit = unit_of(body)
    measures = tuple(
        Measure(
            name=name,
            events=EventSelector(include=(event["name"],)),
            where=conditions(event.get("criteria", [])),
            unit=unit,
            **_side(event, unit),
        )
        for name, event in (("denominator", denominator), ("numerator", numerator))
    )
    result = Result(
        op=ResultKind.RATIO_SAME_DAY, args=("numerator",), denominator=("denominator",)
    )
    return measures, result, Class.ENTITY_STATE, ()


def _side(event: dict[str, Any], unit: Field) -> dict[str, Any]:
    """What one side of a ratio adds up."""
    kind, key = event.get("type"), event.get("metadataKey")
    if kind == "count_distinct":
        field = Field(source="property", key=key) if key else unit
        return {"aggregation": Aggregation.UNIQUE, "field": field}
    if kind in _SUMS:
        return {"aggregation": Aggregation.SUM, "field": _number_of(event)}
    return {"aggregation": Aggregation.COUNT}


def _funnel(body: dict[str, Any]) -> Built:
    of_users = body["funnelCountDistinct"] == "users"
    unit = unit_of(body) if of_users else None
    measures = tuple(
        Measure(
            name=f"step{index}",
            events=EventSelector(include=(step["name"],)),
            aggregation=Aggregation.COUNT,
            unit=unit,
        )
        for index, step in enumerate(body["funnelEventList"], 1)
    )
    op = ResultKind.UNIT_FUNNEL if of_users else ResultKind.FUNNEL
    execution = Class.ENTITY_STATE if of_users else Class.COMBINE_AT_READ
    result = Result(op=op, args=tuple(measure.name for measure in measures))
    return measures, result, execution, ()


def _number_of(event: dict[str, Any]) -> Field:
    """The field whose numbers are added: the event's value, or a metadata key (CS12)."""
    key = event.get("metadataKey")
    if event.get("type") == "metadata" and not key:
        raise NotComputable("metadata without metadataKey names no number")
    if key and event.get("type") in {"metadata", None}:
        return Field(source="property", key=key)
    return _EVENT_VALUE


def unit_of(body: dict[str, Any]) -> Field:
    """The field that says whose day an event belongs to: the first unit type, or userID."""
    name = next(iter(body.get("unitTypes") or ()), "userID")
    return _user_field(name)


def _user_field(name: str) -> Field:
    """A named field of the user; any other name is one of its custom ids (CS10)."""
    return Field(source="user" if name in _USER_FIELDS else "custom_id", key=name)


def conditions(criteria: list[dict[str, Any]]) -> tuple[Condition, ...]:
    """Return the conditions of criteria, all of which must hold.

    Raises:
        NotComputable: a criterion that no single event can answer.
    """
    return tuple(_condition(criterion) for criterion in criteria)


def _condition(criterion: dict[str, Any]) -> Condition:
    word = criterion["condition"]
    if word == "sql_filter":
        raise NotComputable("a sql_filter criterion needs a warehouse")
    if word not in _CONDITIONS:
        raise NotComputable(f"a criterion {word} needs an experiment's exposure stream")
    operator, comparison = _CONDITIONS[word]
    kind, column = criterion["type"], criterion.get("column")
    if kind == "value":
        field = _EVENT_VALUE
    elif kind == "metadata":
        field = Field(source="property", key=column)
    elif kind == "user":
        field = _user_field(str(column))
    else:
        field = Field(source="user_custom", key=column)
    return Condition(
        field=field,
        operator=operator,
        operands=() if word in _WITHOUT_VALUES else tuple(criterion["values"]),
        comparison=comparison,
        if_unknown=criterion.get("nullVacuousOverride", False),  # CS1, CS2
    )
