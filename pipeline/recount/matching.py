"""A slow interpreter of the neutral definition: one event, one measure, one answer."""

import base64
import hashlib
from decimal import Decimal
from typing import Any

import re2

from definitions.metric import Aggregation, Comparison, Condition, Field, Measure, Operator

from .events import Plain, UnreadableText, read_number

_WHOLE = 10**64  # C04 reads 64 characters
_SHORT = 18  # digits that are surely a number


def text_of(value: Any) -> str | None:
    """The text form of a JSON value (C05); None where it has none."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal | int):
        return plain(value)
    return None


def group_of(value: Any) -> str | None:
    """What a value is called as a group or a unit (V-8): long texts are cut, and digested."""
    text = text_of(value)
    if text is None or len(text) <= 64:  # of at most four bytes each
        return text
    raw = text.encode()
    if len(raw) <= 256:
        return text
    cut = 256
    while raw[cut] & 0xC0 == 0x80:  # never inside a character
        cut -= 1
    digest = hashlib.blake2b(raw, digest_size=16).digest()
    return raw[:cut].decode() + "…" + base64.b64encode(digest).decode()


def plain(value: Decimal | int) -> str:
    """A number without exponent, trailing zeros or minus zero."""
    if isinstance(value, int):
        return str(value)
    if value == 0:
        return "0"
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text


def number_of(value: Any, *, from_text: bool) -> Decimal | int | None:
    """The number a JSON value stands for; true and false are none."""
    if type(value) is int or isinstance(value, Decimal):
        return value
    if from_text and isinstance(value, str):
        if len(value) <= _SHORT and value.isdigit() and value.isascii():
            return int(value)
        return read_number(value)
    return None


def short(number: int) -> str:
    """A whole number in base 36."""
    if number < 0:
        return "-" + short(-number)
    head, last = divmod(number, 36)
    return (short(head) if head else "") + "0123456789abcdefghijklmnopqrstuvwxyz"[last]


class _Absent:
    """No such member: nothing to add, and nothing unreadable either."""


ABSENT = _Absent()


def look_up(field: Field, event: Plain) -> Any:
    """The value of a field in an event; ABSENT where there is none."""
    return in_bounds(_member(field, event))


def in_bounds(value: Any) -> Any:
    """The value, but for whole numbers of more digits than C04 reads."""
    if type(value) is int:
        written = value if value >= 0 else -10 * value  # the sign is a character
        return value if written < _WHOLE else UnreadableText()
    return [in_bounds(each) for each in value] if type(value) is list else value


def _member(field: Field, event: Plain) -> Any:
    if field.source == "property":
        return event.properties.get(str(field.key), ABSENT)
    if field.source == "customer_id":
        return event.customer_id
    if field.source == "time":
        return short(event.at)
    if field.source == "value":
        own = event.context.get("value")
        if own is not None:
            return own
        return ABSENT if field.key is None else event.properties.get(field.key, ABSENT)
    holder = {"user": "user", "user_custom": "custom", "custom_id": "custom_ids"}[field.source]
    member = event.context.get(holder)
    if not isinstance(member, dict) or field.key not in member:
        return ABSENT
    return member[field.key]


def holds(condition: Condition, event: Plain) -> bool:
    """Whether a condition holds; unknown becomes its own if_unknown."""
    value = look_up(condition.field, event)
    missing = value is None or value is ABSENT
    if condition.operator is Operator.IS_SET:
        return not missing
    if condition.operator is Operator.IS_NOT_SET:
        return missing
    if missing or condition.operands == (None,):
        return condition.if_unknown
    verdict = _verdict(condition, value)
    return condition.if_unknown if verdict is None else verdict


def _verdict(condition: Condition, value: Any) -> bool | None:
    """True, false, or None for unknown."""
    name, operands = str(condition.operator), condition.operands
    if condition.comparison is Comparison.LIST:
        return _list_verdict(name, operands[0], value)
    if condition.comparison is Comparison.NUMBER:
        seen = number_of(value, from_text=not condition.strict)
        wanted = number_of(_plain_number(operands[0]), from_text=not condition.strict)
        return None if seen is None or wanted is None else _compares(name, seen, wanted)
    if condition.comparison is Comparison.NUMBER_OR_TEXT:
        left, right = number_of(value, from_text=True), number_of(operands[0], from_text=True)
        if left is not None and right is not None:
            return left == right
        text = text_of(value)
        return None if text is None else text == operands[0]
    if condition.comparison is Comparison.BOOLEAN:
        if not condition.strict and isinstance(value, str):
            value = {"true": True, "false": False}.get(value.lower())
        if not isinstance(value, bool):
            return None
        return value is {"is_true": True, "is_false": False}.get(name, operands[:1] == (True,))
    if condition.comparison is Comparison.STRING and not isinstance(value, str):
        return None
    text = text_of(value)
    return None if text is None else _texts(name, text, [str(each) for each in operands])


def _plain_number(operand: Any) -> Any:
    is_number = isinstance(operand, int) and not isinstance(operand, bool)
    return Decimal(operand) if is_number else operand


def _compares(name: str, seen: Decimal | int, wanted: Decimal | int) -> bool:
    return {
        "equal": seen == wanted,
        "not_equal": seen != wanted,
        "less": seen < wanted,
        "less_or_equal": seen <= wanted,
        "greater": seen > wanted,
        "greater_or_equal": seen >= wanted,
    }[name]


def _texts(name: str, text: str, wanted: list[str]) -> bool:
    if name.startswith("not_"):
        return not _texts(name.removeprefix("not_"), text, wanted)
    if name in {"equal", "in"}:
        return text in wanted
    if name == "contains":
        return any(each in text for each in wanted)
    if name == "starts_with":
        return any(text[: len(each)] == each for each in wanted)
    if name == "ends_with":
        return any(text[len(text) - len(each) :] == each for each in wanted if each in text)
    assert name == "matches"
    return re2.search(wanted[0], text) is not None


def _list_verdict(name: str, wanted: Any, value: Any) -> bool | None:
    if isinstance(value, dict | UnreadableText):
        return None
    elements = value if isinstance(value, list) else [value]
    positive = name.replace("no_element", "any_element")
    if positive == "any_element_equal":
        alike = _plain_number(wanted)
        hit = any(_kind_of(each) is _kind_of(alike) and each == alike for each in elements)
    else:
        word = positive.removeprefix("any_element_")
        sought = text_of(_plain_number(wanted)) or ""
        texts = [text_of(each) for each in elements if not isinstance(each, bool)]
        hit = any(_texts(word, text, [sought]) for text in texts if text is not None)
    return hit if name == positive else not hit


def _kind_of(value: Any) -> type:
    return Decimal if type(value) is int else type(value)


def matches(measure: Measure, event: Plain) -> bool:
    """Whether an event belongs to a measure."""
    include, exclude = measure.events.include, measure.events.exclude
    if include is not None and event.event_type not in include:
        return False
    if exclude is not None and event.event_type in exclude:
        return False
    return all(holds(condition, event) for condition in measure.where)


def value_of(measure: Measure, event: Plain) -> Any:
    """What an event contributes: 1, a text for UNIQUE, or a decimal; None is unreadable."""
    if measure.aggregation is Aggregation.COUNT:
        return 1
    assert measure.field is not None
    value = look_up(measure.field, event)
    if value is ABSENT:
        return ABSENT
    if measure.aggregation is Aggregation.UNIQUE:
        return text_of(value)
    return number_of(value, from_text=measure.numeric_text)
