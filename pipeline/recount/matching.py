"""A slow interpreter of the neutral definition: one event, one measure, one answer."""

from decimal import Decimal
from typing import Any

from definitions.metric import Aggregation, Comparison, Condition, Measure, Operator

from .events import read_number


def text_of(value: Any) -> str | None:
    """The text form of a JSON value (FORMATS C05); None where it has none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return plain(value)
    return None


def plain(value: Decimal) -> str:
    """A decimal without exponent, trailing zeros or minus zero."""
    if value == 0:
        return "0"
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text


def number_of(value: Any, *, from_text: bool) -> Decimal | None:
    """The number a JSON value stands for."""
    if isinstance(value, Decimal):
        return value
    if from_text and isinstance(value, str):
        return read_number(value)
    return None


def holds(condition: Condition, properties: dict[str, Any]) -> bool:
    """Whether a condition holds; unknown becomes its own if_unknown."""
    assert condition.field.source == "property"
    assert condition.field.key is not None
    value = properties.get(condition.field.key)
    if condition.operator is Operator.IS_SET:
        return value is not None
    if condition.operator is Operator.IS_NOT_SET:
        return value is None
    assert condition.comparison is Comparison.TEXT, "this release folds text comparisons only"
    text = text_of(value)
    if text is None:
        return condition.if_unknown
    if condition.operator is Operator.IN:
        return text in condition.operands
    assert condition.operator is Operator.NOT_IN
    return text not in condition.operands


def matches(measure: Measure, event_type: str, properties: dict[str, Any]) -> bool:
    """Whether an event belongs to a measure."""
    include, exclude = measure.events.include, measure.events.exclude
    if include is not None and event_type not in include:
        return False
    if exclude is not None and event_type in exclude:
        return False
    return all(holds(condition, properties) for condition in measure.where)


class _Absent:
    """No such property: nothing to add, and nothing unreadable either."""


ABSENT = _Absent()


def value_of(measure: Measure, properties: dict[str, Any]) -> Any:
    """What an event contributes: 1, a text for UNIQUE, or a decimal; None is unreadable."""
    if measure.aggregation is Aggregation.COUNT:
        return 1
    assert measure.field is not None
    assert measure.field.source == "property"
    if measure.field.key not in properties:
        return ABSENT
    value = properties[measure.field.key]
    if measure.aggregation is Aggregation.UNIQUE:
        return text_of(value)
    return number_of(value, from_text=measure.numeric_text)
