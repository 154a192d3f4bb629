"""The closed set of operators: true, false or unknown (docs/formats.md 5).

compile_condition() makes a test once; the test runs per event. Unknown is replaced by the
condition's own if_unknown before conditions are ANDed, so their order cannot matter.
"""

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import re2

from .metric import Comparison, Condition, Operator
from .values import ABSENT, number, number_or_text, text_form

Test = Callable[[Any], bool]
_Reader = Callable[[object], object]


def _string(value: object) -> str | None:
    return value if type(value) is str else None


def _boolean(value: object) -> bool | None:
    return value if type(value) is bool else None


def _boolean_or_text(value: object) -> bool | None:
    if type(value) is str:
        return {"true": True, "false": False}.get(value.lower())
    return _boolean(value)


def _elements(value: object) -> list[object] | None:
    """A list; a string, number or boolean is a list of one (CK4)."""
    if type(value) is list:
        return value
    return None if value is None or type(value) is dict or text_form(value) is None else [value]


# By comparison and strictness (Condition.strict).
_READERS: Final[dict[tuple[Comparison, bool], _Reader]] = {
    (Comparison.STRING, False): _string,
    (Comparison.TEXT, False): text_form,
    (Comparison.NUMBER, False): number_or_text,
    (Comparison.NUMBER, True): number,
    (Comparison.BOOLEAN, False): _boolean_or_text,
    (Comparison.BOOLEAN, True): _boolean,
}


def _any(test: Callable[[str, str], bool], wanted: tuple[Any, ...]) -> Test:
    return lambda seen: any(test(seen, operand) for operand in wanted)


def _none(test: Callable[[str, str], bool], wanted: tuple[Any, ...]) -> Test:
    return lambda seen: not any(test(seen, operand) for operand in wanted)


PATTERN_CHARS_MAX: Final = 1_000  # CK9
PATTERN_BYTES_MAX: Final = 2 * 1_048_576  # of a pattern and of what RE2 remembers of texts
PATTERN_STEPS_MAX: Final = 20_000  # some 320 KB; checked when a definition is taken


@lru_cache(maxsize=256)
def _pattern(text: str) -> Any:
    """Compile a pattern of RE2: linear in the text, so that no pattern can hang the stream (CK9).

    Raises:
        ValueError: not in the dialect, or too long.
    """
    if len(text) > PATTERN_CHARS_MAX:
        raise ValueError(f"a pattern has at most {PATTERN_CHARS_MAX} characters")
    options = re2.Options()
    options.log_errors = False
    ordinary = options.max_mem
    options.max_mem = PATTERN_BYTES_MAX
    try:
        return re2.compile(text, options)
    except (re2.error, UnicodeError):
        options.max_mem = ordinary
    # One that a release without these limits has taken must still compile.
    try:
        return re2.compile(text, options)
    except (re2.error, UnicodeError) as error:
        raise ValueError(f"not a pattern of RE2: {error}") from error


def check_pattern(text: str) -> str | None:
    """Return why a text is no pattern (CK9), or None where it is one."""
    try:
        size = _pattern(text).programsize
    except ValueError as error:
        return str(error)
    if size > PATTERN_STEPS_MAX:
        return f"a pattern compiles to at most {PATTERN_STEPS_MAX:,} steps of RE2, not {size:,}"
    return None


def _found(pattern: str, *, expected: bool) -> Test:
    search = _pattern(pattern).search
    return lambda seen: (search(seen) is not None) is expected


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
    Operator.MATCHES: lambda wanted: _found(wanted[0], expected=True),
    Operator.NOT_MATCHES: lambda wanted: _found(wanted[0], expected=False),
    Operator.IS_TRUE: lambda _: lambda seen: seen is True,
    Operator.IS_FALSE: lambda _: lambda seen: seen is False,
}


def _in_texts(test: Callable[[str, str], bool]) -> Callable[[str], Test]:
    """A test of the text forms of string and number elements (CK6)."""
    return lambda wanted: (
        lambda elements: any(
            test(text, wanted)
            for element in elements
            if type(element) is not bool and (text := text_form(element)) is not None
        )
    )


def _same(wanted: object) -> Test:
    """A test whether an element equals, typed: a string a string, a number a number (CK5)."""
    if type(wanted) is str:
        return lambda elements: any(type(each) is str and each == wanted for each in elements)
    as_number = number(wanted)
    return lambda elements: any(number(each) == as_number for each in elements)


# operator → (test of the list's elements, whether the condition holds where it does)
_LISTS: Final[dict[Operator, tuple[Callable[[Any], Test], bool]]] = {
    Operator.ANY_ELEMENT_EQUAL: (_same, True),
    Operator.NO_ELEMENT_EQUAL: (_same, False),
    Operator.ANY_ELEMENT_CONTAINS: (_in_texts(str.__contains__), True),
    Operator.NO_ELEMENT_CONTAINS: (_in_texts(str.__contains__), False),
    Operator.ANY_ELEMENT_STARTS_WITH: (_in_texts(str.startswith), True),
    Operator.NO_ELEMENT_STARTS_WITH: (_in_texts(str.startswith), False),
    Operator.ANY_ELEMENT_ENDS_WITH: (_in_texts(str.endswith), True),
    Operator.NO_ELEMENT_ENDS_WITH: (_in_texts(str.endswith), False),
}


def _list_test(operator: Operator, wanted: object) -> Test:
    if type(wanted) is bool:
        raise ValueError(f"an operand of {operator} is a text or a number")
    make, holds = _LISTS[operator]
    form = text_form(wanted)
    if form is None:
        raise ValueError(f"an operand of {operator} is unreadable")
    operand = wanted if make is _same else form
    hit = make(operand)
    return hit if holds else lambda elements: not hit(elements)


_ORDERED: Final = {
    Operator.LESS,
    Operator.LESS_OR_EQUAL,
    Operator.GREATER,
    Operator.GREATER_OR_EQUAL,
}
_NONE: Final = {Operator.IS_SET, Operator.IS_NOT_SET, Operator.IS_TRUE, Operator.IS_FALSE}
_MANY: Final = {
    Operator.IN,
    Operator.NOT_IN,
    Operator.CONTAINS,
    Operator.NOT_CONTAINS,
    Operator.STARTS_WITH,
    Operator.NOT_STARTS_WITH,
    Operator.ENDS_WITH,
    Operator.NOT_ENDS_WITH,
}


def _reads_of(operator: Operator) -> set[Comparison]:
    """The comparisons under which an operator has a meaning."""
    if operator in _ORDERED:
        return {Comparison.NUMBER}
    if operator in {Operator.IS_TRUE, Operator.IS_FALSE}:
        return {Comparison.BOOLEAN}
    texts = {Comparison.STRING, Comparison.TEXT}
    if operator in {Operator.EQUAL, Operator.NOT_EQUAL}:
        return texts | {Comparison.NUMBER, Comparison.BOOLEAN}
    return texts


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
            back (docs/design.md 6); no event can raise it.
    """
    operator, if_unknown = condition.operator, condition.if_unknown
    if operator not in _MANY and len(condition.operands) != (operator not in _NONE):
        raise ValueError(f"{operator} cannot have {len(condition.operands)} operands")
    if operator is Operator.IS_SET:
        return lambda seen: seen is not None and seen is not ABSENT
    if operator is Operator.IS_NOT_SET:
        return lambda seen: seen is None or seen is ABSENT
    if condition.operands == (None,):
        return lambda _: if_unknown  # a null operand makes the condition unknown (CK8)
    if condition.comparison is Comparison.NUMBER_OR_TEXT and operator is Operator.EQUAL:
        return _guarded(text_form, _number_or_text_test(condition.operands[0]), if_unknown)
    if operator in _LISTS and condition.comparison is Comparison.LIST:
        return _guarded(_elements, _list_test(operator, condition.operands[0]), if_unknown)
    read = _READERS.get((condition.comparison, condition.strict))
    if read is None or operator not in _TESTS or condition.comparison not in _reads_of(operator):
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
