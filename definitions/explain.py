"""Why an event belongs to a metric version, or every clause that says it does not."""

from dataclasses import dataclass, field
from typing import Any

from .conditions import compile_condition
from .matcher import selects
from .metric import Condition, Field, Measure, MetricVersion
from .values import ABSENT


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause that does not hold. seen: None also where the event has no such member."""

    field: str
    operator: str
    wanted: tuple[Any, ...]
    seen: Any
    missing: bool


@dataclass(frozen=True, slots=True)
class Explained:
    """One measure of a version against one event. failing: every clause that does not hold."""

    measure: str
    matched: bool
    failing: tuple[Clause, ...] = field(default_factory=tuple)


def look_up(where: Field, properties: dict[str, Any], context: dict[str, Any]) -> Any:
    """Return the value of a condition's field, or ABSENT."""
    if where.source == "property":
        return properties.get(str(where.key), ABSENT)
    if where.source == "value":
        given = context.get("value")
        if given is not None:
            return given
        return ABSENT if where.key is None else properties.get(where.key, ABSENT)
    member = {"user": "user", "user_custom": "custom", "custom_id": "custom_ids"}[where.source]
    holder = context.get(member)
    return holder.get(where.key, ABSENT) if isinstance(holder, dict) else ABSENT


def explain(
    version: MetricVersion,
    event_type: str,
    properties: dict[str, Any],
    context: dict[str, Any],
) -> tuple[Explained, ...]:
    """Explain every measure that makes a value; none where a stream cannot compute it."""
    if not version.definition.computable:
        return ()
    return tuple(
        _explain(measure, event_type, properties, context)
        for measure in version.definition.measures
        if measure.name in version.definition.answering
    )


def _explain(
    measure: Measure, event_type: str, properties: dict[str, Any], context: dict[str, Any]
) -> Explained:
    failing = []
    if not selects(measure.events, event_type):
        include, exclude = measure.events.include, measure.events.exclude
        out = include is not None and event_type not in include
        wanted = include if out else exclude
        operator = "in" if out else "not_in"
        failing.append(Clause("event_type", operator, tuple(wanted or ()), event_type, False))
    for condition in measure.where:
        seen = look_up(condition.field, properties, context)
        if not compile_condition(condition)(seen):
            failing.append(_clause(condition, seen))
    return Explained(measure.name, not failing, tuple(failing))


def name_of(where: Field) -> str:
    """Return what the field of a condition is called: `property model`, `customer_id`."""
    return where.source if where.key is None else f"{where.source} {where.key}"


def _clause(condition: Condition, seen: Any) -> Clause:
    name, missing = name_of(condition.field), seen is ABSENT
    return Clause(
        name, str(condition.operator), condition.operands, None if missing else seen, missing
    )
