"""Klaviyo custom metrics → the neutral model (docs/formats.md 1).

parse() checks every rule, reports all broken ones at once, and only then builds. The native text
is kept in `origin`, so the way back is exact.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from ..conditions import check_pattern
from ..metric import (
    VALUE_NAME,
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
from ..values import number
from .bodies import (
    DEFAULT_TERMS,
    LIST_OR_NULL,
    OBJECT,
    TEXT,
    TEXT_OR_NULL,
    Problems,
    Terms,
    is_number,
    is_text_list,
    parse_json,
)

GROUPS_MAX: Final = 5
FILTERS_MAX: Final = 3
# measurement of metric-aggregates → what is counted for it (docs/formats.md 1.7)
MEASUREMENTS: Final = {
    "count": Aggregation.COUNT,
    "sum_value": Aggregation.SUM,
    "unique": Aggregation.UNIQUE,
}
METHODS: Final = {"count": Aggregation.COUNT, "value": Aggregation.SUM}
_ATTRIBUTES: Final = "/data/attributes"
_DEFINITION: Final = "/data/attributes/definition"

_STRING: Final = {
    "equals": Operator.EQUAL,
    "not-equals": Operator.NOT_EQUAL,
    "contains": Operator.CONTAINS,
    "not-contains": Operator.NOT_CONTAINS,
    "starts-with": Operator.STARTS_WITH,
    "not-starts-with": Operator.NOT_STARTS_WITH,
    "ends-with": Operator.ENDS_WITH,
    "not-ends-with": Operator.NOT_ENDS_WITH,
    "regex": Operator.MATCHES,
    "nregex": Operator.NOT_MATCHES,
    "in": Operator.IN,
}
_NUMERIC: Final = {
    "equals": Operator.EQUAL,
    "not-equals": Operator.NOT_EQUAL,
    "greater-than": Operator.GREATER,
    "greater-than-or-equal": Operator.GREATER_OR_EQUAL,
    "less-than": Operator.LESS,
    "less-than-or-equal": Operator.LESS_OR_EQUAL,
}
_LIST: Final = {
    "contains": Operator.ANY_ELEMENT_EQUAL,
    "not-contains": Operator.NO_ELEMENT_EQUAL,
    "contains-substring": Operator.ANY_ELEMENT_CONTAINS,
    "not-contains-substring": Operator.NO_ELEMENT_CONTAINS,
    "contains-starts-with": Operator.ANY_ELEMENT_STARTS_WITH,
    "not-contains-starts-with": Operator.NO_ELEMENT_STARTS_WITH,
    "contains-ends-with": Operator.ANY_ELEMENT_ENDS_WITH,
    "not-contains-ends-with": Operator.NO_ELEMENT_ENDS_WITH,
}
# filter type → how both sides are read, and its operators (docs/formats.md 1.4, the complete list)
FILTERS: Final = {
    "string": (Comparison.STRING, _STRING),
    "numeric": (Comparison.NUMBER, _NUMERIC),
    "boolean": (Comparison.BOOLEAN, {"equals": Operator.EQUAL}),
    "existence": (
        Comparison.EXISTENCE,
        {"is-set": Operator.IS_SET, "not-set": Operator.IS_NOT_SET},
    ),
    "list": (Comparison.LIST, _LIST),
}

# Labels of Klaviyo's user interface, which its guide gives as operators (CK15).
LABELS: Final = {
    "does not equal": "not-equals",
    "does not contain": "not-contains",
    "starts with": "starts-with",
    "does not start with": "not-starts-with",
    "ends with": "ends-with",
    "does not end with": "not-ends-with",
    "greater than": "greater-than",
    "greater than or equal": "greater-than-or-equal",
    "less than": "less-than",
    "less than or equal": "less-than-or-equal",
    "is set": "is-set",
    "is not set": "not-set",
}


def operators_of(kind: str) -> list[str]:
    """Return the operators of a filter type, and the labels that stand for one."""
    own = FILTERS[kind][1]
    return [*own, *(label for label, operator in LABELS.items() if operator in own)]


def parse(text: str, terms: Terms = DEFAULT_TERMS) -> tuple[str, Definition]:
    """Return the name and the neutral definition of a native create body.

    Raises:
        DefinitionError: every broken rule with its pointer. The operator's fault.
    """
    body, problems = parse_json(text), Problems()
    attributes = _attributes(body, {"type", "attributes"}, problems)
    if attributes is not None:
        for name in ("name", "definition"):
            if name not in attributes:
                problems.add("K-REQ", f"{_ATTRIBUTES}/{name}", f"{name} is required")
        _check_name(attributes.get("name", "-"), problems)
        if "definition" in attributes:
            _check_definition(attributes["definition"], terms, problems)
    problems.raise_if_any()
    return attributes["name"], _build(attributes["definition"], text, terms)  # type: ignore[index]


def parse_update(text: str, terms: Terms = DEFAULT_TERMS) -> tuple[str | None, str | None]:
    """Return the new name and the new create body of a native PATCH body; None is unchanged.

    Raises:
        DefinitionError: every broken rule with its pointer. The operator's fault.
    """
    body, problems = parse_json(text), Problems()
    attributes = _attributes(body, {"type", "id", "attributes"}, problems)
    if attributes is not None:
        if attributes.get("name") is not None:
            _check_name(attributes["name"], problems)
        if attributes.get("definition") is not None:
            _check_definition(attributes["definition"], terms, problems)
    problems.raise_if_any()
    assert attributes is not None
    return attributes.get("name"), attributes.get("definition")


def _attributes(body: Any, members: set[str], problems: Problems) -> dict[str, Any] | None:
    """Check the envelope; return its attributes where they can be looked into."""
    if not isinstance(body, dict) or not isinstance(body.get("data", {}), dict):
        problems.add("K-TYPE", "" if not isinstance(body, dict) else "/data", "must be an object")
        return None
    problems.members(body, {"data"}, "", "K-UNKNOWN")
    if "data" not in body:
        problems.add("K-REQ", "/data", "data is required")
        return None
    data = body["data"]
    problems.members(data, members, "/data", "K-UNKNOWN")
    for name in sorted(members):
        if name not in data:
            problems.add("K-REQ", f"/data/{name}", f"{name} is required")
    if "type" in data and data["type"] != "custom-metric":
        problems.add("K-RESOURCE-TYPE", "/data/type", "the type of the resource is custom-metric")
    kinds = dict.fromkeys(members & {"id"}, TEXT) | {"attributes": OBJECT}
    problems.kinds(data, kinds, "/data", "K-TYPE")
    attributes = data.get("attributes")
    if not isinstance(attributes, dict):
        return None
    problems.members(attributes, {"name", "definition"}, _ATTRIBUTES, "K-UNKNOWN")
    return attributes


def _check_name(name: object, problems: Problems) -> None:
    if not isinstance(name, str):
        problems.add("K-TYPE", f"{_ATTRIBUTES}/name", "the name is a string")
    elif not name.strip():
        problems.add("NAME-BLANK", f"{_ATTRIBUTES}/name", "the name must not be blank")


def _check_definition(body: object, terms: Terms, problems: Problems) -> None:
    if not isinstance(body, dict):
        problems.add("K-TYPE", _DEFINITION, "the definition is an object")
        return
    problems.members(body, {"aggregation_method", "metric_groups"}, _DEFINITION, "K-UNKNOWN")
    for name in ("aggregation_method", "metric_groups"):
        if name not in body:
            problems.add("K-REQ", f"{_DEFINITION}/{name}", f"{name} is required")
    method = body.get("aggregation_method", "count")
    if not isinstance(method, str) or method not in METHODS:
        pointer = f"{_DEFINITION}/aggregation_method"
        problems.add("K-AGG", pointer, "aggregation_method must be count or value")
    groups, pointer = body.get("metric_groups"), f"{_DEFINITION}/metric_groups"
    if "metric_groups" not in body:
        return
    if not isinstance(groups, list):
        problems.add("K-TYPE", pointer, "metric_groups is a list")
        return
    if not groups:
        problems.add("K-GROUPS-MIN", pointer, "give at least one metric group")
    if len(groups) > GROUPS_MAX:
        problems.add("K-GROUPS-MAX", pointer, f"at most {GROUPS_MAX} groups, not {len(groups)}")
    for index, group in enumerate(groups):
        _check_group(group, f"{pointer}/{index}", terms, problems)


def _check_group(group: object, pointer: str, terms: Terms, problems: Problems) -> None:
    if not isinstance(group, dict):
        problems.add("K-TYPE", pointer, "a metric group is an object")
        return
    known = {"metric_id": TEXT, "metric_filters": LIST_OR_NULL, "value_property": TEXT_OR_NULL}
    problems.members(group, known, pointer, "K-UNKNOWN")
    problems.kinds(group, known, pointer, "K-TYPE")
    if "metric_id" not in group:
        problems.add("K-REQ", f"{pointer}/metric_id", "metric_id is required")
    elif terms.klaviyo_strict and group["metric_id"] not in terms.klaviyo_metrics:
        message = f"the catalogue has no metric {group['metric_id']!r}, and it is strict"
        problems.add("K-METRIC", f"{pointer}/metric_id", message)
    filters = group.get("metric_filters")
    if not isinstance(filters, list):
        return
    if len(filters) > FILTERS_MAX:
        message = f"at most {FILTERS_MAX} filters, not {len(filters)}"
        problems.add("K-FILTERS-MAX", f"{pointer}/metric_filters", message)
    for index, item in enumerate(filters):
        _check_filter(item, f"{pointer}/metric_filters/{index}", problems)


def _check_filter(item: object, pointer: str, problems: Problems) -> None:
    if not isinstance(item, dict):
        problems.add("K-TYPE", pointer, "a metric filter is an object")
        return
    known = {"property": TEXT, "filter": OBJECT}
    problems.members(item, known, pointer, "K-UNKNOWN")
    problems.kinds(item, known, pointer, "K-TYPE")
    for name in known:
        if name not in item:
            problems.add("K-REQ", f"{pointer}/{name}", f"{name} is required")
    body, pointer = item.get("filter"), f"{pointer}/filter"
    if not isinstance(body, dict):
        return
    for name in ("type", "operator"):
        if name not in body:
            problems.add("K-REQ", f"{pointer}/{name}", f"{name} is required")
    kind, operator = body.get("type"), body.get("operator")
    if "type" not in body or "operator" not in body:
        return
    if not isinstance(kind, str) or kind not in FILTERS:
        problems.add("K-FILTER", f"{pointer}/type", f"type is one of {', '.join(FILTERS)}")
        return
    if not isinstance(operator, str) or operator not in operators_of(kind):
        message = f"the operators of a {kind} filter are {', '.join(FILTERS[kind][1])}"
        problems.add("K-FILTER", f"{pointer}/operator", message)
        return
    members = {"type", "operator"} | ({"value"} if kind != "existence" else set())
    problems.members(body, members, pointer, "K-UNKNOWN")
    if kind != "existence":
        operator = LABELS.get(operator, operator)
        _check_operand(kind, operator, body, f"{pointer}/value", problems)


def _check_operand(
    kind: str, operator: str, body: dict[str, Any], pointer: str, problems: Problems
) -> None:
    if "value" not in body:
        problems.add("K-REQ", pointer, "value is required")
        return
    value = body["value"]
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    if kind == "string" and operator == "in":
        fits, due = is_text_list(value), "a list of strings"
        if value == []:
            problems.add("K-IN-EMPTY", pointer, "give at least one string")
    elif kind == "string":
        fits, due = isinstance(value, str | None), "a string or null"
    elif kind == "numeric":
        fits, due = is_number(value) and _is_exact(value), "a JSON number within C04"
    elif kind == "boolean":
        fits, due = isinstance(value, bool), "true or false"
    elif operator.endswith("substring"):
        fits, due = isinstance(value, str | None), "a string or null"
    else:
        whole = is_integer and _is_exact(value)
        fits, due = whole or isinstance(value, str | None), "an integer, a string or null"
    if not fits:
        problems.add("K-OPERAND", pointer, f"the value of {kind} {operator} must be {due}")
    elif operator in {"regex", "nregex"} and value is not None and (why := check_pattern(value)):
        problems.add("K-REGEX", pointer, why)


def _is_exact(value: Any) -> bool:
    """Whether a number lies within C04, so that it can be compared exactly."""
    if isinstance(value, Decimal) and not -128 < value.adjusted() < 128:
        return False
    return number(value) is not None


def _build(body: dict[str, Any], text: str, terms: Terms) -> Definition:
    aggregation = METHODS[body["aggregation_method"]]
    # Of every group all that metric-aggregates can ask, in one order whatever the method is: so
    # the cells of two versions are of the same measures, as far as they have the same groups.
    measures = tuple(
        _measure(kind, number, group, terms)
        for number, group in enumerate(body["metric_groups"])
        for kind in MEASUREMENTS.values()
    )
    return Definition(
        scope=Scope.DEPLOYMENT,
        origin=Origin(format="klaviyo", text=text),
        measures=measures,
        result=_result(measures, aggregation),
        execution=Class.INCREMENTAL,
    )


def _result(measures: Sequence[Measure], kind: Aggregation) -> Result:
    return Result(args=tuple(each.name for each in measures if each.aggregation is kind))


def _measure(kind: Aggregation, number: int, group: dict[str, Any], terms: Terms) -> Measure:
    field = {
        Aggregation.COUNT: None,
        Aggregation.SUM: _value(group),
        Aggregation.UNIQUE: Field(source="customer_id"),
    }[kind]
    return Measure(
        name=f"{kind}{number}",
        events=EventSelector(include=(event_of(group["metric_id"], terms),)),
        where=tuple(_condition(item) for item in group.get("metric_filters") or ()),
        aggregation=kind,
        field=field,
        numeric_text=False,
    )


def measured(definition: Definition, measurement: str) -> Definition | None:
    """Return a definition whose value is one of MEASUREMENTS; None where it has not counted it."""
    result = _result(definition.measures, MEASUREMENTS[measurement])
    return definition.model_copy(update={"result": result}) if result.args else None


def event_of(metric_id: str, terms: Terms) -> str:
    """Return the event name that a metric id stands for (CK18)."""
    return terms.klaviyo_metrics.get(metric_id, metric_id)


def _value(group: dict[str, Any]) -> Field:
    name = group.get("value_property")
    return _field(VALUE_NAME if name is None else name)


def _field(name: str) -> Field:
    """Where a name that a definition gives lies in an event (CK12)."""
    return Field(source="value" if name == VALUE_NAME else "property", key=name)


def _condition(item: dict[str, Any]) -> Condition:
    body = item["filter"]
    comparison, operators = FILTERS[body["type"]]
    word, value = body["operator"], body.get("value")
    operator = operators[LABELS.get(word, word)]
    operands = () if comparison is Comparison.EXISTENCE else (value,)
    return Condition(
        field=_field(item["property"]),
        operator=operator,
        operands=tuple(value) if operator is Operator.IN else operands,
        comparison=comparison,
        if_unknown=False,  # CK0, also for negative operators
        strict=comparison in {Comparison.NUMBER, Comparison.BOOLEAN},
    )
