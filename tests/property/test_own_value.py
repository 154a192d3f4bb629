"""`$value` is an event's own value, or without it the property (CK12), wherever it is named."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from definitions.explain import explain
from definitions.formats import parse
from definitions.metric import Aggregation as Kind
from definitions.metric import Definition, Result, Scope
from pipeline.core.aggregations import decode_partial

from ..world import World, versions
from .test_formats import audited
from .test_laws import assert_recount

ABOVE_ZERO = {"type": "numeric", "operator": "greater-than", "value": 0}
# What an event has: its own value (None: none), its properties, and the number that both make.
SEEN: list[tuple[Any, dict[str, Any], int | None]] = [
    (5, {}, 5),
    (5, {"$value": -1}, 5),
    (-1, {"$value": 5}, -1),
    (None, {"$value": 7}, 7),
    (None, {}, None),
]


def klaviyo(**members: Any) -> Definition:
    """A custom metric over the events `use`."""
    definition = {
        "aggregation_method": "value",
        "metric_groups": [{"metric_id": "use", **members}],
    }
    body = {"type": "custom-metric", "attributes": {"name": "m", "definition": definition}}
    return parse("klaviyo", json.dumps({"data": body}))[1]


def on_value(body: dict[str, Any]) -> list[dict[str, Any]]:
    """A filter on `$value`."""
    return [{"property": "$value", "filter": body}]


def line(number: int, value: Any, properties: dict[str, Any]) -> bytes:
    """An event `use` with a value of its own, or without."""
    return json.dumps(
        {
            "transaction_id": f"t{number}",
            "customer_id": "c",
            "event_type": "use",
            "timestamp": "2026-03-01T11:30:00Z",
            "properties": properties,
            **({} if value is None else {"context": {"value": value}}),
        }
    ).encode()


def cells_of(definition: Definition, lines: list[bytes]) -> dict[Any, Any]:
    """(measure's kind, groups) → its total, as a worker keeps it."""
    world = World(metrics={"m": definition})
    world.append(lines)
    asyncio.run(world.apply())
    found = {}
    for cell, text in asyncio.run(world.book()).cells.items():
        kind = definition.measures[int(cell.measure.rpartition(".")[2])].aggregation
        found[kind, cell.groups] = decode_partial(kind, text).value
    return found


@pytest.mark.parametrize(("value", "properties", "number"), SEEN)
def test_a_filter_reads_the_value(
    value: Any, properties: dict[str, Any], number: int | None
) -> None:
    """greater-than 0 on `$value` counts an event by its own value, else by the property."""
    definition = klaviyo(metric_filters=on_value(ABOVE_ZERO))
    lines = [line(1, value, properties)]
    matches = number is not None and number > 0
    counted = {(Kind.COUNT, ()): 1, (Kind.SUM, ()): number}

    found = cells_of(definition, lines)
    found.pop((Kind.UNIQUE, ()), None)  # its elements lie beside
    assert found == (counted if matches else {})
    assert audited(definition, lines) == []
    (version,) = versions({"m": definition})
    told = explain(version, "use", properties, {} if value is None else {"value": value})
    assert {each.matched for each in told} == {matches}


@pytest.mark.parametrize("word", ["is-set", "not-set"])
def test_existence_asks_for_the_value(word: str) -> None:
    """is-set on `$value` holds where either is there; not-set where neither is."""
    definition = klaviyo(metric_filters=on_value({"type": "existence", "operator": word}))
    lines = [line(at, value, properties) for at, (value, properties, _) in enumerate(SEEN)]

    expected = {"is-set": 4, "not-set": 1}[word]
    assert cells_of(definition, lines)[Kind.COUNT, ()] == expected


def test_groups_are_of_the_value() -> None:
    """Grouped by `$value`, an event stands under its own value, else under the property's."""
    definition = klaviyo().model_copy(update={"dimensions": (("$value",),)})
    lines = [line(at, value, properties) for at, (value, properties, _) in enumerate(SEEN)]

    found = cells_of(definition, lines)
    counts = {groups: n for (kind, groups), n in found.items() if kind is Kind.COUNT}
    assert counts == {(): 5, ("5",): 2, ("-1",): 1, ("7",): 1, (None,): 1}
    assert found[Kind.SUM, ()] == 5 + 5 - 1 + 7
    assert audited(definition, lines) == []


def test_only_klaviyo_means_the_value_by_it() -> None:
    """A group key `$value` of Metronome is a property like any other: its events have no value."""
    body = {
        "name": "m",
        "aggregation_type": "COUNT",
        "property_filters": [{"name": "$value", "exists": True}],
        "group_keys": [["$value"]],
    }
    definition = parse("metronome", json.dumps(body))[1]

    found = cells_of(definition, [line(1, 5, {}), line(2, 5, {"$value": 7})])
    assert found == {(Kind.COUNT, ()): 1, (Kind.COUNT, ("7",)): 1}


VALUES: st.SearchStrategy[Any] = st.sampled_from([None, None, 5, -1, 0, "5", "x", True, [], 1.5])
SETS: list[tuple[tuple[str, ...], ...]] = [(), (("$value",),), (("g", "$value"), ("g",))]
FILTERS: list[list[dict[str, Any]]] = [
    [],
    *(on_value({"type": "existence", "operator": word}) for word in ("is-set", "not-set")),
]


@st.composite
def one_measure(draw: st.DrawFn) -> Definition:
    """A definition that the oracle reads: one measure of a customer, of numbers in text too."""
    made = klaviyo(metric_filters=draw(st.sampled_from(FILTERS)))
    measure = draw(st.sampled_from(made.measures[:2])).model_copy(update={"numeric_text": True})
    changed = {"measures": (measure,), "result": Result(args=(measure.name,))}
    sets = draw(st.sampled_from(SETS))
    return made.model_copy(update={**changed, "scope": Scope.CUSTOMER, "dimensions": sets})


PROPERTIES = st.dictionaries(st.sampled_from(["$value", "g"]), VALUES)


@given(one_measure(), st.lists(st.tuples(VALUES, PROPERTIES), max_size=8))
def test_the_oracle_agrees(definition: Definition, made: list[tuple[Any, dict[str, Any]]]) -> None:
    """The fold, the recount and the naive oracle read `$value` alike, whatever stands there."""
    world = World(metrics={"m": definition})
    world.append(line(at, value, properties) for at, (value, properties) in enumerate(made))
    asyncio.run(world.apply())

    assert_recount(world)
