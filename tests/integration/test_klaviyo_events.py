"""Klaviyo's events are read back by its official client: which count, in which order, in pages."""

import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_client.exceptions import ApiException

from definitions.events.common import digest
from pipeline.doors.http.errors import Refused
from pipeline.doors.klaviyo.event_filters import AskedEvents, asked_events, asks_integration

from ..services import Recount
from .doors import Server, serving
from .test_klaviyo_door import HOUR, NOW, client_of, event

pytestmark = pytest.mark.timeout(180)  # many commands, each a process of its own
S = 1_000_000_000


@pytest.fixture
def server(recount: Recount, tmp_path: Path) -> Iterator[Server]:
    """A server of a deployment of its own."""
    recount.run("init", "--partitions", "2")
    with serving(recount, tmp_path / "serve.log") as made:
        yield made


def numbers(found: Any) -> list[Any]:
    """The property n of each event of a list."""
    return [each.attributes.event_properties["n"] for each in found.data]


def test_events_are_read_back(server: Server) -> None:
    """Neither duplicates, rejected ones nor what was taken back; amended ones as amended."""
    ingest, read = client_of(server, "ingest"), client_of(server, "read")
    for number in range(6):
        ingest.Events.create_event(event(number))
    ingest.Events.create_event(event(2))  # once more
    ingest.Events.create_event(event(7, "Refund", value=None))
    server.recount.publish([b"rubbish"])
    assert read.Events.get_events().data == []  # no worker has applied any
    server.recount.catch_up()
    assert numbers(read.Events.get_events()) == [0, 1, 2, 3, 4, 5, 7]
    name = "Placed Order"
    named = {number: f"k:{digest(name, 'u', f'{name} {number}')}" for number in (1, 4)}
    (gone,) = server.recount.run("explain", named[1])
    server.recount.run("void", named[1], "--customer", "c1@example.com")
    server.recount.run(
        *("amend", named[4], "--customer", "c1@example.com"),
        *("--properties", json.dumps({"n": 44})),
    )
    server.recount.catch_up()

    found = read.Events.get_events(include=["metric"])

    assert numbers(found) == [0, 2, 3, 44, 5, 7]
    assert [each["attributes"]["name"] for each in found.included] == ["Placed Order", "Refund"]
    first, last = found.data[0], found.data[-1]
    moment = NOW - HOUR
    assert first.attributes.timestamp == int(moment.timestamp())
    assert first.attributes.datetime_ == moment
    assert first.attributes.event_properties["$value"] == 0.5
    assert "$value" not in last.attributes.event_properties
    assert first.relationships.profile.data.id == "c0@example.com"
    assert first.relationships.metric.data.id == "Placed Order"
    assert len({each.attributes.uuid for each in found.data}) == 6

    one = read.Events.get_event(first.id, include=["metric"])
    assert one.data.attributes == first.attributes
    assert [each["id"] for each in one.included] == ["Placed Order"]
    assert read.Events.get_metric_for_event(first.id).data.attributes.name == "Placed Order"
    assert read.Events.get_metric_id_for_event(last.id).data.id == "Refund"
    assert read.Events.get_profile_id_for_event(last.id).data.id == "c1@example.com"
    for id_ in (f"{gone['partition']}@{gone['offset']}", "0@99999", "9@0", "x"):
        with pytest.raises(ApiException) as refused:
            read.Events.get_event(id_)
        assert refused.value.status == 404


def test_pages_sorts_and_filters_of_events(server: Server) -> None:
    """Pages follow their links and make up the whole list; both orders; every filter (CK22)."""
    ingest, read = client_of(server, "ingest"), client_of(server, "read")
    for number in range(11):
        ingest.Events.create_event(event(number, "Viewed" if number % 4 == 0 else "Placed Order"))
    server.recount.catch_up()
    headers = {"Authorization": f"Klaviyo-API-Key {server.keys['read']}", "revision": "2026-07-15"}
    with httpx.Client(headers=headers, timeout=30) as own:
        for sort, whole in (("timestamp", [*range(11)]), ("-datetime", [*range(10, -1, -1)])):
            link: str | None = f"{server.url}/api/events?sort={sort}&page[size]=4"
            pages: list[list[int]] = []
            while link is not None:
                body = own.get(link).json()
                pages.append(
                    [each["attributes"]["event_properties"]["n"] for each in body["data"]]
                )
                link = body["links"].get("next")
            assert [len(page) for page in pages] == [4, 4, 3]
            assert [*chain(*pages)] == whole
        other = own.get(f"{server.url}/api/events", params={"page[size]": 4}).json()["links"]
        moved = own.get(other["next"] + "&sort=-datetime")
        assert moved.status_code == 400  # a cursor of another question
        twice = own.get(f"{server.url}/api/events?sort=name")
        assert twice.json()["errors"][0]["source"] == {"parameter": "sort"}

    at = NOW - HOUR + timedelta(seconds=4)
    for text, told in (
        ('equals(metric_id,"Viewed")', [0, 4, 8]),
        ("equals(profile_id,'c1@example.com')", [1, 4, 7, 10]),
        (f"greater-than(datetime,{at.isoformat()})", [5, 6, 7, 8, 9, 10]),
        (f"less-or-equal(timestamp,{int(at.timestamp())}),has(metric)", [0, 1, 2, 3, 4]),
        (f'and(greater-or-equal(datetime,{at.isoformat()}),equals(metric_id,"Viewed"))', [4, 8]),
    ):
        assert numbers(read.Events.get_events(filter=text)) == told, text
    with pytest.raises(ApiException) as refused:
        read.Events.get_events(filter='equals(metric_id,"nothing")')
    assert refused.value.status == 400
    assert read.Metrics.get_metrics(filter='equals(integration.name,"Shopify")').data == []
    properties = read.Metrics.get_property_ids_for_metric("Viewed").data
    metric = read.Metrics.get_metric_for_metric_property(properties[0].id)
    assert metric.data.id == "Viewed"
    assert read.Metrics.get_flows_triggered_by_metric("Viewed").data == []
    assert read.Metrics.get_ids_for_flows_triggered_by_metric("Viewed").data == []


READ: list[tuple[str | None, AskedEvents]] = [
    (None, AskedEvents()),
    ('equals(metric_id,"a,\\"b)")', AskedEvents(metric_id='a,"b)')),
    ("equals(profile_id,'x y')", AskedEvents(profile="x y")),
    (
        "greater-or-equal(timestamp,5),less-than(timestamp,'7')",
        AskedEvents(None, None, 5 * S, 7 * S),
    ),
    (
        "greater-than(timestamp,5) , less-or-equal(timestamp,7)",
        AskedEvents(None, None, 5 * S + 1, 7 * S + 1),
    ),
    ("and(has(profile),less-than(datetime,1970-01-01T00:00:09Z))", AskedEvents(ending_ns=9 * S)),
]
UNREADABLE = (
    *("and()", "equals(metric_id)", 'has(metric,"x")', "equals(name,'x')", "or(has(metric))"),
    *("greater-than(metric_id,'x')", "less-than(datetime,now)", "less-than(timestamp,1.5)"),
    *("has(metric),", "has(metric) has(profile)", "equals(metric_id,'a'),equals(metric_id,'b')"),
    *("x" * 5_000, 'equals(metric_id,"\\q")'),
)


@pytest.mark.parametrize(("text", "asked"), READ)
def test_what_a_filter_of_events_asks(text: str | None, asked: AskedEvents) -> None:
    """Quotation marks of both kinds, bounds with and without their ends, and() and commas."""
    assert asked_events(text) == asked


@pytest.mark.parametrize("text", UNREADABLE)
def test_filters_that_cannot_be_read(text: str) -> None:
    """They are refused with the parameter's name, and never taken for no filter."""
    with pytest.raises(Refused) as refused:
        asked_events(text)

    assert (refused.value.status, refused.value.parameter) == (400, "filter")


def test_filters_of_metrics() -> None:
    """Integrations can be asked for; nothing else can."""
    assert not asks_integration(None)
    assert asks_integration("equals(integration.category,'API')")
    for text in ("equals(name,'x')", "has(integration.name)", "rubbish"):
        with pytest.raises(Refused):
            asks_integration(text)
