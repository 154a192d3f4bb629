"""What a definition may make a worker do: limits when it is taken, linear cost after."""

import asyncio
import json
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from definitions.errors import DefinitionError, Problem
from definitions.formats import parse
from definitions.formats.bodies import parse_json
from definitions.limits import (
    BYTES_MAX,
    CONDITIONS_MAX,
    NAME_CHARS_MAX,
    OPERANDS_MAX,
    SCANNED_MAX,
    SQL_CHARS_MAX,
)
from definitions.matcher import compile_matcher
from definitions.metric import (
    Aggregation,
    Class,
    Definition,
    EventSelector,
    Measure,
    MetricVersion,
    Origin,
    Result,
    Scope,
)
from pipeline.control import writer
from pipeline.control.log import ControlLog
from pipeline.edges.clock import SetClock

from ..world import FIVE, NOW, World, body

WORDS = [f"{n:05}" for n in range(62_000)]
SQL = "SELECT COUNT(*) AS value FROM events WHERE "


def metronome(**members: Any) -> tuple[str, dict[str, Any]]:
    """A body of Metronome."""
    return "metronome", {"name": "m", "aggregation_type": "COUNT", **members}


def sql(text: str) -> tuple[str, dict[str, Any]]:
    """An SQL metric."""
    return "metronome", {"name": "m", "sql": text}


def klaviyo(*filters: dict[str, Any], **group: Any) -> tuple[str, dict[str, Any]]:
    """A custom metric with filters on p."""
    held = {"metric_id": "E", "metric_filters": [{"property": "p", "filter": f} for f in filters]}
    made = {"aggregation_method": "count", "metric_groups": [{**held, **group}]}
    attributes = {"name": "m", "definition": made}
    return "klaviyo", {"data": {"type": "custom-metric", "attributes": attributes}}


def statsig(**members: Any) -> tuple[str, dict[str, Any]]:
    """A sum of Statsig."""
    made = {"name": "metric", "type": "sum", "unitTypes": ["userID"], **members}
    return "statsig", {"metricEvents": [{"name": "E"}], **made}


def nested(levels: int) -> Any:
    """Lists inside each other."""
    made: Any = []
    for _ in range(levels):
        made = [made]
    return made


def criterion(condition: str, *values: str) -> dict[str, Any]:
    """A criterion of Statsig."""
    return {"type": "metadata", "column": "p", "condition": condition, "values": list(values)}


CASES: list[tuple[str, str, tuple[str, dict[str, Any]]]] = [
    (
        "LIMIT-ITEMS",
        "/event_type_filter/in_values",
        metronome(event_type_filter={"in_values": [w[:3] for w in WORDS[: OPERANDS_MAX + 1]]}),
    ),
    ("LIMIT-BYTES", "", metronome(event_type_filter={"in_values": WORDS})),
    (
        "LIMIT-OPERANDS",
        "",
        metronome(
            event_type_filter={"in_values": WORDS[:6_000]},
            property_filters=[{"name": "p", "not_in_values": WORDS[:6_000]}],
        ),
    ),
    (
        "LIMIT-ITEMS",
        "/group_keys",
        metronome(property_filters=[{"name": "g", "exists": True}], group_keys=[["g"]] * 51),
    ),
    (
        "LIMIT-ITEMS",
        "/group_keys/0",
        metronome(property_filters=[{"name": "g", "exists": True}], group_keys=[["g"] * 21]),
    ),
    ("LIMIT-ITEMS", "/property_filters", metronome(property_filters=[{"name": "p"}] * 201)),
    ("LIMIT-NAME", "/name", metronome(name="x" * 2_000)),
    (
        "LIMIT-NAME",
        "/property_filters/0/name",
        metronome(property_filters=[{"name": "p" * 1_025}]),
    ),
    ("LIMIT-NESTING", "", metronome(custom_fields=nested(40))),
    ("LIMIT-SQL", "/sql", sql(SQL + " AND ".join(["a = 1"] * 3_000))),
    ("LIMIT-SQL", "/sql", sql(SQL + f"event_type IN ({','.join(repr(w) for w in WORDS[:9000])})")),
    (
        "LIMIT-ITEMS",
        "/data/attributes/definition/metric_groups/0/metric_filters/0/filter/value",
        klaviyo({"type": "string", "operator": "in", "value": WORDS[: OPERANDS_MAX + 1]}),
    ),
    ("LIMIT-ITEMS", "/metricEvents", statsig(metricEvents=[{"name": "E"}] * 101)),
    ("LIMIT-ITEMS", "/unitTypes", statsig(unitTypes=["u"] * 21)),
    (
        "LIMIT-SCANS",
        "",
        statsig(
            metricEvents=[{"name": "E", "criteria": [criterion("contains", *WORDS[:201])]}],
        ),
    ),
    (
        "LIMIT-CONDITIONS",
        "",
        statsig(metricEvents=[{"name": "E", "criteria": [criterion("in", "x")] * 101}] * 5),
    ),
]


def problems_of(case: tuple[str, dict[str, Any]]) -> list[Problem]:
    """Why a body is refused."""
    with pytest.raises(DefinitionError) as refused:
        parse(case[0], json.dumps(case[1], separators=(",", ":")))
    return list(refused.value.problems)


@pytest.mark.parametrize(("rule", "pointer", "case"), CASES)
def test_what_is_too_large_is_refused(
    rule: str, pointer: str, case: tuple[str, dict[str, Any]]
) -> None:
    """A limit names its rule, the place and the number that it allows."""
    (problem,) = problems_of(case)
    assert (problem.rule, problem.pointer) == (rule, pointer)
    assert "at most" in problem.message


def test_what_fits_is_taken() -> None:
    """The limits themselves are allowed."""
    parse("metronome", json.dumps(metronome(event_type_filter={"in_values": WORDS[:10_000]})[1]))
    parse("metronome", json.dumps(metronome(name="x" * NAME_CHARS_MAX)[1]))
    scans = [{"name": "E", "criteria": [criterion("contains", *WORDS[:SCANNED_MAX])]}]
    parse("statsig", json.dumps(statsig(metricEvents=scans)[1]))
    many = [{"name": "E", "criteria": [criterion("in", "x")] * (CONDITIONS_MAX // 5)}] * 5
    parse("statsig", json.dumps(statsig(metricEvents=many)[1]))
    assert BYTES_MAX > 10_000 * 10


@pytest.mark.parametrize(
    "where",
    [
        " AND ".join(["properties.a = '1'"] * 700),
        " OR ".join(["properties.a = '1'"] * 700),
        "(" * 3_000 + "properties.a = '1'" + ")" * 3_000,
        "NOT " * 3_000 + "properties.a = '1'",
        "properties.a = " + "- " * 3_000 + "1",
        "properties.a > 1e99999999999999999999",
        "properties.a > 1e999",
        "properties.a > " + "9" * 5_000,
        "properties.a = '1' GROUP BY " + "9" * 5_000,
    ],
)
def test_any_statement_is_kept_or_translated(where: str) -> None:
    """A statement that is deep, long or has a monstrous number is kept with a reason, or fits."""
    assert len(SQL + where) < SQL_CHARS_MAX
    system, body = sql(SQL + where)
    try:
        _, definition = parse(system, json.dumps(body))
    except DefinitionError as error:
        assert {each.rule for each in error.problems} <= {"LIMIT-CONDITIONS"}  # noqa: PT017
    else:
        # Alternatives of one text are a list, however many there are.
        assert definition.reasons or " OR " in where
        assert len("".join(definition.reasons[:1])) <= 500


@pytest.mark.parametrize(
    "number", ["1e99999999999999999999", "1e999999999", "-1e-999999999", "1" + "0" * 5_000]
)
def test_a_monstrous_number_is_refused(number: str) -> None:
    """A number outside C04 is refused where it stands, or as no JSON."""
    native = json.dumps(
        statsig(type="user_warehouse", warehouseNative={"aggregation": "sum", "cap": 1})[1]
    ).replace('"cap": 1', f'"cap": {number}')
    with pytest.raises(DefinitionError) as refused:
        parse("statsig", native)
    assert {each.rule for each in refused.value.problems} <= {"LIMIT-NUMBER", "JSON"}
    with pytest.raises(DefinitionError):
        parse("metronome", f'{{"name":"m","aggregation_type":"COUNT","x":{number}}}')


@pytest.mark.parametrize("levels", [201, 900, 4_000, 100_000])
def test_deep_json_is_refused(levels: int) -> None:
    """A body nested deeper than 200 levels is refused, whoever reads it and however deep."""
    for text in ("[" * levels + "]" * levels, '{"a":' * levels + "1" + "}" * levels):
        with pytest.raises(DefinitionError) as refused:
            parse_json(text)
        assert [each.rule for each in refused.value.problems] == ["JSON"]


def test_a_pattern_that_compiles_to_much_is_refused() -> None:
    """Few characters can stand for 150,000 steps of RE2: K-REGEX says how many are allowed."""
    small = {"type": "string", "operator": "regex", "value": "(a|b){100}"}
    parse("klaviyo", json.dumps(klaviyo(small)[1]))
    (problem,) = problems_of(klaviyo({**small, "value": r"((\pL{5}){5}){5}"}))
    assert problem.rule == "K-REGEX"
    assert "at most 20,000 steps" in problem.message


def cost_of(operands: int, others: int = 0) -> int:
    """How many lines of Python compiling and asking run, for a definition of so many types.

    Lines are counted, not seconds: a busy machine changes nothing. A comparison inside a builtin
    is no line, so the types themselves count theirs.
    """
    _Counted.compared = 0
    measures = [
        Measure(
            name="m0",
            events=EventSelector.model_construct(
                include=tuple(_Counted(word) for word in WORDS[:operands]), exclude=None
            ),
            aggregation=Aggregation.COUNT,
        )
    ]
    versions = [
        MetricVersion(
            metric_id=f"m{number}",
            version=1,
            effective_from=None,
            definition=Definition.model_construct(
                scope=Scope.CUSTOMER,
                origin=Origin(format="metronome", text="{}"),
                measures=tuple(measures) if number == 0 else (_any_type(),),
                result=Result(args=("m0",)),
                dimensions=(),
                execution=Class.INCREMENTAL,
                reasons=(),
            ),
            digest="",
        )
        for number in range(1 + others)
    ]
    lines = 0

    def count(frame: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        return count

    sys.settrace(count)
    try:
        matcher = compile_matcher(versions)
        matcher.candidates(WORDS[0])
        matcher.candidates("other")
    finally:
        sys.settrace(None)
    return lines + _Counted.compared


def _any_type() -> Measure:
    return Measure(name="m0", events=EventSelector(), aggregation=Aggregation.COUNT)


class _Counted(str):
    """A text that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        _Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_ten_times_the_operands_cost_ten_times() -> None:
    """Compiling is linear in what a definition lists, also beside metrics of every event type."""
    assert cost_of(20_000) < 15 * cost_of(2_000)
    # 62,000 types beside 50 metrics of all types: no table of both.
    assert cost_of(20_000, others=50) < 2 * (cost_of(20_000) + cost_of(1, others=50))


def test_metrics_and_versions_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """One metric too many, and one version too many: refused before anything is written."""
    state = World().control
    assert state.identity is not None
    control = cast("ControlLog", SimpleNamespace(state=state))
    made = writer.Writer(control, state.identity, SetClock(NOW))
    found = state.metrics["COUNT"]
    monkeypatch.setattr(writer, "METRICS_MAX", len(state.metrics))
    monkeypatch.setattr(writer, "VERSIONS_MAX", 1)

    with pytest.raises(DefinitionError) as refused:
        asyncio.run(made.create("one more", FIVE["COUNT"], None))
    assert [problem.rule for problem in refused.value.problems] == ["LIMIT-METRICS"]

    other = json.dumps(body("max", "COUNT"))
    with pytest.raises(DefinitionError) as refused:
        asyncio.run(made.update(found, other, "now"))
    assert [problem.rule for problem in refused.value.problems] == ["LIMIT-VERSIONS"]
