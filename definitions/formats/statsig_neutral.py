"""A checked Statsig body → the neutral model: what is computed, and why the rest is not."""

from collections.abc import Callable
from typing import Any, Final

from ..metric import (
    Aggregation,
    Class,
    Comparison,
    Component,
    Condition,
    Definition,
    EventSelector,
    Field,
    Measure,
    Operator,
    Result,
    ResultKind,
    of_unit,
)
from .bodies import Terms
from .statsig_criteria import EVENT_VALUE, NotComputable, counting, named, user_field

# Statsig has these two metrics for every event, without anybody making them.
OF_EVERY_EVENT: Final = ("event_count", "event_dau")
# Statsig's words for what a number of an event is → how its values combine
_SUMS: Final = {"value", "metadata"}


Built = tuple[tuple[Measure, ...], Result, Class, tuple[str, ...]]


def build_cloud(body: dict[str, Any], terms: Terms) -> Built:
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
        return _composite_sum(body)
    if kind == "funnel":
        return _funnel(body, terms)
    if kind not in {"sum", "mean", "event_count_custom", "event_user", "ratio"}:
        raise NotComputable(f"what a {kind} metric computes from events is not documented")
    events = body["metricEvents"]
    if kind == "ratio":
        return _ratio(body, *numerator_and_denominator(events))
    if any(_counts_distinct(event, kind) for event in events):
        return _distinct(body, events)
    aggregation = {"sum": Aggregation.SUM, "mean": Aggregation.MEAN}.get(kind, Aggregation.COUNT)
    unit = unit_of(body) if kind == "event_user" else None
    measures = tuple(
        measure
        for index, event in enumerate(events)
        for measure in counting(
            f"m{index}",
            event["name"],
            event.get("criteria", []),
            aggregation=aggregation,
            field=None if aggregation is Aggregation.COUNT else _number_of(event),
            unit=unit,
        )
    )
    names = named(measures)
    if kind == "event_user":
        ever = body.get("rollupTimeWindow") == "max"
        op = ResultKind.UNITS if ever else ResultKind.UNIT_DAYS
        return measures, Result(op=op, args=names), Class.ENTITY_STATE, ()
    execution = Class.COMBINE_AT_READ if kind == "mean" else Class.INCREMENTAL
    return measures, Result(args=names), execution, ()


def _counts_distinct(event: dict[str, Any], kind: str) -> bool:
    """Whether an event says count_distinct where that changes the number: users are units."""
    distinct = event.get("type") == "count_distinct"
    return distinct and (kind != "event_user" or bool(event.get("metadataKey")))


def _distinct(body: dict[str, Any], events: list[dict[str, Any]]) -> Built:
    """Distinct units, or distinct values of metadataKey, of one event (S-10)."""
    kind = body["type"]
    if kind not in {"sum", "event_count_custom"}:
        raise NotComputable(f"what count_distinct means in a {kind} metric is not documented")
    if len(events) > 1:
        raise NotComputable("how distinct counts of several events add up is not documented")
    (event,) = events
    side = _side(event, unit_of(body))
    measures = counting("m0", event["name"], event.get("criteria", []), **side)
    return measures, Result(args=named(measures)), Class.INCREMENTAL, ()


def _composite_sum(body: dict[str, Any]) -> Built:
    """Other metrics, and events whose metrics Statsig makes by itself (S-6)."""
    parts = [Component(**each) for each in body["metricComponentMetrics"]]
    measures = tuple(
        Measure(
            name=f"m{index}",
            events=EventSelector(include=(each.name,)),
            aggregation=Aggregation.COUNT,
            unit=unit_of(body) if each.type == "event_dau" else None,
        )
        for index, each in enumerate(each for each in parts if each.type in OF_EVERY_EVENT)
    )
    result = Result(
        op=ResultKind.ADD_METRICS,
        args=tuple(measure.name for measure in measures),
        components=tuple(each for each in parts if each.type not in OF_EVERY_EVENT),
    )
    return measures, result, Class.COMBINE_AT_READ, ()


def numerator_and_denominator(
    events: list[dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the numerator's and the denominator's event: the denominator comes first (CS11)."""
    denominator, numerator = events
    return numerator, denominator


def _ratio(body: dict[str, Any], numerator: dict[str, Any], denominator: dict[str, Any]) -> Built:
    unit = unit_of(body)
    below, above = (
        counting(name, event["name"], event.get("criteria", []), unit=unit, **_side(event, unit))
        for name, event in (("denominator", denominator), ("numerator", numerator))
    )
    result = Result(op=ResultKind.RATIO_SAME_DAY, args=named(above), denominator=named(below))
    return (*below, *above), result, Class.ENTITY_STATE, ()


def _side(event: dict[str, Any], unit: Field) -> dict[str, Any]:
    """What one side of a ratio adds up."""
    kind, key = event.get("type"), event.get("metadataKey")
    if kind == "count_distinct":
        field = Field(source="property", key=key) if key else unit
        return {"aggregation": Aggregation.UNIQUE, "field": field}
    if kind in _SUMS:
        return {"aggregation": Aggregation.SUM, "field": _number_of(event)}
    return {"aggregation": Aggregation.COUNT}


def _funnel(body: dict[str, Any], terms: Terms) -> Built:
    of_users = body["funnelCountDistinct"] == "users"
    unit = unit_of(body) if of_users else None
    measures: list[Measure] = []
    steps: list[tuple[str, ...]] = []
    for number, step in enumerate(body["funnelEventList"], 1):
        own = _step(number, Component(**step), unit, terms)
        measures += own
        steps.append(tuple(measure.name for measure in own))
    op = ResultKind.UNIT_FUNNEL if of_users else ResultKind.FUNNEL
    execution = Class.ENTITY_STATE if of_users else Class.COMBINE_AT_READ
    result = Result(op=op, args=tuple(measure.name for measure in measures), steps=tuple(steps))
    return tuple(measures), result, execution, ()


def _step(number: int, step: Component, unit: Field | None, terms: Terms) -> list[Measure]:
    """What a step counts: the events of the metric that it names, else the event of its name."""
    metric = _named(step, terms)
    if metric is None:
        selected = [(EventSelector(include=(step.name,)), ())]  # type: list[Any]
    else:
        counting = [each for each in metric.measures if each.name in metric.answering]
        what = f"step {number} names the metric {step.name}::{step.type}, which"
        if not metric.computable:
            raise NotComputable(f"{what} is not computed: {'; '.join(metric.reasons)}")
        if {each.aggregation for each in counting} != {Aggregation.COUNT}:
            raise NotComputable(f"{what} does not count events")
        selected = [(each.events, each.where) for each in counting]
    return [
        Measure(
            name=f"step{number}" if at == 0 else f"step{number}.{at}",
            events=events,
            where=where,
            aggregation=Aggregation.COUNT,
            unit=unit,
        )
        for at, (events, where) in enumerate(selected)
    ]


def _named(step: Component, terms: Terms) -> Definition | None:
    """The metric that a step names; those of every event are the events themselves."""
    if step.type in OF_EVERY_EVENT:
        return None
    return terms.statsig_metric(step.name, step.type)


def awaited(body: dict[str, Any], terms: Terms) -> tuple[Component, ...]:
    """The names of a checked body that were taken for events, because no metric has them."""
    if body["type"] == "composite_sum":
        parts = [Component(**each) for each in body["metricComponentMetrics"]]
        return tuple(each for each in parts if each.type in OF_EVERY_EVENT)
    if body["type"] == "funnel":
        steps = [Component(**each) for each in body["funnelEventList"]]
        return tuple(each for each in steps if _named(each, terms) is None)
    return ()


def with_units(
    body: dict[str, Any], make: Callable[[dict[str, Any]], Built]
) -> tuple[Measure, ...]:
    """Return the measures of a checked body, with those that give each unit type its own value.

    The value of a unit type is of the events that have such a unit; the overall value stays what
    `make` says of the whole body: of all events, or, where units are followed, of the first type.
    """
    measures, *_ = make(body)
    added: list[Measure] = []
    for unit_type in dict.fromkeys(body.get("unitTypes") or ()):
        unit = user_field(unit_type)
        has_it = Condition(
            field=unit,
            operator=Operator.IS_SET,
            comparison=Comparison.EXISTENCE,
            if_unknown=False,
        )
        own, *_ = make({**body, "unitTypes": [unit_type]})
        for plain, each in zip(measures, own, strict=True):
            variant = each
            if unit not in (each.unit, each.field):
                variant = each.model_copy(update={"where": (*each.where, has_it)})
            if variant != plain:
                name = of_unit(plain.name, unit_type)
                added.append(variant.model_copy(update={"name": name}))
    return (*measures, *added)


def _number_of(event: dict[str, Any]) -> Field:
    """The field whose numbers are added: the event's value, or a metadata key (CS12)."""
    key = event.get("metadataKey")
    if event.get("type") == "metadata" and not key:
        raise NotComputable("metadata without metadataKey names no number")
    if key and event.get("type") in {"metadata", None}:
        return Field(source="property", key=key)
    return EVENT_VALUE


def unit_of(body: dict[str, Any]) -> Field:
    """The field that says whose day an event belongs to: the first unit type, or userID."""
    name = next(iter(body.get("unitTypes") or ()), "userID")
    return user_field(name)
