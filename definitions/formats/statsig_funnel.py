"""Statsig's ordered funnels (warehouse-native): steps that units pass one after the other (S-13).

Of each step the times of its events are kept, unit by unit; reads/following.py orders them.
"""

from decimal import Decimal
from typing import Any, Final

from ..metric import Aggregation, Class, Field, Measure, Order, Result, ResultKind
from .bodies import Terms
from .statsig_criteria import NotComputable, counting, named
from .statsig_neutral import Built, unit_of
from .statsig_source import event_of

_MS_PER_DAY: Final = 86_400_000
_STEPS_MIN: Final = 2
_TIME: Final = Field(source="time")
# Not documented for a funnel, or of a single number that a funnel has not.
_UNKNOWN: Final = ("cap", "valueThreshold", "winsorizationLow", "winsorizationHigh")


def build_funnel(body: dict[str, Any], terms: Terms) -> Built:
    """Return what an ordered funnel computes.

    Raises:
        NotComputable: it needs what the event stream does not hold.
    """
    native = body["warehouseNative"]
    _check(native)
    unit = unit_of(body)
    measures: list[Measure] = []
    steps: list[tuple[str, ...]] = []
    for number, step in enumerate(native["funnelEvents"], 1):
        source = step.get("metricSourceName") or native.get("metricSourceName")
        own = counting(
            f"step{number}",
            event_of(source, terms),
            [*native.get("criteria", []), *step.get("criteria", [])],
            aggregation=Aggregation.UNIQUE,
            field=_TIME,
            unit=unit,
        )
        measures += own
        steps.append(named(own))
    result = Result(
        op=ResultKind.ORDERED_FUNNEL,
        args=named(measures),
        steps=tuple(steps),
        order=_order(native),
    )
    return tuple(measures), result, Class.ENTITY_STATE, ()


def session_of(native: dict[str, Any]) -> str | None:
    """Return the metadata key that names the session of every step; None where there is none.

    Raises:
        NotComputable: the steps name several, or only some name one.
    """
    steps = native.get("funnelEvents", [])
    names = {step.get("sessionIdentifierField") or None for step in steps}
    if len(names) > 1:
        raise NotComputable("all steps of a funnel name one sessionIdentifierField, or none does")
    return next(iter(names), None)


def _check(native: dict[str, Any]) -> None:
    exposed = native.get("funnelUseExposureAsFirstEvent")
    if native.get("funnelStartCriteria") == "exposure" or exposed:
        raise NotComputable("a funnel that starts at exposure needs an exposure stream")
    if len(native.get("funnelEvents", [])) < _STEPS_MIN:
        raise NotComputable("a funnel has at least two funnelEvents")
    if native.get("funnelCountDistinct") == "sessions" and session_of(native) is None:
        raise NotComputable("a funnel of sessions needs a sessionIdentifierField in every step")
    if native.get("useLogTransform"):
        raise NotComputable("useLogTransform of a funnel is not documented")
    if given := [name for name in _UNKNOWN if native.get(name) is not None]:
        raise NotComputable(f"{' and '.join(given)} of a funnel are not documented")


def _order(native: dict[str, Any]) -> Order:
    days = native.get("funnelCalculationWindow")
    return Order(
        within_ms=None if days is None else Decimal(days) * _MS_PER_DAY,
        allowance_ms=native.get("funnelTimestampAllowanceMs"),
        strict=bool(native.get("funnelStrictOrdering")),
        by_group=session_of(native) is not None,
        counts_groups=native.get("funnelCountDistinct") == "sessions",
        seconds=bool(native.get("funnelTimeToConvert")),
    )
