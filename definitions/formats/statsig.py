"""Statsig console metrics: every rule of docs/formats.md 2.

statsig_neutral.py and statsig_warehouse.py say what is computed.

parse() checks every rule, reports all broken ones at once, and only then builds. The native text
is kept in `origin`, so the way back is exact.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from ..metric import Class, Definition, Origin, Scope
from ..values import number_or_text
from .bodies import DEFAULT_TERMS, TEXT, Kind, Problems, Terms, is_number, is_text_list, parse_json
from .statsig_criteria import NotComputable
from .statsig_members import (
    ANYTHING,
    CHANGEABLE,
    CRITERION,
    EVENT,
    FUNNEL_EVENT,
    MEMBERS,
    WAREHOUSE,
)
from .statsig_neutral import awaited, build_cloud, with_units
from .statsig_warehouse import build_warehouse, dimensions_of

NAME: Final = re.compile(r"[a-zA-Z0-9_.\-()/ %:]{4,200}")
DESCRIPTION_CHARS_MAX: Final = 1_000
TYPES: Final = (
    "ratio",
    "mean",
    "event_count_custom",
    "event_user",
    "funnel",
    "composite",
    "composite_sum",
    "sum",
    "undefined",
    "user_warehouse",
)
_OF_EVENTS: Final = {"sum", "mean", "event_count_custom", "ratio", "event_user"}
_OF_UNITS: Final = _OF_EVENTS | {"composite", "composite_sum"}
CRITERION_TYPES: Final = ("value", "metadata", "user", "user_custom")
_ONE_VALUE: Final = ("=", ">", "<", ">=", "<=")
_VALUES: Final = ("in", "not_in", "contains", "not_contains", "starts_with", "ends_with")
CONDITIONS: Final = (
    *_ONE_VALUE,
    *_VALUES,
    "is_null",
    "non_null",
    "is_true",
    "is_false",
    "sql_filter",
    "after_exposure",
    "before_exposure",
)
STEPS: Final = {
    "users": ("event_dau", "event_user"),
    "events": ("event_count", "event_count_custom"),
}
WAREHOUSE_AGGREGATIONS: Final = (
    "count",
    "sum",
    "mean",
    "daily_participation",
    "ratio",
    "funnel",
    "count_distinct",
    "percentile",
    "first_value",
    "latest_value",
    "retention",
    "max",
    "min",
    "",
)


def parse(text: str, terms: Terms = DEFAULT_TERMS) -> tuple[str, Definition]:
    """Return the name and the neutral definition of a native create body.

    Raises:
        DefinitionError: every broken rule with its pointer. The operator's fault.
    """
    body, problems = parse_json(text), Problems()
    if not isinstance(body, dict):
        problems.add("S-TYPE", "", "a metric is a JSON object")
        problems.raise_if_any()
    problems.members(body, MEMBERS, "", "S-UNKNOWN")
    for name in ("name", "type"):
        if name not in body:
            problems.add("S-REQ", f"/{name}", f"{name} is required")
    _check_annotations(body, problems)
    if isinstance(body.get("type"), str) and body["type"] not in TYPES:
        problems.add("S-TYPE-ENUM", "/type", f"type is one of {', '.join(TYPES)}")
    _check_events(body, problems)
    _check_components(body, problems)
    _check_funnel(body, problems)
    _check_by_type(body, problems)
    _check_warehouse(body, problems)
    problems.raise_if_any()
    return body["name"], _build(body, text, terms)


def parse_update(text: str) -> dict[str, Any]:
    """Return the members that a native update body changes.

    Raises:
        DefinitionError: every broken rule with its pointer. The operator's fault.
    """
    body, problems = parse_json(text), Problems()
    if not isinstance(body, dict):
        problems.add("S-TYPE", "", "an update is a JSON object")
        problems.raise_if_any()
    for name in body:
        if name in MEMBERS and name not in CHANGEABLE:
            problems.add(
                "S-IMMUTABLE", f"/{name}", f"{name} cannot be changed; create a new metric"
            )
    problems.members(body, {*MEMBERS, "owner"}, "", "S-UNKNOWN")
    _check_annotations(body, problems)
    _check_warehouse(body, problems)
    problems.raise_if_any()
    return {name: value for name, value in body.items() if name != "dryRun"}


def _check_annotations(body: dict[str, Any], problems: Problems) -> None:
    problems.kinds(body, MEMBERS, "", "S-TYPE")
    name = body.get("name")
    if isinstance(name, str) and not NAME.fullmatch(name):
        message = "a name has 4 to 200 of letters, digits, blanks and _ . - ( ) / % :"
        problems.add("S-NAME", "/name", message)
    description = body.get("description")
    if isinstance(description, str) and len(description) > DESCRIPTION_CHARS_MAX:
        message = f"at most {DESCRIPTION_CHARS_MAX} characters, not {len(description)}"
        problems.add("S-DESCRIPTION", "/description", message)
    if body.get("directionality", "increase") not in ("increase", "decrease"):
        problems.add(
            "S-DIRECTIONALITY", "/directionality", "directionality must be increase or decrease"
        )


def _objects(
    holder: dict[str, Any],
    name: str,
    members: Mapping[str, Kind],
    pointer: str,
    problems: Problems,
) -> list[tuple[str, dict[str, Any]]]:
    """Check the shape of a list of objects; return those to look into, with their pointers."""
    found = []
    items = holder.get(name)
    for index, item in enumerate(items if isinstance(items, list) else []):
        at = f"{pointer}/{name}/{index}"
        if not isinstance(item, dict):
            problems.add("S-TYPE", at, "this must be an object")
            continue
        problems.members(item, members, at, "S-UNKNOWN")
        problems.kinds(item, members, at, "S-TYPE")
        found.append((at, item))
    return found


def _check_events(body: dict[str, Any], problems: Problems) -> None:
    for at, event in _objects(body, "metricEvents", EVENT, "", problems):
        if "name" not in event:
            problems.add("S-REQ", f"{at}/name", "the name of the event is required")
        if event.get("type") not in ("count", "count_distinct", "value", "metadata", None):
            message = "type is count, count_distinct, value, metadata or null"
            problems.add("S-EVENT-TYPE", f"{at}/type", message)
        _check_criteria(event, "criteria", at, problems)


def _check_criteria(holder: dict[str, Any], name: str, pointer: str, problems: Problems) -> None:
    for at, criterion in _objects(holder, name, CRITERION, pointer, problems):
        for member in ("type", "condition"):
            if member not in criterion:
                problems.add("S-REQ", f"{at}/{member}", f"{member} is required")
        kind, condition = criterion.get("type"), criterion.get("condition")
        if "type" in criterion and kind not in CRITERION_TYPES:
            message = f"type is one of {', '.join(CRITERION_TYPES)}"
            problems.add("S-CRITERION-TYPE", f"{at}/type", message)
        if "condition" not in criterion:
            continue
        if condition not in CONDITIONS:
            message = f"condition is one of {' '.join(CONDITIONS)}"
            problems.add("S-CONDITION", f"{at}/condition", message)
            continue
        if kind != "value" and condition != "sql_filter" and not criterion.get("column"):
            problems.add("S-COLUMN", f"{at}/column", f"a {kind} criterion needs a column")
        if is_text_list(criterion.get("values", [])):
            _check_values(condition, criterion.get("values", []), f"{at}/values", problems)


def _check_values(condition: str, values: list[str], pointer: str, problems: Problems) -> None:
    if condition in _ONE_VALUE and len(values) != 1:
        problems.add("S-VALUES-COUNT", pointer, f"{condition} needs exactly one value")
    elif condition in _VALUES and not values:
        problems.add("S-VALUES-COUNT", pointer, f"{condition} needs at least one value")
    elif condition in _ONE_VALUE[1:] and number_or_text(values[0]) is None:
        problems.add("S-VALUES-NUMERIC", pointer, f"{condition} needs decimal text")


def _check_components(body: dict[str, Any], problems: Problems) -> None:
    members = {"name": TEXT, "type": TEXT}
    for at, component in _objects(body, "metricComponentMetrics", members, "", problems):
        for member in members:
            if member not in component:
                problems.add("S-REQ", f"{at}/{member}", f"{member} is required")


def _check_funnel(body: dict[str, Any], problems: Problems) -> None:
    steps = _objects(body, "funnelEventList", {"name": TEXT, "type": ANYTHING}, "", problems)
    words = [word for mode in STEPS.values() for word in mode]
    for at, step in steps:
        for member in ("name", "type"):
            if member not in step:
                problems.add("S-REQ", f"{at}/{member}", f"{member} is required")
        if "type" in step and step["type"] not in words:
            message = f"the type of a step is one of {', '.join(words)}"
            problems.add("S-FUNNEL-STEP", f"{at}/type", message)
    mode = body.get("funnelCountDistinct")
    is_due = body.get("type") == "funnel"
    if (is_due or "funnelCountDistinct" in body) and (
        not isinstance(mode, str) or mode not in STEPS
    ):
        problems.add(
            "S-FUNNEL-MODE", "/funnelCountDistinct", "funnelCountDistinct must be users or events"
        )
        return
    if not is_due:
        return
    types = [step.get("type") for _, step in steps]
    known = all(word in words for word in types)
    if len(steps) < 2:
        problems.add("S-FUNNEL-STEPS", "/funnelEventList", "a funnel has at least two steps")
    elif known and not all(word in STEPS[str(mode)] for word in types):
        message = f"steps of a funnel of {mode} need the type {' or '.join(STEPS[str(mode)])}"
        problems.add("S-FUNNEL-FIT", "/funnelEventList", message)


def _check_by_type(body: dict[str, Any], problems: Problems) -> None:
    kind, events = body.get("type"), body.get("metricEvents", [])
    if not isinstance(kind, str):
        return
    if kind in _OF_UNITS and body.get("unitTypes", []) == []:
        problems.add("S-UNIT-TYPES", "/unitTypes", f"a {kind} metric needs at least one unit type")
    if kind in _OF_EVENTS and events == []:
        problems.add("S-METRIC-EVENTS", "/metricEvents", f"a {kind} metric needs events")
    elif kind == "ratio" and isinstance(events, list) and len(events) != 2:
        message = "a ratio has two events: the denominator, then the numerator"
        problems.add("S-RATIO-TWO", "/metricEvents", message)
    if kind == "event_user" and isinstance(events, list):
        lacking = [
            event for event in events if isinstance(event, dict) and "criteria" not in event
        ]
        if lacking:
            message = "every event of an event_user metric needs criteria, which may be []"
            problems.add("S-EVENT-USER-CRITERIA", "/metricEvents", message)
    components = body.get("metricComponentMetrics", [])
    if kind == "composite_sum" and isinstance(components, list) and len(components) < 2:
        message = "a composite_sum has more than one component"
        problems.add("S-COMPONENTS", "/metricComponentMetrics", message)


def _check_warehouse(body: dict[str, Any], problems: Problems) -> None:
    native, pointer = body.get("warehouseNative"), "/warehouseNative"
    if not isinstance(native, dict):
        if body.get("type") == "user_warehouse" and "warehouseNative" not in body:
            message = "a user_warehouse metric needs warehouseNative.aggregation"
            problems.add("S-WHN-MISSING", pointer, message)
        return
    if body.get("type") == "user_warehouse" and "aggregation" not in native:
        message = "a user_warehouse metric needs an aggregation"
        problems.add("S-WHN-MISSING", f"{pointer}/aggregation", message)
    problems.members(native, WAREHOUSE, pointer, "S-UNKNOWN")
    problems.kinds(native, WAREHOUSE, pointer, "S-TYPE")
    for name in ("aggregation", "numeratorAggregation", "denominatorAggregation"):
        if name in native and native[name] not in WAREHOUSE_AGGREGATIONS:
            words = ", ".join(word for word in WAREHOUSE_AGGREGATIONS if word)
            problems.add("S-WHN-AGGREGATION", f"{pointer}/{name}", f"one of {words}")
    for name in native:
        level = native[name]
        if name.startswith("winsorization") and is_number(level) and not 0 <= level <= 1:
            problems.add(
                "S-WHN-WINSORIZATION", f"{pointer}/{name}", "this must be between 0 and 1"
            )
    for name in ("criteria", "denominatorCriteria"):
        _check_criteria(native, name, pointer, problems)
    for at, event in _objects(native, "funnelEvents", FUNNEL_EVENT, pointer, problems):
        _check_criteria(event, "criteria", at, problems)


def _build(body: dict[str, Any], text: str, terms: Terms) -> Definition:
    """Return the neutral definition of a body that holds every rule."""
    make = build_warehouse if body["type"] == "user_warehouse" else build_cloud
    shared: dict[str, Any] = {
        "scope": Scope.DEPLOYMENT,
        "origin": Origin(format="statsig", text=text),
        "day_offset_minutes": terms.statsig_day_minutes,
    }
    try:
        _, result, execution, reasons = make(body, terms)
        measures = with_units(body, lambda each: make(each, terms))
        dimensions = dimensions_of(body)
    except NotComputable as why:
        return Definition(
            **shared,
            measures=(),
            result=None,
            execution=Class.NOT_COMPUTABLE,
            reasons=(str(why),),
        )
    return Definition(
        **shared,
        measures=measures,
        result=result,
        dimensions=dimensions,
        unit_types=tuple(dict.fromkeys(body.get("unitTypes") or ())),
        awaits=awaited(body, terms),
        execution=execution,
        reasons=reasons,
    )
