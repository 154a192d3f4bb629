"""Choices of docs/semantics.md that no shared case names: one small case each, by their ids."""

import asyncio
import json
import re
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from definitions.events import translate
from definitions.events.common import Arrival
from definitions.formats import parse, updated
from definitions.formats.bodies import DEFAULT_TERMS, Terms, parse_json
from definitions.metric import Origin
from definitions.times import rfc3339
from pipeline.log.publish import line_of

from ..services import ROOT
from ..world import NOW, World
from .semantics import contribution, recounted

ONE, NOTHING = {"match": True, "value": "1"}, {"match": False, "value": None}


def klaviyo(*groups: Any, method: str = "count") -> dict[str, Any]:
    """A custom metric of these groups."""
    definition = {"aggregation_method": method, "metric_groups": list(groups)}
    attributes = {"name": "m", "definition": definition}
    return {"data": {"type": "custom-metric", "attributes": attributes}}


def on_p(*filters: dict[str, Any]) -> dict[str, Any]:
    """A group of event E with filters on p."""
    return {"metric_id": "E", "metric_filters": [{"property": "p", "filter": f} for f in filters]}


def klaviyo_event(**properties: Any) -> dict[str, Any]:
    """A create-event body of event E."""
    attributes = {
        "properties": properties,
        "metric": {"data": {"type": "metric", "attributes": {"name": "E"}}},
        "profile": {"data": {"type": "profile", "attributes": {"email": "a@b.c"}}},
    }
    return {"data": {"type": "event", "attributes": attributes}}


def statsig(criterion: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """A count of event E, or another metric of it."""
    event = {"name": "E", "criteria": [] if criterion is None else [criterion]}
    made = {"name": "metric", "type": "event_count_custom", "unitTypes": ["userID"]}
    return {**made, "metricEvents": [event], **members}


def log_event(**members: Any) -> dict[str, Any]:
    """A log_event body of event E."""
    return {"events": [{"eventName": "E", "user": {"userID": "u"}, **members}]}


def on_k(
    condition: str, *values: str, kind: str = "metadata", column: str = "k"
) -> dict[str, Any]:
    """A criterion."""
    return {"type": kind, "column": column, "condition": condition, "values": list(values)}


def metronome(**members: Any) -> dict[str, Any]:
    """A count, or another metric."""
    return {"name": "m", "aggregation_type": "COUNT", **members}


def ingest(**properties: Any) -> list[dict[str, Any]]:
    """An ingest body."""
    event = {"transaction_id": "t", "customer_id": "c", "event_type": "e"}
    return [{**event, "timestamp": "2026-03-01T12:00:00Z", "properties": properties}]


UNIQUE = metronome(
    aggregation_type="UNIQUE", aggregation_key="k", property_filters=[{"name": "k"}]
)
HAS = {"type": "list", "operator": "contains", "value": "a"}
LACKS = {"type": "list", "operator": "not-contains", "value": "a"}
LONG = "x" * 5_000
CASES: list[tuple[str, str, Any, Any, dict[str, Any]]] = [
    ("C03", "metronome", metronome(property_filters=[{"name": "a.b", "exists": True}]),
     ingest(a={"b": 1}), NOTHING),
    ("C03", "metronome", metronome(property_filters=[{"name": "a.b", "exists": True}]),
     ingest(**{"a.b": 1}), ONE),
    ("C06", "metronome", metronome(property_filters=[{"name": "k", "not_in_values": ["x"]}]),
     ingest(k=[]), ONE),
    ("CK7", "klaviyo", klaviyo(on_p(HAS)), klaviyo_event(p=[]), NOTHING),
    ("CK7", "klaviyo", klaviyo(on_p(LACKS)), klaviyo_event(p=[]), ONE),
    ("CK10", "klaviyo", klaviyo({"metric_id": "E"}, {"metric_id": "E"}), klaviyo_event(),
     {"match": True, "value": "2"}),
    ("CK19", "klaviyo", klaviyo(on_p(HAS, LACKS)), klaviyo_event(p=["a"]), NOTHING),
    ("CS8", "statsig", statsig(on_k("in", "5")), log_event(metadata={"k": "5.0"}), NOTHING),
    ("CS8", "statsig", statsig(on_k("not_in", "5")), log_event(metadata={"k": "5.0"}), ONE),
    ("CS10", "statsig", statsig(on_k("in", "x", kind="user", column="team")),
     log_event(user={"customIDs": {"team": "x"}}), ONE),
    ("CS10", "statsig", statsig(on_k("in", "x", kind="user", column="country")),
     log_event(user={"customIDs": {"country": "x"}}), NOTHING),
    ("CS17", "statsig", statsig(on_k(">", "4")), log_event(metadata={"k": 5}), ONE),
    ("CS17", "statsig", statsig(on_k("in", "true")), log_event(metadata={"k": True}), ONE),
    ("CS18", "statsig", statsig(on_k("in", LONG)), log_event(metadata={"k": LONG}), ONE),
    ("CM8", "metronome", metronome(property_filters=[{"name": "k", "in_values": ["42"]}]),
     ingest(k="42.0"), NOTHING),
    ("CM8", "metronome", metronome(property_filters=[{"name": "k", "in_values": ["42"]}]),
     ingest(k=42.0), ONE),
    ("CM10", "metronome", UNIQUE, ingest(k=7), {"match": True, "distinct": "7"}),
    ("CM10", "metronome", UNIQUE, ingest(k="7"), {"match": True, "distinct": "7"}),
    ("CM15", "metronome", metronome(property_filters=[{"name": "k", "in_values": ["a", "b"]},
     {"name": "k", "in_values": ["b"]}]), ingest(k="a"), NOTHING),
]  # fmt: skip


@pytest.mark.parametrize(("choice", "system", "body", "event", "expected"), CASES)
def test_choice(choice: str, system: str, body: Any, event: Any, expected: dict[str, Any]) -> None:
    """What one event contributes, for the worker and for the recount."""
    _, definition = parse(system, json.dumps(body))
    numbers = count(1)
    arrival = Arrival(NOW, new_id=lambda: str(next(numbers)))
    (made,) = translate(system, parse_json(json.dumps(event)), arrival)

    seen = contribution(definition, line_of(made))
    again = recounted(definition, line_of(made))

    for name, wanted in expected.items():
        assert seen[name] == again[name] == wanted, choice


def test_ck17_null_leaves_a_member_unchanged() -> None:
    """PATCH: null and absent both leave name and definition as they are (CK17)."""
    origin = Origin(format="klaviyo", text=json.dumps(klaviyo(on_p(HAS))))
    for attributes in ({}, {"name": None, "definition": None}):
        patch = {"data": {"type": "custom-metric", "id": "1", "attributes": attributes}}
        assert updated(origin, "m", json.dumps(patch)) == ("m", None)


def test_ck18_metric_ids_are_looked_up_in_the_catalogue() -> None:
    """A listed id is its event, another one the metric of that name; strict refuses it (CK18)."""
    terms = Terms(klaviyo_metrics={"M1": "Placed Order"})
    _, definition = parse("klaviyo", json.dumps(klaviyo({"metric_id": "M1"}, on_p())), terms)
    included = list(dict.fromkeys(measure.events.include for measure in definition.measures))
    assert included == [("Placed Order",), ("E",)]
    with pytest.raises(
        ValueError, match="K-METRIC at /data/attributes/definition/metric_groups/1"
    ):
        strict = replace(terms, klaviyo_strict=True)
        parse("klaviyo", json.dumps(klaviyo({"metric_id": "M1"}, on_p())), strict)


def test_cm14_a_group_value_without_text_form_is_null() -> None:
    """Lists and objects group under null (CM14)."""
    body = metronome(property_filters=[{"name": "g", "exists": True}], group_keys=[["g"]])
    world = World(metrics={"m": parse("metronome", json.dumps(body))[1]})
    world.append([line_of(ingest(g=["x"])[0]), line_of({**ingest(g="x")[0], "customer_id": "d"})])
    asyncio.run(world.apply())

    groups = {cell.groups for cell in asyncio.run(world.book()).cells}
    assert groups == {(), (None,), ("x",)}


def test_cs15_a_mapped_source_is_an_event() -> None:
    """Columns are metadata keys, `value` the event value; unmapped is unsupported (CS15)."""
    native = {"aggregation": "sum", "metricSourceName": "orders", "valueColumn": "value"}
    body = {"name": "metric", "type": "user_warehouse", "warehouseNative": native}
    _, unmapped = parse("statsig", json.dumps(body))
    assert "map it to an event" in unmapped.reasons[0]

    terms = Terms(statsig_sources={"orders": "order"})
    (measure,) = parse("statsig", json.dumps(body), terms)[1].measures
    assert (measure.events.include, measure.field and measure.field.source) == (
        ("order",),
        "value",
    )
    native["valueColumn"] = "price"
    (measure,) = parse("statsig", json.dumps(body), terms)[1].measures
    assert measure.field is not None
    assert measure.field.key == "price"


def test_cs19_the_day_is_a_setting() -> None:
    """UTC-08:00 unless the deployment says otherwise; stored in the version (CS19)."""
    text = json.dumps(statsig())
    assert parse("statsig", text)[1].day_offset_minutes == -480
    terms = replace(DEFAULT_TERMS, statsig_day_minutes=60)
    assert parse("statsig", text, terms)[1].day_offset_minutes == 60


def test_cs24_only_environments_that_are_named_count() -> None:
    """Another tier is left out; none is production; capitals are alike; `*` is all (CS24)."""
    tiers: list[Any] = [None, "production", "Production", "", 7, "staging", "DEVELOPMENT"]
    users: list[Any] = [{"userID": "u", "statsigEnvironment": {"tier": tier}} for tier in tiers]
    users += [None, {"userID": "u", "statsigEnvironment": "staging"}]
    events = [{"eventName": f"e{at}", "user": user} for at, user in enumerate(users)]
    staged = {"userID": "u", "statsigEnvironment": {"tier": "staging"}}

    def kept(named: frozenset[str] | None, **more: Any) -> list[str]:
        arrival = Arrival(NOW, new_id=lambda: "id", environments=named)
        found = translate("statsig", {"events": events, **more}, arrival)
        return [each["event_type"] for each in found]

    assert kept(frozenset({"production"})) == ["e0", "e1", "e2", "e3", "e4", "e7", "e8"]
    assert kept(frozenset({"staging", "development"})) == ["e5", "e6"]
    assert kept(None) == [f"e{at}" for at in range(9)]
    # An event without a user is the body's user's.
    assert kept(frozenset({"production"}), user=staged) == ["e0", "e1", "e2", "e3", "e4", "e8"]


def test_cs25_unknown_members_are_kept_within_bounds() -> None:
    """They come back as they came, less what is empty; too large or too deep, none (CS25)."""

    def more(user: dict[str, Any] | None = None, **members: Any) -> Any:
        body = log_event(**members, **({} if user is None else {"user": user}))
        (event,) = translate("statsig", body, Arrival(NOW, new_id=lambda: "id"))
        assert len(line_of(event)) < 17_000
        return event.get("context", {}).get("more")

    def deep(levels: int) -> Any:
        return {"d": deep(levels - 1)} if levels else 1

    assert more() is None
    assert more(secondaryExposures=[], statsigMetadata={}, other=None) is None
    assert more(secondaryExposures=[{"gate": "g"}], n=0) == {
        "secondaryExposures": [{"gate": "g"}],
        "n": 0,
    }
    assert more({"userID": "u", "os": "x", "privateAttributes": {"a": 1}}, new=True) == {
        "new": True,
        "user": {"os": "x"},
    }
    assert more(text="x" * 16_000) == {"text": "x" * 16_000}
    assert more(text="x" * 16_384) is None
    assert more(text="é" * 8_200) is None
    assert more(d=deep(15)) == {"d": deep(15)}
    assert more(d=deep(16)) is None


def cloudevent(**members: Any) -> dict[str, Any]:
    """A CloudEvent, translated."""
    event = {"specversion": "1.0", "id": "1", "source": "/a", "type": "E", "subject": "u"}
    (made,) = translate("cloudevents", {**event, **members}, Arrival(NOW, new_id=lambda: "id"))
    return made


def test_ce1_identity_is_the_subject_with_source_and_id() -> None:
    """Another source or id is another event; so is another subject; nothing else is (CE1)."""

    def identity(**members: Any) -> tuple[str, str]:
        made = cloudevent(**members)
        return made["customer_id"], made["transaction_id"]

    others = [{"id": "2"}, {"source": "/b"}, {"subject": "v"}]
    found = {identity(), *(identity(**each) for each in others)}
    assert len(found) == 4
    assert identity(type="F", time="2026-11-19T00:00:00Z", data={"n": 1}) == identity()
    # Lengths are in the hash: a part of one is no part of the other.
    assert identity(id="b", source="/ab") != identity(id="bb", source="/a")


def test_ce2_other_attributes_are_kept() -> None:
    """As they came, id and source among them (CE2)."""
    assert cloudevent(traceparent="00-a", dataschema=None)["context"] == {
        "more": {"id": "1", "source": "/a", "traceparent": "00-a"}
    }
    assert cloudevent(big="x" * 20_000)["context"] == {"more": {}}


def test_ce3_data_is_an_object_or_null() -> None:
    """Null attributes are absent ones; data of another form is refused (CE3)."""
    made = cloudevent(data=None, time=None, datacontenttype=None, data_base64=None)
    assert (made["properties"], made["timestamp"]) == ({}, rfc3339(NOW))
    for wrong in ({"data": "text"}, {"data": [1]}, {"data_base64": "AA=="}, {"time": 7}):
        with pytest.raises(ValueError, match="CE-TYPE"):
            cloudevent(**wrong)


def segment(**members: Any) -> list[dict[str, Any]]:
    """What becomes of a message of Segment's."""
    message = {"type": "track", "event": "E", "userId": "u", "messageId": "1"}
    return translate("segment", {**message, **members}, Arrival(NOW, new_id=lambda: "id"))


def test_sg1_identity_is_the_customer_with_the_message_id() -> None:
    """userId, else anonymousId; a message sent again is the same event (SG1)."""
    (made,), (again,) = segment(), segment(sentAt="2026-11-19T00:00:00Z")
    (other,), (unknown,) = segment(messageId="2"), segment(userId=None, anonymousId="a")

    assert (made["customer_id"], made["transaction_id"]) == ("u", again["transaction_id"])
    assert other["transaction_id"] != made["transaction_id"]
    assert unknown["customer_id"] == "a"
    assert made["timestamp"] == rfc3339(NOW)
    for wrong in ({"userId": None}, {"messageId": ""}, {"event": None}, {"timestamp": "x"}):
        with pytest.raises(ValueError, match="SG-"):
            segment(**wrong)


def test_sg2_what_is_an_event_of_use() -> None:
    """track, page and screen are; identify, group and alias are left out; others refused (SG2)."""
    types = [
        each["event_type"] for kind in ("track", "page", "screen") for each in segment(type=kind)
    ]
    assert types == ["E", "page", "screen"]
    assert [segment(type=kind) for kind in ("identify", "group", "alias")] == [[], [], []]
    with pytest.raises(ValueError, match="type is track, page or screen"):
        segment(type="what")


def test_sg3_other_members_are_kept() -> None:
    """As they came (SG3)."""
    (made,) = segment(context={"ip": "1"}, properties={"n": 1})
    assert (made["properties"], made["context"]) == ({"n": 1}, {"more": {"context": {"ip": "1"}}})


def test_every_choice_is_documented_and_named_by_a_test() -> None:
    """docs/semantics.md lists each choice; a test or a case names it."""
    text = (ROOT / "docs/semantics.md").read_text()
    documented = dict(re.findall(r"^\| (C[EKMS]?\d+|SG\d+) \| (.*) \|$", text, re.MULTILINE))
    assert len(documented) == 97
    named = "".join(
        path.read_text() for path in (ROOT / "tests").rglob("*") if path.suffix in {".py", ".json"}
    )
    assert {each for each in documented if not re.search(rf"\b{each}\b", named)} == set()
