"""Every rule for refusing a Metronome definition, at the pointer it names (docs/formats.md 8)."""

import json
from typing import Any

import pytest

from definitions.errors import DefinitionError
from definitions.formats import metronome
from definitions.metric import Class

SUM = {"name": "x", "aggregation_type": "SUM", "aggregation_key": "a"}
A = {"name": "a", "exists": True}


def count(**members: Any) -> dict[str, Any]:
    """A COUNT metric."""
    return {"name": "x", "aggregation_type": "COUNT", **members}


REFUSED: list[tuple[str, str, Any]] = [
    ("M-TYPE", "", []),
    ("M-REQ", "/name", {"aggregation_type": "COUNT"}),
    ("M-TYPE", "/name", {"name": 7, "aggregation_type": "COUNT"}),
    ("NAME-BLANK", "/name", {"name": " ", "aggregation_type": "COUNT"}),
    ("M-UNKNOWN", "/aggregationKey", count(aggregationKey="n")),
    ("M-UNKNOWN", "/a~1b", count(**{"a/b": 1})),
    ("M-AGG-REQUIRED", "/aggregation_type", {"name": "x"}),
    ("M-AGG", "/aggregation_type", {"name": "x", "aggregation_type": "sUM"}),
    ("M-COUNT-KEY", "/aggregation_key", count(aggregation_key="a", property_filters=[A])),
    ("M-KEY-REQUIRED", "/aggregation_key", {"name": "x", "aggregation_type": "MAX"}),
    ("M-KEY-FILTER", "/aggregation_key", {**SUM, "property_filters": [{"name": "A"}]}),
    (
        "M-KEY-EXISTS-FALSE",
        "/aggregation_key",
        {**SUM, "property_filters": [{"name": "a", "exists": False}]},
    ),
    ("M-LIST-EMPTY", "/event_type_filter/in_values", count(event_type_filter={"in_values": []})),
    (
        "M-LIST-EMPTY",
        "/property_filters/0/not_in_values",
        count(property_filters=[{"name": "a", "not_in_values": []}]),
    ),
    (
        "M-TYPE",
        "/property_filters/0/in_values",
        count(property_filters=[{"name": "a", "in_values": [1]}]),
    ),
    (
        "M-TYPE",
        "/property_filters/0/exists",
        count(property_filters=[{"name": "a", "exists": "yes"}]),
    ),
    ("M-REQ", "/property_filters/1/name", count(property_filters=[A, {"exists": True}])),
    (
        "M-EXISTS-CONTRADICTION",
        "/property_filters/0",
        count(property_filters=[{"name": "a", "exists": False, "in_values": ["b"]}]),
    ),
    ("M-GROUP-SHAPE", "/group_keys", count(property_filters=[A], group_keys=["a"])),
    ("M-GROUP-EMPTY", "/group_keys/0", count(group_keys=[[]])),
    ("M-GROUP-KEY", "/group_keys/0", count(property_filters=[A], group_keys=[["b"]])),
    (
        "M-GROUP-KEY-EXISTS",
        "/group_keys/0",
        count(property_filters=[{"name": "a"}], group_keys=[["a"]]),
    ),
    ("M-TYPE", "/custom_fields", count(custom_fields={"a": 1})),
    ("M-SQL-BLANK", "/sql", {"name": "x", "sql": " \n"}),
    ("M-SQL-EXCLUSIVE", "/sql", count(sql="SELECT 1")),
    ("M-TYPE", "/sql", {"name": "x", "sql": None}),
]


@pytest.mark.parametrize(("rule", "pointer", "body"), REFUSED)
def test_refused(rule: str, pointer: str, body: Any) -> None:
    """A body that breaks one rule (of lists: CM5) is refused for it, at the member at fault."""
    with pytest.raises(DefinitionError) as refused:
        metronome.parse(json.dumps(body))

    assert [(problem.rule, problem.pointer) for problem in refused.value.problems] == [
        (rule, pointer)
    ]


def test_all_problems_at_once() -> None:
    """Independent problems are reported together (docs/formats.md 3.6)."""
    body = {**SUM, "property_filters": [], "group_keys": [["g"]], "name": ""}

    with pytest.raises(DefinitionError) as refused:
        metronome.parse(json.dumps(body))

    rules = {problem.rule for problem in refused.value.problems}
    assert rules == {"M-KEY-FILTER", "M-GROUP-KEY", "NAME-BLANK"}


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"name": NaN}', '"\\ud800"', "[" * 100_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    """Text that is no JSON is refused with a rule of its own."""
    with pytest.raises(DefinitionError) as refused:
        metronome.parse(text)

    assert refused.value.problems[0].rule in {"JSON", "M-TYPE"}


@pytest.mark.parametrize(
    "body",
    [
        count(event_type_filter={}),
        count(event_type_filter={"in_values": None}),
        count(property_filters=[{"name": "a", "exists": None}]),
        count(property_filters=[A, {"name": "a", "in_values": ["x"], "not_in_values": ["x"]}]),
        {**SUM, "aggregation_type": "Unique", "property_filters": [{"name": "a"}]},
        {**SUM, "aggregation_type": "latest", "property_filters": [A], "group_keys": [["a", "a"]]},
    ],
)
def test_accepted(body: dict[str, Any]) -> None:
    """What the rules allow is taken and can be computed."""
    name, definition = metronome.parse(json.dumps(body))

    assert name == "x"
    assert definition.execution is Class.INCREMENTAL


def test_sql_is_kept_and_not_computed() -> None:
    """A SQL metric is accepted as data, with the reason why it is not computed (C07)."""
    text = '{"name": "x", "sql": "SELECT count() AS value FROM events LIMIT 1"}'

    _, definition = metronome.parse(text)

    assert definition.execution is Class.NOT_COMPUTABLE
    assert definition.reasons
    assert definition.origin.text == text


def test_grouping_sets_are_distinct() -> None:
    """The order of names makes no other set, a repetition no second one."""
    filters = [{"name": name, "exists": True} for name in "ab"]
    body = count(property_filters=filters, group_keys=[["a", "b"], ["b", "a"], ["a"], ["a", "a"]])

    _, definition = metronome.parse(json.dumps(body))

    assert definition.dimensions == (("a", "b"), ("a",))
