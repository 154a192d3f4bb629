"""Klaviyo's official client, unchanged, against `recount serve`."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import klaviyo_api
import pytest
from openapi_client.exceptions import ApiException

from ..services import Recount
from .doors import Server, serving

pytestmark = pytest.mark.timeout(180)  # many commands, each a process of its own
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251  a test's clock
HOUR = timedelta(hours=1)
TEXT = "%Y-%m-%dT%H:%M:%S"
REVENUE: dict[str, Any] = {
    "aggregation_method": "value",
    "metric_groups": [
        {
            "metric_id": "Placed Order",
            "metric_filters": [
                {
                    "property": "Source",
                    "filter": {"type": "string", "operator": "equals", "value": "web"},
                }
            ],
            "value_property": "$value",
        },
        {"metric_id": "Refund", "metric_filters": []},
    ],
}


@pytest.fixture
def server(recount: Recount, tmp_path: Path) -> Iterator[Server]:
    """A server of a deployment of its own."""
    recount.run("init", "--partitions", "2")
    with serving(recount, tmp_path / "serve.log") as made:
        yield made


def client_of(server: Server, role: str) -> Any:
    """The official client with a key of a role."""
    return klaviyo_api.KlaviyoAPI(server.keys[role], test_host=server.url, max_retries=1)


def custom(name: str, definition: Any = None, **members: Any) -> dict[str, Any]:
    """The body of a create or, with an id, of a patch."""
    attributes = {"name": name, "definition": definition or REVENUE}
    return {"data": {"type": "custom-metric", "attributes": attributes, **members}}


def event(number: int, name: str = "Placed Order", **members: Any) -> dict[str, Any]:
    """A create body of an event of the last hour."""
    email = f"C{number % 3}@example.com"
    attributes = {
        "properties": {"Source": "web" if number % 2 else "pos", "Items": ["a"], "n": number},
        "time": (NOW - HOUR + timedelta(seconds=number)).isoformat(),
        "value": number + 0.5,
        "unique_id": f"{name} {number}",
        "metric": {"data": {"type": "metric", "attributes": {"name": name}}},
        "profile": {"data": {"type": "profile", "attributes": {"email": email}}},
    }
    return {"data": {"type": "event", "attributes": {**attributes, **members}}}


def bulk(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The body of a bulk create of these create bodies."""
    items = []
    for each in events:
        inner = dict(each["data"]["attributes"])
        profile = inner.pop("profile")
        data = [{"type": "event", "attributes": inner}]
        attributes = {"profile": profile, "events": {"data": data}}
        items.append({"type": "event-bulk-create", "attributes": attributes})
    attributes = {"events-bulk-create": {"data": items}}
    return {"data": {"type": "event-bulk-create-job", "attributes": attributes}}


def aggregates(metric_id: str, **members: Any) -> dict[str, Any]:
    """A query of the last hour."""
    attributes = {
        "metric_id": metric_id,
        "measurements": ["count", "sum_value", "unique"],
        "interval": "hour",
        "filter": [
            f"greater-or-equal(datetime,{(NOW - HOUR).strftime(TEXT)})",
            f"less-than(datetime,{NOW.strftime(TEXT)})",
        ],
    }
    return {"data": {"type": "metric-aggregate", "attributes": {**attributes, **members}}}


def numbers(answer: Any) -> dict[str, list[float]]:
    """The measurements of the only row."""
    (row,) = answer.data.attributes.data
    found: dict[str, list[float]] = row.measurements
    return found


def test_every_call_of_the_official_client(server: Server) -> None:
    """Custom metrics, their metrics, properties, events, bulk, aggregates: typed (CK14)."""
    manage, read = client_of(server, "manage"), client_of(server, "read")
    ingest = client_of(server, "ingest")
    made = manage.Metrics.create_custom_metric(custom("Net revenue"))
    assert made.data.attributes.definition.aggregation_method == "value"
    assert [each.id for each in made.data.relationships.metrics.data] == ["Placed Order", "Refund"]
    got = read.Metrics.get_custom_metric(made.data.id, include=["metrics"])
    assert {each.attributes.name for each in got.included} == {"Placed Order", "Refund"}
    (listed,) = read.Metrics.get_custom_metrics().data
    assert (listed.id, listed.attributes.name) == (made.data.id, "Net revenue")
    sparse = read.Metrics.get_custom_metrics(
        fields_custom_metric=["name", "definition.aggregation_method"]
    )
    assert sparse["data"][0]["attributes"] == {
        "name": "Net revenue",
        "definition": {"aggregation_method": "value"},
    }
    related = read.Metrics.get_metrics_for_custom_metric(made.data.id)
    assert [each.attributes.name for each in related.data] == ["Placed Order", "Refund"]
    ids = read.Metrics.get_metric_ids_for_custom_metric(made.data.id)
    assert [each.id for each in ids.data] == ["Placed Order", "Refund"]

    for number in range(3):
        ingest.Events.create_event(event(number))
    ingest.Events.create_event(event(1))  # once more
    ingest.Events.bulk_create_events(bulk([event(number) for number in range(3, 12)]))
    ingest.Events.bulk_create_events(bulk([event(number, "Refund") for number in range(2)]))
    server.recount.catch_up()

    total = sum(number + 0.5 for number in range(12) if number % 2) + 0.5 + 1.5
    answer = read.Metrics.query_metric_aggregates(aggregates(made.data.id))
    assert numbers(answer) == {"count": [8], "sum_value": [total], "unique": [3]}
    assert [each.isoformat() for each in answer.data.attributes.dates] == [
        (NOW - HOUR).isoformat()
    ]
    told = server.recount.run(
        "usage",
        "Net revenue",
        *("--starting-on", (NOW - HOUR).isoformat(), "--ending-before", NOW.isoformat()),
    )
    assert float(told[0]["value"]) == total
    plain = read.Metrics.query_metric_aggregates(aggregates("Placed Order"))
    assert numbers(plain) == {"count": [12], "sum_value": [12 * 6.0], "unique": [3]}

    metrics = read.Metrics.get_metrics()
    assert [each.attributes.name for each in metrics.data] == ["Placed Order", "Refund"]
    properties = read.Metrics.get_properties_for_metric("Placed Order")
    kinds = {each.attributes.label: each.attributes.inferred_type for each in properties.data}
    own = {"$value": "Numeric"}  # what an event came with, as Klaviyo calls it
    assert kinds == {"Source": "String", "Items": "List", "n": "Numeric", **own}
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", made.data.id)

    renamed = custom("Revenue", id=made.data.id)
    changed = manage.Metrics.update_custom_metric(made.data.id, renamed)
    assert changed.data.attributes.name == "Revenue"
    assert changed.data.attributes.updated >= changed.data.attributes.created
    assert manage.Metrics.delete_custom_metric(made.data.id) is None
    assert read.Metrics.get_custom_metrics().data == []
    again = manage.Metrics.create_custom_metric(custom("Revenue"))  # the name is free
    assert again.data.id != made.data.id


def test_a_definition_that_changes_twice_in_an_hour(server: Server) -> None:
    """A patch shows at once; what came before it is read as it was counted, in one window too."""
    manage, read = client_of(server, "manage"), client_of(server, "read")
    made = manage.Metrics.create_custom_metric(custom("m")).data
    client_of(server, "ingest").Events.create_event(event(1))
    server.recount.catch_up()
    for method in ("count", "value"):
        one = {"aggregation_method": method, "metric_groups": [{"metric_id": "Placed Order"}]}
        changed = manage.Metrics.update_custom_metric(made.id, custom("m", one, id=made.id))
        assert changed.data.attributes.definition.aggregation_method == method
        assert len(changed.data.attributes.definition.metric_groups) == 1
    same = manage.Metrics.update_custom_metric(made.id, custom("m", one, id=made.id)).data
    assert same.attributes.updated == changed.data.attributes.updated
    day = {
        "interval": "month",
        "filter": [
            f"greater-or-equal(datetime,{(NOW - HOUR).strftime(TEXT)})",
            f"less-than(datetime,{(NOW + 20 * HOUR).strftime(TEXT)})",
        ],
    }
    answer = read.Metrics.query_metric_aggregates(aggregates(made.id, **day))
    assert sum(numbers(answer)["count"]) == 1
    assert sum(numbers(answer)["sum_value"]) == 1.5


def test_refusals_are_typed(server: Server) -> None:
    """Broken rules with their pointers, unknown ids, roles, taken names, no revision (CK13)."""
    manage, read = client_of(server, "manage"), client_of(server, "read")
    made = manage.Metrics.create_custom_metric(custom("taken")).data

    def refused(call: Any, *arguments: Any, status: int) -> Any:
        with pytest.raises(ApiException) as caught:
            call(*arguments)
        assert caught.value.status == status, caught.value.body
        data: Any = caught.value.data
        return data.errors[0]

    for each in ("taken", " "):
        error = refused(manage.Metrics.create_custom_metric, custom(each), status=400)
        assert error.source.pointer == "/data/attributes/name"
    wrong = {"aggregation_method": "count", "metric_groups": [{"metric_id": "a"}] * 6}
    error = refused(manage.Metrics.create_custom_metric, custom("x", wrong), status=400)
    assert error.source.pointer == "/data/attributes/definition/metric_groups"
    refused(read.Metrics.get_custom_metric, "nothing", status=404)
    refused(read.Metrics.query_metric_aggregates, aggregates("nothing"), status=404)
    refused(read.Metrics.create_custom_metric, custom("x"), status=403)
    refused(manage.Metrics.update_custom_metric, made.id, custom("x", id="other"), status=400)
    old = (NOW - 40 * 24 * HOUR).isoformat()
    create = client_of(server, "ingest").Events.create_event
    refused(create, event(1, time=old), status=400)
    refused(create, event(1, "n" * 200), status=400)
    assert server.recount.run("status")[-1]["end"] == 0
    assert [each["name"] for each in server.recount.run("metrics", "list")] == ["taken"]

    headers = {"Authorization": f"Klaviyo-API-Key {server.keys['read']}"}
    with httpx.Client(base_url=server.url, headers=headers) as own:
        answer = own.get("/api/custom-metrics")
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["source"] == {"parameter": "revision"}
        revision = {"revision": "2025-04-15"}
        answer = own.get("/api/custom-metrics/?fields[custom-metric]=nme", headers=revision)
        assert answer.json()["errors"][0]["source"] == {"parameter": "fields[custom-metric]"}
        answer = own.get("/api/custom-metrics/?include=metrics", headers=revision)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("application/vnd.api+json")


def test_limits_are_settings(recount: Recount, tmp_path: Path) -> None:
    """How many custom metrics, and the vendor's own rate limits, where they are switched on."""
    recount.run("init", "--partitions", "1")
    with serving(
        recount, tmp_path / "serve.log", more=("RECOUNT_KLAVIYO_CUSTOM_METRICS_MAX=1",)
    ) as one:
        manage = client_of(one, "manage")
        manage.Metrics.create_custom_metric(custom("first"))
        with pytest.raises(ApiException) as refused:
            manage.Metrics.create_custom_metric(custom("second"))
        assert refused.value.status == 403
        keys = one.keys
    with serving(recount, tmp_path / "two.log", keys, more=("RECOUNT_VENDOR_LIMITS=1",)) as two:
        headers = {"Authorization": f"Klaviyo-API-Key {keys['manage']}", "revision": "2025-04-15"}
        with httpx.Client(base_url=two.url, headers=headers) as own:
            body = custom("third")
            # 15 a minute: a minute may end between the requests, once.
            answers = (own.post("/api/custom-metrics", json=body) for _ in range(32))
            refused_ = next(each for each in answers if each.status_code == 429)
        assert int(refused_.headers["retry-after"]) > 0


def test_pages_of_dates_zones_and_groups(server: Server) -> None:
    """Pages of aggregates follow their links; days are of the zone; `by` gives rows."""
    ingest, read = client_of(server, "ingest"), client_of(server, "read")
    manage = client_of(server, "manage")
    for number in range(6):
        properties = {"URL": f"/{number % 2}", "$value": number}
        ingest.Events.create_event(event(number, "Viewed", properties=properties, value=None))
        if not number:
            manage.Metrics.query_metric_aggregates(aggregates("Viewed", by=["URL"]))  # registers
    server.recount.catch_up()
    grouped = read.Metrics.query_metric_aggregates(aggregates("Viewed", by=["URL"]))
    rows = {row.dimensions[0]: row.measurements for row in grouped.data.attributes.data}
    assert rows == {
        "/0": {"count": [3], "sum_value": [6], "unique": [3]},
        "/1": {"count": [3], "sum_value": [9], "unique": [3]},
    }
    period = [
        f"greater-or-equal(datetime,{(NOW - 30 * HOUR).strftime(TEXT)})",
        f"less-than(datetime,{(NOW + 2 * HOUR).strftime(TEXT)})",
    ]
    query = aggregates("Viewed", filter=period, page_size=10)
    headers = {
        "Authorization": f"Klaviyo-API-Key {server.keys['read']}",
        "revision": "2025-04-15",
    }
    dates, counts, link = [], [], ""
    with httpx.Client(base_url=server.url, headers=headers) as own:
        while link is not None:
            query["data"]["attributes"]["page_cursor"] = link or None
            body = own.post("/api/metric-aggregates/", json=query).json()
            dates += body["data"]["attributes"]["dates"]
            counts += body["data"]["attributes"]["data"][0]["measurements"]["count"]
            link = body["links"].get("next")
        assert body["meta"]["history"] == "complete"
        assert body["meta"]["definition"].startswith("klaviyo-plain-")
    whole = read.Metrics.query_metric_aggregates(aggregates("Viewed", filter=period))
    assert dates == [each.isoformat() for each in whole.data.attributes.dates]
    assert len(set(dates)) == 32
    assert counts == numbers(whole)["count"]
    assert sum(counts) == 6
    zone = aggregates("Viewed", interval="day", timezone="America/New_York")
    zone["data"]["attributes"]["filter"] = [
        f"greater-or-equal(datetime,{(NOW - 48 * HOUR).strftime('%Y-%m-%d')}T00:00:00)",
        f"less-than(datetime,{(NOW + 48 * HOUR).strftime('%Y-%m-%d')}T00:00:00)",
    ]
    days = read.Metrics.query_metric_aggregates(zone)
    assert {each.astimezone(UTC).hour for each in days.data.attributes.dates} <= {4, 5}
    assert sum(numbers(days)["sum_value"]) == 15


def test_two_servers_meet_a_new_metric_at_once(server: Server, tmp_path: Path) -> None:
    """Both register what counts it, one is first, every event is taken and counted once."""
    with serving(server.recount, tmp_path / "second.log", server.keys) as second:
        with ThreadPoolExecutor(8) as pool:
            taken = [
                pool.submit(client_of(each, "ingest").Events.create_event, event(number, name))
                for number, name in enumerate(["A", "B", "C"] * 4)
                for each in (server, second)
            ]
            assert [each.result() for each in taken] == [None] * 24
        server.recount.catch_up()
        for name in ("A", "B", "C"):
            answer = client_of(second, "read").Metrics.query_metric_aggregates(aggregates(name))
            assert numbers(answer)["count"] == [4]
    assert len(server.recount.run("metrics", "list")) == 3


def test_a_custom_metric_reads_its_past(server: Server) -> None:
    """Klaviyo's client makes a custom metric over events that are there, and reads them."""
    manage, read = client_of(server, "manage"), client_of(server, "read")
    ingest = client_of(server, "ingest")
    server.recount.create({"name": "other", "aggregation_type": "COUNT"})
    ingest.Events.bulk_create_events(bulk([event(number) for number in range(12)]))
    ingest.Events.bulk_create_events(bulk([event(number, "Refund") for number in range(2)]))
    ingest.Events.create_event(event(3))  # once more
    server.recount.catch_up()

    made = manage.Metrics.create_custom_metric(custom("Net revenue"))
    early = read.Metrics.query_metric_aggregates(aggregates(made.data.id))
    assert numbers(early)["sum_value"] == [0]
    ingest.Events.create_event(event(13))
    server.recount.catch_up()

    total = sum(number + 0.5 for number in (*range(12), 13) if number % 2) + 0.5 + 1.5
    answer = read.Metrics.query_metric_aggregates(aggregates(made.data.id))
    assert numbers(answer) == {"count": [9], "sum_value": [total], "unique": [3]}
    assert server.recount.run("metrics", "show", made.data.id)[0]["history"] == "complete"
    assert server.recount.run("audit")[-1]["mismatches"] == 0
