"""Klaviyo's events, one or many, and metric aggregates (docs/formats.md 1.6, 1.7).

A plain metric is counted like any other: by a definition, which is registered before its first
event through this door is sent, or at the first question of a key that has the role manage: a key
that only reads writes nothing. The answer's `meta` says which definition that is, since when it is
registered, whether it has seen all of the log, and at which offsets the numbers stand.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from definitions.errors import Problem
from definitions.events import translate_named
from definitions.events.common import digest
from definitions.formats.klaviyo import measured, parse
from definitions.metric import Definition
from definitions.times import rfc3339

from ...control.entities import Metric
from ...control.records import ControlState
from ...core.windows import WindowSize, opening_of, zone_of
from ...errors import ConflictError, UnknownNameError
from ...reads.answers import AsOf, UsageRow
from ...reads.history import joined_histories
from ...reads.query import Query
from ..http.errors import JSON_API, NOT_FOUND, Refused
from ..http.requests import body_json, needs, takes
from ..http.service import Pace, Service
from . import event_models, models, shapes
from .resources import DOCUMENTED, answer, base_of, known, next_link, revised, walk_of
from .routes import PLAIN_ID, live

router = APIRouter(prefix="/api", tags=["Klaviyo"], dependencies=[Depends(revised)])
_EVENTS: Final = Pace("klaviyo-events", ((350, 1), (3_500, 60)))
_BULK: Final = Pace("klaviyo-bulk", ((10, 1), (150, 60)))
_QUERIES: Final = Pace("klaviyo-queries", ((3, 1), (60, 60)))
_NAME_CHARS_MAX: Final = 200
NUMBERS_MAX: Final = 1_000_000  # of an answer: groups by dates by measurements
_UNATTENDED_S: Final = 30.0
_OF_PAGES: Final = frozenset({"page_cursor", "page_size", "return_fields"})


@router.post("/events", status_code=202, **DOCUMENTED, **takes(event_models.NewEvent, JSON_API))
async def create_event(
    request: Request, service: Annotated[Service, Depends(needs("ingest", _EVENTS))]
) -> Response:
    """Take an event; 202 only when Kafka has it durably."""
    return await _take(request, service)


@router.post(
    "/event-bulk-create-jobs",
    status_code=202,
    **DOCUMENTED,
    **takes(event_models.ManyEvents, JSON_API),
)
async def create_events(
    request: Request, service: Annotated[Service, Depends(needs("ingest", _BULK))]
) -> Response:
    """Take up to 1,000 events; 202 only when Kafka has all of them durably."""
    return await _take(request, service)


async def _take(request: Request, service: Service) -> Response:
    body = await body_json(request)
    events = translate_named("klaviyo", body, service.arrival())
    lines = service.checked(events)  # what is refused registers nothing
    await watch(service, {each.event["event_type"] for each in events})
    await service.send(lines)
    return Response(status_code=202)


# -- plain metrics ----------------------------------------------------------------------------


def plain_id(name: str, by: Collection[str] = ()) -> str:
    """Return the id of the definition that counts a plain metric, by these properties."""
    return PLAIN_ID + digest(name, *by)


def _plain(name: str, by: tuple[str, ...]) -> tuple[str, Definition]:
    label = f"Klaviyo metric: {name[:_NAME_CHARS_MAX]}" + (f" by {', '.join(by)}" if by else "")
    groups = [{"metric_id": name}]
    attributes = {
        "name": label,
        "definition": {"aggregation_method": "count", "metric_groups": groups},
    }
    text = json.dumps({"data": {"type": "custom-metric", "attributes": attributes}})
    _, definition = parse(text)
    return label, definition.model_copy(update={"dimensions": (by,) if by else ()})


async def watch(
    service: Service, names: Collection[str], by: tuple[str, ...] = ()
) -> dict[str, Metric]:
    """Register what counts plain metrics, as far as the setting goes, and see it active.

    Returns:
        By name, those that are registered.
    """
    ids = {name: plain_id(name, by) for name in sorted(names)}
    if not all(id_ in service.control.state.metrics for id_ in ids.values()):
        await _register(service, {id_: _plain(name, by) for name, id_ in ids.items()})
    state = service.control.state
    return {name: state.metrics[id_] for name, id_ in ids.items() if id_ in state.metrics}


async def _register(service: Service, wanted: Mapping[str, tuple[str, Definition]]) -> None:
    """Register definitions, as far as the setting goes. wanted: by id, with their names."""
    made = []
    async with service.writing() as writer:
        state = service.control.state
        held = sum(id_.startswith(PLAIN_ID) for id_ in state.metrics)
        room = service.settings.klaviyo_plain_metrics_max - held
        fresh = [id_ for id_ in wanted if id_ not in state.metrics]
        for id_ in fresh[: max(room, 0)]:
            label, definition = wanted[id_]
            label = id_ if label in state.names else label
            with suppress(ConflictError):  # another server was first
                made.append(await writer.create(label, definition, None, metric_id=id_))
    # Where no worker runs there is nobody to wait for: it will read of them before the events.
    now_s = service.clock.monotonic()
    if made and now_s >= service.unattended_until_s:
        active = await service.activated([metric.latest.key for metric in made])
        service.unattended_until_s = 0.0 if active else now_s + _UNATTENDED_S


# -- metric aggregates ------------------------------------------------------------------------


@router.post(
    "/metric-aggregates",
    **DOCUMENTED,
    response_model=shapes.Document,
    **takes(models.AggregatesQuery, JSON_API, query={"page[cursor]": "of the link to a page"}),
)
async def aggregates(
    request: Request, service: Annotated[Service, Depends(needs("read", _QUERIES))]
) -> Response:
    """Counts, sums and distinct profiles of a metric or a custom metric, window by window."""
    body = await body_json(request)
    shapes.check_aggregates(body)
    asked = shapes.asked(body["data"]["attributes"])
    by = tuple(asked.get("by") or ())
    question = {name: held for name, held in asked.items() if name not in _OF_PAGES}
    walk = walk_of(request, service, question, asked.get("page_cursor") or None)
    metric = await metric_of(service, asked["metric_id"], by, may_write=may_write(request))
    reads: list[AsOf] = []
    answers = {
        name: await _lines(service, measured_of(metric, name), asked, by, reads)
        for name in dict.fromkeys(asked["measurements"])
    }
    lines = next(iter(answers.values()))
    if by:  # groups have lines only where they have cells
        lines = await _lines(service, measured_of(metric, "count"), asked, (), reads)
    dates = [line.window.starting_on for line in lines]
    _refuse_large(answers, dates)
    stands = walk.stands(reads)
    size = int(asked.get("page_size", shapes.PAGE_SIZE_MAX))
    page = walk.page([((rfc3339(date),), number) for number, date in enumerate(dates)], size)
    rows = _sorted(_rows(answers, dates, by), asked.get("sort"), by)
    for row in rows:
        row["measurements"] = {
            name: [numbers[at] for at in page.rows if numbers]
            for name, numbers in row["measurements"].items()
        }
    link = f"{base_of(request)}/api/metric-aggregates/"
    shown = [_bucket(dates[at], asked) for at in page.rows]
    data = {
        "type": "metric-aggregate",
        "id": metric.id,
        "attributes": {"dates": shown, "data": rows},
        "links": {"self": link, **next_link(request, page.next)},
    }
    told = told_of(metric, lines, [read.unapplied for read in reads])
    meta = {**told, "as_of": stands}
    return answer({"data": data, "links": data["links"], "meta": meta})


def may_write(request: Request) -> bool:
    """Whether the key of a request may change what is counted."""
    return "manage" in request.state.roles


async def metric_of(
    service: Service, metric_id: str, by: tuple[str, ...], *, may_write: bool
) -> Metric:
    """What counts a custom metric, or a plain one, by these properties.

    may_write: a question may begin to count a plain metric. A key that only reads writes nothing.
    """
    state = await service.fresh()
    custom = next((metric for metric in live(state) if metric.id == metric_id), None)
    if custom is not None:
        return await _by(service, custom, by, writes=may_write) if by else custom
    name = await _name_of(service, state, metric_id)
    kept = state.metrics.get(plain_id(name, by))
    if kept is None and not may_write:
        raise _not_kept(name, by)
    found = kept or (await watch(service, [name], by)).get(name)
    if found is None:
        raise _no_room(service)
    return found


async def _by(service: Service, custom: Metric, by: tuple[str, ...], *, writes: bool) -> Metric:
    """What counts the latest version of a custom metric by properties (CK21)."""
    body = custom.latest.body
    id_ = PLAIN_ID + digest("custom", custom.latest.key, *by)
    if id_ not in service.control.state.metrics:
        if not writes:
            raise _not_kept(custom.name, by)
        if body is not None:
            label = f"Klaviyo metric: {custom.name[:_NAME_CHARS_MAX]} by {', '.join(by)}"
            definition = body.definition.model_copy(update={"dimensions": (by,)})
            await _register(service, {id_: (f"{label} ({custom.latest.number})", definition)})
    found = service.control.state.metrics.get(id_)
    if found is None:
        raise _no_room(service)
    return found


def _no_room(service: Service) -> Refused:
    most = service.settings.klaviyo_plain_metrics_max
    return Refused(403, f"at most {most} plain metrics are counted; make a custom metric of it")


def _not_kept(name: str, by: tuple[str, ...]) -> Refused:
    """The refusal of a question that only a new definition could answer."""
    asked = f" by {', '.join(by)}"[:200] if by else ""
    message = (
        f"{name[:_NAME_CHARS_MAX]!r} is not counted{asked}, and this key only reads. Send this "
        "question once with a key that has the role manage: it is counted from then on"
    )
    if not by:
        message += ". Or create a custom metric of it (POST /api/custom-metrics)"
    at = "/data/attributes/by" if by else "/data/attributes/metric_id"
    return Refused(403, message, (Problem("K-AGGREGATE-QUERY", at, message),))


async def _name_of(service: Service, state: ControlState, metric_id: str) -> str:
    if plain_id(metric_id) in state.metrics:
        return metric_id
    every = await known(service)
    if metric_id not in every:
        raise UnknownNameError(NOT_FOUND)
    return every[metric_id][0]


def measured_of(metric: Metric, measurement: str) -> Metric:
    """The metric with one measurement for its value."""
    versions = []
    for version in metric.versions:
        made = None if version.body is None else measured(version.body.definition, measurement)
        if made is None:
            raise Refused(400, f"{measurement} was not counted for this metric")
        assert version.body is not None
        body = version.body.model_copy(update={"definition": made})
        versions.append(replace(version, body=body))
    return replace(metric, versions=versions)


def _query(metric: Metric, asked: Mapping[str, Any], by: tuple[str, ...]) -> Query:
    zone = zone_of(asked.get("timezone", "UTC"))
    starting_on, ending_before = shapes.bounds_of(asked["filter"], zone)
    return Query.of(
        metric,
        starting_on=starting_on,
        ending_before=ending_before,
        window_size=asked.get("interval", "day"),
        timezone=asked.get("timezone", "UTC"),
        group_key=by,
    )


async def _lines(
    service: Service,
    metric: Metric,
    asked: Mapping[str, Any],
    by: tuple[str, ...],
    reads: list[AsOf],
) -> Sequence[UsageRow]:
    """The rows of a question; where they stand joins the reads."""
    found = await service.reader.usage(_query(metric, asked, by))
    reads.append(found.as_of)
    return found.rows


def _refuse_large(answers: Mapping[str, Sequence[UsageRow]], dates: list[datetime]) -> None:
    """Every group has a number for every date, whether it has an event there or not."""
    groups = {str(line.group) for lines in answers.values() for line in lines}
    numbers = len(groups) * len(dates) * len(answers)
    if numbers > NUMBERS_MAX:
        raise Refused(
            400,
            f"{len(groups)} groups by {len(dates)} dates by {len(answers)} measurements are more "
            f"than {NUMBERS_MAX} numbers; ask for a shorter period or a longer interval",
        )


def _rows(
    answers: Mapping[str, Sequence[UsageRow]], dates: list[datetime], by: tuple[str, ...]
) -> list[dict[str, Any]]:
    """A row for each group, with a number for each date; no group is one row."""
    place = {date: number for number, date in enumerate(dates)}
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for measurement, lines in answers.items():
        for line in lines:
            dimensions = tuple((line.group or {})[name] or "" for name in by)
            if dimensions not in rows:
                zeros = {name: [Decimal(0)] * len(dates) for name in answers}
                rows[dimensions] = {"dimensions": list(dimensions), "measurements": zeros}
            numbers = rows[dimensions]["measurements"][measurement]
            numbers[place[line.window.starting_on]] = line.value or Decimal(0)
    if not rows and not by:
        rows[()] = {"dimensions": [], "measurements": {name: [] for name in answers}}
    return list(rows.values())


def _sorted(
    rows: list[dict[str, Any]], sort: str | None, by: tuple[str, ...]
) -> list[dict[str, Any]]:
    if sort is None:
        return rows
    name, backwards = sort.removeprefix("-"), sort.startswith("-")
    if name in by:
        at = by.index(name)
        return sorted(rows, key=lambda row: str(row["dimensions"][at]), reverse=backwards)
    if rows and name not in rows[0]["measurements"]:
        raise Refused(400, "sort is one of the measurements or of `by`")
    return sorted(rows, key=lambda row: sum(row["measurements"][name]), reverse=backwards)


def _bucket(starts: datetime, asked: Mapping[str, Any]) -> str:
    """The date of a window: where its bucket starts, also where the period begins inside it."""
    size, zone = WindowSize(asked.get("interval", "day")), zone_of(asked.get("timezone", "UTC"))
    return opening_of(starts, size=size, zone=zone).isoformat()


def told_of(
    metric: Metric, lines: Sequence[UsageRow], unapplied: list[int | None]
) -> dict[str, Any]:
    """lines: one of every window. unapplied: of every read that the answer was made of."""
    return {
        "definition": metric.id,
        "registered_at": metric.versions[0].created_at,
        "complete": None not in unapplied
        and not any(unapplied)
        and all(line.complete for line in lines),
        **joined_histories(line.history for line in lines).members,
    }
