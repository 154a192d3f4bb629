"""Walks over pages while events, metrics and letters arrive: nothing twice, nothing missed."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from ..services import Recount
from .doors import Server, serving

pytestmark = pytest.mark.timeout(240)  # many commands, each a process of its own
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251  a test's clock
HOUR = timedelta(hours=1)
TEXT = "%Y-%m-%dT%H:%M:%SZ"
PERIOD = {
    "starting_on": (NOW - HOUR).strftime(TEXT),
    "ending_before": NOW.strftime(TEXT),
    "window_size": "HOUR",
}
SUM: dict[str, Any] = {
    "name": "n",
    "aggregation_type": "Sum",
    "aggregation_key": "n",
    "property_filters": [{"name": "n", "exists": True}, {"name": "g", "exists": True}],
    "group_keys": [["g"]],
}
REVISION = {"revision": "2026-10-15"}


@pytest.fixture
def server(recount: Recount, tmp_path: Path) -> Iterator[Server]:
    """A server of a deployment of its own."""
    recount.run("init", "--partitions", "2")
    with serving(recount, tmp_path / "serve.log") as made:
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """A client with a key that may do everything but ingest."""
    headers = {"Authorization": f"Bearer {server.keys['manage']}", **REVISION}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as made:
        yield made


def event(identity: str, group: str, n: int, customer: str = "c") -> dict[str, Any]:
    """An event of the last hour."""
    return {
        "transaction_id": identity,
        "customer_id": customer,
        "event_type": "use",
        "timestamp": (NOW - HOUR).strftime(TEXT),
        "properties": {"n": n, "g": group},
    }


def arrive(server: Server, *events: dict[str, Any] | bytes) -> None:
    """Publish events and count them."""
    server.recount.publish(events)
    server.recount.catch_up()


def ask(client: httpx.Client, path: str, body: Any = None, **params: Any) -> Any:
    """Return the body of an answer that is 200."""
    method = "GET" if body is None else "POST"
    answer = client.request(method, path, json=body, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def groups_of(page: Any) -> list[str]:
    """The groups of a page."""
    return [row["group"]["g"] for row in page["data"]]


def test_groups_that_arrive_between_pages(server: Server, client: httpx.Client) -> None:
    """Four groups, two a page, then a fifth that sorts first: the second page is g2 and g3."""
    metric = ask(client, "/v1/billable-metrics/create", SUM)["data"]["id"]
    body = {
        **PERIOD,
        "customer_id": "c",
        "billable_metric_id": metric,
        "group_key": ["g"],
    }
    arrive(server, *(event(f"t{number}", f"g{number}", number + 1) for number in range(4)))

    first = ask(client, "/v1/usage/groups", body, limit=2)
    arrive(server, event("late", "a", 100), event("more", "g2", 1_000))
    second = ask(client, "/v1/usage/groups", body, limit=2, next_page=first["next_page"])

    assert groups_of(first) == ["g0", "g1"]
    assert groups_of(second) == ["g2", "g3"]
    assert second["next_page"] is None
    assert first["data"][0] == {
        "starting_on": PERIOD["starting_on"],
        "ending_before": PERIOD["ending_before"],
        "group_key": "g",
        "group_value": "g0",
        "group": {"g": "g0"},
        "value": 1,
    }
    assert first["as_of"]["moved_on"] is False
    assert second["as_of"]["moved_on"] is True
    assert second["as_of"]["first_page_offsets"] == first["as_of"]["offsets"]
    assert sum(second["as_of"]["offsets"].values()) == 6
    # Another size of page, the members in another order: the same question. Another one is not.
    again = dict(reversed(body.items()))
    page = ask(client, "/v1/usage/groups", again, limit=1, next_page=first["next_page"])
    assert groups_of(page) == ["g2"]
    for asked, path in (
        ({**body, "customer_id": "d"}, "/v1/usage/groups"),
        ({**body, "group_filters": {"g": ["g0"]}}, "/v1/usage/groups"),
        (PERIOD, "/v1/usage"),
    ):
        params = {"next_page": first["next_page"]}
        refused = client.post(path, json=asked, params=params)
        assert refused.status_code == 400
        assert "another question" in refused.json()["message"]
    for text in ("YXQ6Mg==", first["next_page"][:-4], "x" + first["next_page"]):
        refused = client.post("/v1/usage/groups", json=body, params={"next_page": text})
        assert (refused.status_code, list(refused.json())) == (400, ["message"])


def test_250_groups_while_events_arrive(server: Server, client: httpx.Client) -> None:
    """The pages of 0 to 249 sum to 31,125, whatever came between them."""
    metric = ask(client, "/v1/billable-metrics/create", SUM)["data"]["id"]
    body = {**PERIOD, "customer_id": "c", "billable_metric_id": metric, "group_key": ["g"]}
    arrive(server, *(event(f"t{number}", f"g{number:03}", number) for number in range(250)))
    pages, cursor = [], ""
    while cursor is not None:
        page = ask(client, "/v1/usage/groups", body, limit=100, next_page=cursor)
        pages.append(page)
        cursor = page["next_page"]
        if cursor:
            arrive(server, *(event(f"a{len(pages)}-{n}", f"a{n}", 7) for n in range(len(pages))))

    assert [len(page["data"]) for page in pages] == [100, 100, 50]
    assert sum(row["value"] for page in pages for row in page["data"]) == 31_125
    assert [page["as_of"]["moved_on"] for page in pages] == [False, True, True]


def test_usage_of_customers_that_arrive(server: Server, client: httpx.Client) -> None:
    """Every metric, customer and window of the start is on one page, though others came."""
    for name in ("first", "second"):
        ask(client, "/v1/billable-metrics/create", {**SUM, "name": name})
    arrive(server, *(event(f"t{number}", "g", 1, f"c{number}") for number in range(4)))
    rows, cursor, number = [], "", 0
    while cursor is not None:
        page = ask(client, "/v1/usage", PERIOD, limit=3, next_page=cursor)
        rows += [(row["billable_metric_name"], row["customer_id"]) for row in page["data"]]
        cursor, number = page["next_page"], number + 1
        if number == 1:
            arrive(server, event("new", "g", 1, "a"), event("newer", "g", 1, "c0a"))
            (listed, *_) = ask(client, "/v1/billable-metrics")["data"]
            ask(client, "/v1/billable-metrics/archive", {"id": listed["id"]})

    assert len(rows) == len(set(rows))
    assert set(rows) >= {
        (name, f"c{customer}") for name in ("first", "second") for customer in range(4)
    }


def test_lists_of_metrics_that_change(server: Server, client: httpx.Client) -> None:
    """A metric that is archived or made between pages moves no other one, at both doors."""
    ids = []
    for number in range(4):
        made = {"name": f"m{number}", "aggregation_type": "count"}
        ids.append(ask(client, "/v1/billable-metrics/create", made)["data"]["id"])
        stats = {"name": f"stat {number}", "type": "event_count_custom", "unitTypes": ["userID"]}
        body = {**stats, "metricEvents": [{"name": "e"}], "tags": "one"}
        assert client.post("/console/v1/metrics", json=body).status_code == 201
    first = ask(client, "/v1/billable-metrics", limit=2)
    assert {each["aggregation_type"] for each in first["data"]} == {"COUNT"}
    for archived in (ids[0], ids[2]):
        ask(client, "/v1/billable-metrics/archive", {"id": archived})
    ask(client, "/v1/billable-metrics/create", {"name": "new", "aggregation_type": "count"})
    second = ask(client, "/v1/billable-metrics", limit=9, next_page=first["next_page"])
    assert [each["name"] for each in second["data"]] == ["m2", "m3", "new"]
    other = client.get("/v1/customers/c/billable-metrics?next_page=" + first["next_page"])
    assert other.status_code == 400

    listed = ask(client, "/console/v1/metrics/list", limit=2, tags="one")
    assert [each["tags"] for each in listed["data"]] == [["one"], ["one"]]
    more = {"name": "0 first by name", "type": "sum", "unitTypes": ["userID"], "tags": "one"}
    body = {**more, "metricEvents": [{"name": "e", "type": "value"}]}
    assert client.post("/console/v1/metrics", json=body).status_code == 201
    following = client.get(listed["pagination"]["nextPage"]).json()
    assert [each["name"] for each in following["data"]] == ["stat 2", "stat 3"]
    assert following["pagination"]["totalItems"] == 5


def test_dead_letters_page_by_page(server: Server, client: httpx.Client) -> None:
    """Newest first; letters that come meanwhile are on no later page, and none is missed."""
    arrive(server, *(f"rubbish {number}".encode() for number in range(5)))
    seen, cursor = [], ""
    while cursor is not None:
        page = ask(client, "/recount/v1/rejected", limit=2, next_page=cursor)
        seen += [each["original"] for each in page["data"]]
        cursor = page["next_page"]
        if len(seen) == 2:
            arrive(server, b"newer rubbish")
    assert len(seen) == 5
    assert set(seen) == {f"rubbish {number}" for number in range(5)}
    assert len(ask(client, "/recount/v1/rejected")["data"]) == 6


def test_klaviyos_metrics_that_are_learned(server: Server, client: httpx.Client) -> None:
    """Event types that the stream learns between two pages move no metric to another page."""
    types = [f"type {number:03}" for number in range(230)]
    made = [{**event(name, "g", 1), "event_type": name} for name in types]
    arrive(server, *made)
    first = ask(client, "/api/metrics")
    arrive(server, {**event("early", "g", 1), "event_type": "a type"})
    second = client.get(first["links"]["next"]).json()
    assert [each["id"] for each in first["data"] + second["data"]] == types
    assert "next" not in second["links"]
    for cursor in ("YXQ6Mg==", "http://[", "https://x/?page%5Bcursor%5D=http://[", "://"):
        refused = client.get("/api/metrics", params={"page[cursor]": cursor})
        assert refused.status_code == 400
        assert refused.json()["errors"][0]["source"] == {"parameter": "page[cursor]"}


def test_a_search_leaves_nothing_out(server: Server, client: httpx.Client) -> None:
    """A thousand records of an id are all answered; one more is refused, not cut off."""
    arrive(server, *(event("many", "g", 1) for _ in range(1_000)))
    found = ask(client, "/v1/events/search", {"transactionIds": ["many"]})
    assert [each["is_duplicate"] for each in found] == [False] + [True] * 999
    arrive(server, event("many", "g", 1))
    refused = client.post("/v1/events/search", json={"transactionIds": ["many"]})
    assert refused.status_code == 400
    assert "more than 1000 records" in refused.json()["message"]


def aggregates(**members: Any) -> dict[str, Any]:
    """A query of the event type `use`."""
    attributes = {"metric_id": "use", "measurements": ["count"], **members}
    return {"data": {"type": "metric-aggregate", "attributes": attributes}}


def test_a_key_that_only_reads_writes_nothing(server: Server, client: httpx.Client) -> None:
    """What is not counted is refused with what to do; a key that manages begins to count it."""
    arrive(server, event("t", "g", 1))
    local = "%Y-%m-%dT%H:%M:%S"
    period = [
        f"greater-or-equal(datetime,{(NOW - HOUR).strftime(local)})",
        f"less-than(datetime,{(NOW + HOUR).strftime(local)})",
    ]
    headers = {"Authorization": f"Klaviyo-API-Key {server.keys['read']}", **REVISION}
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as reading:
        before = reading.get("/api/metrics").headers["x-recount-control-offset"]
        for by, pointer in (([], "metric_id"), (["g"], "by"), (["g", "n"], "by")):
            refused = reading.post("/api/metric-aggregates", json=aggregates(filter=period, by=by))
            assert refused.status_code == 403
            error = refused.json()["errors"][0]
            assert error["source"]["pointer"] == f"/data/attributes/{pointer}"
            assert "role manage" in error["detail"]
        page = json.loads(reading.get("/openapi.json").text)
        for path, operations in page["paths"].items():
            if "get" in operations:
                reading.get(path.replace("{", "").replace("}", ""), params={"date": "2026-03-01"})
        assert reading.get("/api/metrics").headers["x-recount-control-offset"] == before
        assert server.recount.run("metrics", "list", "--all") == []
        body = aggregates(filter=period, by=["g"])
        ask(client, "/api/metric-aggregates", body)
        arrive(server, event("u", "eu", 1))
        answer = reading.post("/api/metric-aggregates", json=body)
        assert answer.status_code == 200
        assert answer.json()["meta"]["as_of"]["moved_on"] is False
        rows = answer.json()["data"]["attributes"]["data"]
        assert {row["dimensions"][0]: sum(row["measurements"]["count"]) for row in rows} == {
            "eu": 1,
            "g": 1,  # it was there before the metric: its past counts too
        }
    assert len(server.recount.run("metrics", "list", "--all")) == 1


@pytest.mark.parametrize(
    ("interval", "zone", "first"),
    [
        ("hour", "UTC", "2026-02-18T13:00:00+00:00"),
        ("day", "UTC", "2026-02-18T00:00:00+00:00"),
        ("day", "America/New_York", "2026-02-18T05:00:00+00:00"),
        ("week", "UTC", "2026-02-16T00:00:00+00:00"),
        ("month", "Asia/Tokyo", "2026-01-31T15:00:00+00:00"),
    ],
)
def test_dates_are_the_starts_of_buckets(
    client: httpx.Client, interval: str, zone: str, first: str
) -> None:
    """Bounds inside a bucket: the first date is where the bucket starts, on every page."""
    body = {
        "data": {
            "type": "custom-metric",
            "attributes": {
                "name": "made",
                "definition": {
                    "aggregation_method": "count",
                    "metric_groups": [{"metric_id": "use"}],
                },
            },
        }
    }
    metric = client.post("/api/custom-metrics", json=body).json()["data"]["id"]
    period = [
        "greater-or-equal(datetime,2026-02-18T13:00:00Z)",
        "less-than(datetime,2026-02-20T07:00:00Z)",
    ]
    asked = {"metric_id": metric, "filter": period, "interval": interval, "timezone": zone}
    whole = ask(client, "/api/metric-aggregates", aggregates(**asked))["data"]["attributes"]
    assert whole["dates"][0] == first
    dates, cursor = [], None
    while cursor != "":
        query = aggregates(**asked, page_size=1, page_cursor=cursor)
        page = ask(client, "/api/metric-aggregates", query)
        dates += page["data"]["attributes"]["dates"]
        cursor = page["links"].get("next", "")
    assert dates == whole["dates"]
    wrong = aggregates(**asked, page_size=1, page_cursor="http://[?page%5Bcursor%5D=x")
    refused = client.post("/api/metric-aggregates", json=wrong)
    assert refused.status_code == 400
    assert refused.json()["errors"][0]["source"] == {"parameter": "page_cursor"}


def test_values_have_the_consoles_names(server: Server, client: httpx.Client) -> None:
    """metricName, metricType, unitType in the list of values; every list says its pagination."""
    name = "a & b"
    refused = client.post("/console/v1/metrics", json={"name": name, "type": "sum"})
    assert refused.status_code == 400  # & is not in Statsig's names
    for name in ("a b/c 1", "a b/c 2"):
        made = {"name": name, "type": "event_count_custom", "unitTypes": ["userID"]}
        body = {**made, "metricEvents": [{"name": "e"}]}
        assert client.post("/console/v1/metrics", json=body).status_code == 201
    arrive(server, event("t", "g", 1))
    day = (NOW - 9 * HOUR).strftime("%Y-%m-%d")
    listed = ask(client, "/console/v1/metrics/values", date=day, limit=1)
    assert listed["data"] == [
        {
            "value": 0,
            "numerator": None,
            "denominator": None,
            "metricName": "a b/c 1",
            "metricType": "event_count_custom",
            "unitType": "overall",
        }
    ]
    assert sum(listed["as_of"]["offsets"].values()) == 1
    named = ask(client, "/console/v1/metrics/values", date=day, metricName="a b/c 2")
    assert [row["unitType"] for row in named["data"]] == ["overall", "userID"]
    assert quote("a b/c 2") in named["pagination"]["all"].replace("%2F", "/")
    one = ask(client, "/console/v1/metrics", date=day, id="a b/c 1::event_count_custom")
    assert one["pagination"]["totalItems"] == len(one["data"])
    assert one["data"][0]["unit_type"] == "overall"
