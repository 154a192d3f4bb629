"""Metronome billable metrics ↔ the neutral model (docs/formats.md 3).

parse() checks every rule, reports all broken ones at once, and only then builds: a definition is
refused whole or taken whole. The native text is kept in `origin`, so the way back is exact.
"""

from typing import Any, Final

from ..metric import (
    Aggregation,
    Class,
    Comparison,
    Condition,
    Definition,
    EventSelector,
    Field,
    Measure,
    Operator,
    Origin,
    Result,
    Scope,
)
from .bodies import DEFAULT_TERMS, Problems, Terms, is_text_list, parse_json

AGGREGATIONS: Final = {
    spelling: aggregation
    for name, aggregation in {
        "count": Aggregation.COUNT,
        "latest": Aggregation.LATEST,
        "max": Aggregation.MAX,
        "sum": Aggregation.SUM,
        "unique": Aggregation.UNIQUE,
    }.items()
    for spelling in (name, name.title(), name.upper())
}
_MEMBERS: Final = {
    "name",
    "sql",
    "aggregation_type",
    "aggregation_key",
    "event_type_filter",
    "property_filters",
    "group_keys",
    "custom_fields",
}
_STREAMING: Final = _MEMBERS - {"name", "sql", "custom_fields"}
_REASON_CHARS_MAX: Final = 500
_LISTS: Final = ("in_values", "not_in_values")


def parse(text: str, terms: Terms = DEFAULT_TERMS) -> tuple[str, Definition]:  # noqa: ARG001  one signature for all
    """Return the name and the neutral definition of a native create body.

    Raises:
        DefinitionError: every broken rule with its pointer. The operator's fault.
    """
    body = parse_json(text)
    problems = Problems()
    if not isinstance(body, dict):
        problems.add("M-TYPE", "", "a billable metric is a JSON object")
        problems.raise_if_any()
    problems.members(body, _MEMBERS, "", "M-UNKNOWN")
    _check_name(body, problems)
    _check_custom_fields(body, problems)
    if "sql" in body:
        _check_sql(body, problems)
    else:
        _check_streaming(body, problems)
    problems.raise_if_any()
    return body["name"], _build(body, text)


def check_name(body: dict[str, Any]) -> None:
    """Check the one member of a rename.

    Raises:
        DefinitionError: it is no name.
    """
    problems = Problems()
    _check_name(body, problems)
    problems.raise_if_any()


def _check_name(body: dict[str, Any], problems: Problems) -> None:
    if "name" not in body:
        problems.add("M-REQ", "/name", "a name is required")
    elif not isinstance(body["name"], str):
        problems.add("M-TYPE", "/name", "the name is a string")
    elif not body["name"].strip():
        problems.add("NAME-BLANK", "/name", "the name must not be blank")


def _check_custom_fields(body: dict[str, Any], problems: Problems) -> None:
    fields = body.get("custom_fields", {})
    if not isinstance(fields, dict) or not is_text_list(list(fields.values())):
        problems.add("M-TYPE", "/custom_fields", "custom_fields maps strings to strings")


def _check_sql(body: dict[str, Any], problems: Problems) -> None:
    if not isinstance(body["sql"], str):
        problems.add("M-TYPE", "/sql", "sql is a string")
    elif not body["sql"].strip():
        problems.add("M-SQL-BLANK", "/sql", "sql must not be blank")
    if extra := sorted(_STREAMING & set(body)):
        problems.add("M-SQL-EXCLUSIVE", "/sql", f"give either sql or {', '.join(extra)}")


def _check_streaming(body: dict[str, Any], problems: Problems) -> None:
    _check_event_types(body, problems)
    filters = _check_filters(body, problems)
    _check_aggregation(body, filters, problems)
    _check_groups(body, filters, problems)


def _check_lists(holder: dict[str, Any], pointer: str, problems: Problems) -> None:
    for member in _LISTS:
        values = holder.get(member)
        if values is None:  # CM11: null is accepted as omitted
            continue
        if not is_text_list(values):
            problems.add("M-TYPE", f"{pointer}/{member}", f"{member} is a list of strings")
        elif not values:
            problems.add("M-LIST-EMPTY", f"{pointer}/{member}", f"{member} must not be empty")


def _check_event_types(body: dict[str, Any], problems: Problems) -> None:
    pointer = "/event_type_filter"
    selector = body.get("event_type_filter", {})
    if not isinstance(selector, dict):
        problems.add("M-TYPE", pointer, "event_type_filter is an object")
        return
    problems.members(selector, set(_LISTS), pointer, "M-UNKNOWN")
    _check_lists(selector, pointer, problems)


def _check_filters(body: dict[str, Any], problems: Problems) -> list[dict[str, Any]]:
    """Return the filters that have a name, so that keys can be checked against them."""
    filters = body.get("property_filters", [])
    if not isinstance(filters, list):
        problems.add("M-TYPE", "/property_filters", "property_filters is a list of objects")
        return []
    named = []
    for index, item in enumerate(filters):
        pointer = f"/property_filters/{index}"
        if not isinstance(item, dict):
            problems.add("M-TYPE", pointer, "a property filter is an object")
            continue
        problems.members(item, {"name", "exists", *_LISTS}, pointer, "M-UNKNOWN")
        if "name" not in item:
            problems.add("M-REQ", f"{pointer}/name", "a property filter needs a name")
        elif not isinstance(item["name"], str):
            problems.add("M-TYPE", f"{pointer}/name", "the name of a property is a string")
        else:
            named.append(item)
        if not isinstance(item.get("exists"), bool | None):
            problems.add("M-TYPE", f"{pointer}/exists", "exists is true, false or null")
        _check_lists(item, pointer, problems)
        if item.get("exists") is False and any(item.get(member) for member in _LISTS):
            message = "exists: false contradicts a list of values; remove one of them"
            problems.add("M-EXISTS-CONTRADICTION", pointer, message)
    return named


def _check_aggregation(
    body: dict[str, Any], filters: list[dict[str, Any]], problems: Problems
) -> None:
    if "aggregation_type" not in body:
        problems.add("M-AGG-REQUIRED", "/aggregation_type", "aggregation_type or sql is required")
        return
    kind = body["aggregation_type"]
    if not isinstance(kind, str) or kind not in AGGREGATIONS:
        allowed = ", ".join(sorted(AGGREGATIONS))
        problems.add("M-AGG", "/aggregation_type", f"aggregation_type is one of {allowed}")
        return
    pointer = "/aggregation_key"
    if "aggregation_key" not in body:
        if AGGREGATIONS[kind] is not Aggregation.COUNT:
            problems.add("M-KEY-REQUIRED", pointer, f"{kind} needs an aggregation_key")
        return
    key = body["aggregation_key"]
    if not isinstance(key, str):
        problems.add("M-TYPE", pointer, "aggregation_key is a string")
    elif AGGREGATIONS[kind] is Aggregation.COUNT:
        problems.add("M-COUNT-KEY", pointer, "count has no aggregation_key; remove it")
    elif not (own := [item for item in filters if item["name"] == key]):
        message = "The specified aggregation key must be one of the property filter names."
        problems.add("M-KEY-FILTER", pointer, message)
    elif any(item.get("exists") is False for item in own):
        message = f"the filter of {key!r} says exists: false, so there is nothing to aggregate"
        problems.add("M-KEY-EXISTS-FALSE", pointer, message)


def _check_groups(body: dict[str, Any], filters: list[dict[str, Any]], problems: Problems) -> None:
    keys = body.get("group_keys", [])
    if not isinstance(keys, list) or not all(is_text_list(inner) for inner in keys):
        problems.add("M-GROUP-SHAPE", "/group_keys", "group_keys is a list of lists of strings")
        return
    names = {item["name"] for item in filters}
    present = {item["name"] for item in filters if item.get("exists") is True}
    present |= {item["name"] for item in filters if item.get("in_values")}
    for index, inner in enumerate(keys):
        pointer = f"/group_keys/{index}"
        if not inner:
            problems.add("M-GROUP-EMPTY", pointer, "a group key names at least one property")
        for name in dict.fromkeys(inner):
            if name not in names:
                message = f"Group key '{name}' does not match one of the property filter names."
                problems.add("M-GROUP-KEY", pointer, message)
            elif name not in present:
                message = f"the filter of group key {name!r} needs exists: true or in_values"
                problems.add("M-GROUP-KEY-EXISTS", pointer, message)


def _build(body: dict[str, Any], text: str) -> Definition:
    origin = Origin(format="metronome", text=text)
    if "sql" in body:
        return _build_sql(body["sql"], origin)
    selector = body.get("event_type_filter", {})
    key = body.get("aggregation_key")
    measure = Measure(
        name="m0",
        events=EventSelector(
            include=selector.get("in_values"), exclude=selector.get("not_in_values")
        ),
        where=tuple(
            condition
            for item in body.get("property_filters", [])
            for condition in _conditions(item)
        ),
        aggregation=AGGREGATIONS[body["aggregation_type"]],
        field=None if key is None else Field(source="property", key=key),
    )
    return Definition(
        scope=Scope.CUSTOMER,
        origin=origin,
        measures=(measure,),
        result=Result(args=("m0",)),
        dimensions=_dimensions(body.get("group_keys", [])),
        execution=Class.INCREMENTAL,
    )


def _build_sql(sql: str, origin: Origin) -> Definition:
    """Translate a SQL metric, or keep it with the reason (CM13)."""
    # sqlglot is large: only whoever creates an SQL metric waits for it.
    from .metronome_sql import translate  # noqa: PLC0415
    from .sql_words import Untranslatable  # noqa: PLC0415

    try:
        found = translate(sql)
    except (Untranslatable, RecursionError) as error:
        deep = "the statement is nested too deeply, or has too many conditions"
        why = error if isinstance(error, Untranslatable) else deep
        return Definition(
            scope=Scope.CUSTOMER,
            origin=origin,
            measures=(),
            result=None,
            execution=Class.NOT_COMPUTABLE,
            reasons=(str(why)[:_REASON_CHARS_MAX],),
        )
    return Definition(
        scope=Scope.CUSTOMER,
        origin=origin,
        measures=found.measures,
        result=found.result,
        dimensions=found.dimensions,
        execution=found.execution,
    )


def _conditions(item: dict[str, Any]) -> list[Condition]:
    """One filter is up to three conditions; unknown fails in_values, passes not_in_values."""
    field = Field(source="property", key=item["name"])
    conditions = []
    if item.get("exists") is not None:
        operator = Operator.IS_SET if item["exists"] else Operator.IS_NOT_SET
        conditions.append(
            Condition(
                field=field, operator=operator, comparison=Comparison.EXISTENCE, if_unknown=False
            )
        )
    for member, operator, if_unknown in (
        ("in_values", Operator.IN, False),  # CM2
        ("not_in_values", Operator.NOT_IN, True),  # CM1
    ):
        if item.get(member):
            conditions.append(
                Condition(
                    field=field,
                    operator=operator,
                    operands=tuple(item[member]),
                    comparison=Comparison.TEXT,
                    if_unknown=if_unknown,
                )
            )
    return conditions


def _dimensions(keys: list[list[str]]) -> tuple[tuple[str, ...], ...]:
    """The distinct grouping sets: the order of names makes no other set, a repeat no second."""
    sets: dict[frozenset[str], tuple[str, ...]] = {}
    for inner in keys:
        sets.setdefault(frozenset(inner), tuple(dict.fromkeys(inner)))
    return tuple(sets.values())
