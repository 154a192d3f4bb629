"""What of the Statsig page's schema is computed: each member and each word of it, tried.

`verdicts()` says for each statement of the schema what becomes of a metric that uses it. The page
docs/fidelity.md has the same statements; a test compares both.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from definitions.errors import DefinitionError
from definitions.formats import native_body, parse
from definitions.formats.bodies import Terms, parse_json
from definitions.formats.statsig_warehouse import only_kept

from ..services import ROOT

TERMS = Terms(statsig_sources={"orders": "order", "visits": "visit"})
_PAGE = ROOT / "tests/data/seeds/statsig-read-metric.yaml"
_CRITERION: dict[str, Any] = {"type": "metadata", "column": "c", "condition": "=", "values": ["5"]}
_BASE = {"name": "Fidelity", "directionality": "increase", "unitTypes": ["userID"]}
_COUNT = {**_BASE, "type": "event_count_custom", "metricEvents": [{"name": "e", "type": "count"}]}
_SUM = {**_BASE, "type": "sum", "metricEvents": [{"name": "e", "type": "value"}]}
_USERS = {
    **_COUNT,
    "type": "event_user",
    "metricEvents": [{"name": "e", "type": "count", "criteria": []}],
}
_STEPS = [{"name": "a", "type": "event_count"}, {"name": "b", "type": "event_count"}]
_FUNNEL = {**_BASE, "type": "funnel", "funnelCountDistinct": "events", "funnelEventList": _STEPS}
_RATIO = {**_COUNT, "type": "ratio", "metricEvents": [_COUNT["metricEvents"][0]] * 2}
_PARTS = {
    **_BASE,
    "type": "composite_sum",
    "metricComponentMetrics": [{"name": "a", "type": "event_count"}] * 2,
}
_OWN: dict[str, Any] = {"aggregation": "sum", "metricSourceName": "orders", "valueColumn": "v"}
_HALVES = {
    **_OWN,
    "aggregation": "ratio",
    "numeratorAggregation": "sum",
    "denominatorAggregation": "count",
    "denominatorMetricSourceName": "visits",
}
_NATIVE_STEPS = [
    {"name": "a", "metricSourceName": "orders"},
    {"name": "b", "metricSourceName": "visits"},
]
_NATIVE_FUNNEL = {
    "aggregation": "funnel",
    "metricSourceName": "orders",
    "funnelEvents": _NATIVE_STEPS,
    "funnelCountDistinct": "users",
}
# Members of which the page says that they are there, and whose effect is in experiments alone: the
# status of the metric names them (docs/semantics.md, S-15).
KEPT = {
    *("cupedAttributionWindow", "metricBakeDays", "waitForCohortWindow"),
    "onlyIncludeUsersWithConversionEvent",
}
# Members of answers: what the doors show is a test's of theirs, not of a definition.
ANSWERED = {
    *("id", "isHidden", "lineage.events", "lineage.metrics", "creatorName", "creatorEmail"),
    *("createdTime", "lastModifiedTime", "owner.name", "isVerified", "isReadOnly", "message"),
    *("lastModifierID", "lastModifierEmail", "lastModifierName", "teamID"),
    "data",
}


class Verdict(NamedTuple):
    """What becomes of a statement. why: where it does not work."""

    verdict: str
    why: str


def native(own: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A warehouse-native metric."""
    return {**_BASE, "type": "user_warehouse", "warehouseNative": {**own, **members}}


def tried(body: dict[str, Any], kept: str | None = None) -> Verdict:
    """What becomes of a create body: taken back unchanged, and computed.

    kept: a member that changes no number, which the status must name.
    """
    try:
        name, definition = parse("statsig", json.dumps(body), TERMS)
    except DefinitionError as error:
        return Verdict("not", f"refused: {error.problems[0].message}")
    assert native_body(definition.origin, name) == parse_json(json.dumps(body))
    if not definition.computable:
        return Verdict("not", f"kept, not computed: {definition.reasons[0]}")
    if kept is not None and only_kept(body) != [kept]:
        return Verdict("partly", "kept, changes no number here")
    return Verdict("works", "")


def statements() -> Iterator[tuple[str, str | None]]:
    """Every member of the page's schema that is no object or list, with each word it may be."""
    schema = yaml.safe_load(_PAGE.read_text())["components"]["schemas"]

    def walk(path: str, node: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
        if "items" in node:
            yield from walk(path, node["items"])
        elif node.get("properties"):
            for name, inner in node["properties"].items():
                yield from walk(f"{path}.{name}" if path else name, inner)
        elif "enum" in node:
            yield from ((path, str(word)) for word in node["enum"])
        elif path:
            yield path, None

    for node in schema.values():
        yield from walk("", node)


def verdict_of(path: str, word: str | None) -> Verdict:
    """What becomes of a metric that uses a member, or a word of it."""
    member = path.rpartition(".")[2]
    if path in ANSWERED:
        return Verdict("works", "")
    kept = path.startswith("warehouseNative") and member in KEPT
    return tried(_body(path, member, word), member if kept else None)


def _body(path: str, member: str, word: str | None) -> dict[str, Any]:
    if path.startswith("warehouseNative."):
        return _warehouse(path.removeprefix("warehouseNative."), member, word)
    if path == "type":
        return _of_type(str(word))
    if "criteria" in path:
        event = {"name": "e", "type": "count", "criteria": [_criterion(member, word)]}
        return {**_COUNT, "metricEvents": [event]}
    if path == "metricEvents.type":
        if word == "count":
            return _COUNT
        more = {"metadataKey": "k"} if word in {"metadata", "count_distinct"} else {}
        kind = "event_count_custom" if word == "count_distinct" else "sum"
        return {**_SUM, "type": kind, "metricEvents": [{"name": "e", "type": word, **more}]}
    if path == "metricEvents.metadataKey":
        return {**_SUM, "metricEvents": [{"name": "e", "type": "metadata", "metadataKey": "k"}]}
    if path.startswith("metricComponentMetrics"):
        return _PARTS
    if path == "funnelEventList.type":
        return {**_FUNNEL, "funnelEventList": [{**each, "type": word} for each in _STEPS]} | (
            {"funnelCountDistinct": "users"} if word in {"event_dau", "event_user"} else {}
        )
    if path == "funnelEventList.name":
        return _FUNNEL
    if path == "funnelCountDistinct":
        kind = "event_count" if word == "events" else "event_dau"
        steps = [{**each, "type": kind} for each in _STEPS]
        return {**_FUNNEL, "funnelEventList": steps, "funnelCountDistinct": word}
    if member.lower().startswith(("rollup", "customrollup")):
        custom = {"customRollUpStart": 0, "customRollUpEnd": 7}
        window = "max" if path == "rollupTimeWindow" else "custom"
        return {**_USERS, "rollupTimeWindow": window, **(custom if window == "custom" else {})}
    values: dict[str, Any] = {
        "directionality": word,
        "description": "d",
        "tags": ["t"],
        "isPermanent": True,
        "team": "t",
        "dryRun": True,
    }
    return {**_COUNT, member: values[member]} if member in values else _COUNT


def _of_type(word: str) -> dict[str, Any]:
    bodies: dict[str, dict[str, Any]] = {
        "ratio": _RATIO,
        "sum": _SUM,
        "mean": {**_SUM, "type": "mean"},
        "event_count_custom": _COUNT,
        "event_user": {**_USERS, "rollupTimeWindow": "1"},
        "funnel": _FUNNEL,
        "composite_sum": _PARTS,
        "composite": {**_PARTS, "type": "composite"},
        "user_warehouse": native(_OWN),
    }
    return bodies.get(word, {**_BASE, "type": word})


def _criterion(member: str, word: str | None) -> dict[str, Any]:
    if member == "type":
        column = {} if word == "value" else {"column": "email" if word == "user" else "c"}
        made: dict[str, Any] = {"type": word, "condition": "=", "values": ["5"], **column}
    elif member == "condition":
        made = {**_CRITERION, "condition": word}
        if word in {"is_null", "non_null", "after_exposure"}:
            del made["values"]
        elif word == "sql_filter":
            made["values"] = ["c = 5"]
    else:
        made = {
            **_CRITERION,
            **({"nullVacuousOverride": True} if member.startswith("null") else {}),
        }
    return made


def _warehouse(path: str, member: str, word: str | None) -> dict[str, Any]:
    if "riteria" in path and "." in path:
        made = [_criterion(member, word)]
        if path.startswith("denominator"):
            return native(_HALVES, denominatorCriteria=made)
        if path.startswith("funnelEvents"):
            steps = [{**_NATIVE_STEPS[0], "criteria": made}, _NATIVE_STEPS[1]]
            return native(_NATIVE_FUNNEL, funnelEvents=steps)
        return native(_OWN, criteria=made)
    if path == "funnelEvents.sessionIdentifierField" or word == "sessions":
        steps = [{**step, "sessionIdentifierField": "s"} for step in _NATIVE_STEPS]
        return native(_NATIVE_FUNNEL, funnelEvents=steps, funnelCountDistinct=word or "users")
    if path.startswith("funnelEvents"):
        return native(_NATIVE_FUNNEL)
    if path == "aggregation":
        return _aggregated(str(word))
    if path == "percentile":
        return _aggregated(path)
    if path in {"numeratorAggregation", "denominatorAggregation"}:
        return native({**_HALVES, "denominatorValueColumn": "v"}, **{path: word})
    if path.startswith("denominator"):
        window = {
            "denominatorRollupTimeWindow": "custom",
            "denominatorCustomRollupStart": 0,
            "denominatorCustomRollupEnd": 7,
        }
        given = window if "ollup" in path else {}
        given |= {"denominatorValueColumn": "v"} if member == "denominatorValueColumn" else {}
        halves = {**_HALVES, "denominatorAggregation": "sum"} if "Column" in member else _HALVES
        return native(halves, **given)
    if path.startswith("funnel"):
        values: dict[str, Any] = {"funnelCalculationWindow": 7, "funnelStartCriteria": word}
        value = word if member == "funnelCountDistinct" else values[member]
        return native(_NATIVE_FUNNEL, **{member: value})
    if path in {"rollupTimeWindow", "customRollUpStart", "customRollUpEnd"}:
        custom = {"rollupTimeWindow": "custom", "customRollUpStart": 0, "customRollUpEnd": 7}
        return native(_OWN, **custom)
    members: dict[str, Any] = {
        "winsorizationHigh": 0.99,
        "winsorizationLow": 0.01,
        "cupedAttributionWindow": 7,
        "metricBakeDays": 3,
        "onlyIncludeUsersWithConversionEvent": True,
        "metricDimensionColumns": ["c"],
        "waitForCohortWindow": True,
        "valueThreshold": 5,
        "cap": 5,
    }
    if member == "allowNullRatioDenominator":
        return native(_HALVES, allowNullRatioDenominator=True)
    return native(_OWN, **({member: members[member]} if member in members else {}))


def _aggregated(word: str) -> dict[str, Any]:
    if word == "ratio":
        return native(_HALVES)
    if word == "funnel":
        return native(_NATIVE_FUNNEL)
    more: dict[str, dict[str, Any]] = {
        "percentile": {"percentile": 0.9},
        "retention": {"retentionEnd": 7, "retentionLength": 7},
    }
    return native(_OWN, aggregation=word, **more.get(word, {}))
