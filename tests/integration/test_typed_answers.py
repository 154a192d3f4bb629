"""Every route of three vendors answers what their own clients' strict models take.

Their OpenAPI documents judge the same answers: `python -m tests.conformance.openapi DIR`.
"""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema_rs
import metronome.pagination as pages
import openapi_client.api
import openapi_client.models
import pytest
from metronome._models import validate_type
from metronome.types import v1 as models

from pipeline.doors.app import application
from pipeline.settings import load_settings

from ..conformance.openapi import Document, Reason, reason_of
from ..services import Recount
from ..vendors import STARTS, VENDORS, Answered, plain, walk
from .doors import serving
from .test_seed_examples import statsigs_page

pytestmark = pytest.mark.timeout(400)
METRONOME: dict[tuple[str, str], Any] = {
    ("POST", "/v1/billable-metrics/create"): models.BillableMetricCreateResponse,
    ("GET", "/v1/billable-metrics"): pages.SyncCursorPage[models.BillableMetricListResponse],
    ("GET", "/v1/billable-metrics/{}"): models.BillableMetricRetrieveResponse,
    ("PUT", "/v1/billable-metrics/{}"): models.BillableMetricUpdateResponse,
    ("POST", "/v1/billable-metrics/archive"): models.BillableMetricArchiveResponse,
    ("GET", "/v1/customers/{}/billable-metrics"): pages.SyncCursorPage[
        models.CustomerListBillableMetricsResponse
    ],
    ("POST", "/v1/ingest"): dict[str, None],  # the client reads no body
    ("POST", "/v1/events/search"): models.UsageSearchResponse,
    ("POST", "/v1/usage"): pages.SyncCursorPageWithoutLimit[models.UsageListResponse],
    ("POST", "/v1/usage/groups"): pages.SyncCursorPage[models.UsageListWithGroupsResponse],
    ("POST", "/v1/customers"): models.CustomerCreateResponse,
    ("GET", "/v1/customers"): pages.SyncCursorPage[models.CustomerDetail],
    ("GET", "/v1/customers/{}"): models.CustomerRetrieveResponse,
    ("POST", "/v1/customers/{}/setIngestAliases"): dict[str, None],
    ("POST", "/v1/customers/{}/setName"): models.CustomerSetNameResponse,
    ("POST", "/v1/customers/archive"): models.CustomerArchiveResponse,
}


def klaviyos() -> dict[tuple[str, str], dict[str, str]]:
    """Method and route → status → the name of the model that Klaviyo's client parses it with."""
    found = {}
    for file in Path(openapi_client.api.__path__[0]).glob("*_api.py"):
        held: dict[str, str] = {}
        for types, method, path in re.findall(
            r"_response_types_map: [^{]*\{([^}]*)\}|method='(\w+)',\s+resource_path='([^']+)'",
            file.read_text(),
        ):
            if types:
                held = dict(re.findall(r"'(\w+)': \"?(\w+)\"?", types))
            else:
                found[method, plain(path)] = held
    return found


def of_klaviyo() -> Callable[[Answered], None]:
    """The judge of Klaviyo's answers; a client that asks for sparse fields reads a plain dict."""
    held = klaviyos()

    def judge(answered: Answered) -> None:
        names = held[answered.method, answered.route]
        status = str(answered.status)
        name = names.get(status) or names[f"{status[0]}XX"]
        if name == "None":
            assert answered.body is None
        elif not answered.sparse:
            model = getattr(openapi_client.models, name)
            assert model.from_json(json.dumps(answered.body)) is not None

    return judge


def of_metronome(answered: Answered) -> None:
    """The judge of Metronome's answers; of a refusal its client reads the status alone."""
    if answered.status == 200:
        model = METRONOME[answered.method, answered.route]
        validate_type(type_=model, value=answered.body)
    else:
        assert set(answered.body) == {"message"}


def of_statsig() -> Callable[[Answered], None]:
    """The judge of Statsig's answers: its page has the schemas of a metric and of a refusal."""
    found, missing = (statsigs_page(code) for code in ("200", "404"))

    def judge(answered: Answered) -> None:
        body = answered.body
        if answered.status >= 400:
            missing.validate({**body, "status": 404})  # the page tells of no other refusal
            assert body["status"] == answered.status
            return
        data = body.get("data")
        for each in data if isinstance(data, list) else [data]:
            if each is not None and "value" not in each:
                found.validate({"message": body["message"], "data": each})

    return judge


def test_every_route_answers_what_its_clients_models_take(
    recount: Recount, tmp_path: Path
) -> None:
    """No route of a vendor is left out, and each answer parses: also lists, pages and refusals."""
    recount.run("init", "--partitions", "2")
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251  a test's
    with serving(recount, tmp_path / "serve.log") as server:
        answers = walk(server, now)

    page = application(load_settings()).openapi()["paths"]
    served = {
        (vendor, method.upper(), plain(path))
        for path, operations in page.items()
        for method, operation in operations.items()
        for vendor in set(operation["tags"]) & set(VENDORS)
        if not STARTS.match(path)
    }
    taken = {each[:3] for each in answers if each.status < 300}
    assert served - taken == set()
    judges = {"Klaviyo": of_klaviyo(), "Metronome": of_metronome, "Statsig": of_statsig()}
    for answered in answers:
        try:
            judges[answered.vendor](answered)
        except Exception as error:
            error.add_note(f"{answered}\n{json.dumps(answered.body)[:3_000]}")
            raise
    assert recount.run("audit")[-1]["mismatches"] == 0


# -- the judge of OpenAPI documents -----------------------------------------------------------

DOCUMENT: dict[str, Any] = {
    "components": {
        "schemas": {
            "Row": {
                "type": "object",
                "required": ["id", "value"],
                "properties": {
                    "id": {"type": "string"},
                    "value": {"type": "number", "nullable": True},
                    "own": {"oneOf": [{"$ref": "#/components/schemas/Own"}, {"type": "string"}]},
                    "free": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
            "Own": {
                "allOf": [
                    {"type": "object", "properties": {"a": {"type": "integer"}}},
                    {"type": "object", "required": ["b"], "properties": {"b": {}}},
                ]
            },
        }
    },
    "paths": {
        "/rows/{row}": {
            "get": {
                "responses": {
                    "200": {
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "array",
                                    "items": {"$ref": "#/components/schemas/Row"},
                                }
                            }
                        }
                    },
                    "4XX": {},
                }
            }
        }
    },
}
ROW: dict[str, Any] = {"id": "x", "value": None, "own": {"a": 1, "b": 2}, "free": {"any": "text"}}


@pytest.mark.parametrize(
    ("status", "row", "told"),
    [
        (200, ROW, []),
        (404, ROW, []),
        (500, ROW, ["status "]),
        (200, {**ROW, "more": 1}, ["member /*/more"]),
        (200, {**ROW, "value": "1"}, ["schema /*/value"]),
        (200, {"id": "x"}, ["schema /*"]),
        (200, {**ROW, "own": {"a": "1", "b": 2}}, ["schema /*/own/a"]),
        (200, {**ROW, "own": {"b": 2, "c": 3}}, ["member /*/own/c"]),
        (200, {**ROW, "own": {"a": 1}}, ["schema /*/own"]),
        (200, {**ROW, "free": {"any": 1}}, ["schema /*/free/any"]),
    ],
)
def test_what_the_judge_of_documents_finds(status: int, row: Any, told: list[str]) -> None:
    """Missing members, other types, members and statuses that the document leaves out."""
    answered = Answered("Klaviyo", "GET", "/rows/{}", status, [ROW, row])

    found = Document(DOCUMENT).differences(answered)

    assert sorted({f"{each.kind} {each.place}" for each in found}) == told


def test_a_difference_is_meant_only_where_a_reason_fits() -> None:
    """The same difference of another vendor or of another answer fails."""
    difference = Document(DOCUMENT).differences(
        Answered("Klaviyo", "GET", "/rows/{}", 200, [{**ROW, "meta": {}}])
    )[0]
    reason = Reason("Klaviyo", "member", "GET /rows.* 200", r"/\*/meta .*", "ours")

    def found(vendor: str, status: int) -> Reason | None:
        answered = Answered(vendor, "GET", "/rows/{}", status, None)
        return reason_of(answered, difference, [reason])

    assert found("Klaviyo", 200) is reason
    assert found("Metronome", 200) is None
    assert found("Klaviyo", 400) is None


def test_the_documents_validators_are_strict() -> None:
    """Formats are checked: a text that is no date is a difference."""
    schema = {"type": "string", "format": "date-time"}
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)

    assert not validator.is_valid("yesterday")
    assert validator.is_valid("2026-11-19T01:00:00+00:00")


WRONG = [
    Answered("Klaviyo", "GET", "/api/metrics/{}", 200, {"data": {"type": "metric", "id": 1}}),
    Answered("Klaviyo", "GET", "/api/metrics/{}", 404, {"errors": [{"id": "x"}]}),
    Answered(
        "Metronome",
        "GET",
        "/v1/billable-metrics/{}",
        200,
        {"data": {"id": "x", "name": "n", "aggregation_type": "Sum"}},
    ),
    Answered("Metronome", "POST", "/v1/usage", 200, {"data": [{"customer_id": "c"}]}),
    Answered(
        "Statsig", "GET", "/console/v1/metrics/{}", 200, {"message": "", "data": {"id": "x"}}
    ),
    Answered("Statsig", "GET", "/console/v1/metrics/{}", 404, {"status": "404"}),
]


@pytest.mark.parametrize("answered", WRONG, ids=str)
def test_the_judges_refuse(answered: Answered) -> None:
    """A missing member, another type or another word fails with each client's models."""
    judges = {"Klaviyo": of_klaviyo(), "Metronome": of_metronome, "Statsig": of_statsig()}

    with pytest.raises((ValueError, jsonschema_rs.ValidationError)):
        judges[answered.vendor](answered)
