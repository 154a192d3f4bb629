"""Definitions of all systems from the published rules: given back, folded as the recount reads."""

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from definitions.conditions import compile_condition
from definitions.errors import DefinitionError, Problem
from definitions.events import SYSTEMS, translate
from definitions.events.common import Arrival
from definitions.formats import FORMATS, klaviyo, native_body, parse
from definitions.formats.bodies import dump_json, parse_json
from definitions.formats.klaviyo import FILTERS_MAX, GROUPS_MAX
from definitions.matcher import compile_version
from definitions.metric import (
    Aggregation,
    Class,
    Comparison,
    Condition,
    Definition,
    EventSelector,
    Field,
    Measure,
    MetricVersion,
    Operator,
    Origin,
    Result,
    ResultKind,
    Scope,
)
from definitions.values import ABSENT
from pipeline.audit import Auditor
from pipeline.core.aggregations import decode_partial
from pipeline.core.event import Event
from pipeline.log.publish import line_of
from pipeline.reads.results import Held, add_to, answer
from pipeline.recount.compiled import verdict_of
from pipeline.recount.events import read_event, read_quickly
from pipeline.recount.matching import holds

from ..conformance.payloads import MAPPED
from ..world import NOW, World, decode

TEXTS = st.sampled_from(
    ["x", "X", "xz", "zx", "1", "1.0", "01", "-3", "", "true", "TRUE", "é", "a%b", "7e2", "700"]
)
KEYS = st.sampled_from(["p", "q", "a.b", "$value", 'say "x"', "ü"])
NUMBERS = st.one_of(st.integers(-9, 9), st.sampled_from([1.5, -0.25, 10**17]))
NAMES = st.sampled_from(["use", "Placed Order", "other"])
PATTERNS = st.sampled_from(["^x", "y$", "[0-9]+", "(a|x).*", ".", "", "(?i)X"])


def klaviyo_filters() -> st.SearchStrategy[dict[str, Any]]:
    """Every filter of docs/formats.md 1.4."""
    plain = ["equals", "contains", "starts-with", "ends-with"]
    strings = [*plain, *(f"not-{word}" for word in plain)]
    listed = ["contains-starts-with", "contains-ends-with", "contains"]
    parts = ["contains-substring", "not-contains-substring"]
    compared = ["equals", "not-equals", "greater-than", "less-than"]
    compared += ["greater-than-or-equal", "less-than-or-equal"]

    def of(kind: str, words: list[str], values: Any) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries(
            {"type": st.just(kind), "operator": st.sampled_from(words), "value": values}
        )

    return st.one_of(
        of("string", strings, st.one_of(TEXTS, st.none())),
        of("string", ["regex", "nregex"], PATTERNS),
        of("string", ["in"], st.lists(TEXTS, min_size=1, max_size=3)),
        of("numeric", compared, NUMBERS),
        of("boolean", ["equals"], st.booleans()),
        of(
            "list",
            [*listed, *(f"not-{word}" for word in listed)],
            st.one_of(TEXTS, st.none(), st.integers(-3, 3)),
        ),
        of("list", parts, st.one_of(TEXTS, st.none())),
        st.sampled_from(["is-set", "not-set"]).map(
            lambda word: {"type": "existence", "operator": word}
        ),
    )


KLAVIYO = st.fixed_dictionaries(
    {
        "aggregation_method": st.sampled_from(["count", "value"]),
        "metric_groups": st.lists(
            st.fixed_dictionaries(
                {"metric_id": NAMES},
                optional={
                    "metric_filters": st.one_of(
                        st.none(),
                        st.lists(
                            st.fixed_dictionaries({"property": KEYS, "filter": klaviyo_filters()}),
                            max_size=FILTERS_MAX,
                        ),
                    ),
                    "value_property": st.one_of(st.none(), KEYS),
                },
            ),
            min_size=1,
            max_size=GROUPS_MAX,
        ),
    }
).map(
    lambda made: {
        "data": {"type": "custom-metric", "attributes": {"name": "m", "definition": made}}
    }
)


CONDITIONS = (
    "in not_in = > < >= <= is_null non_null contains not_contains starts_with ends_with is_true "
    "is_false"
)


@st.composite
def criteria(draw: st.DrawFn) -> dict[str, Any]:
    """A criterion that an event can answer."""
    condition = draw(st.sampled_from(CONDITIONS.split()))
    kind = draw(st.sampled_from(["value", "metadata", "user", "user_custom"]))
    made: dict[str, Any] = {"type": kind, "condition": condition}
    if kind != "value":
        made["column"] = draw(st.sampled_from(["p", "q", "userID", "country", "team", "plan"]))
    if condition in {">", "<", ">=", "<="}:
        made["values"] = [draw(st.sampled_from(["1", "-3", "1.50", "7e2"]))]
    elif condition == "=":
        made["values"] = [draw(TEXTS)]
    elif condition not in {"is_null", "non_null", "is_true", "is_false"}:
        made["values"] = draw(st.lists(TEXTS, min_size=1, max_size=3))
    if draw(st.booleans()):
        made["nullVacuousOverride"] = draw(st.booleans())
    return made


EVENT_TYPES = st.sampled_from(["count", "count_distinct", "value", "metadata", None])


@st.composite
def statsig(draw: st.DrawFn) -> dict[str, Any]:
    """A legal metric of any type."""
    kind = draw(
        st.sampled_from(
            ["sum", "mean", "event_count_custom", "ratio", "event_user", "funnel", "warehouse"]
        )
    )
    made: dict[str, Any] = {"name": "metric", "type": kind, "unitTypes": ["userID"]}
    if draw(st.booleans()):
        made["unitTypes"] = ["team", "userID"]
    if kind == "warehouse":
        native: dict[str, Any] = {
            "aggregation": draw(
                st.sampled_from(["count", "sum", "mean", "max", "min", "count_distinct", "ratio"])
            ),
            "metricSourceName": draw(NAMES),
            "valueColumn": draw(st.sampled_from(["p", "value"])),
            "criteria": draw(st.lists(criteria(), max_size=2)),
        }
        options: list[tuple[str, st.SearchStrategy[Any]]] = [
            ("cap", st.integers(0, 9)),
            ("valueThreshold", st.integers(0, 9)),
            ("allowNullRatioDenominator", st.booleans()),
            ("winsorizationHigh", st.sampled_from([0, 0.5, 1])),
        ]
        for member, values in options:
            if draw(st.booleans()):
                native[member] = draw(values)
        return {**made, "type": "user_warehouse", "warehouseNative": native}
    if kind == "funnel":
        mode = draw(st.sampled_from(["users", "events"]))
        step = {"users": "event_dau", "events": "event_count"}[mode]
        names = draw(st.lists(NAMES, min_size=2, max_size=3))
        steps = [{"name": name, "type": step} for name in names]
        return {**made, "funnelCountDistinct": mode, "funnelEventList": steps}
    events = []
    for _ in range(2 if kind == "ratio" else draw(st.integers(1, 3))):
        event: dict[str, Any] = {
            "name": draw(NAMES),
            "criteria": draw(st.lists(criteria(), max_size=2)),
        }
        if draw(st.booleans()):
            event["type"] = draw(EVENT_TYPES)
        if draw(st.booleans()):
            event["metadataKey"] = draw(st.sampled_from(["p", "q"]))
        events.append(event)
    return {**made, "metricEvents": events}


VALUES = st.one_of(
    TEXTS,
    NUMBERS,
    st.booleans(),
    st.none(),
    st.lists(st.one_of(TEXTS, st.integers(-3, 3), st.booleans(), st.none()), max_size=3),
    st.just({"x": 1}),
    st.sampled_from([[["x"]], [{"a": 1}], 10**30, "9" * 70]),
)
CONTEXTS = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "value": VALUES,
            "user": st.one_of(
                VALUES, st.dictionaries(st.sampled_from(["userID", "country"]), VALUES)
            ),
            "custom": st.dictionaries(st.just("plan"), VALUES),
            "custom_ids": st.dictionaries(st.just("team"), TEXTS),
        },
    ),
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "event_type": NAMES,
            "properties": st.dictionaries(KEYS, VALUES, max_size=4),
            "context": CONTEXTS,
        }
    ),
    min_size=1,
    max_size=8,
)


def lines_of(made: list[dict[str, Any]]) -> list[bytes]:
    """The events as they lie on the log; some with escapes, some without."""
    found = []
    for number, each in enumerate(made):
        members = {
            "transaction_id": f"t{number}",
            "customer_id": f"c{number % 3}",
            "timestamp": f"2026-03-01T{8 + number % 4:02}:30:00Z",
            **each,
        }
        found.append(json.dumps(members, ensure_ascii=number % 2 == 0).encode())
    return found


def audited(definition: Definition, lines: list[bytes]) -> list[dict[str, Any]]:
    """What the audit finds after a worker applied the lines."""
    world = World(metrics={"m": definition})
    world.append(lines)

    async def work() -> Any:
        await world.apply()
        auditor = Auditor(world.identity, world.heard, world.store, world.log)
        return await auditor.run(lambda _: None, lambda _: None)

    findings = asyncio.run(work())
    assert findings.events == len(lines)
    return list(findings.lines)


DEFINITIONS = st.one_of(
    KLAVIYO.map(lambda made: ("klaviyo", made)), statsig().map(lambda made: ("statsig", made))
)


SETS = st.lists(st.lists(KEYS, min_size=1, max_size=2).map(tuple), max_size=2).map(tuple)


@settings(max_examples=150)
@given(DEFINITIONS, EVENTS, SETS)
def test_folded_as_the_interpreter_reads(
    case: tuple[str, dict[str, Any]],
    made: list[dict[str, Any]],
    sets: tuple[tuple[str, ...], ...],
) -> None:
    """Any legal definition comes back unchanged, and its cells are those of the slow recount."""
    system, native = case
    name, definition = parse(system, json.dumps(native), MAPPED)

    assert json.loads(dump_json(native_body(definition.origin, name))) == native
    stored = json.loads(json.dumps(definition.model_dump(mode="json")))
    assert Definition.model_validate(stored) == definition
    grouped = definition.model_copy(update={"dimensions": sets})  # as `by` of a door does
    assert audited(grouped, lines_of(made)) == []


def klaviyo_condition(body: dict[str, Any]) -> Condition:
    """The condition of one filter on p."""
    group = {"metric_id": "use", "metric_filters": [{"property": "p", "filter": body}]}
    definition = {"aggregation_method": "count", "metric_groups": [group]}
    attributes = {"name": "m", "definition": definition}
    native = {"data": {"type": "custom-metric", "attributes": attributes}}
    return parse("klaviyo", json.dumps(native))[1].measures[0].where[0]


def statsig_condition(criterion: dict[str, Any]) -> Condition:
    """The condition of one criterion on p."""
    event = {"name": "use", "criteria": [{**criterion, "type": "metadata", "column": "p"}]}
    native = {"name": "metric", "type": "sum", "unitTypes": ["u"], "metricEvents": [event]}
    return parse("statsig", json.dumps(native))[1].measures[0].where[0]


TEXT_LIST = [
    *("x", "X", "xz", "zx", "xzx", "1", "1.0", "01", "-3", "", "true", "TRUE", "é"),
    *("7e2", "700"),
]
VALUE_LIST: list[Any] = [
    *TEXT_LIST,
    *(1, 1.0, -3, 700, 1.5, 10**30, True, False, None, [], {}, {"x": 1}),
    *(["x"], ["zx", 1], [1.0, True], [None, [], "X"], [700], "9" * 70, 10**70),
]


def every_condition() -> Iterator[Condition]:
    """Each operator of Klaviyo and Statsig with each operand of the lists."""
    for kind, words, operands in (
        ("string", klaviyo.FILTERS["string"][1], [*TEXT_LIST, None]),
        ("numeric", klaviyo.FILTERS["numeric"][1], [1, 1.5, -3, 700]),
        ("boolean", klaviyo.FILTERS["boolean"][1], [True, False]),
        ("list", klaviyo.FILTERS["list"][1], [*TEXT_LIST, None, 1, 700]),
    ):
        for word, operand in itertools.product(words, operands):
            if word == "in" and operand is not None:
                yield klaviyo_condition({"type": kind, "operator": word, "value": [operand, "1"]})
            elif word != "in" and not ("substring" in word and type(operand) is int):
                yield klaviyo_condition({"type": kind, "operator": word, "value": operand})
    for word in ("is-set", "not-set"):
        yield klaviyo_condition({"type": "existence", "operator": word})
    for word, text, override in itertools.product(CONDITIONS.split(), TEXT_LIST, (False, True)):
        if word in {">", "<", ">=", "<="} and text not in {"1", "1.0", "01", "-3", "7e2", "700"}:
            continue
        more = [] if word in {"=", ">", "<", ">=", "<="} else ["700"]
        yield statsig_condition(
            {"condition": word, "values": [text, *more], "nullVacuousOverride": override}
        )


def test_every_condition_is_read_alike() -> None:
    """The compiled tests of any condition and the recount's interpreter agree on any value."""
    lines = lines_of([{"event_type": "use", "properties": {"p": value}} for value in VALUE_LIST])
    events = [(decode(line), read_event(line), read_quickly(line)) for line in lines]
    compared = 0
    for condition in every_condition():
        test, remembering = compile_condition(condition), verdict_of(condition)
        for event, plain, quick in events:
            assert isinstance(event, Event)
            assert quick is not None
            seen, verdict = event.properties["p"], holds(condition, plain)
            assert test(seen) == verdict, (condition, seen)
            assert verdict == holds(condition, quick) == remembering(plain), (condition, seen)
            assert verdict == remembering(quick), (condition, seen)
            compared += 1
        assert test(ABSENT) == test(None)
    assert compared > 20_000


LITERALS = st.one_of(TEXTS, st.integers(-3, 3), st.booleans(), st.none(), st.just(Decimal("1.5")))
SOURCES = st.sampled_from(["property", "property", "value", "user", "user_custom", "custom_id"])
FIELDS = st.builds(Field, source=SOURCES, key=KEYS)
CONDITION = st.builds(
    Condition,
    field=FIELDS,
    operator=st.sampled_from(list(Operator)),
    operands=st.one_of(
        LITERALS.map(lambda one: (one,)), st.just(()), st.lists(LITERALS, max_size=3).map(tuple)
    ),
    comparison=st.sampled_from(list(Comparison)),
    if_unknown=st.booleans(),
    strict=st.booleans(),
)


@st.composite
def strange(draw: st.DrawFn) -> Definition:
    """A body that no adapter made, but somebody might publish."""
    kinds = draw(st.lists(st.sampled_from(list(Aggregation)), min_size=1, max_size=2))
    if draw(st.booleans()):
        kinds = [kinds[0]] * len(kinds)
    measures = tuple(
        Measure(
            name=f"m{number}",
            events=EventSelector(),
            where=draw(st.lists(CONDITION, max_size=1).map(tuple)),
            aggregation=kind,
            field=draw(st.one_of(FIELDS, FIELDS, st.none())),
            numeric_text=draw(st.booleans()),
            unit=draw(st.one_of(st.none(), FIELDS)),
        )
        for number, kind in enumerate(kinds)
    )
    names = st.sampled_from([*(each.name for each in measures), "m0", "m0", "zz"])
    result = Result(
        op=draw(st.sampled_from(list(ResultKind))),
        args=draw(st.lists(names, min_size=1, max_size=2).map(tuple)),
        denominator=draw(st.lists(names, max_size=1).map(tuple)),
        cap=draw(st.one_of(st.none(), LITERALS)),
    )
    return Definition(
        scope=draw(st.sampled_from(list(Scope))),
        origin=Origin(format="metronome", text='{"name": "m"}'),
        measures=measures,
        result=draw(st.sampled_from([result, result, result, None])),
        dimensions=draw(st.lists(st.lists(KEYS, max_size=2).map(tuple), max_size=1).map(tuple)),
        execution=Class.INCREMENTAL,
    )


@settings(max_examples=800)
@given(strange(), EVENTS)
def test_no_definition_can_crash_a_worker_or_a_reader(
    definition: Definition, made: list[dict[str, Any]]
) -> None:
    """Whatever body lies on the control log is held back, or folds and is read without error."""
    stored = json.loads(json.dumps(definition.model_dump(mode="json")))
    definition = Definition.model_validate(stored)
    version = MetricVersion(
        metric_id="m", version=1, effective_from=None, definition=definition, digest=""
    )
    try:
        rules = compile_version(version)
    except ValueError:
        return
    assert len(rules) == len(definition.measures)
    world = World(metrics={"m": definition})
    world.append(lines_of(made))
    asyncio.run(world.apply())
    assert definition.result is not None
    if definition.result.op is not ResultKind.ADD_METRICS:
        held: Held = {}
        for cell, text in asyncio.run(world.book()).cells.items():
            number = int(cell.measure.rpartition(".")[2])
            kind = definition.measures[number].aggregation
            add_to(held, (number, cell.customer, cell.bucket), kind, decode_partial(kind, text))
        answer(definition, held)


WORDS = (
    "data type attributes name definition metric_groups metric_id metric_filters filter operator "
    "value property aggregation_method unitTypes metricEvents criteria condition column values "
    "warehouseNative aggregation funnelEventList metricComponentMetrics sql event_type_filter "
    "group_keys events eventName user metadata time profile metric id events-bulk-create "
    "properties custom-metric event sum ratio user_warehouse"
)
MEMBERS = st.sampled_from(WORDS.split())
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), MEMBERS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(MEMBERS, inner, max_size=6)
    ),
    max_leaves=25,
)


@settings(max_examples=300)
@given(st.sampled_from(sorted(FORMATS)), ANYTHING)
def test_any_definition_is_taken_or_refused(system: str, made: Any) -> None:
    """Whatever JSON comes as a definition is taken, and then folds, or is refused with a place."""
    refused = problems_of(lambda: parse(system, json.dumps(made), MAPPED))
    if refused is None:
        _, definition = parse(system, json.dumps(made), MAPPED)
        compile_version(
            MetricVersion(
                metric_id="m", version=1, effective_from=None, definition=definition, digest=""
            )
        )
        return
    assert refused
    assert all(problem.rule and problem.message for problem in refused)


def problems_of(work: Callable[[], Any]) -> tuple[Problem, ...] | None:
    """Why something is refused; None where it is not."""
    try:
        work()
    except DefinitionError as error:
        return error.problems
    return None


@settings(max_examples=300)
@given(st.sampled_from(sorted(SYSTEMS)), ANYTHING)
@example("segment", {"type": []})
def test_any_event_body_is_translated_or_refused(system: str, made: Any) -> None:
    """Whatever JSON comes as an event becomes events of ours, or is refused with a place."""
    arrival = Arrival(NOW, new_id=lambda: "1")
    refused = problems_of(lambda: translate(system, parse_json(json.dumps(made)), arrival))
    if refused is None:
        events = translate(system, parse_json(json.dumps(made)), arrival)
        assert all(isinstance(decode(line_of(event)), Event) for event in events)
        return
    assert refused
    assert all(problem.rule and problem.message for problem in refused)
