"""Klaviyo's custom metrics (docs/formats.md 1): the official client works unchanged."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from definitions.errors import DefinitionError, Problem
from definitions.formats import klaviyo as rules
from definitions.formats import native_body
from definitions.formats.bodies import parse_json
from definitions.metric import VALUE_NAME

from ...control.entities import Metric
from ...control.records import ControlState
from ...control.terms import terms_of
from ...errors import UnknownNameError
from ..http.errors import JSON_API, NOT_FOUND, Refused
from ..http.requests import body_text, needs, takes
from ..http.service import Pace, Service, of_format
from . import models
from .resources import (
    DOCUMENTED,
    FIELDS,
    ONE,
    READS,
    Reading,
    answer,
    base_of,
    fields_of,
    here_of,
    resources_of,
    revised,
    sparse,
)

PLAIN_ID: Final = "klaviyo-plain-"  # metrics as they are, registered for metric-aggregates
_WRITES: Final = Pace("klaviyo-write", ((1, 1), (15, 60), (15, 86_400)))
Managing = Annotated[Service, Depends(needs("manage", _WRITES))]
Deleting = Annotated[Service, Depends(needs("manage", READS))]
_SHOWN: Final = {
    "fields[custom-metric]": FIELDS,
    "fields[metric]": FIELDS,
    "include": "metrics",
}

router = APIRouter(prefix="/api", tags=["Klaviyo"], dependencies=[Depends(revised)])


# -- custom metrics ---------------------------------------------------------------------------


def live(state: ControlState) -> list[Metric]:
    """Every custom metric that was not deleted, oldest first."""
    return [
        metric
        for metric in of_format(state.metrics.values(), "klaviyo")
        if metric.archived_at is None and not metric.id.startswith(PLAIN_ID)
    ]


def found(state: ControlState, metric_id: str) -> Metric:
    """Return a custom metric that was not deleted.

    Raises:
        UnknownNameError: there is none.
    """
    metric = state.metrics.get(metric_id)
    if metric is None or metric not in live(state):
        raise UnknownNameError(NOT_FOUND)
    return metric


@router.post("/custom-metrics", status_code=201, **ONE, **takes(models.NewCustomMetric, JSON_API))
async def create(request: Request, service: Managing) -> Response:
    """Create a custom metric; it counts what workers apply after they hear of it."""
    fields_of(request, "custom-metric")
    text = await body_text(request)
    async with service.writing() as writer:
        name, definition = await asyncio.to_thread(writer.parse, "klaviyo", text, reuse=True)
        most = service.settings.klaviyo_custom_metrics_max
        if len(live(service.control.state)) >= most:
            raise Refused(403, f"at most {most} custom metrics")
        await _check_properties(service, parse_json(text)["data"]["attributes"]["definition"])
        made = await writer.create(name, definition, None)
    return answer(_document(request, made), 201)


async def _check_properties(service: Service, definition: Mapping[str, Any]) -> None:
    """With a strict catalogue, what a definition reads of a metric must have been seen (CK18)."""
    terms = terms_of(service.identity.formats)
    if not terms.klaviyo_strict:
        return
    learned = await service.learned()
    problems = []
    for number, group in enumerate(definition["metric_groups"]):
        seen = learned.get(rules.event_of(group["metric_id"], terms))
        known = {} if seen is None else seen.properties
        at = f"/data/attributes/definition/metric_groups/{number}"
        asked = {
            f"{at}/metric_filters/{place}/property": each["property"]
            for place, each in enumerate(group.get("metric_filters") or ())
        }
        if definition["aggregation_method"] == "value":
            asked[f"{at}/value_property"] = group.get("value_property") or VALUE_NAME
        for pointer, name in asked.items():
            if name not in known:
                message = f"no event of the metric had the property {name[:100]!r} yet"
                problems.append(Problem("K-PROPERTY", pointer, message))
    if problems:
        raise DefinitionError(problems)


@router.get("/custom-metrics", **ONE, **takes(query=_SHOWN))
async def list_custom_metrics(request: Request, service: Reading) -> Response:
    """List the custom metrics; `include=metrics` adds what they are made of."""
    state = await service.fresh()
    metrics = live(state)
    return answer(await _documents(request, service, metrics, one=False))


@router.get("/custom-metrics/{metric_id}", **ONE, **takes(query=_SHOWN))
async def retrieve(metric_id: str, request: Request, service: Reading) -> Response:
    """Return a custom metric."""
    metric = found(await service.fresh(), metric_id)
    return answer(await _documents(request, service, [metric], one=True))


@router.patch("/custom-metrics/{metric_id}", **ONE, **takes(models.ChangedCustomMetric, JSON_API))
async def change(metric_id: str, request: Request, service: Managing) -> Response:
    """Change a name or the whole definition. Another definition counts from the next bucket on."""
    fields_of(request, "custom-metric")
    text = await body_text(request)
    async with service.writing() as writer:
        metric = found(service.control.state, metric_id)
        rules.parse_update(text, terms_of(service.identity.formats))
        if parse_json(text)["data"]["id"] != metric_id:
            problem = Problem("K-ID", "/data/id", "the id is not that of the path")
            raise DefinitionError([problem])
        if (definition := parse_json(text)["data"]["attributes"].get("definition")) is not None:
            await _check_properties(service, definition)
        changed = await writer.update(metric, text, "now")
    return answer(_document(request, changed))


@router.delete("/custom-metrics/{metric_id}", status_code=204, **DOCUMENTED)
async def delete(metric_id: str, service: Deleting) -> Response:
    """Delete a custom metric; its name is free, its numbers stay readable by `recount usage`."""
    async with service.writing() as writer:
        await writer.delete(found(service.control.state, metric_id))
    return Response(status_code=204)


@router.get(
    "/custom-metrics/{metric_id}/metrics", **ONE, **takes(query={"fields[metric]": FIELDS})
)
async def metrics_of(metric_id: str, request: Request, service: Reading) -> Response:
    """The metrics that a custom metric is made of."""
    metric = found(await service.fresh(), metric_id)
    shown = await resources_of(request, service, _metric_ids(metric))
    return answer({"data": shown, "links": {"self": here_of(request)}})


@router.get("/custom-metrics/{metric_id}/relationships/metrics", **ONE)
async def metric_ids_of(metric_id: str, request: Request, service: Reading) -> Response:
    """The same, identifiers alone."""
    metric = found(await service.fresh(), metric_id)
    data = [{"type": "metric", "id": each} for each in _metric_ids(metric)]
    return answer({"data": data, "links": {"self": here_of(request)}})


def _metric_ids(metric: Metric) -> list[str]:
    attributes = native_body(metric.origin, metric.name)["data"]["attributes"]
    groups = attributes["definition"]["metric_groups"]
    return list(dict.fromkeys(group["metric_id"] for group in groups))


def _resource(request: Request, metric: Metric) -> dict[str, Any]:
    own = native_body(metric.origin, metric.name)["data"]["attributes"]
    attributes = {
        "name": metric.name,
        "definition": own["definition"],
        "created": metric.versions[0].created_at,
        "updated": metric.changed_at,
    }
    at = f"{base_of(request)}/api/custom-metrics/{metric.id}"
    related = {"self": f"{at}/relationships/metrics/", "related": f"{at}/metrics/"}
    data = [{"type": "metric", "id": each} for each in _metric_ids(metric)]
    return {
        "type": "custom-metric",
        "id": metric.id,
        "attributes": sparse(attributes, fields_of(request, "custom-metric")),
        "relationships": {"metrics": {"data": data, "links": related}},
        "links": {"self": f"{at}/"},
    }


def _document(request: Request, metric: Metric) -> dict[str, Any]:
    shown = _resource(request, metric)
    return {"data": shown, "links": shown["links"]}


async def _documents(
    request: Request, service: Service, metrics: list[Metric], *, one: bool
) -> dict[str, Any]:
    shown = [_resource(request, metric) for metric in metrics]
    body = {"data": shown[0] if one else shown, "links": {"self": here_of(request)}}
    wanted = request.query_params.get("include")
    if wanted not in {None, "", "metrics"}:
        raise Refused(400, "include is metrics", parameter="include")
    if not wanted:
        return body
    ids = [each for metric in metrics for each in _metric_ids(metric)]
    return {**body, "included": await resources_of(request, service, ids)}
