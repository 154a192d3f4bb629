"""Metronome's native API (docs/formats.md 3): the official client works unchanged."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from definitions.events import translate_named
from definitions.formats import native_body
from definitions.formats.bodies import dump_json, parse_json
from definitions.times import rfc3339

from ...control.entities import Metric
from ...control.records import ControlState
from ...core.windows import Window
from ...errors import UnknownNameError
from ...reads.answers import AsOf, UsageRow
from ...reads.asked import worked
from ...reads.query import Query
from ..http.bodies import read
from ..http.cursors import Key, Walk, bounded, created_key, text_key
from ..http.errors import NOT_FOUND, Refused
from ..http.parameters import number_in
from ..http.requests import body_bytes, body_json, body_text, needs, takes, text_of
from ..http.service import Service, of_format
from . import models, shapes
from .search import search
from .verbatim import verbatim

router = APIRouter(tags=["Metronome"])
Ingesting = Annotated[Service, Depends(needs("ingest"))]
Reading = Annotated[Service, Depends(needs("read"))]
Managing = Annotated[Service, Depends(needs("manage"))]
_NEXT: Final = "the cursor of an earlier answer"
_LISTED: Final = {
    "limit": "1 to 100",
    "next_page": _NEXT,
    "include_archived": "true: archived ones too",
}
_Row = tuple[Key, dict[str, Any]]
PAGE_MAX: Final = 100
USAGE_PAGE: Final = 1_000
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": shapes.Message}
    for status in (400, 401, 403, 404, 408, 409, 413, 415, 429, 503)
}
DOCUMENTED: Final[dict[str, Any]] = {"responses": _ERRORS}


def answer(body: Any) -> Response:
    """An answer whose numbers have their exact digits (C16)."""
    return Response(dump_json(body), media_type="application/json")


def _found(state: ControlState, metric_id: str) -> Metric:
    metric = state.metrics.get(metric_id)
    if metric is None or not of_format([metric], "metronome"):
        raise UnknownNameError(NOT_FOUND)
    return metric


def _shown(metric: Metric) -> dict[str, Any]:
    native = native_body(metric.origin, metric.name)
    shown = {"id": metric.id, **native}
    if "aggregation_type" in native:
        # Metronome takes three spellings and answers one, which typed clients check.
        shown["aggregation_type"] = native["aggregation_type"].upper()
    return shown if metric.archived_at is None else {**shown, "archived_at": metric.archived_at}


@router.post(
    "/v1/billable-metrics/create",
    response_model=shapes.One,
    **DOCUMENTED,
    **takes(models.NewBillableMetric),
)
async def create(request: Request, service: Managing) -> Response:
    """Create a billable metric; it counts what workers apply after they hear of it."""
    text = await body_text(request)
    async with service.writing() as writer:
        name, definition = await asyncio.to_thread(writer.parse, "metronome", text, reuse=True)
        made = await writer.create(name, definition, None)
    return answer({"data": {"id": made.id}})


@router.get(
    "/v1/billable-metrics", response_model=shapes.Page, **DOCUMENTED, **takes(query=_LISTED)
)
async def list_metrics(request: Request, service: Reading) -> Response:
    """List billable metrics, oldest first; archived ones with include_archived=true."""
    state = await service.fresh()
    archived = request.query_params.get("include_archived", "false").lower() == "true"
    walk = begun(request, service, {"archived": archived})
    metrics = [
        (created_key(metric), metric)
        for metric in of_format(list(state.metrics.values()), "metronome")
        if archived or walk.had(metric)
    ]
    page = walk.page(metrics, number_in(request, "limit", PAGE_MAX, PAGE_MAX))
    return answer({"data": [_shown(metric) for metric in page.rows], "next_page": page.next})


@router.get("/v1/billable-metrics/{metric_id}", response_model=shapes.One, **DOCUMENTED)
async def retrieve(metric_id: str, service: Reading) -> Response:
    """Return one billable metric, archived or not."""
    return answer({"data": _shown(_found(await service.fresh(), metric_id))})


@router.put(
    "/v1/billable-metrics/{metric_id}",
    response_model=shapes.One,
    **DOCUMENTED,
    **takes(models.Rename),
)
async def rename(metric_id: str, request: Request, service: Managing) -> Response:
    """Rename a billable metric; nothing else of it can change."""
    body = read(models.Rename, await body_json(request), "M")
    async with service.writing() as writer:
        await writer.rename(_found(service.control.state, metric_id), body.name)
    return answer({"data": {"id": metric_id}})


@router.post(
    "/v1/billable-metrics/archive",
    response_model=shapes.One,
    **DOCUMENTED,
    **takes(models.Archive),
)
async def archive(request: Request, service: Managing) -> Response:
    """Archive a billable metric: it stays readable."""
    body = read(models.Archive, await body_json(request), "M")
    async with service.writing() as writer:
        await writer.archive(_found(service.control.state, body.id), "now")
    return answer({"data": {"id": body.id}})


@router.get(
    "/v1/customers/{customer_id}/billable-metrics",
    response_model=shapes.Page,
    **DOCUMENTED,
    **takes(query=_LISTED),
)
async def of_customer(
    customer_id: str,  # noqa: ARG001  the path names it; every customer has the same metrics
    request: Request,
    service: Reading,
) -> Response:
    """List the billable metrics; here every customer has them all."""
    return await list_metrics(request, service)


@router.post("/v1/ingest", **DOCUMENTED, **takes(models.NewEvents))
async def ingest(request: Request, service: Ingesting) -> Response:
    """Take 1 to 100 events; 200 only when Kafka has all of them durably."""
    body = await body_bytes(request)
    arrival = service.arrival()
    customers = service.control.state.customers
    lines = None if customers.by_alias else verbatim(body, arrival)
    if lines is not None:
        await service.send(lines)
    else:
        events = translate_named("metronome", parse_json(text_of(body)), arrival)
        for each in events:
            each.event["customer_id"] = customers.of(each.event["customer_id"])
        await service.ingest(events)
    return answer({})


@router.post(
    "/v1/events/search",
    response_model=shapes.FoundEvents,
    **DOCUMENTED,
    **takes(models.EventSearch),
)
async def find_events(request: Request, service: Reading) -> Response:
    """Look events up by their transaction_id, within a bound of the log."""
    asked = read(models.EventSearch, await body_json(request), "M")
    return answer(await search(service, frozenset(asked.transactionIds)))


# -- usage --------------------------------------------------------------------------------


@router.post(
    "/v1/usage",
    response_model=shapes.Page,
    **DOCUMENTED,
    **takes(models.UsageQuery, query={"limit": "1 to 1000", "next_page": _NEXT}),
)
async def usage(request: Request, service: Reading) -> Response:
    """Usage by customer, metric and window; a decimal's digits are exact."""
    body = await body_json(request)
    asked = read(models.UsageQuery, body, "M")
    limit, walk = (
        number_in(request, "limit", USAGE_PAGE, USAGE_PAGE),
        begun(request, service, body),
    )
    state = await service.fresh()
    rows: list[_Row] = []
    reads: list[AsOf] = []
    for place, metric, group_by in _asked_metrics(state, asked, walk):
        for number, customer in enumerate(asked.customer_ids or [None]):
            # What a page before had is not read again, nor what a later one has.
            if walk.is_past((*place, number)) or len(rows) > limit:
                continue
            found = await _usage_of(service, asked, metric, customer, group_by, reads)
            keyed = (((*place, number, *key), row) for key, row in found)
            rows += [(key, row) for key, row in keyed if not walk.is_past(key, whole=True)]
    return await _numbers(walk, rows, reads, limit)


def _asked_metrics(
    state: ControlState, asked: models.UsageQuery, walk: Walk
) -> list[tuple[Key, Metric, models.GroupBy | None]]:
    """The metrics of a question, each with its place and what it is grouped by."""
    if "billable_metrics" in asked.model_fields_set:
        found = [(item, _found(state, str(item.id))) for item in asked.billable_metrics]
        return [
            ((number, metric.id), metric, item.group_by)
            for number, (item, metric) in enumerate(found)
        ]
    metrics = of_format(list(state.metrics.values()), "metronome")
    had = ((created_key(metric), metric, None) for metric in metrics if walk.had(metric))
    return sorted(had, key=lambda each: bounded(each[0]))


async def _usage_of(
    service: Service,
    asked: models.UsageQuery,
    metric: Metric,
    customer: str | None,
    group_by: models.GroupBy | None,
    reads: list[AsOf],
) -> list[_Row]:
    lines = await _read_rows(service, asked, metric, customer, reads)
    by_group: Sequence[UsageRow] = ()
    if group_by is not None:
        key = (group_by.key,)
        by_group = await _read_rows(service, asked, metric, customer, reads, group_key=key)
    work = partial(_rows_of, metric, customer, group_by, lines, by_group)
    return await worked(len(lines) + len(by_group), work)


def _rows_of(
    metric: Metric,
    customer: str | None,
    group_by: models.GroupBy | None,
    lines: Sequence[UsageRow],
    by_group: Sequence[UsageRow],
) -> list[_Row]:
    """The rows of a metric, each with its place."""
    grouped: dict[tuple[str | None, Window], dict[str, Any]] = {}
    for line in by_group:
        assert line.group is not None
        (value,) = line.group.values()
        if value is not None:
            place = (line.customer or customer, line.window)
            grouped.setdefault(place, {})[value] = line.value
    rows: list[_Row] = []
    for line in lines:
        owner, starts = line.customer or customer, rfc3339(line.window.starting_on)
        row: dict[str, Any] = {
            "customer_id": owner,
            "billable_metric_id": metric.id,
            "billable_metric_name": metric.name,
            "start_timestamp": starts,
            "end_timestamp": rfc3339(line.window.ending_before),
            "value": line.value,
        }
        if group_by is not None:
            found = grouped.get((owner, line.window), {})
            wanted = group_by.values or sorted(found)
            row["groups"] = {name: found.get(name) for name in wanted}
        rows.append(((str(owner), starts), row))
    return rows


@router.post(
    "/v1/usage/groups",
    response_model=shapes.Page,
    **DOCUMENTED,
    **takes(models.GroupsQuery, query={"limit": "1 to 100", "next_page": _NEXT}),
)
async def usage_groups(request: Request, service: Reading) -> Response:
    """Usage of one customer and metric by window and group."""
    body = await body_json(request)
    asked = read(models.GroupsQuery, body, "M")
    if asked.current_period:
        asked = asked.model_copy(update=_month_of(service.clock.now()))
    if not asked.starting_on or not asked.ending_before:
        raise Refused(400, "give starting_on and ending_before, or current_period: true")
    limit, walk = number_in(request, "limit", PAGE_MAX, PAGE_MAX), begun(request, service, body)
    metric = _found(await service.fresh(), asked.billable_metric_id)
    names, filters = tuple(asked.group_key), asked.group_filters
    if asked.group_by is not None:
        names = (asked.group_by.key,)
        filters = {asked.group_by.key: asked.group_by.values}
    reads: list[AsOf] = []
    lines = await _read_rows(
        service, asked, metric, asked.customer_id, reads, group_key=names, filters=filters
    )
    rows = await worked(len(lines), partial(_group_rows, names, lines))
    return await _numbers(walk, rows, reads, limit)


def _month_of(now: datetime) -> dict[str, str]:
    """The billing period: the calendar month in UTC (CM21)."""
    starts = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    ends = (starts + timedelta(days=31)).replace(day=1)
    return {"starting_on": rfc3339(starts), "ending_before": rfc3339(ends)}


def _group_rows(names: tuple[str, ...], lines: Sequence[UsageRow]) -> list[_Row]:
    """The rows of a metric's groups, each with its place."""
    rows: list[_Row] = []
    one = names[0] if len(names) == 1 else None
    for line in lines:
        group, starts = line.group or {}, rfc3339(line.window.starting_on)
        row: dict[str, Any] = {
            "starting_on": starts,
            "ending_before": rfc3339(line.window.ending_before),
            "group_key": one,
            "group_value": None if one is None else group[one],
            **({"group": group} if names else {}),
            "value": line.value,
        }
        values = [part for name in names for part in text_key(group[name])]
        rows.append(((starts, *values), row))
    return rows


async def _read_rows(
    service: Service,
    asked: models.UsageQuery | models.GroupsQuery,
    metric: Metric,
    customer: str | None,
    reads: list[AsOf],
    *,
    group_key: Sequence[str] = (),
    filters: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Sequence[UsageRow]:
    """The rows of a question; where they stand joins the reads."""
    query = Query.of(
        metric,
        customer=customer,
        starting_on=asked.starting_on,
        ending_before=asked.ending_before,
        window_size=asked.window_size,
        group_key=group_key,
        group_filters={name: values for name, values in filters.items() if values},
    )
    found = await service.reader.usage(query)
    reads.append(found.as_of)
    return found.rows


# -- pages --------------------------------------------------------------------------------


def begun(request: Request, service: Service, asked: Any) -> Walk:
    """The walk that a request begins or goes on with."""
    question = {"path": request.url.path, "asked": asked}
    return Walk(service, question, request.query_params.get("next_page"), "next_page")


async def _numbers(walk: Walk, rows: list[_Row], reads: list[AsOf], limit: int) -> Response:
    """A page of numbers, with where it stands."""

    def made() -> Response:
        stands = {"as_of": walk.stands(reads)} if reads else {}
        page = walk.page(rows, limit)
        return answer({"data": page.rows, "next_page": page.next, **stands})

    return await worked(len(rows), made)
