"""Every route of three vendors that `recount serve` has, asked once and more, in one walk.

`walk()` gives each answer with its route. Judges of answers share it: the vendors' own clients
(tests/integration/test_typed_answers.py), and their OpenAPI documents
(`python -m tests.conformance.openapi`).
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import httpx

from .integration.doors import Server
from .services import ROOT, Recount

VENDORS: Final = ("Klaviyo", "Metronome", "Statsig")
# Routes that Statsig's clients start with: no page describes what they answer, and the clients
# themselves are the test of it (tests/integration/test_statsig_clients.py).
STARTS: Final = re.compile(r"^/v[12]/(download_config_specs|get_id_lists|initialize|rgstr)")
_PAYLOADS: Final = ROOT / "tests/data/formats/payloads"
_HOUR: Final = timedelta(hours=1)
_TEXT: Final = "%Y-%m-%dT%H:%M:%S"


class Answered(NamedTuple):
    """An answer. route: a path whose parameters are `{}`. sparse: only some members were asked."""

    vendor: str
    method: str
    route: str
    status: int
    body: Any
    sparse: bool = False

    def __str__(self) -> str:
        """What was asked, and the status."""
        return f"{self.method} {self.route} {self.status}{' sparse' if self.sparse else ''}"


def plain(path: str) -> str:
    """A path as an OpenAPI document has it, without the names of its parameters."""
    return re.sub(r"\{[^}]*\}", "{}", path)


@dataclass
class _Asking:
    """One vendor's door, with a key that may do everything."""

    vendor: str
    client: httpx.Client
    recount: Recount
    answers: list[Answered] = field(default_factory=list)

    def __call__(self, method: str, route: str, *parts: str, **more: Any) -> Any:
        """Ask a route, whose `{}` are the parts; return the body. expect: the status."""
        expect, sparse = more.pop("expect", None), more.pop("sparse", False)
        path = route.replace("{}", "\0")
        for part in parts:
            path = path.replace("\0", quote(part, safe=""), 1)
        answer = self.client.request(method, path, **more)
        assert answer.is_success if expect is None else answer.status_code == expect, (
            f"{method} {path}: {answer.status_code} {answer.text[:2_000]}"
        )
        body = json.loads(answer.content) if answer.content else None
        made = Answered(self.vendor, method, route, answer.status_code, body, sparse)
        self.answers.append(made)
        return body


def walk(server: Server, now: datetime) -> list[Answered]:
    """Ask every route of a server without metrics, and return every answer.

    now: the events' hour ends here; it is no hour that is still open.
    """
    key = server.recount.run(
        "keys", "create", "--name", "walk", "--role", "manage", "--role", "ingest"
    )[0]["key"]
    headers = {
        "Klaviyo": {"Authorization": f"Klaviyo-API-Key {key}", "revision": "2026-07-15"},
        "Metronome": {"Authorization": f"Bearer {key}"},
        "Statsig": {"STATSIG-API-KEY": key},
    }
    found: list[Answered] = []
    for vendor, asks in (("Metronome", _metronome), ("Klaviyo", _klaviyo), ("Statsig", _statsig)):
        with httpx.Client(
            base_url=server.url, headers=headers[vendor], timeout=60, follow_redirects=False
        ) as client:
            ask = _Asking(vendor, client, server.recount)
            asks(ask, now)
            found += ask.answers
    return found


def _accepted(system: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every definition of the payloads that a vendor takes."""
    for name, entry in json.loads((_PAYLOADS / "index.json").read_text()).items():
        if (entry["system"], entry["kind"], entry["expect"]) == (
            system,
            "create_definition",
            "accept",
        ):
            yield name, json.loads((_PAYLOADS / f"{name}.json").read_text())


# -- Metronome --------------------------------------------------------------------------------


def _metronome(ask: _Asking, now: datetime) -> None:
    """Ask Metronome's door."""
    made = []
    for number, (_, body) in enumerate(_accepted("metronome")):
        named = {**body, "name": f"{body['name']} {number}"}
        made.append(ask("POST", "/v1/billable-metrics/create", json=named)["data"]["id"])
    tokens = {
        "name": "Tokens",
        "aggregation_type": "Sum",
        "aggregation_key": "tokens",
        "property_filters": [{"name": name, "exists": True} for name in ("tokens", "region")],
        "group_keys": [["region"]],
        "custom_fields": {"team": "billing"},
    }
    metric = ask("POST", "/v1/billable-metrics/create", json=tokens)["data"]["id"]
    wrong = {**tokens, "aggregation_key": "other"}
    ask("POST", "/v1/billable-metrics/create", json=wrong, expect=400)
    ask("POST", "/v1/billable-metrics/create", json=tokens, expect=409)
    ask("PUT", "/v1/billable-metrics/{}", metric, json={"name": "Tokens 2"})
    for each in (*made, metric):
        ask("GET", "/v1/billable-metrics/{}", each)
    ask("GET", "/v1/billable-metrics/{}", "00000000-0000-0000-0000-000000000000", expect=404)
    ask("GET", "/v1/billable-metrics", params={"limit": 2})
    ask("POST", "/v1/billable-metrics/archive", json={"id": made[0]})
    ask("GET", "/v1/billable-metrics", params={"include_archived": "true"})
    ask("GET", "/v1/customers/{}/billable-metrics", "c1")
    _named_customers(ask)

    events = [
        {
            "transaction_id": f"t{number}",
            "customer_id": f"c{number % 2}",
            "event_type": "call",
            "timestamp": (now - _HOUR + timedelta(seconds=number)).isoformat(),
            "properties": {"tokens": f"{number}.5", "region": "eu" if number % 3 else "us"},
        }
        for number in range(12)
    ]
    ask("POST", "/v1/ingest", json=[*events, events[0]])
    ask("POST", "/v1/ingest", json=[], expect=400)
    ask.recount.catch_up()

    period = {"starting_on": (now - _HOUR).isoformat(), "ending_before": now.isoformat()}
    for size in ("HOUR", "day", "None"):
        ask("POST", "/v1/usage", json={**period, "window_size": size}, params={"limit": 3})
    grouped = {"id": metric, "group_by": {"key": "region", "values": ["eu", "nowhere"]}}
    asked = {**period, "window_size": "NONE", "billable_metrics": [grouped]}
    ask("POST", "/v1/usage", json={**asked, "customer_ids": ["c0", "nobody"]})
    ask("POST", "/v1/usage", json={**period, "window_size": "week"}, expect=400)
    one = {"customer_id": "c0", "billable_metric_id": metric, "window_size": "HOUR"}
    ask("POST", "/v1/usage/groups", json={**one, **period})
    ask("POST", "/v1/usage/groups", json={**one, **period, "group_key": ["region"]})
    ask("POST", "/v1/usage/groups", json={**one, **period, "group_by": {"key": "region"}})
    ask("POST", "/v1/usage/groups", json={**one, "window_size": "NONE", "current_period": True})
    ask("POST", "/v1/events/search", json={"transactionIds": ["t0", "t7", "nothing"]})


def _named_customers(ask: _Asking) -> None:
    body = {"name": "Example, Inc.", "ingest_aliases": ["team"], "custom_fields": {"a": "b"}}
    made = ask("POST", "/v1/customers", json=body)["data"]["id"]
    ask("GET", "/v1/customers/{}", made)
    ask("GET", "/v1/customers/{}", "nobody", expect=404)
    ask("GET", "/v1/customers", params={"ingest_alias": "team"})
    ask("POST", "/v1/customers/{}/setIngestAliases", made, json={"ingest_aliases": ["crew"]})
    ask("POST", "/v1/customers/{}/setName", made, json={"name": "New"})
    ask("POST", "/v1/customers/archive", json={"id": made})
    ask("GET", "/v1/customers", params={"only_archived": "true"})


# -- Klaviyo ----------------------------------------------------------------------------------


def _klaviyo_event(now: datetime, number: int, name: str, **properties: Any) -> dict[str, Any]:
    profile = {"type": "profile", "attributes": {"email": f"c{number % 3}@example.com"}}
    attributes = {
        "properties": {"Source": "web", "Items": ["a"], "n": number, **properties},
        "time": (now - _HOUR + timedelta(seconds=number)).isoformat(),
        "value": number + 0.5,
        "unique_id": f"{name} {number}",
        "metric": {"data": {"type": "metric", "attributes": {"name": name}}},
        "profile": {"data": profile},
    }
    return {"data": {"type": "event", "attributes": attributes}}


def _custom(name: str, definition: dict[str, Any], **members: Any) -> dict[str, Any]:
    attributes = {"name": name, "definition": definition}
    return {"data": {"type": "custom-metric", "attributes": attributes, **members}}


def _klaviyo(ask: _Asking, now: datetime) -> None:
    """Ask Klaviyo's door."""
    path = "/api/custom-metrics"
    for number, (_, body) in enumerate(_accepted("klaviyo")):
        own = body["data"]["attributes"]
        ask("POST", path, json=_custom(f"{own['name'][:80]} {number}", own["definition"]))
    groups = [{"metric_id": "Placed Order"}, {"metric_id": "Refund", "metric_filters": []}]
    definition = {"aggregation_method": "value", "metric_groups": groups}
    made = ask("POST", path, json=_custom("Revenue", definition))["data"]["id"]
    ask("POST", path, json=_custom(" ", definition), expect=400)
    ask("PATCH", f"{path}/{{}}", made, json=_custom("Net revenue", definition, id=made))
    ask("GET", path)
    ask("GET", path, params={"include": "metrics"})
    some = {"fields[custom-metric]": "name,definition.aggregation_method"}
    ask("GET", path, params=some, sparse=True)
    ask("GET", f"{path}/{{}}", made, params={"include": "metrics"})
    ask("GET", f"{path}/{{}}", "nothing", expect=404)
    ask("GET", f"{path}/{{}}/metrics", made)
    ask("GET", f"{path}/{{}}/relationships/metrics", made)

    order = _klaviyo_event(now, 1, "Placed Order", **{"$attributed_message": "m1"})
    ask("POST", "/api/events", json=order)
    ask("POST", "/api/events", json={"data": {}}, expect=400)
    mail = [
        _klaviyo_event(now, 2, "Received Email", **{"$message": "m1"}),
        _klaviyo_event(now, 3, "Received Email", **{"$message": "f1", "$flow": "welcome"}),
    ]
    items = []
    for each in mail:
        inner = dict(each["data"]["attributes"])
        attributes = {"profile": inner.pop("profile")}
        events = {"data": [{"type": "event", "attributes": inner}]}
        items.append({"type": "event-bulk-create", "attributes": {**attributes, "events": events}})
    job = {
        "type": "event-bulk-create-job",
        "attributes": {"events-bulk-create": {"data": items}},
    }
    ask("POST", "/api/event-bulk-create-jobs", json={"data": job})
    asked = _aggregates(now, made, by=["Source"])
    ask("POST", "/api/metric-aggregates", json=asked)  # it is counted from here on
    ask.recount.catch_up()

    ask("POST", "/api/metric-aggregates", json=asked)
    ask("POST", "/api/metric-aggregates", json=_aggregates(now, "Placed Order"))
    ask("POST", "/api/metric-aggregates", json=_aggregates(now, "nothing"), expect=404)
    reports = ("campaign-values", "flow-values", "flow-series")
    for _ in range(2):  # the second time what the first one began is counted
        for name in reports:
            ask("POST", f"/api/{name}-reports", json=_report(now, name, made))
        ask.recount.catch_up()
    listed = ask("GET", "/api/metrics")["data"]
    one = next(each["id"] for each in listed if each["attributes"]["name"] == "Placed Order")
    ask("GET", "/api/metrics/{}", one)
    ask("GET", "/api/metrics/{}", "nothing", expect=404)
    properties = ask("GET", "/api/metrics/{}/metric-properties", one)["data"]
    ask("GET", "/api/metric-properties/{}", properties[0]["id"])
    _klaviyo_relations(ask, one, properties[0]["id"])
    ask("DELETE", f"{path}/{{}}", made)


def _klaviyo_relations(ask: _Asking, metric: str, property_id: str) -> None:
    """What metrics, properties and events point to."""
    ask("GET", "/api/metrics", params={"filter": 'equals(integration.name,"API")'})
    ask("GET", "/api/metrics", params={"filter": "has(name)"}, expect=400)
    for related in ("metric-properties", "flow-triggers"):
        ask("GET", f"/api/metrics/{{}}/relationships/{related}", metric)
    ask("GET", "/api/metrics/{}/flow-triggers", metric)
    ask("GET", "/api/metric-properties/{}/metric", property_id)
    ask("GET", "/api/metric-properties/{}/relationships/metric", property_id)
    ask("GET", "/api/events", params={"page[size]": "2", "include": "metric"})
    asked = {"filter": f'equals(metric_id,"{metric}")', "sort": "-datetime"}
    event = ask("GET", "/api/events", params=asked)["data"][0]["id"]
    ask("GET", "/api/events", params={"sort": "name"}, expect=400)
    ask("GET", "/api/events", params={"fields[event]": "datetime"}, sparse=True)
    ask("GET", "/api/events/{}", event, params={"include": "metric"})
    ask("GET", "/api/events/{}", "0@999999", expect=404)
    ask("GET", "/api/events/{}/metric", event)
    for related in ("metric", "profile"):
        ask("GET", f"/api/events/{{}}/relationships/{related}", event)


def _aggregates(now: datetime, metric_id: str, **members: Any) -> dict[str, Any]:
    attributes = {
        "metric_id": metric_id,
        "measurements": ["count", "sum_value", "unique"],
        "interval": "hour",
        "filter": [
            f"greater-or-equal(datetime,{(now - 3 * _HOUR).strftime(_TEXT)})",
            f"less-than(datetime,{now.strftime(_TEXT)})",
        ],
    }
    return {"data": {"type": "metric-aggregate", "attributes": {**attributes, **members}}}


def _report(now: datetime, name: str, metric_id: str) -> dict[str, Any]:
    days = [now.replace(hour=0) + timedelta(days=shift) for shift in (-1, 2)]
    attributes: dict[str, Any] = {
        "statistics": ["conversions", "conversion_value", "opens", "open_rate", "recipients"],
        "timeframe": {"start": days[0].isoformat(), "end": days[1].isoformat()},
        "conversion_metric_id": metric_id,
        **({"interval": "daily"} if "series" in name else {}),
    }
    return {"data": {"type": f"{name}-report", "attributes": attributes}}


# -- Statsig ----------------------------------------------------------------------------------


def _statsig(ask: _Asking, now: datetime) -> None:
    """Ask Statsig's doors."""
    console = "/console/v1/metrics"
    plays = {
        "name": "plays",
        "type": "event_count_custom",
        "unitTypes": ["userID"],
        "metricEvents": [{"name": "play", "criteria": []}],
        "tags": "music",
    }
    ask("POST", console, json={**plays, "dryRun": True})
    ask("POST", console, json=plays)
    ask("POST", console, json=plays, expect=400)
    for number, (_, body) in enumerate(_accepted("statsig")):
        named = {**body, "name": f"{body['name']} {number}"}
        named.pop("dryRun", None)
        made = ask("POST", console, json=named)["data"]["id"]
        ask("GET", f"{console}/{{}}", made)
    one = "plays::event_count_custom"
    ask("GET", f"{console}/{{}}/{{}}", "plays", "event_count_custom")
    ask("GET", f"{console}/{{}}", "nothing::sum", expect=404)
    ask("GET", f"{console}/list", params={"limit": 3, "page": 2})
    ask("POST", f"{console}/{{}}", one, json={"description": "new"})
    ask("POST", f"{console}/{{}}", one, json={"type": "sum"}, expect=400)
    ask("POST", f"{console}/{{}}/reload", one)
    at = int((now - _HOUR).timestamp() * 1_000)
    events = [
        {"eventName": "play", "time": at + number, "user": {"userID": f"u{number}"}, "value": 1}
        for number in range(3)
    ]
    ask("POST", "/v1/log_event", json={"events": events})
    ask("POST", "/v1/log_event", json={"events": []}, expect=400)
    ask.recount.catch_up()

    day = (now - _HOUR - timedelta(hours=8)).astimezone(UTC).strftime("%Y-%m-%d")
    ask("GET", console, params={"id": one, "date": day})
    ask("GET", f"{console}/values", params={"date": day})
    ask("PUT", f"{console}/{{}}/schedule_archive", one)
    ask("PUT", f"{console}/{{}}/cancel_archive", one)
    ask("PUT", f"{console}/{{}}/unarchive", one, expect=400)
    ask.recount.run("metrics", "archive", "plays", "--at", (now - _HOUR).isoformat())
    ask("PUT", f"{console}/{{}}/unarchive", one)
    ask.client.headers["STATSIG-API-KEY"], kept = (
        "console-x",
        ask.client.headers["STATSIG-API-KEY"],
    )
    ask("GET", f"{console}/list", expect=401)
    ask.client.headers["STATSIG-API-KEY"] = kept
    ask("DELETE", f"{console}/{{}}", one)
