"""Every example request of the three vendor pages, corrected where the page itself is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
import yaml

from ..services import ROOT, Recount
from .doors import Server, serving

pytestmark = pytest.mark.timeout(120)
OPENAPI = ROOT / "tests/data/seeds/statsig-read-metric.yaml"
ONLINE = {
    "aggregation_method": "value",
    "metric_groups": [
        {
            "metric_id": "SDXgcj",
            "metric_filters": [
                {
                    "property": "Source Name",
                    "filter": {"type": "list", "operator": "not-contains", "value": "pos"},
                }
            ],
            "value_property": "$value",
        }
    ],
}
COUNT = {
    "aggregation_method": "count",
    "metric_groups": [{"metric_id": "RaFtaN", "metric_filters": [], "value_property": None}],
}


@pytest.fixture
def server(recount: Recount, tmp_path: Path) -> Iterator[Server]:
    """A server of a deployment of its own."""
    recount.run("init", "--partitions", "1")
    with serving(recount, tmp_path / "serve.log") as made:
        yield made


def klaviyo(server: Server) -> httpx.Client:
    """A client with the headers of the page."""
    headers = {
        "Authorization": f"Klaviyo-API-Key {server.keys['manage']}",
        "accept": "application/json",
        "content-type": "application/json",
        "revision": "2025-04-15",
    }
    return httpx.Client(base_url=server.url, headers=headers, timeout=30)


def custom(name: str, definition: dict[str, Any]) -> dict[str, Any]:
    """A create body."""
    attributes = {"name": name, "definition": definition}
    return {"data": {"type": "custom-metric", "attributes": attributes}}


def test_the_examples_of_klaviyos_page(server: Server) -> None:
    """The sparse list; the create as it stands, whose operator is a label (CK15)."""
    with klaviyo(server) as client:
        for name, definition in (
            ("Placed Order - Online", ONLINE),
            ("Ordered Product - Count", COUNT),
        ):
            assert client.post("/api/custom-metrics", json=custom(name, definition)).is_success
        path = "/api/custom-metrics/?fields[custom-metric]=name,definition.aggregation_method"
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/json"
        shown = answer.json()["data"]
        assert [each["attributes"] for each in shown] == [
            {"name": name, "definition": {"aggregation_method": method}}
            for name, method in (
                ("Placed Order - Online", "value"),
                ("Ordered Product - Count", "count"),
            )
        ]
        related = shown[0]["relationships"]["metrics"]
        assert related["data"] == [{"type": "metric", "id": "SDXgcj"}]
        assert related["links"]["self"].endswith(f"{shown[0]['id']}/relationships/metrics/")
        both = f"{path},definition.metric_groups"  # what the page's answer in truth shows
        definitions = [
            each["attributes"]["definition"] for each in client.get(both).json()["data"]
        ]
        assert definitions == [ONLINE, COUNT]

        group: dict[str, Any] = {
            "metric_id": "T4kAe8",
            "value_property": "Revenue",
            "metric_filters": [
                {
                    "property": "Source Name",
                    "filter": {
                        "type": "string",
                        "operator": "does not equal",
                        "value": "subscription",
                    },
                }
            ],
        }
        definition = {"aggregation_method": "value", "metric_groups": [group]}
        made = client.post("/api/custom-metrics", json=custom("Ecommerce", definition))
        assert made.status_code == 201
        assert made.json()["data"]["attributes"]["definition"] == definition
        # The page's report, whose filter has a quotation mark where the name ends: no JSON.
        page = """{ "data": { "type": "campaign-values-report", "attributes": { "timeframe":
            { "key": "last_12_months" }, "conversion_metric_id": "METRIC", "filter":
            "equals(campaign_id",\\"01GMRWDSA0ARTAKE1SFX8JGXAY\\")", "statistics": [ "opens",
            "open_rate" ] } } }""".replace("METRIC", shown[0]["id"])
        assert client.post("/api/campaign-values-reports/", content=page).status_code == 400
        meant = page.replace('(campaign_id",\\"', '(campaign_id,\\"')
        report = client.post("/api/campaign-values-reports/", content=meant)
        assert report.status_code == 200, report.text
        assert report.json()["data"]["attributes"] == {"results": []}  # nothing was sent yet


def test_the_example_of_statsigs_page_fits_its_openapi(server: Server) -> None:
    """Read Metric Definition: the page's metric, and every other type, as the page says."""
    operation = _operation()
    validators = {code: statsigs_page(code) for code in ("200", "404")}
    example = operation["responses"]["200"]["content"]["application/json"]["example"]["data"]
    members = ("name", "type", "description", "tags", "team", "unitTypes", "metricEvents")
    wanted = {name: example[name] for name in members}
    bodies = [wanted]
    folder = ROOT / "tests/data/formats/payloads"
    index = json.loads((folder / "index.json").read_text())
    for name, entry in index.items():
        if (entry["system"], entry["kind"], entry["expect"]) == (
            "statsig",
            "create_definition",
            "accept",
        ):
            bodies.append(json.loads((folder / f"{name}.json").read_text()))
    headers = {"STATSIG-API-KEY": server.keys["manage"]}
    shown = {}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
        for number, body in enumerate(bodies):
            named = {**body, "name": f"{body['name']} {number}" if number else body["name"]}
            named.pop("dryRun", None)
            assert client.post("/console/v1/metrics", json=named).status_code == 201
            path = f"/console/v1/metrics/{named['name']}::{named['type']}".replace(" ", "%20")
            answer = client.get(path)
            validators["200"].validate(answer.json())
            shown[named["name"]] = answer.json()["data"]
        missing = client.get("/console/v1/metrics/TestMetricCapi::mean")
        assert missing.status_code == 404
        validators["404"].validate(missing.json())

    own = shown["TestMetricCapi"]
    assert set(example) <= set(own)
    later = {"createdTime", "lastModifiedTime"}
    assert {each: own[each] for each in example if each not in later} == {
        each: value for each, value in example.items() if each not in later
    }
    assert len(shown) > 30


def _operation() -> dict[str, Any]:
    spec = yaml.safe_load(OPENAPI.read_text())
    found: dict[str, Any] = spec["paths"]["/console/v1/metrics/{id}"]["get"]
    return found


def statsigs_page(code: str) -> Any:
    """What validates an answer of the page Read Metric Definition, with a status."""
    schema = _plain(_schema(_operation(), code))
    return jsonschema_rs.validator_for({**schema, **_parts(yaml.safe_load(OPENAPI.read_text()))})


def _schema(operation: dict[str, Any], code: str) -> dict[str, Any]:
    found: dict[str, Any] = operation["responses"][code]["content"]["application/json"]["schema"]
    return found


def _parts(spec: dict[str, Any]) -> dict[str, Any]:
    return {"components": _plain(spec["components"])}


def _plain(schema: Any) -> Any:
    """OpenAPI 3.0 → JSON Schema: nullable is another type, and another word of an enum."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _plain(each) for name, each in schema.items() if name != "nullable"}
    if schema.get("nullable") is True:
        if "type" in made:
            made["type"] = [made["type"], "null"]
        if "enum" in made:
            made["enum"] = [*made["enum"], None]
    if "after_exposure" in made.get("enum", []):
        made["enum"] += ["before_exposure", "is_true", "is_false"]  # newer than the page
    return made


def test_metronomes_page_in_both_kinds(server: Server) -> None:
    """Create a billable metric: filters and aggregation, or SQL; never both."""
    filters = {
        "event_type_filter": {"in_values": ["cpu_usage"]},
        "property_filters": [
            {"name": "cpu_hours", "exists": True},
            {"name": "region", "exists": True, "in_values": ["EU", "NA"]},
        ],
        "aggregation_type": "SUM",
        "aggregation_key": "cpu_hours",
        "group_keys": [["region"]],
        "custom_fields": {"x_account_id": "KyVnHhSBWl7eY2bl"},
    }
    sql = "SELECT count(1) AS value FROM events WHERE event_type = 'cpu_usage'"
    headers = {"Authorization": f"Bearer {server.keys['manage']}"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
        for body, status in (
            ({"name": "CPU Hours", **filters}, 200),
            ({"name": "CPU count", "sql": sql}, 200),
            ({"name": "both", "sql": sql, **filters}, 400),
            ({"name": "neither"}, 400),
        ):
            answer = client.post("/v1/billable-metrics/create", json=body)
            assert answer.status_code == status, answer.text
            if status == 200:
                path = f"/v1/billable-metrics/{answer.json()['data']['id']}"
                assert {**client.get(path).json()["data"], **body} == client.get(path).json()[
                    "data"
                ]
