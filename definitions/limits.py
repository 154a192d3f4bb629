"""How large a definition may be, checked when it is taken (docs/semantics.md, Limits).

What stands on the control log already is not measured: it compiles in time linear in its size.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from .errors import DefinitionError, Problem
from .metric import Condition, Definition, Operator
from .values import EXPONENT_MAX, NUMBER_CHARS_MAX

BYTES_MAX: Final = 262_144
NESTING_MAX: Final = 32  # of a definition, containers inside each other
BODY_NESTING_MAX: Final = 200  # of any body: what is deeper no parser promises to read
OPERANDS_MAX: Final = 10_000  # of all conditions and lists of event types together
SCANNED_MAX: Final = 200  # operands that are looked for inside a text, patterns included
CONDITIONS_MAX: Final = 500
MEASURES_MAX: Final = 200
NAME_CHARS_MAX: Final = 1_024
SQL_CHARS_MAX: Final = 16_384
# What a definition lists, by the native member that holds it; other lists are operands.
_LISTED_MAX: Final = {
    "property_filters": 200,
    "metricEvents": 100,
    "funnelEventList": 100,
    "funnelEvents": 100,
    "metricComponentMetrics": 100,
    "unitTypes": 20,
    "criteria": 200,
    "denominatorCriteria": 200,
    "group_keys": 50,
    "metricDimensionColumns": 50,
    "tags": 200,
}
_GROUP_NAMES_MAX: Final = 20  # of one group key
_NAMES: Final = frozenset(
    {
        *("name", "property", "value_property", "metric_id", "aggregation_key"),
        *("metadataKey", "column", "valueColumn", "metricSourceName"),
        *("denominatorValueColumn", "denominatorMetricSourceName"),
    }
)
_SCANS: Final = frozenset(
    each for each in Operator if each.endswith(("contains", "starts_with", "ends_with", "matches"))
)


def nested_deeper(text: str, body: object, levels: int) -> bool:
    """Whether the body of a text has more containers inside each other than that."""
    if text.count("[") + text.count("{") <= levels:
        return False
    inside = [body] if isinstance(body, dict | list) else []
    for _ in range(levels):
        inside = [
            item
            for outer in inside
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, dict | list)
        ]
        if not inside:
            return False
    return True


def check_size(text: str, body: object) -> None:
    """Check a native body before anything is made of it.

    Raises:
        DefinitionError: every limit that it passes, with the place.
    """
    given = len(text.encode(errors="replace"))
    if given > BYTES_MAX:
        raise DefinitionError(
            [_over("LIMIT-BYTES", "", "a definition", BYTES_MAX, given, "bytes")]
        )
    if nested_deeper(text, body, NESTING_MAX):
        message = f"a definition is nested at most {NESTING_MAX} levels deep; flatten it"
        raise DefinitionError([Problem("LIMIT-NESTING", "", message)])
    problems = [problem for at, member, value in _walk(body) for problem in _of(at, member, value)]
    if problems:
        raise DefinitionError(problems[:_PROBLEMS_MAX])


_PROBLEMS_MAX: Final = 100


def _walk(body: object) -> Iterator[tuple[str, str, Any]]:
    """Every value with its pointer, and the member that it is or is listed in."""
    waiting: list[tuple[str, str, Any]] = [("", "", body)]
    while waiting:
        at, member, value = waiting.pop()
        yield at, member, value
        if isinstance(value, dict):
            for name, inner in value.items():
                step = name[:NAME_CHARS_MAX].replace("~", "~0").replace("/", "~1")
                waiting.append((f"{at}/{step}", name, inner))
        elif isinstance(value, list):
            waiting += [(f"{at}/{n}", f"{member}[]", inner) for n, inner in enumerate(value)]


def _of(at: str, member: str, value: Any) -> Iterator[Problem]:
    if isinstance(value, list):
        if member == "group_keys[]":
            most, what = _GROUP_NAMES_MAX, "a group key"
        else:
            most, what = _LISTED_MAX.get(member, OPERANDS_MAX), member or "a list"
        if len(value) > most:
            yield _over("LIMIT-ITEMS", at, what, most, len(value), "items")
    elif isinstance(value, str):
        if member == "sql" and len(value) > SQL_CHARS_MAX:
            yield _over("LIMIT-SQL", at, "sql", SQL_CHARS_MAX, len(value), "characters")
        elif member in _NAMES and len(value) > NAME_CHARS_MAX:
            yield _over("LIMIT-NAME", at, member, NAME_CHARS_MAX, len(value), "characters")


def _over(rule: str, at: str, what: str, most: int, given: int, unit: str) -> Problem:
    message = f"{what} has at most {most:,} {unit}, not {given:,}; give fewer, or create several"
    return Problem(rule, at, f"{message} metrics and add their values")


def check_work(body: object, definition: Definition) -> None:
    """Check what a definition makes a worker do for an event, and its numbers.

    Raises:
        DefinitionError: every limit that it passes.
    """
    problems = [
        Problem("LIMIT-NUMBER", at, "a number has at most 64 characters, exponent within 64 (C04)")
        for at, _, value in _walk(body)
        if isinstance(value, Decimal) and not readable(value)
    ]
    # Of what one event meets: measures that share conditions evaluate them each. What a metric
    # keeps for every unit type is counted once: their number has a limit of its own.
    by_unit: dict[str, list[Condition]] = {}  # their names are measure@unit
    for measure in definition.measures:
        by_unit.setdefault(measure.name.partition("@")[2], []).extend(measure.where)
    where = by_unit.get("") or max(by_unit.values(), key=len, default=[])
    types = [
        each
        for measure in definition.measures
        for each in (*(measure.events.include or ()), *(measure.events.exclude or ()))
    ]
    scans = sum(len(each.operands) for each in where if each.operator in _SCANS)
    operands = len(set(types)) + sum(len(each) for each in {each.operands for each in where})
    for rule, what, most, given in (
        ("LIMIT-MEASURES", "measures", MEASURES_MAX, len(definition.measures)),
        ("LIMIT-CONDITIONS", "conditions", CONDITIONS_MAX, len(where)),
        ("LIMIT-OPERANDS", "values to compare with", OPERANDS_MAX, operands),
        ("LIMIT-SCANS", "values to look for inside a text", SCANNED_MAX, scans),
    ):
        if given > most:
            problems.append(_over(rule, "", "a definition", most, given, what))
    if problems:
        raise DefinitionError(problems[:_PROBLEMS_MAX])


def readable(value: Decimal) -> bool:
    """Whether a number lies within C04, whatever spelling it had."""
    reach = NUMBER_CHARS_MAX + EXPONENT_MAX
    return value.is_finite() and (not value or -reach < value.adjusted() < reach)
