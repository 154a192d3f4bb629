"""Statsig's console metrics (docs/formats.md 2), over plain HTTP."""

import asyncio
from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from definitions.errors import DefinitionError, Problem
from definitions.formats import native_body
from definitions.formats.bodies import dump_json, parse_json
from definitions.times import NS_PER_MS, parse_timestamp

from ...control.entities import Metric
from ...control.records import RESUMED_WITHIN, ControlState
from ...control.writer import status_of
from ...errors import ConflictError, UnknownNameError
from ..http.errors import NOT_FOUND, Refused
from ..http.paths import segment
from ..http.requests import body_text, needs, takes
from ..http.service import Pace, Service, of_format
from . import clients, models, shapes
from .pages import PAGES, in_list, listing, paged, seen_by, stands
from .rows import rows_of

_DATE: Final = "YYYY-MM-DD, a day of the deployment's Statsig zone"
_LISTED: Final = {
    **PAGES,
    "tags": "comma-separated",
    "showHiddenMetrics": "true: archived ones too",
}
_VALUES: Final = {
    **PAGES,
    "date": _DATE,
    "metricName": "of this name",
    "metricType": "of this type",
}
_ONE: Final = {**PAGES, "id": "name::type", "date": _DATE}
_PACE: Final = Pace("statsig", ((100, 10), (900, 900)))
Reading = Annotated[Service, Depends(needs("read", _PACE))]
Managing = Annotated[Service, Depends(needs("manage", _PACE))]
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": shapes.Refusal} for status in (400, 401, 403, 404, 408, 413, 415, 429, 503)
}
_DOCUMENTED: Final[dict[str, Any]] = {"responses": _ERRORS, "response_model": shapes.Envelope}
router = APIRouter(tags=["Statsig"])
console = APIRouter(prefix="/console/v1/metrics", tags=["Statsig"])


def _answer(message: str, data: Any = None, status: int = 200, **more: Any) -> Response:
    body = {"message": message, **({} if data is None else {"data": data}), **more}
    return Response(dump_json(body), status_code=status, media_type="application/json")


def _own(metric: Metric) -> dict[str, Any]:
    return native_body(metric.origin, metric.name)


def id_of(metric: Metric) -> str:
    """`name::type`."""
    body = _own(metric)
    return f"{body['name']}::{body['type']}"


def _live(state: ControlState) -> list[Metric]:
    """Every metric that was not deleted, oldest first."""
    return [metric for metric in of_format(state.metrics.values(), "statsig") if metric.named]


def _found(state: ControlState, metric_id: str) -> Metric:
    name, _, type_ = metric_id.rpartition("::")
    metric = state.find_typed(name, type_) if name else None
    if metric is None:
        raise UnknownNameError(NOT_FOUND)
    return metric


def _shown(metric: Metric, now: datetime) -> dict[str, Any]:
    """A metric as it was given, with what reading adds."""
    own = _own(metric)
    own.pop("dryRun", None)
    created, changed = metric.versions[0].created_at, metric.changed_at
    return {
        "id": id_of(metric),
        "directionality": "increase",
        "description": "",
        "isPermanent": False,
        "isReadOnly": False,
        "isVerified": False,
        "tags": [],
        "creatorName": "CONSOLE API",
        "creatorEmail": None,
        "lastModifierID": None,
        "lastModifierEmail": None,
        "lastModifierName": None,
        "teamID": None,
        "owner": {"name": "CONSOLE API"},
        **listing(own),
        "isHidden": _is_over(metric, now),
        "createdTime": _milliseconds(created),
        "lastModifiedTime": _milliseconds(changed),
        "lineage": _lineage(own),
    }


def _milliseconds(text: str) -> int:
    return (parse_timestamp(text) or 0) // NS_PER_MS


def _is_over(metric: Metric, now: datetime) -> bool:
    ends = metric.latest.effective_to
    return metric.archived_at is not None and ends is not None and ends <= now


def _uses(own: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The metrics that a body names: its components, and the steps of its funnel."""
    return [*own.get("metricComponentMetrics", []), *own.get("funnelEventList", [])]


def _lineage(own: Mapping[str, Any]) -> dict[str, list[str]]:
    events = [each["name"] for each in own.get("metricEvents", [])]
    metrics = [f"{each['name']}::{each['type']}" for each in _uses(own)]
    return {"events": list(dict.fromkeys(events)), "metrics": list(dict.fromkeys(metrics))}


# -- definitions ------------------------------------------------------------------------------


@console.post("", status_code=201, **_DOCUMENTED, **takes(models.NewMetric))
async def create(request: Request, service: Managing) -> Response:
    """Create a metric; `dryRun: true` checks it and stores nothing."""
    text, message = await body_text(request), "Metric created successfully."
    async with service.writing() as writer:
        name, definition = await asyncio.to_thread(writer.parse, "statsig", text)
        if parse_json(text).get("dryRun"):
            own, now = parse_json(text), service.clock.now()
            shown = {
                **listing(own),
                "id": f"{own['name']}::{own['type']}",
                "lineage": _lineage(own),
            }
            shown.pop("dryRun")
            times = {"createdTime": int(now.timestamp() * 1000)}
            return _answer(message, {"directionality": "increase", **shown, **times}, 201)
        made = await writer.create(name, definition, None)
    return _answer(message, _shown(made, service.clock.now()), 201)


@console.get(
    "/list",
    **_DOCUMENTED,
    **takes(query=_LISTED),
)
async def list_metrics(request: Request, service: Reading) -> Response:
    """List metrics, oldest first; archived ones with showHiddenMetrics=true."""
    now, params = service.clock.now(), request.query_params
    hidden = params.get("showHiddenMetrics", "false").lower() == "true"
    wanted = {tag for text in params.getlist("tags") for tag in text.split(",") if tag}
    every = _live(await service.fresh())
    metrics = [metric for metric in every if hidden or not _is_over(metric, now)]
    shown = [_shown(metric, now) for metric in metrics]
    tagged = [each for each in shown if not wanted or wanted & set(each["tags"] or ())]
    given = {key: ",".join(params.getlist(key)) for key in _LISTED if key in params}
    asked = {key: text for key, text in given.items() if key not in PAGES}
    page = paged(request, tagged, "/console/v1/metrics/list", **asked)
    return _answer("Metrics listed successfully.", page[0], pagination=page[1])


# -- values -----------------------------------------------------------------------------------


@console.get(
    "/values",
    **_DOCUMENTED,
    **takes(query=_VALUES),
)
async def list_values(request: Request, service: Reading) -> Response:
    """The values of all metrics, or of those of a name or a type, of one day."""
    params, day = request.query_params, _day_of(request)
    name, type_ = params.get("metricName"), params.get("metricType")
    metrics = [
        metric
        for metric in _live(await service.fresh())
        if name in {None, (own := _own(metric))["name"]} and type_ in {None, own["type"]}
    ]
    as_of = stands(await service.reader.standings(), service.identity, metrics)
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        rows += [in_list(row) for row in await rows_of(service, metric, day)]
    asked = {key: params[key] for key in ("date", "metricName", "metricType") if key in params}
    page = paged(request, rows, "/console/v1/metrics/values", **asked)
    return _answer("Metric values listed successfully.", page[0], pagination=page[1], as_of=as_of)


@console.get("", **_DOCUMENTED, **takes(query=_ONE))
async def values(request: Request, service: Reading) -> Response:
    """One metric's values of a day: ?id=name::type&date=YYYY-MM-DD."""
    day, metric_id = _day_of(request), request.query_params.get("id")
    if not metric_id:
        raise Refused(400, "id is required", (Problem("S-REQ", "/id", "id is required"),))
    metric = _found(await service.fresh(), metric_id)
    standings = await service.reader.standings()
    late = seen_by([metric], standings).warning
    more: dict[str, Any] = {}
    if late:
        more["as_of"] = stands(standings, service.identity, [metric])
    rows, asked = await rows_of(service, metric, day), request.query_params
    listed = {"id": metric_id, "date": asked["date"]}
    page = paged(request, rows, "/console/v1/metrics", **listed)
    return _answer("Metric read successfully.", page[0], pagination=page[1], **more)


def _day_of(request: Request) -> date:
    text = request.query_params.get("date", "")
    try:
        return date.fromisoformat(text if len(text) == 10 else "")
    except ValueError as error:
        problem = Problem("S-TYPE", "/date", "date is YYYY-MM-DD")
        raise Refused(400, problem.message, (problem,)) from error


# -- one metric -------------------------------------------------------------------------------


@console.get("/{metric_id}", **_DOCUMENTED)
async def retrieve(metric_id: str, service: Reading) -> Response:
    """Read a metric by its id, `name::type`."""
    metric = _found(await service.fresh(), segment(metric_id))
    return _answer("Metric read successfully.", _shown(metric, service.clock.now()))


@console.get("/{name}/{metric_type}", **_DOCUMENTED)
async def retrieve_typed(name: str, metric_type: str, service: Reading) -> Response:
    """Read a metric by its name and its type."""
    metric = _found(await service.fresh(), f"{segment(name)}::{segment(metric_type)}")
    return _answer("Metric read successfully.", _shown(metric, service.clock.now()))


@console.post("/{metric_id}", **_DOCUMENTED, **takes(models.MetricChange))
async def update(metric_id: str, request: Request, service: Managing) -> Response:
    """Change what may change; `dryRun: true` checks it and stores nothing."""
    text = await body_text(request)
    async with service.writing() as writer:
        metric = _found(service.control.state, segment(metric_id))
        changed = await writer.update(metric, text, "now", dry_run=bool(_dry_run(text)))
    return _answer("Metric updated successfully.", _shown(changed, service.clock.now()))


def _dry_run(text: str) -> Any:
    body = parse_json(text)
    return isinstance(body, dict) and body.get("dryRun")


@console.delete("/{metric_id}", **_DOCUMENTED)
async def delete(metric_id: str, service: Managing) -> Response:
    """Delete a metric, unless another one uses it; its name is free at once (CS20)."""
    async with service.writing() as writer:
        metric = _found(service.control.state, segment(metric_id))
        _refuse_used(service.control.state, metric)
        await writer.delete(metric)
    return _answer("Metric deleted successfully.")


def _refuse_used(state: ControlState, metric: Metric) -> None:
    own = _own(metric)
    for other in _live(state):
        for part in _uses(_own(other)):
            if (part["name"], part["type"]) == (own["name"], own["type"]):
                message = f"the metric {id_of(other)} uses it"
                raise DefinitionError([Problem("S-USED", "/id", message)])


# -- archive ----------------------------------------------------------------------------------


@console.put("/{metric_id}/schedule_archive", **_DOCUMENTED)
async def schedule_archive(metric_id: str, service: Managing) -> Response:
    """Archive a metric in 24 hours, unless another one uses it; until then it can be cancelled."""
    async with service.writing() as writer:
        metric = _found(service.control.state, segment(metric_id))
        _refuse_used(service.control.state, metric)
        if metric.archived_at is not None:
            raise _wrong(f"it is archived, or will be, on {metric.archived_at}")
        await writer.archive_after(metric, RESUMED_WITHIN)
    return _answer("Metric archive scheduled successfully.")


@console.put("/{metric_id}/cancel_archive", **_DOCUMENTED)
async def cancel_archive(metric_id: str, service: Managing) -> Response:
    """Cancel an archive that is scheduled."""
    await _resume(metric_id, service, over=False)
    return _answer("Metric archive cancelled successfully.")


@console.put("/{metric_id}/unarchive", **_DOCUMENTED)
async def unarchive(metric_id: str, service: Managing) -> Response:
    """Take an archive back, within 24 hours: nothing that came meanwhile is missing."""
    await _resume(metric_id, service, over=True)
    return _answer("Metric unarchived successfully.")


async def _resume(metric_id: str, service: Service, *, over: bool) -> None:
    async with service.writing() as writer:
        metric = _found(service.control.state, segment(metric_id))
        now = service.clock.now()
        if metric.archived_at is None or _is_over(metric, now) != over:
            raise _wrong(
                f"the metric is {status_of(metric, now)}" if over else "none is scheduled"
            )
        try:
            await writer.resume(metric)
        except ConflictError as error:
            raise _wrong(str(error)) from error


def _wrong(message: str) -> DefinitionError:
    return DefinitionError([Problem("S-ARCHIVE", "/id", message)])


@console.post("/{metric_id}/reload", **_DOCUMENTED)
async def reload(metric_id: str, service: Managing) -> Response:
    """Values are always up to date here: this only says that the metric is there."""
    _found(await service.fresh(), segment(metric_id))
    return _answer("Metric reloaded successfully.")


router.include_router(clients.router)
router.include_router(console)
