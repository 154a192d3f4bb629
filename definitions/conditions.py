"""The closed set of operators: true, false or unknown (FORMATS section 5).

compile_condition() makes a test once; the test runs per event. Unknown is replaced by the
condition's own if_unknown before conditions are ANDed, so their order cannot matter.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from .metric import Comparison, Condition, Operator
from .values import ABSENT, number, number_or_text, text_form

Test = Callable[[Any], bool]
_Reader = Callable[[object], object]


def _string(value: object) -> str | None:
    return value if type(value) is str else None


def _boolean(value: object) -> bool | None:
    if type(value) is bool:
        return value
    if type(value) is str:
        return {"true": True, "false": False}.get(value.lower())
    return None


_READERS: Final[dict[Comparison, _Reader]] = {
    Comparison.STRING: _string,
    Comparison.TEXT: text_form,
    Comparison.NUMBER: number_or_text,
    Comparison.BOOLEAN: _boolean,
}


def _any(test: Callable[[str, str], bool], wanted: tuple[Any, ...]) -> Test:
    return lambda seen: any(test(seen, operand) for operand in wanted)


def _none(test: Callable[[str, str], bool], wanted: tuple[Any, ...]) -> Test:
    return lambda seen: not any(test(seen, operand) for operand in wanted)


_TESTS: Final[dict[Operator, Callable[[tuple[Any, ...]], Test]]] = {
    Operator.EQUAL: lambda wanted: lambda seen: seen == wanted[0],
    Operator.NOT_EQUAL: lambda wanted: lambda seen: seen != wanted[0],
    Operator.LESS: lambda wanted: lambda seen: seen < wanted[0],
    Operator.LESS_OR_EQUAL: lambda wanted: lambda seen: seen <= wanted[0],
    Operator.GREATER: lambda wanted: lambda seen: seen > wanted[0],
    Operator.GREATER_OR_EQUAL: lambda wanted: lambda seen: seen >= wanted[0],
    Operator.IN: lambda wanted: frozenset(wanted).__contains__,
    Operator.NOT_IN: lambda wanted: lambda seen, known=frozenset(wanted): seen not in known,  # type: ignore[misc]
    Operator.CONTAINS: lambda wanted: _any(str.__contains__, wanted),
    Operator.NOT_CONTAINS: lambda wanted: _none(str.__contains__, wanted),
    Operator.STARTS_WITH: lambda wanted: _any(str.startswith, wanted),
    Operator.NOT_STARTS_WITH: lambda wanted: _none(str.startswith, wanted),
    Operator.ENDS_WITH: lambda wanted: _any(str.endswith, wanted),
    Operator.NOT_ENDS_WITH: lambda wanted: _none(str.endswith, wanted),
    Operator.IS_TRUE: lambda _: lambda seen: seen is True,
    Operator.IS_FALSE: lambda _: lambda seen: seen is False,
}


def _number_or_text_test(wanted: object) -> Test:
    """Statsig `=`: numbers where both sides are numeric, otherwise text (CS7)."""
    as_number, as_text = number_or_text(wanted), text_form(wanted)

    def test(seen: object) -> bool:
        read = number_or_text(seen)
        if as_number is not None and read is not None:
            return read == as_number
        return text_form(seen) == as_text

    return test


def compile_condition(condition: Condition) -> Test:
    """Return a test of the value of the condition's field; ABSENT where the event has none.

    Raises:
        ValueError: an operand that this release cannot evaluate. The caller holds the version
            back (DESIGN 6); no event can raise it.
    """
    operator, if_unknown = condition.operator, condition.if_unknown
    if operator is Operator.IS_SET:
        return lambda seen: seen is not None and seen is not ABSENT
    if operator is Operator.IS_NOT_SET:
        return lambda seen: seen is None or seen is ABSENT
    if condition.comparison is Comparison.NUMBER_OR_TEXT:
        return _guarded(text_form, _number_or_text_test(condition.operands[0]), if_unknown)
    read = _READERS.get(condition.comparison)
    if read is None or operator not in _TESTS:
        raise ValueError(f"cannot evaluate {operator} under {condition.comparison}")
    wanted = tuple(read(operand) for operand in condition.operands)
    if None in wanted:
        raise ValueError(f"an operand of {operator} is unreadable under {condition.comparison}")
    return _guarded(read, _TESTS[operator](wanted), if_unknown)


def _guarded(read: _Reader, test: Test, if_unknown: bool) -> Test:
    def guarded(value: Any) -> bool:
        seen = read(value)  # neither null nor ABSENT can be read as anything
        return if_unknown if seen is None else test(seen)

    return guarded


def numeric_reader(*, numeric_text: bool) -> Callable[[object], Decimal | None]:
    """Return how a measure reads its values: decimal text counts (CM8) or not (CK2)."""
    return number_or_text if numeric_text else number
