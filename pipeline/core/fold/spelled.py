"""Rules as native/src/rules.rs reads them, and the words for what native/ leaves to Python.

Every rule can be spelled. A test that native/ does not know is spelled as Python's: of an event
for which no other test of the rule fails, the rule is then Python's share, and nothing else is.
"""

from typing import Any, Final

from definitions.conditions import numeric_reader
from definitions.limits import readable
from definitions.matcher import Rule
from definitions.metric import Comparison, Condition, Field, Measure, Operator, Scope
from definitions.values import canonical, number, number_or_text, text_form

_INT64_MAX: Final = (1 << 63) - 1
_DIGITS_MAX: Final = 18  # of a number, and how many of them stand after the point
_PLACES_MAX: Final = 9
_PATTERNS: Final = frozenset({Operator.MATCHES, Operator.NOT_MATCHES})
_SET: Final = frozenset({Operator.IS_SET, Operator.IS_NOT_SET})

# Why a test is Python's for every event → what an operator is told
PATTERN: Final = "pattern"
OPERAND: Final = "operand"
TIMES: Final = "times"
SLOW_TESTS: Final = {
    PATTERN: "a pattern of RE2 is searched by Python",
    OPERAND: f"a number of more than {_DIGITS_MAX} digits, or {_PLACES_MAX} after the point, is "
    "compared by Python",
    TIMES: "the times of the steps of an ordered funnel are kept by Python",
}
# Who folds an event → why. docs/operations.md has the same words.
PATHS: Final[dict[str, tuple[str, ...]]] = {
    "native": ("",),
    "both": ("test", "number", "unreadable", "name"),
    "python": ("form", "event_type", "timestamp", "age", "home", "absent"),
}


# A test that is Python's for every event.
_PYTHONS: Final[dict[str, Any]] = {
    "field": ("customer_id", None),
    "operator": Operator.MATCHES.value,
    "comparison": "python",
    "texts": [],
    "number": None,
    "strict": False,
    "if_unknown": False,
}


def path_of(path: str, reason: str = "") -> str:
    """Return the name under which events of a path are counted."""
    return f"{path}/{reason}"


def slow_tests(measure: Measure) -> frozenset[str]:
    """Return which of SLOW_TESTS a measure has: Python has a share of its events for them."""
    found = {_slow(condition) for condition in measure.where}
    if _keeps_times(measure):
        found.add(TIMES)
    return frozenset(each for each in found if each is not None)


def spelled(rule: Rule) -> dict[str, Any]:
    """Return a rule for native/src/rules.rs."""
    measure, from_ns = rule.measure, rule.from_ns
    tests, field = [_test(condition) for condition in measure.where], measure.field
    if _keeps_times(measure):
        tests, field = [*tests, _PYTHONS], None
    if from_ns is not None:
        # Beyond 64 bits there is no event that native/ takes.
        from_ns = max(min(from_ns, _INT64_MAX), -_INT64_MAX)
    return {
        "key": rule.key,
        "kind": measure.aggregation.value,
        "field": None if field is None else _field(field),
        "numeric_text": measure.numeric_text,
        "from_ns": from_ns,
        "everybody": rule.scope is Scope.DEPLOYMENT,
        "unit": None if measure.unit is None else _field(measure.unit),
        "tests": tests,
        "grouping_sets": [list(map(_field, fields)) for fields in rule.sets],
    }


def _keeps_times(measure: Measure) -> bool:
    return measure.field is not None and measure.field.source == "time"


def _field(field: Field) -> tuple[str, str | None]:
    return field.source, field.key


def _test(condition: Condition) -> dict[str, Any]:
    operands, comparison = condition.operands, condition.comparison.value
    operator, figure = condition.operator, None
    texts: list[str | None] = []
    if _is_unknown(condition):
        comparison = "nothing"
    elif _slow(condition) is not None:
        comparison = "python"
    elif condition.comparison is Comparison.BOOLEAN and operands:
        read = text_form(operands[0])
        equal = operator is Operator.EQUAL
        is_true = (read is not None and read.lower() == "true") is equal
        operator = Operator.IS_TRUE if is_true else Operator.IS_FALSE
    else:
        texts = [text_form(operand) for operand in operands]
        figure = _figure(condition)
    return {
        "field": _field(condition.field),
        "operator": operator.value,
        "comparison": comparison,
        "texts": texts,
        "number": None if figure is None else canonical(figure),
        "strict": condition.strict,
        "if_unknown": condition.if_unknown,
    }


def _is_unknown(condition: Condition) -> bool:
    """Whether a null operand makes the condition unknown (CK8)."""
    return condition.operands == (None,) and condition.operator not in _SET


def _figure(condition: Condition) -> Any:
    """The number that an operand is compared as; None where it is compared as a text."""
    if len(condition.operands) != 1:
        return None
    (operand,) = condition.operands
    if condition.comparison is Comparison.NUMBER:
        return numeric_reader(numeric_text=not condition.strict)(operand)
    if condition.comparison is Comparison.NUMBER_OR_TEXT:
        return number_or_text(operand)
    return number(operand) if condition.comparison is Comparison.LIST else None


def _slow(condition: Condition) -> str | None:
    """Which of SLOW_TESTS a condition is; None where native/ knows it."""
    if condition.operator in _SET or _is_unknown(condition):
        return None
    if condition.operator in _PATTERNS:
        return PATTERN
    figure = _figure(condition)
    if figure is not None and not _is_short(figure):
        return OPERAND
    forms = [text_form(each) for each in condition.operands if type(each) is not str]
    return OPERAND if None in forms else None


def _is_short(figure: Any) -> bool:
    """Whether native/src/decimal.rs reads a number."""
    if not readable(figure):
        return False  # its text could be a billion digits
    whole, _, places = canonical(figure).lstrip("-").partition(".")
    return len(whole) + len(places) <= _DIGITS_MAX and len(places) <= _PLACES_MAX
