"""OpenMeter's events and meter query: its own clients work unchanged."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from definitions.events import translate_named
from definitions.formats.bodies import dump_json

from ...reads.known import no_metric
from ..http.bodies import read
from ..http.errors import PROBLEM_JSON, Refused
from ..http.paths import segment
from ..http.requests import body_json, needs, takes
from ..http.service import Service
from . import models, shapes
from .asking import answered, asked_by_url

ONE: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
_JSON: Final = "application/json"
Ingesting = Annotated[Service, Depends(needs("ingest"))]
Reading = Annotated[Service, Depends(needs("read"))]
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "description": "A problem",
        "content": {PROBLEM_JSON: {"schema": shapes.ProblemDetails.model_json_schema()}},
    }
    for status in (400, 401, 403, 404, 406, 408, 413, 415, 429, 503)
}
_QUERY: Final = {
    "clientId": "taken, without effect",
    "from": "RFC 3339, inclusive",
    "to": "RFC 3339, exclusive",
    "windowSize": "HOUR, DAY or MONTH",
    "windowTimeZone": "IANA name",
    "subject": "repeatable",
    "groupBy": "repeatable: subject, group keys",
}
router = APIRouter(prefix="/api/v1", tags=["OpenMeter"])


def _events() -> dict[str, Any]:
    """What the OpenAPI page says of events: one, or a batch, by their media types."""
    made = takes(models.CloudEvent, ONE)
    content = made["openapi_extra"]["requestBody"]["content"]
    for model, media in ((models.CloudEvents, BATCH), (models.CloudEvent, _JSON)):
        content |= takes(model, media)["openapi_extra"]["requestBody"]["content"]
    return made


@router.post("/events", status_code=204, responses=_ERRORS, **_events())
async def ingest(request: Request, service: Ingesting) -> Response:
    """Take an event or a batch, at most 20,000; 204 only when Kafka has all of them durably."""
    media = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media not in {ONE, BATCH, _JSON}:
        raise Refused(415, f"Content-Type is {ONE}, {BATCH} or {_JSON}")
    body = await body_json(request)
    if media != _JSON and isinstance(body, list) != (media == BATCH):
        due = "a list of events" if media == BATCH else "one event, an object"
        raise Refused(400, f"a body of {media} is {due}")
    if isinstance(body, list) and len(body) > models.EVENTS_MAX:
        raise Refused(
            413, f"{len(body)} events; a batch has at most {models.EVENTS_MAX}: send several"
        )
    await service.ingest(translate_named("cloudevents", body, service.arrival()))
    return Response(status_code=204)


@router.get(
    "/meters/{meter}/query",
    response_model=shapes.MeterResult,
    responses=_ERRORS,
    **takes(query=_QUERY),
)
async def query(meter: str, request: Request, service: Reading) -> Response:
    """Usage of a meter: a metric by its id or name. `filterGroupBy[NAME]=VALUE` filters."""
    return await _answer(meter, request, service, asked_by_url(request))


@router.post(
    "/meters/{meter}/query",
    response_model=shapes.MeterResult,
    responses=_ERRORS,
    **takes(models.MeterQuery),
)
async def query_by_body(meter: str, request: Request, service: Reading) -> Response:
    """The same, asked by a body."""
    return await _answer(meter, request, service, await body_json(request))


async def _answer(meter: str, request: Request, service: Service, body: Any) -> Response:
    if request.headers.get("accept", "").split(";")[0].strip() == "text/csv":
        raise Refused(406, f"usage is answered as {_JSON}, not as text/csv")
    asked = read(models.MeterQuery, body, "O")
    state, name = await service.fresh(), segment(meter)
    metric = state.find(name)
    if metric is None:
        raise no_metric(name, state.names, "GET /recount/v1/metrics")
    return Response(dump_json(await answered(service, metric, asked)), media_type=_JSON)
