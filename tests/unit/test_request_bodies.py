"""What the OpenAPI page says of bodies, and what reading them through models says of faults."""

import json
import time
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest

from definitions.errors import DefinitionError
from definitions.events import translate
from definitions.events.common import Arrival, instant
from definitions.formats import metronome
from definitions.formats.bodies import parse_json
from pipeline.doors.app import application
from pipeline.doors.http.bodies import Body, read
from pipeline.doors.metronome import models
from pipeline.settings import load_settings

from ..answers import CALLS, TIME, changed, rows
from ..services import ROOT

NOW = "2026-11-29T11:00:00Z"
PAYLOADS = ROOT / "tests/data/formats/payloads"
READ: dict[str, type[Body]] = {
    "usage": models.UsageQuery,
    "groups": models.GroupsQuery,
    "older groups": models.GroupsQuery,
    "search": models.EventSearch,
    "rename": models.Rename,
    "archive": models.Archive,
}
# (system, kind) of a payload → where it is sent
PLACES = {
    ("metronome", "create_definition"): ("post", "/v1/billable-metrics/create"),
    ("metronome", "update_definition"): ("put", "/v1/billable-metrics/{metric_id}"),
    ("metronome", "event"): ("post", "/v1/ingest"),
    ("metronome", "archive"): ("post", "/v1/billable-metrics/archive"),
    ("metronome", "read_query"): ("post", "/v1/usage"),
    ("klaviyo", "create_definition"): ("post", "/api/custom-metrics"),
    ("klaviyo", "update_definition"): ("patch", "/api/custom-metrics/{metric_id}"),
    ("klaviyo", "event"): ("post", "/api/events"),
    ("klaviyo", "read_query"): ("post", "/api/metric-aggregates"),
    ("statsig", "create_definition"): ("post", "/console/v1/metrics"),
    ("statsig", "update_definition"): ("post", "/console/v1/metrics/{metric_id}"),
    ("statsig", "event"): ("post", "/v1/log_event"),
}
# What clients of Statsig start with, and their other path for events.
STARTS = ("/v1/download_config_specs", "/v1/get_id_lists", "/v1/initialize", "/v1/rgstr")
OPENMETER = ("/api/v1/events", "/api/v1/meters/{meter}/query")
REPORTS = tuple(
    f"/api/{name}-reports" for name in ("campaign-values", "flow-values", "flow-series")
)
CUSTOMERS = tuple(
    f"/v1/customers{path}"
    for path in ("", "/archive", "/{customer_id}/setIngestAliases", "/{customer_id}/setName")
)
REPLACES = "/recount/v1/metrics/{metric}/replace"
TRIED = "/recount/v1/metrics/try"  # a body of any format: no model of its own
JUDGED = {("accept", None), ("reject", "schema")}


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The OpenAPI page."""
    made: dict[str, Any] = application(load_settings()).openapi()
    return made


def bodies(page: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], Any]]:
    """Method, path, schema and example of every body, its references resolved by the page."""
    for path, operations in page["paths"].items():
        for method, operation in operations.items():
            for body in operation.get("requestBody", {}).get("content", {}).values():
                if path != TRIED:
                    yield method, path, body["schema"], body["example"]


def validator(page: dict[str, Any], schema: dict[str, Any]) -> Any:
    """What checks a body by a schema of the page."""
    return jsonschema_rs.Draft202012Validator(
        {**schema, "components": page["components"]}, validate_formats=True
    )


def members(page: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The members that a schema tells of; of a list, those of its items."""
    while "$ref" in schema or "items" in schema:
        if "$ref" in schema:
            schema = page["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        else:
            schema = schema["items"]
    found: dict[str, Any] = schema["properties"]
    return found


def test_every_body_tells_its_members(page: dict[str, Any]) -> None:
    """Each call with a body has a model; what it must have and what it is for stand there."""
    found = list(bodies(page))
    calls = [
        (method, path)
        for path, operations in page["paths"].items()
        for method in operations
        if method in {"post", "put", "patch"} and "archive" not in path.rsplit("/", 1)[1]
    ]

    assert {(method, path) for method, path, _, _ in found} >= {
        each for each in calls if not each[1].endswith("/reload") and each[1] != TRIED
    }
    assert len(found) == 33
    for method, path, schema, example in found:
        assert members(page, schema), (method, path)
        assert validator(page, schema).is_valid(example), (method, path)
    for name in (
        "UsageQuery",
        "GroupsQuery",
        "NewBillableMetric",
        "EventBody",
        "Archive",
        "Rename",
    ):
        schema = page["components"]["schemas"][name]
        assert schema["required"], name
        assert all("description" in each for each in schema["properties"].values()), name


def test_a_body_of_very_many_faults_is_refused_at_once() -> None:
    """Four megabytes of wrong members cost no more than reading them: no fault is made of each."""
    whole = {"starting_on": "x", "ending_before": "y", "billable_metrics": [7] * 1_000_000}
    inner = {**whole, "billable_metrics": [{str(number): 1 for number in range(300)}] * 200}
    for body in (whole, inner, {str(number): 1 for number in range(500_000)}):
        began = time.process_time()
        with pytest.raises(DefinitionError) as refused:
            read(models.UsageQuery, body, "M")
        assert time.process_time() - began < 0.5

        (problem,) = refused.value.problems
        assert problem.rule == "LIMIT-ITEMS"
        assert "more than 50,000" in problem.message


def test_every_example_of_a_schema_is_valid(page: dict[str, Any]) -> None:
    """Each example that a component has holds what the component says."""
    seen = 0
    for name, schema in page["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            validator(page, {"$ref": f"#/components/schemas/{name}"}).validate(example)
            seen += 1

    assert seen >= 15


def test_a_schema_takes_what_its_door_takes(page: dict[str, Any]) -> None:
    """Every payload that is taken is valid; each that a vendor's schema refuses is not."""
    schemas = {(method, path): schema for method, path, schema, _ in bodies(page)}
    seen = set()
    for name, entry in json.loads((PAYLOADS / "index.json").read_text()).items():
        place = PLACES.get((entry["system"], entry["kind"]))
        body = json.loads((PAYLOADS / f"{name}.json").read_text())
        if place is None or (entry["expect"], entry.get("layer")) not in JUDGED:
            continue
        if "billable_metric_id" in body:
            place = ("post", "/v1/usage/groups")
        if "event-bulk-create-job" in str(body):
            place = ("post", "/api/event-bulk-create-jobs")
        wrong = [str(each) for each in validator(page, schemas[place]).iter_errors(body)]
        assert bool(wrong) == (entry["expect"] == "reject"), (name, wrong)
        seen.add((place, entry["expect"]))

    assert {place for place, expect in seen if expect == "accept"} == set(schemas) - {
        ("post", "/v1/events/search"),
        ("post", "/recount/v1/events/void"),
        ("post", "/recount/v1/events/amend"),
        *(("post", path) for path in (*STARTS, *OPENMETER, *REPORTS, *CUSTOMERS, REPLACES)),
    }
    assert len(seen) > 20


def told(call: str, body: Any) -> tuple[list[str], str]:
    """The problems of a body, each with its pointer, and the message of them all."""
    try:
        if call in READ:
            read(READ[call], body, "M")
        elif call == "create":
            metronome.parse(json.dumps(body, default=float))
        else:
            moment = instant(NOW)
            assert moment is not None
            translate("metronome", body, Arrival(moment, lambda: "id"))
    except DefinitionError as error:
        found = error.problems
        return [f"{each.rule} {each.pointer}" for each in found], "; ".join(
            each.message for each in found
        )
    return [], ""


def test_every_wrong_member_has_the_rule_and_the_pointer_it_had() -> None:
    """Absent members, unknown ones, wrong types, several at once: rules, pointers and words."""
    for row in rows():
        text = json.dumps(changed(CALLS[row["call"]][2], row["changes"])).replace(TIME, NOW)
        problems, message = told(row["call"], parse_json(text))
        assert problems == row.get("problems", []), row
        if problems:
            assert message == row["message"], row


def test_many_faults_are_counted() -> None:
    """Of very many faults the first are told, and how many more there are."""
    body = {"billable_metrics": [7] * 5_000, **{f"x{number}": 1 for number in range(50)}}

    with pytest.raises(DefinitionError) as refused:
        read(models.UsageQuery, body, "M")

    problems = refused.value.problems
    assert [each.rule for each in problems] == ["M-UNKNOWN"] * 50 + ["M-REQ"] * 3 + ["M-TYPE"] * 47
    assert problems[-1].pointer == "/billable_metrics/46"
    assert refused.value.more == 5_053 - 100
