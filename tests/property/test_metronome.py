"""Metronome bodies from the published rules: accepted, given back, and matched alike."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from definitions.errors import DefinitionError
from definitions.formats import metronome, native_body
from definitions.matcher import Matcher, compile_version
from definitions.metric import MetricVersion
from definitions.values import ABSENT
from pipeline.core.event import Event
from pipeline.recount.events import read_event
from pipeline.recount.matching import matches, value_of

from ..world import decode

NAMES = st.sampled_from(["a", "b", "c.d", "", "ü"])
TEXTS = st.sampled_from(["x", "1", "true", "1.0", "", "null"])
LISTS = st.one_of(st.none(), st.lists(TEXTS, min_size=1, max_size=3))


@st.composite
def filters(draw: st.DrawFn) -> dict[str, Any]:
    """A property filter that no rule refuses."""
    made: dict[str, Any] = {"name": draw(NAMES)}
    exists = draw(st.sampled_from(["absent", None, True, False]))
    if exists != "absent":
        made["exists"] = exists
    for member in ("in_values", "not_in_values"):
        values = draw(st.one_of(st.just("absent"), LISTS))
        if values != "absent" and not (exists is False and values):
            made[member] = values
    return made


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A create body that every rule accepts."""
    kind = draw(st.sampled_from(["count", "Sum", "MAX", "Latest", "unique"]))
    made: dict[str, Any] = {
        "name": draw(st.text("ab ", min_size=1)) + "n",
        "aggregation_type": kind,
    }
    made["property_filters"] = draw(st.lists(filters(), max_size=4))
    named = made["property_filters"]
    if kind != "count":
        keys = {item["name"] for item in named}
        keys -= {item["name"] for item in named if item.get("exists") is False}
        if not keys:
            made["property_filters"] = [*named, {"name": "v"}]
            keys = {"v"}
        made["aggregation_key"] = draw(st.sampled_from(sorted(keys)))
    groupable = sorted(
        item["name"] for item in named if item.get("exists") is True or item.get("in_values")
    )
    if groupable:
        inner = st.lists(st.sampled_from(groupable), min_size=1, max_size=3)
        made["group_keys"] = draw(st.lists(inner, max_size=3))
    if draw(st.sampled_from([False, True])):
        made["event_type_filter"] = draw(
            st.fixed_dictionaries({}, optional={"in_values": LISTS, "not_in_values": LISTS})
        )
    if draw(st.sampled_from([False, True])):
        made["custom_fields"] = draw(st.dictionaries(TEXTS, TEXTS, max_size=2))
    return made


EVENTS = st.fixed_dictionaries(
    {
        "transaction_id": st.just("t"),
        "customer_id": st.just("c"),
        "event_type": TEXTS.filter(bool),
        "timestamp": st.just("2024-01-01T00:00:00Z"),
        "properties": st.dictionaries(
            NAMES,
            st.one_of(
                TEXTS, st.integers(-3, 3), st.booleans(), st.none(), st.just([]), st.just({})
            ),
        ),
    }
)


@given(bodies())
def test_round_trip(native: dict[str, Any]) -> None:
    """Native → neutral → native gives equal JSON, and only the name follows a rename."""
    name, definition = metronome.parse(json.dumps(native))

    back = native_body(definition.origin, name)

    assert back == native
    assert native_body(definition.origin, "new") == {**native, "name": "new"}
    assert type(definition).model_validate(definition.model_dump(mode="json")) == definition


@given(bodies(), EVENTS)
def test_compiled_matching_equals_the_interpreter(
    native: dict[str, Any], made: dict[str, Any]
) -> None:
    """The compiled rule and the recount's interpreter agree on match, value and groups."""
    _, definition = metronome.parse(json.dumps(native))
    version = MetricVersion(
        metric_id="m", version=1, effective_from=None, definition=definition, digest=""
    )
    line = json.dumps(made).encode()
    event, plain = decode(line), read_event(line)
    assert isinstance(event, Event)
    (rule,) = compile_version(version)
    measure = definition.measures[0]

    candidates = Matcher([rule]).candidates(event.event_type)
    hit = bool(candidates) and all(
        test(event.properties.get(condition.field.key, ABSENT))
        for condition, test in zip(measure.where, rule.tests, strict=True)
    )

    assert hit == matches(measure, plain)
    if measure.field is not None and measure.field.key in event.properties:
        assert rule.read is not None
        assert rule.read(event.properties[measure.field.key]) == value_of(measure, plain)


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.one_of(
                    st.sampled_from(sorted(metronome._MEMBERS | {"exists", "in_values"})),
                    st.text(max_size=3),
                ),
                inner,
                max_size=5,
            ),
        ),
        max_leaves=20,
    )
)
def test_anything_is_taken_or_refused(made: Any) -> None:
    """Whatever JSON comes, it is taken, or refused with a rule and a pointer; nothing else."""
    try:
        metronome.parse(json.dumps(made))
        problems = None
    except DefinitionError as error:
        problems = error.problems

    assert problems is None or all(problem.rule and problem.message for problem in problems)
    assert problems != ()
