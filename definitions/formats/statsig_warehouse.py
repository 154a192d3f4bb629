"""Statsig's warehouse-native metrics, where a setting maps their source to an event (CS15)."""

from typing import Any, Final

from ..metric import Aggregation, Class, EventSelector, Field, Measure, Result, ResultKind
from .bodies import Terms
from .statsig_neutral import Built, NotComputable, conditions, unit_of

_AGGREGATIONS: Final = {
    "count": Aggregation.COUNT,
    "sum": Aggregation.SUM,
    "mean": Aggregation.MEAN,
    "count_distinct": Aggregation.UNIQUE,
    "max": Aggregation.MAX,
    "min": Aggregation.MIN,
    "first_value": Aggregation.FIRST,
    "latest_value": Aggregation.LATEST,
}
# How the values of units become one number (docs/semantics.md, S-5).
_OF_UNITS: Final = {
    "count_distinct": ResultKind.UNIT_MEANS,
    "max": ResultKind.UNIT_MEANS,
    "min": ResultKind.UNIT_MEANS,
    "first_value": ResultKind.UNIT_DAY_MEANS,
    "latest_value": ResultKind.UNIT_DAY_MEANS,
}
_ADDED: Final = ("count", "sum", "mean")


def build_warehouse(body: dict[str, Any], terms: Terms) -> Built:
    """Return what a user_warehouse metric computes from events.

    Raises:
        NotComputable: it needs what the event stream does not hold.
    """
    native = body["warehouseNative"]
    aggregation = native["aggregation"]
    if "custom" in (native.get("rollupTimeWindow"), native.get("denominatorRollupTimeWindow")):
        raise NotComputable(
            "a custom window is counted from exposure: an exposure stream is needed"
        )
    if body.get("rollupTimeWindow") == "custom":
        raise NotComputable(
            "a custom window is counted from exposure: an exposure stream is needed"
        )
    if native.get("funnelStartCriteria") == "exposure" or native.get(
        "funnelUseExposureAsFirstEvent"
    ):
        raise NotComputable("a funnel that starts at exposure needs an exposure stream")
    if aggregation in {"", "percentile"}:
        raise NotComputable(
            "a percentile is over all single values, which rollups do not keep"
            if aggregation
            else "no aggregation is named"
        )
    if aggregation in {"funnel", "retention"}:
        return _later(native, terms, aggregation)
    if aggregation == "ratio":
        return _ratio(body, native, terms)
    if aggregation == "daily_participation":
        measure = _measure(native, "m0", Aggregation.COUNT, terms, unit=unit_of(body))
        ever = native.get("rollupTimeWindow") == "max" or body.get("rollupTimeWindow") == "max"
        op = ResultKind.UNITS if ever else ResultKind.UNIT_DAYS
        return (measure,), Result(op=op, args=("m0",)), Class.ENTITY_STATE, _log_reason(native)
    return _plain(body, native, terms)


def _plain(body: dict[str, Any], native: dict[str, Any], terms: Terms) -> Built:
    aggregation = native["aggregation"]
    cap, threshold = native.get("cap"), native.get("valueThreshold")
    reasons = _log_reason(native)
    limited = cap is not None or threshold is not None
    per_unit = limited or aggregation in _OF_UNITS or bool(reasons)
    unit = unit_of(body) if per_unit else None
    measure = _measure(native, "m0", _AGGREGATIONS[aggregation], terms, unit=unit)
    if limited and aggregation not in {"count", "sum"}:
        reasons += (f"cap and valueThreshold of {aggregation} are not documented",)
    if not per_unit:
        execution = Class.COMBINE_AT_READ if aggregation == "mean" else Class.INCREMENTAL
        return (measure,), Result(args=("m0",)), execution, ()
    op = ResultKind.UNIT_TOTALS if limited else _OF_UNITS.get(aggregation, ResultKind.UNIT_TOTALS)
    result = Result(op=op, args=("m0",), cap=cap, threshold=threshold)
    return (measure,), result, Class.ENTITY_STATE, reasons


def _ratio(body: dict[str, Any], native: dict[str, Any], terms: Terms) -> Built:
    below = {
        "aggregation": native.get("denominatorAggregation") or "count",
        "metricSourceName": native.get("denominatorMetricSourceName")
        or native.get("metricSourceName"),
        "criteria": native.get("denominatorCriteria", []),
        "valueColumn": native.get("denominatorValueColumn"),
    }
    above = {**native, "aggregation": native.get("numeratorAggregation") or "count"}
    sides = above["aggregation"], below["aggregation"]
    reasons = _log_reason(native)
    limited = native.get("cap") is not None or native.get("valueThreshold") is not None
    if limited:
        reasons += ("cap and valueThreshold of a ratio are not documented",)
    if unknown := set(sides) - set(_AGGREGATIONS):
        reasons += (f"a ratio of {min(unknown)} is not computed by this release",)
        sides = tuple(side if side in _AGGREGATIONS else "count" for side in sides)  # type: ignore[assignment]
    apart = not native.get("allowNullRatioDenominator") or not set(sides) <= set(_ADDED)
    apart = apart or bool(reasons)
    unit = unit_of(body) if apart else None
    measures = tuple(
        _measure(side, name, _AGGREGATIONS[kind], terms, unit=unit)
        for name, side, kind in (
            ("denominator", below, sides[1]),
            ("numerator", above, sides[0]),
        )
    )
    null_allowed = bool(native.get("allowNullRatioDenominator"))
    if apart and null_allowed and not reasons:
        reasons += ("a ratio of values of units with null denominators is not documented",)
    op = ResultKind.RATIO_SAME_DAY if apart else ResultKind.RATIO
    result = Result(op=op, args=("numerator",), denominator=("denominator",))
    return measures, result, Class.ENTITY_STATE if apart else Class.COMBINE_AT_READ, reasons


def _later(native: dict[str, Any], terms: Terms, aggregation: str) -> Built:
    """An ordered funnel or a retention: legal, of class entity state, not computed yet."""
    steps = native.get("funnelEvents", [])
    sources = [step.get("metricSourceName") for step in steps]
    for source in (*(name for name in sources if name), native.get("metricSourceName")):
        _event(source, terms)
    for step in steps:
        conditions(step.get("criteria", []))
    conditions(native.get("criteria", []))
    what = {
        "funnel": "an ordered funnel needs the order of a unit's single events",
        "retention": "retention needs units followed over windows of days",
    }[aggregation]
    return (), Result(), Class.ENTITY_STATE, (f"{what}, which this release does not keep",)


def _log_reason(native: dict[str, Any]) -> tuple[str, ...]:
    if native.get("useLogTransform"):
        return ("useLogTransform: a logarithm has no exact decimal",)
    return ()


def _event(source: str | None, terms: Terms) -> str:
    event = terms.statsig_sources.get(source or "")
    if event is None:
        raise NotComputable(
            f"metric source {source!r} is a warehouse table; map it to an event "
            "(statsig.sources in the file of recount init --config)"
        )
    return event


def _measure(
    native: dict[str, Any],
    name: str,
    aggregation: Aggregation,
    terms: Terms,
    *,
    unit: Field | None,
) -> Measure:
    event = _event(native.get("metricSourceName"), terms)
    column, field = native.get("valueColumn"), None
    if aggregation is not Aggregation.COUNT:
        if not column:
            raise NotComputable(f"{aggregation} without valueColumn names no value")
        by_value = column == "value"
        field = Field(source="value") if by_value else Field(source="property", key=column)
    return Measure(
        name=name,
        events=EventSelector(include=(event,)),
        where=conditions(native.get("criteria", [])),
        aggregation=aggregation,
        field=field,
        unit=unit,
    )
