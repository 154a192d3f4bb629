"""native/ under the definitions of all three systems: what it takes, and that it says the same."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from typing import Any, Final
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from definitions.errors import DefinitionError
from definitions.formats import parse
from definitions.matcher import Matcher, Rule, compile_version
from definitions.metric import (
    Aggregation,
    Comparison,
    Condition,
    EventSelector,
    Field,
    Measure,
    MetricVersion,
    Operator,
    Scope,
)
from pipeline.core.compiled import MODULE
from pipeline.core.fold import fold as core_fold
from pipeline.core.fold import rust
from pipeline.core.fold.fold import fold
from pipeline.core.fold.rust import RustFold
from pipeline.core.fold.spelled import (
    OPERAND,
    PATHS,
    PATTERN,
    TIMES,
    path_of,
    slow_tests,
    spelled,
)
from pipeline.core.id_index import IdIndex
from pipeline.core.state import PartitionState

from ..conformance.payloads import MAPPED
from ..services import ROOT
from ..world import World, deployment
from .test_native import plans, records_of, version_of

PAYLOADS: Final = ROOT / "tests/data/formats/payloads"
NEEDED: Final = pytest.mark.skipif(MODULE is None, reason="native/ is not built here")
# Of the computable definitions among the payloads, those of which Python has a share, and why.
SHARED: Final[Mapping[str, frozenset[str]]] = {
    "klaviyo_create_filter_string_nregex": frozenset({PATTERN}),
    "klaviyo_create_filter_string_regex": frozenset({PATTERN}),
    "klaviyo_variant_numeric_less_than_or_equal": frozenset({OPERAND}),
    "statsig_create_warehouse_funnel": frozenset({TIMES}),
    "statsig_variant_whn_funnel_options": frozenset({TIMES}),
}
COMPUTABLE: Final = {"klaviyo": 32, "metronome": 21, "statsig": 46}


@pytest.fixture(autouse=True)
def _little() -> Iterator[None]:
    """One record at a time, so that both take turns."""
    with patch.object(core_fold, "SLICE", 1):
        yield


@cache
def payloads() -> dict[str, tuple[str, MetricVersion]]:
    """Name → system and version of every definition of the payloads that a stream computes."""
    index = json.loads((PAYLOADS / "index.json").read_text())
    found = {}
    for name, entry in index.items():
        if (entry["expect"], entry["kind"]) != ("accept", "create_definition"):
            continue
        try:
            _, definition = parse(entry["system"], (PAYLOADS / f"{name}.json").read_text(), MAPPED)
        except DefinitionError:
            continue
        version = MetricVersion(
            metric_id=name, version=1, effective_from=None, definition=definition, digest=""
        )
        if compile_version(version):
            found[name] = entry["system"], version
    return found


def test_what_native_takes_of_each_system() -> None:
    """Of all computable payloads native/ takes every rule whole, but for the stated ones."""
    shared, computable = {}, Counter(system for system, _ in payloads().values())
    for name, (_, version) in payloads().items():
        slow = frozenset().union(*map(slow_tests, version.definition.measures))
        if slow:
            shared[name] = slow

    assert computable == COMPUTABLE
    assert shared == SHARED


@NEEDED
def test_every_rule_can_be_learned() -> None:
    """What Python calls fast is known to native/: no test of such a rule is left for any event."""
    for name, (_, version) in payloads().items():
        rules = compile_version(version)
        events = [line_of(n, aim, "e", {}) for n, aim in enumerate(aims(rules, number=Decimal(7)))]
        paths = paths_of(events, [version])
        assert sum(paths.values()) == len(events)
        # A value may be unreadable for a measure; what a test asks is never left.
        assert paths[path_of("both", "test")] == 0 or name in SHARED
        assert {path.split("/")[0] for path in paths} <= {"native", "both"}


def paths_of(lines: list[bytes], metrics: list[MetricVersion], homes: int = 1) -> Counter[str]:
    """Who folds events, when all are of one plan."""
    matcher = Matcher([rule for each in metrics for rule in compile_version(each)])
    settings = deployment(homes=homes)
    assert MODULE is not None
    native = RustFold(MODULE, 0, settings, matcher)
    with patch.object(core_fold, "SLICE", 512):
        fold(
            records_of([(line, 0) for line in lines]),
            partition=0,
            state=PartitionState("s", "t", 0, 0),
            deployment=settings,
            matcher=matcher,
            index=IdIndex(),
            native=native,
        )
    return +native.paths


# -- events that aim at definitions ---------------------------------------------------------------

# A null operand holds for no event; a pattern is no text that it finds.
UNCOUNTED: Final = {
    "klaviyo_create_filter_string_equals_null_value",
    "klaviyo_variant_list_null_operand",
    "klaviyo_create_filter_string_regex",
}
V: Final = Field(source="property", key="v")
VALUE_OR_V: Final = Field(source="value", key="v")
ODD_VALUES: Final[list[Any]] = [
    *(None, True, False, [], {}, "", "x", "é", '"\\', "TRUE", "1e3", "7", " 7", "x" * 300),
    *(0, 7, -3, 1.5, 10**20, 10**70, 1e-12, ["x", 7, None, [1]], {"a": ["b"]}),
]
Aim = dict[Field, Any]
HOLDER_OF: Final = {"user": "user", "user_custom": "custom", "custom_id": "custom_ids"}


def fields_of(rules: tuple[Rule, ...]) -> dict[Field, list[Any]]:
    """Every field that rules read, and the operands that it is compared with."""
    found: dict[Field, list[Any]] = defaultdict(list)
    for rule in rules:
        for field in rule.fields:
            found[field] += []
        for condition in rule.measure.where:
            found[condition.field] += condition.operands
    return found


def types_of(rules: tuple[Rule, ...]) -> list[str]:
    """The event types that rules name, and another one."""
    named = {name for rule in rules for name in rule.measure.events.include or ()}
    return [*sorted(named), "another"]


def plain(operand: Any) -> Any:
    return float(operand) if isinstance(operand, Decimal) else operand


def near(operand: Any) -> list[Any]:
    """An operand as a value, and values that are nearly it."""
    value = plain(operand)
    if isinstance(value, str) and value.isdigit():
        return [value, *near(int(value))]
    if isinstance(value, str):
        return [value, f"{value}x", f"x{value}", value[:-1], [value], ["x", value], value.upper()]
    if type(value) in {int, float}:
        return [value, str(value), value + 1, value - 1, [value], [str(value), value + 1]]
    return [value]


def aims(rules: tuple[Rule, ...], number: Any) -> Iterator[Aim]:
    """Values of all fields: nearly every operand of each, and a number where there is none."""
    fields = fields_of(rules)
    usual = {field: plain((operands or [number])[0]) for field, operands in fields.items()}
    yield usual
    for field, operands in fields.items():
        yield {each: value for each, value in usual.items() if each != field}
        for operand in [*operands[:5], True, False]:
            for value in near(operand):
                yield {**usual, field: value}


def body_of(aim: Aim) -> dict[str, Any]:
    """The members of an event in which fields have these values."""
    properties: dict[str, Any] = {}
    context: dict[str, Any] = {}
    for field, value in aim.items():
        if field.source == "property":
            properties[str(field.key)] = value
        elif field.source == "value":
            context["value"] = value
        elif field.source not in {"customer_id", "time"}:
            context.setdefault(HOLDER_OF[field.source], {})[field.key] = value
    return {"properties": properties, "context": context}


def line_of(number: int | str, aim: Aim, event_type: str, more: dict[str, Any]) -> bytes:
    """An event that aims."""
    members: dict[str, Any] = {
        "transaction_id": f"t{number}",
        "customer_id": "c",
        "event_type": event_type,
        "timestamp": "2026-03-01T11:30:00Z",
        **body_of(aim),
        **more,
    }
    return json.dumps(members).encode()


@NEEDED
@pytest.mark.parametrize("system", ["klaviyo", "metronome", "statsig"])
@given(st.data())
def test_plans_of_every_system_are_those_of_python(system: str, data: st.DataObject) -> None:
    """Under any definitions of the payloads, events that aim at them make the same plans."""
    every = [version for own, version in payloads().values() if own == system]
    metrics = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=3, unique_by=id))
    rules = tuple(rule for version in metrics for rule in compile_version(version))
    values = {
        field: st.sampled_from([*(each for one in seen for each in near(one)), *ODD_VALUES])
        for field, seen in fields_of(rules).items()
    }
    stream = data.draw(
        st.lists(
            st.tuples(
                st.fixed_dictionaries({}, optional=values),
                st.sampled_from(types_of(rules)),
                st.integers(0, 9),
                st.sampled_from(["a", "b", 'ü"1']),
                st.sampled_from(["2026-03-01T11:30:00Z", "2026-02-28T23:59:59.9Z"]),
            ),
            max_size=12,
        )
    )
    lines = [
        line_of(number, aim, event_type, {"customer_id": customer, "timestamp": stamp})
        for aim, event_type, number, customer, stamp in stream
    ]
    records = records_of([(line, 0) for line in lines])

    assert plans(records, metrics, native=True) == plans(records, metrics, native=False)


@NEEDED
def test_plans_of_all_payloads_are_those_of_python() -> None:
    """Each definition under events that meet, and nearly meet, every operand of it."""
    uncounted = set()
    for name, (_, version) in payloads().items():
        rules = compile_version(version)
        lines = [
            line_of(f"{event_type}{number}", aim, event_type, {})
            for event_type in types_of(rules)
            for number, aim in enumerate(aims(rules, number=7))
        ]
        records = records_of([(line, 0) for line in lines])
        found = plans(records, [version], native=False)
        assert plans(records, [version], native=True) == found, name
        if not found[-1][0].counters["counted"]:
            uncounted.add(name)

    assert uncounted == UNCOUNTED


@NEEDED
def test_books_of_all_payloads_are_those_of_python() -> None:
    """The store holds the same bytes of each definition, whoever folded, merged and encoded."""
    for name, (_, version) in payloads().items():
        rules = compile_version(version)
        lines = [
            line_of(f"{event_type}{number}", aim, event_type, {"customer_id": f"c{number % 3}"})
            for event_type in types_of(rules)
            for number, aim in enumerate(aims(rules, number=7))
        ]
        books = []
        for native in (MODULE, None):
            world = World(metrics={name: version.definition}, native=native)
            world.append(lines)
            asyncio.run(world.apply([len(lines) // 3, len(lines) // 2]))
            books.append(asyncio.run(world.book()))
        assert books[0] == books[1], name
        assert books[0].cells or books[0].elements or name in UNCOUNTED


CONTEXTS: Final = [
    b'{"user": {"id": "a"}, "user": {"x": 1}}',
    b'{"user": {"id": "a"}, "user": null}',
    b'{"user": null, "user": {"id": "a"}}',
    b'{"user": {"id": "a", "id": "b"}, "value": 1, "value": 2}',
    b'{"user": {"id": "a"}, "value": 1, "value": null}',
    b'{"us\\u0065r": {"i\\u0064": "a"}, "value": 1}',
    b'{"user": {"id": "a"}, "custom": {"id": "b"}, "custom_ids": {"id": "d"}, "value": 3}',
    b'{"custom_ids": {"id": "a"}, "custom_ids": []}',
    b'{"user": [], "custom": "x", "custom_ids": 7, "value": "8"}',
    b'{"user": {"id": %s}, "value": 1}' % (b"[" * 29 + b"]" * 29),
    b'{"user": {"id": %s}, "value": 1}' % (b"[" * 30 + b"]" * 30),
    b'{"value": %s}' % (b"[" * 30 + b"]" * 30),
    b'{"value": %s}' % (b"[" * 31 + b"]" * 31),
    b'{"user": {}, "value": []}',
    b'{"user": {"id": "a"},}',
    b'{"user": {"id": "a",}}',
    b'{"user": {"id" "a"}}',
    b'{"user": {"id": "a"}, "value": 01}',
    b'{"user": {"id": "a"}} ',
    b"{} ",
    b"[]",
    b"null",
    b"7",
]


@pytest.mark.parametrize("context", CONTEXTS)
def test_odd_contexts_are_those_of_python(context: bytes) -> None:
    """Members that are there twice, are of another kind, or are nested deeply."""
    metrics = [
        rule_of(
            f"{source}", aggregation=kind, field=VALUE_OR_V, unit=Field(source=source, key="id")
        )
        for source, kind in (
            ("user", Aggregation.SUM),
            ("user_custom", Aggregation.UNIQUE),
            ("custom_id", Aggregation.MAX),
        )
    ]
    line = line_of(1, {V: 5}, "e", {"context": "?"}).replace(b'"?"', context)
    records = records_of([(line, 0), (line[:-1], 0), (line_of(2, {V: 5}, "e", {}), 0)])

    assert plans(records, metrics, native=True) == plans(records, metrics, native=False)


# -- Python's share -------------------------------------------------------------------------------


def rule_of(name: str, *where: Condition, **members: Any) -> MetricVersion:
    """A version that counts events of type e, of everybody, unless said otherwise."""
    scope = members.pop("scope", Scope.DEPLOYMENT)
    dimensions = members.pop("dimensions", ())
    measure = Measure(
        name="m",
        events=EventSelector(include=("e",)),
        where=where,
        **{"aggregation": Aggregation.COUNT, **members},
    )
    return version_of(name, measure, scope=scope, dimensions=dimensions)


def condition(
    operator: Operator, *operands: Any, comparison: Comparison, key: str = "v", **members: Any
) -> Condition:
    return Condition(
        field=members.pop("field", Field(source="property", key=key)),
        operator=operator,
        operands=operands,
        comparison=comparison,
        **{"if_unknown": False, **members},
    )


PATTERNED: Final = condition(Operator.MATCHES, "^x", comparison=Comparison.STRING)


@NEEDED
def test_python_has_a_share_of_an_event_not_the_whole() -> None:
    """One rule with a pattern beside others: its share alone is Python's, and fates stay right."""
    metrics = [
        rule_of(
            "pattern", PATTERNED, aggregation=Aggregation.UNIQUE, field=V, dimensions=(("g",),)
        ),
        rule_of("plain", condition(Operator.EQUAL, "plain", comparison=Comparison.STRING)),
        rule_of("sum", aggregation=Aggregation.SUM, field=Field(source="property", key="n")),
    ][:2]
    seen = ["x1", "x2", "plain", "other", "x1", "plain"]
    lines = [
        line_of(number, {V: value, Field(source="property", key="g"): "é"}, "e", {})
        for number, value in enumerate(seen)
    ]
    lines += lines[:3]  # duplicates are nobody's
    records = records_of([(line, 0) for line in lines])

    assert paths_of(lines, metrics) == {"both/test": 6, "native/": 3}
    (*_, last) = plans(records, metrics, native=True)
    assert plans(records, metrics, native=True) == plans(records, metrics, native=False)
    fates = {name: last[0].counters[name] for name in ("counted", "unmatched", "duplicate")}
    assert fates == {"counted": 5, "unmatched": 1, "duplicate": 3}


@NEEDED
@pytest.mark.parametrize(
    ("why", "version", "value"),
    [
        ("test", rule_of("m", PATTERNED), "x"),
        (
            "test",
            rule_of("m", condition(Operator.LESS, 10**18, comparison=Comparison.NUMBER)),
            7,
        ),
        (
            "number",
            rule_of("m", condition(Operator.LESS, 10, comparison=Comparison.NUMBER)),
            10**18,
        ),
        ("number", rule_of("m", aggregation=Aggregation.SUM, field=V), "1e20"),
        ("unreadable", rule_of("m", aggregation=Aggregation.SUM, field=V), "seven"),
        ("unreadable", rule_of("m", aggregation=Aggregation.UNIQUE, field=V), [1]),
        ("name", rule_of("m", dimensions=(("v",),)), "x" * 257),
        ("name", rule_of("m", unit=V), "x" * 257),
    ],
)
def test_every_reason_of_a_share(why: str, version: MetricVersion, value: Any) -> None:
    """Each stated reason is told where it is one, and nothing else changes."""
    lines = [line_of(number, {V: value}, "e", {}) for number in range(3)]
    records = records_of([(line, 0) for line in lines])

    assert paths_of(lines, [version]) == {path_of("both", why): 3}
    assert plans(records, [version], native=True) == plans(records, [version], native=False)


@NEEDED
@pytest.mark.parametrize(
    ("why", "line"),
    [
        ("form", b"{"),
        ("timestamp", line_of(1, {}, "e", {"timestamp": "yesterday"})),
        ("age", line_of(1, {}, "e", {"timestamp": "2020-01-01T00:00:00Z"})),
        ("age", line_of(1, {}, "e", {"timestamp": "2030-01-01T00:00:00Z"})),
    ],
)
def test_every_reason_of_an_odd_event(why: str, line: bytes) -> None:
    """What Python folds whole is told with the reason of its slice."""
    first = line_of(0, {}, "e", {})
    assert paths_of([first, line], [rule_of("m")]) == {"native/": 1, path_of("python", why): 1}
    assert why in PATHS["python"]


@NEEDED
def test_a_value_of_null_is_none() -> None:
    """The property that stands for it is read instead, and nothing is left to Python."""
    version = rule_of("m", aggregation=Aggregation.SUM, field=VALUE_OR_V)
    body = {"properties": {"v": 5}, "context": {"value": None}}
    records = records_of([(line_of(1, {}, "e", body), 0)])

    assert paths_of([line_of(1, {}, "e", body)], [version]) == {"native/": 1}
    assert plans(records, [version], native=True) == plans(records, [version], native=False)


@pytest.mark.parametrize("native", [True, False])
def test_equal_operands_of_two_kinds_are_two_tests(native: bool) -> None:
    """1 and True are equal in Python: rules that differ in nothing else count other events."""
    metrics = [
        rule_of(f"m{wanted}", condition(Operator.EQUAL, wanted, comparison=Comparison.TEXT))
        for wanted in (1, True)
    ]
    lines = [line_of(number, {V: text}, "e", {}) for number, text in enumerate(["1", "1", "true"])]
    (plan,) = plans(records_of([(line, 0) for line in lines]), metrics, native=native, batch=512)

    assert {cell.measure: text for cell, text in plan[1].items()} == {
        "m1#1.0": "2",
        "mTrue#1.0": "1",
    }


@pytest.mark.parametrize("native", [True, False])
def test_a_grouping_set_without_fields_has_one_group(native: bool) -> None:
    """No format makes one, but a body on the control log may have it."""
    version = rule_of("m", dimensions=((), ("g",)))
    lines = [line_of(number, {V: 1}, "e", {}) for number in range(2)]
    (plan,) = plans(records_of([(line, 0) for line in lines]), [version], native=native, batch=512)

    groups = {(cell.grouping_set, cell.groups): text for cell, text in plan[1].items()}
    assert groups == {(0, ()): "2", (1, ()): "2", (2, (None,)): "2"}


@NEEDED
def test_an_event_away_from_home_is_odd() -> None:
    """Its customer lives in another partition: whether it counts is for Python to say."""
    names = [f"c{number}" for number in range(20)]
    lines = [line_of(name, {}, "e", {"customer_id": name}) for name in names]
    paths = paths_of(lines, [rule_of("m")], homes=2)

    assert set(paths) == {"native/", "python/home"}
    assert paths.total() == 20


@NEEDED
def test_event_types_beyond_the_limit_are_odd() -> None:
    """native/ learns 4,096 event types; all others count as well."""
    lines = [line_of(number, {}, f"e{number}", {}) for number in range(4_097)]

    assert paths_of(lines, [rule_of("m")]) == {"native/": 4_096, "python/event_type": 1}


@NEEDED
def test_a_share_counts_towards_the_cells_of_a_plan() -> None:
    """A plan of which all cells are Python's is cut like any other, after some more events."""
    version = rule_of("m", PATTERNED, unit=V)
    lines = [line_of(number, {V: f"x{number}"}, "e", {}) for number in range(1_000)]
    with patch.object(core_fold, "CELLS_MAX", 300), patch.object(core_fold, "SLICE", 10):
        found = plans(records_of([(line, 0) for line in lines]), [version], native=True)

    sizes = [len(plan[1]) for plan in found]
    assert sum(sizes) == 1_000
    assert max(sizes) < 300 + 130
    assert len(found) > 2


# -- a broken rule is noticed ---------------------------------------------------------------------

RICH: Final = rule_of(
    "rich",
    condition(Operator.IN, "x", "7", comparison=Comparison.TEXT, key="t"),
    condition(
        Operator.GREATER, Decimal("1.5"), comparison=Comparison.NUMBER, strict=True, key="n"
    ),
    condition(Operator.NO_ELEMENT_EQUAL, 7, comparison=Comparison.LIST, key="l", if_unknown=True),
    condition(Operator.IS_TRUE, comparison=Comparison.BOOLEAN, key="b"),
    condition(Operator.EQUAL, "7.0", comparison=Comparison.NUMBER_OR_TEXT, key="m"),
    aggregation=Aggregation.SUM,
    field=VALUE_OR_V,
    numeric_text=False,
    unit=Field(source="user", key="id"),
    dimensions=(("g",), ("h",)),
)
Broken = Callable[[dict[str, Any]], object]


def a_test(at: int, **changes: Any) -> Broken:
    return lambda made: made["tests"][at].update(changes)


@NEEDED
@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda made: made.update(kind="max"), id="another aggregation"),
        pytest.param(lambda made: made.update(numeric_text=True), id="text is a number"),
        pytest.param(lambda made: made.update(field=("value", None)), id="no other property"),
        pytest.param(lambda made: made.update(field=("property", "v")), id="no event value"),
        pytest.param(lambda made: made.update(unit=None), id="no unit"),
        pytest.param(lambda made: made.update(unit=("custom_id", "id")), id="another unit"),
        pytest.param(lambda made: made.update(from_ns=2**62), id="another begin"),
        pytest.param(lambda made: made.update(grouping_sets=[]), id="no groups"),
        pytest.param(lambda made: made["grouping_sets"].reverse(), id="other groups"),
        pytest.param(lambda made: made["tests"].pop(0), id="no first test"),
        pytest.param(lambda made: made["tests"].pop(2), id="no test of a list"),
        pytest.param(a_test(0, texts=["x"]), id="an operand less"),
        pytest.param(a_test(0, comparison="string"), id="no text forms"),
        pytest.param(a_test(0, operator="not_in"), id="the contrary"),
        pytest.param(a_test(1, strict=False), id="text is compared as a number"),
        pytest.param(a_test(1, number="1.4"), id="another operand"),
        pytest.param(a_test(1, operator="greater_or_equal"), id="another border"),
        pytest.param(a_test(2, if_unknown=False), id="another unknown"),
        pytest.param(a_test(2, number=None, texts=["7"]), id="a text is a number"),
        pytest.param(a_test(3, strict=True), id="text is no boolean"),
        pytest.param(a_test(4, comparison="text"), id="numbers as texts"),
    ],
)
def test_a_broken_rule_is_noticed(break_it: Broken) -> None:
    """The comparison of plans finds each of these faults: it is no test that cannot fail."""
    good: dict[str, Any] = {
        "properties": {"t": "x", "n": 2, "b": True, "m": 7, "g": "a", "h": "b", "v": 3, "l": []},
        "context": {"user": {"id": "u"}},
    }
    changed: list[dict[str, Any]] = [
        *({"t": 7}, {"t": True}, {"t": "y"}, {"n": "2"}, {"n": 1.5}, {"n": 1.45}, {"n": None}),
        *({"l": [7]}, {"l": ["7"]}, {"l": None}, {"l": 7}, {"b": "true"}, {"b": False}),
        *({"m": "7.00"}, {"m": "x"}, {"v": "3"}, {"v": None}),
    ]
    bodies = [
        good,
        {**good, "context": {"user": {"id": "u"}, "value": 5}},
        {**good, "context": {}},
    ]
    bodies += [{**good, "properties": {**good["properties"], **each}} for each in changed]
    records = records_of(
        [(line_of(number, {}, "e", body), 0) for number, body in enumerate(bodies)]
    )
    right = plans(records, [RICH], native=False)
    assert plans(records, [RICH], native=True) == right

    def broken(rule: Rule) -> dict[str, Any]:
        made = spelled(rule)
        break_it(made)
        return made

    with patch.object(rust, "spelled", broken):
        assert plans(records, [RICH], native=True) != right


@NEEDED
@pytest.mark.parametrize("comparison", Comparison)
def test_slow_tests_are_those_that_native_leaves(comparison: Comparison) -> None:
    """Of every operator: native/ leaves a test for no event, or it is named as a slow one."""
    operands: list[tuple[Any, ...]] = [
        *((), ("x",), ("x", "7"), (7,), (True,), ("false",), (None,)),
        *((10**18 - 1,), (10**18,), (Decimal("0.123456789"),), (Decimal("0.1234567891"),)),
        *(("1" * 18,), ("1" * 19,), (10**70,), ("1e70",)),
    ]
    seen = 0
    for operator in Operator:
        for wanted in operands:
            try:
                version = rule_of("m", condition(operator, *wanted, comparison=comparison))
                compile_version(version)
            except ValueError:
                continue
            (measure,) = version.definition.measures
            lines = [line_of(0, {V: "7"}, "e", {}), line_of(1, {V: ["x"]}, "e", {})]
            left = paths_of(lines, [version])[path_of("both", "test")]
            assert bool(left) == bool(slow_tests(measure)), (operator, wanted)
            seen += 1

    assert seen > 5


def test_slow_tests_are_named() -> None:
    """A pattern and an operand that is too long are told by their names; others are fast."""
    long = condition(Operator.LESS, 10**18, comparison=Comparison.NUMBER)
    short = condition(Operator.LESS, 10**18 - 1, comparison=Comparison.NUMBER)
    (measure,) = rule_of("m", PATTERNED, long, short).definition.measures
    assert slow_tests(measure) == {PATTERN, OPERAND}
    (measure,) = rule_of("m", short).definition.measures
    assert slow_tests(measure) == frozenset()
