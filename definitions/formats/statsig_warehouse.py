"""Statsig's warehouse-native metrics, where a setting maps their source to an event (CS15)."""

from decimal import Decimal
from typing import Any, Final

from ..metric import Aggregation, Class, Field, Measure, Result, ResultKind, Retention
from .bodies import Terms
from .statsig_criteria import EVENT_VALUE, NotComputable, counting, named
from .statsig_funnel import build_funnel, session_of
from .statsig_neutral import Built, unit_of
from .statsig_source import event_of

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
_FLAG: Final = "daily_participation"
# What one side of a ratio adds up: of a daily participation 1 for each unit and day.
_SIDES: Final = {**_AGGREGATIONS, _FLAG: Aggregation.COUNT}
# How the values of units become one number (docs/semantics.md, S-5).
_OF_UNITS: Final = {
    "count_distinct": ResultKind.UNIT_MEANS,
    "max": ResultKind.UNIT_MEANS,
    "min": ResultKind.UNIT_MEANS,
    "first_value": ResultKind.UNIT_DAY_MEANS,
    "latest_value": ResultKind.UNIT_DAY_MEANS,
}
_ADDED: Final = ("count", "sum", "mean")
# What they say happens to units of an experiment, or holds of any unit that has an event.
_OF_EXPERIMENTS: Final = (
    "cupedAttributionWindow",
    "metricBakeDays",
    "waitForCohortWindow",
    "onlyIncludeUsersWithConversionEvent",
)
_LIMITED: Final = ("count", "sum")
_PERCENT: Final = 100
_RETENTION_DAYS_MAX: Final = 365
_LIMITS: Final = ("cap", "valueThreshold", "winsorizationLow", "winsorizationHigh")
_LIMITS_OF_RATIO: Final = (
    *_LIMITS,
    "winsorizationLowDenominator",
    "winsorizationHighDenominator",
)


def build_warehouse(body: dict[str, Any], terms: Terms) -> Built:
    """Return what a user_warehouse metric computes from events.

    Raises:
        NotComputable: it needs what the event stream does not hold.
    """
    native = body["warehouseNative"]
    aggregation = native["aggregation"]
    windows = (
        native.get("rollupTimeWindow"),
        native.get("denominatorRollupTimeWindow"),
        body.get("rollupTimeWindow"),
    )
    if "custom" in windows:
        raise NotComputable(
            "a custom window is counted from exposure: an exposure stream is needed"
        )
    if not aggregation:
        raise NotComputable("no aggregation is named")
    if aggregation == "retention":
        return _retention(body, native, terms)
    if aggregation == "funnel":
        return build_funnel(body, terms)
    if aggregation == "percentile":
        return _percentile(native, terms)
    if aggregation == "ratio":
        return _ratio(body, native, terms)
    if aggregation == _FLAG:
        measures = _measures(native, "m0", Aggregation.COUNT, terms, unit=unit_of(body))
        ever = "max" in (native.get("rollupTimeWindow"), body.get("rollupTimeWindow"))
        op = ResultKind.UNITS if ever else ResultKind.UNIT_DAYS
        return measures, Result(op=op, args=named(measures)), Class.ENTITY_STATE, _logs(native)
    return _plain(body, native, terms)


def dimensions_of(body: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Return the grouping sets of a warehouse-native metric: its breakdowns, or sessions.

    Raises:
        NotComputable: sessions that are not those of every step.
    """
    native = body.get("warehouseNative") or {}
    if native.get("aggregation") != "funnel":
        return tuple(
            (column,) for column in dict.fromkeys(native.get("metricDimensionColumns", ()))
        )
    session = session_of(native)
    return () if session is None else ((session,),)


def only_kept(body: dict[str, Any]) -> list[str]:
    """Return the members of a body that are shown and change no number here (S-15)."""
    native = body.get("warehouseNative") or {}
    names = [*_OF_EXPERIMENTS]
    if native.get("aggregation") == "funnel":
        names.append("metricDimensionColumns")
    return [name for name in names if native.get(name) not in (None, False, [])]


def _plain(body: dict[str, Any], native: dict[str, Any], terms: Terms) -> Built:
    aggregation = native["aggregation"]
    reasons = _logs(native)
    limits = {name: native[name] for name in _LIMITS if native.get(name) is not None}
    per_unit = bool(limits) or aggregation in _OF_UNITS or bool(reasons)
    unit = unit_of(body) if per_unit else None
    measures = _measures(native, "m0", _AGGREGATIONS[aggregation], terms, unit=unit)
    if limits and aggregation not in _LIMITED:
        reasons += (f"{' and '.join(limits)} of {aggregation} are not documented",)
    if not per_unit:
        execution = Class.COMBINE_AT_READ if aggregation == "mean" else Class.INCREMENTAL
        return measures, Result(args=named(measures)), execution, ()
    op = ResultKind.UNIT_TOTALS if limits else _OF_UNITS.get(aggregation, ResultKind.UNIT_TOTALS)
    cap, threshold, low, high = map(limits.get, _LIMITS)
    result = Result(op=op, args=named(measures), cap=cap, threshold=threshold, low=low, high=high)
    return measures, result, Class.ENTITY_STATE, reasons


def _percentile(native: dict[str, Any], terms: Terms) -> Built:
    """How often each value was seen, kept as if the values were units."""
    rank = native.get("percentile")
    if rank is None or not 0 < rank <= _PERCENT:
        raise NotComputable("a percentile needs `percentile`, above 0 and at most 100")
    rank = Decimal(rank) / _PERCENT if rank > 1 else rank  # CS27
    value = _column(native, "percentile")
    measures = _measures(native, "m0", Aggregation.COUNT, terms, unit=value)
    result = Result(op=ResultKind.PERCENTILE, args=named(measures), high=rank)
    return measures, result, Class.ENTITY_STATE, _logs(native)


def _retention(body: dict[str, Any], native: dict[str, Any], terms: Terms) -> Built:
    """Units that come back: the same events start and complete it (S-18)."""
    days = [native.get(name) for name in ("retentionEnd", "retentionLength")]
    end, length = (int(each) if each is not None and not each % 1 else 0 for each in days)
    reasons = _logs(native)
    if not 1 <= length <= end <= _RETENTION_DAYS_MAX:
        bounds = f"retentionEnd up to {_RETENTION_DAYS_MAX}, retentionLength up to retentionEnd"
        reasons += (f"a retention needs whole days: {bounds}",)
        end = length = 1
    if native.get("useSecondaryRetentionEvent"):
        reasons += ("which event useSecondaryRetentionEvent means is not documented",)
    if limits := [name for name in _LIMITS if native.get(name) is not None]:
        reasons += (f"{' and '.join(limits)} of a retention are not documented",)
    started, returned = (
        _measures(native, name, Aggregation.COUNT, terms, unit=unit_of(body))
        for name in ("started", "returned")
    )
    result = Result(
        op=ResultKind.RETENTION,
        args=named(returned),
        denominator=named(started),
        retention=Retention(end_days=end, length_days=length),
    )
    return (*started, *returned), result, Class.ENTITY_STATE, reasons


def _ratio(body: dict[str, Any], native: dict[str, Any], terms: Terms) -> Built:
    below = {
        "aggregation": native.get("denominatorAggregation") or "count",
        "metricSourceName": native.get("denominatorMetricSourceName")
        or native.get("metricSourceName"),
        "criteria": native.get("denominatorCriteria", []),
        "valueColumn": native.get("denominatorValueColumn"),
    }
    above = {**native, "aggregation": native.get("numeratorAggregation") or "count"}
    kinds = above["aggregation"], below["aggregation"]
    reasons = _logs(native)
    if limits := [name for name in _LIMITS_OF_RATIO if native.get(name) is not None]:
        reasons += (f"{' and '.join(limits)} of a ratio are not documented",)
    if unknown := set(kinds) - set(_SIDES):
        reasons += (f"a ratio of {min(unknown)} is not computed by this release",)
        kinds = tuple(kind if kind in _SIDES else "count" for kind in kinds)  # type: ignore[assignment]
    null_allowed = bool(native.get("allowNullRatioDenominator"))
    apart = not null_allowed or not set(kinds) <= set(_ADDED) or bool(reasons)
    if apart and null_allowed and not reasons:
        reasons += ("a ratio of values of units with null denominators is not documented",)
    unit = unit_of(body) if apart else None
    bottom, top = (
        _measures(side, name, _SIDES[kind], terms, unit=unit)
        for name, side, kind in (
            ("denominator", below, kinds[1]),
            ("numerator", above, kinds[0]),
        )
    )
    flags = tuple(
        name
        for kind, side in zip(kinds, (top, bottom), strict=True)
        if kind == _FLAG
        for name in named(side)
    )
    op = ResultKind.RATIO_SAME_DAY if apart else ResultKind.RATIO
    result = Result(op=op, args=named(top), denominator=named(bottom), flags=flags)
    execution = Class.ENTITY_STATE if apart else Class.COMBINE_AT_READ
    return (*bottom, *top), result, execution, reasons


def _logs(native: dict[str, Any]) -> tuple[str, ...]:
    if native.get("useLogTransform"):
        return ("useLogTransform: a logarithm has no exact decimal",)
    return ()


def _measures(
    native: dict[str, Any],
    name: str,
    aggregation: Aggregation,
    terms: Terms,
    *,
    unit: Field | None,
) -> tuple[Measure, ...]:
    event = event_of(native.get("metricSourceName"), terms)
    field = None if aggregation is Aggregation.COUNT else _column(native, aggregation)
    return counting(
        name, event, native.get("criteria", []), aggregation=aggregation, field=field, unit=unit
    )


def _column(native: dict[str, Any], aggregation: str) -> Field:
    """The field that a value column names: a metadata key, or the event's value."""
    column = native.get("valueColumn")
    if not column:
        raise NotComputable(f"{aggregation} without valueColumn names no value")
    return EVENT_VALUE if column == "value" else Field(source="property", key=column)
