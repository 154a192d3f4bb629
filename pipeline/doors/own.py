"""Recount's own door: what the command line reads, as JSON; decimals are text."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi import Query as Param
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from definitions.formats.bodies import dump_json

from ..control.entities import Metric
from ..control.names import Exchange
from ..control.records import ControlState
from ..log.letters import Letter, letters_of
from ..periods.period import revisions_of
from ..periods.shapes import told_of
from ..reads.answers import End
from ..reads.asked import worked
from ..reads.known import no_metric
from ..reads.lines import end_line, lines_of
from ..reads.query import Query
from ..reads.replacing import check_ready, readiness
from ..reads.standing import UNREACHABLE, Standing
from ..reads.summary import native_of, summary_of
from ..reads.together import Together, last_line, whole_page
from ..reads.together_query import TogetherQuery
from ..reads.trial_lines import clause_lines, end_lines, row_lines
from .http.bodies import Body, read
from .http.cursors import Key, Walk
from .http.errors import Refused
from .http.looking import events_of, first_of, looked_up, no_event, place_of, tried, unknown_of
from .http.marked import marked, marked_together
from .http.parameters import number_in
from .http.paths import segment
from .http.requests import body_json, body_text, needs, takes
from .http.service import Service

router = APIRouter(prefix="/recount/v1", tags=["Recount"])
Reading = Annotated[Service, Depends(needs("read"))]
Managing = Annotated[Service, Depends(needs("manage"))]
LETTERS_MAX: Final = 1_000
_LISTED: Final = {"limit": "1 to 1000", "next_page": "the cursor of an earlier answer"}
CUSTOMERS_MAX: Final = 1_000  # of a page of usage


class Wrong(BaseModel):
    """Every error."""

    message: str


class Replacement(Body):
    """What replaces a metric."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"new": "Tokens, corrected", "allow_partial": False}]}
    )
    new: str = Field(description="The id or the name of the metric that takes over.")
    allow_partial: bool = Field(
        default=False,
        description="true: also where it holds less of the past than the one that it replaces.",
    )


_ERRORS: Final = (400, 401, 403, 404, 429, 503)
_DOCUMENTED: Final[dict[str, Any]] = {
    "responses": {status: {"model": Wrong} for status in _ERRORS}
}
CHANGED: Final[dict[str, Any]] = {
    "responses": {status: {"model": Wrong} for status in (*_ERRORS, 408, 409, 413)}
}


_TRIED: Final[dict[str, Any]] = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object"},
                    "example": {"name": "calls", "aggregation_type": "COUNT"},
                }
            },
        }
    }
}


def _answer(body: Any) -> Response:
    return Response(dump_json(body), media_type="application/json")


@router.get("/status", **_DOCUMENTED)
async def status(service: Reading) -> Response:
    """Where every partition stands, then their total, as `recount status` tells it."""
    lines = await service.reader.status((await service.fresh()).versions)
    return _answer({"data": lines, **_half(lines[-1])})


@router.get("/metrics", **_DOCUMENTED)
async def metrics(service: Reading) -> Response:
    """Every metric, archived ones too: its version, its status, what it has seen."""
    state, standings = await service.fresh(), await service.reader.standings()
    shown = await _summaries(service, [*state.metrics.values()], standings)
    away = UNREACHABLE if any(each.span is None for each in standings.values()) else {}
    return _answer({"data": shown, **away})


async def _summaries(
    service: Service, metrics: Sequence[Metric], standings: Mapping[int, Standing]
) -> list[dict[str, Any]]:
    reader, now, find = service.reader, service.clock.now(), service.control.state.find_typed
    unresolved = await reader.unresolved(metrics, find)
    histories = await reader.progress.of_metrics(metrics, standings)
    return [
        summary_of(each, histories.get(each.id), standings, now, unresolved[each.id])
        for each in metrics
    ]


def _half(line: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer says that was made without Kafka."""
    return {name: line[name] for name in UNREACHABLE if name in line}


@router.get("/metrics/{metric}", **_DOCUMENTED)
async def show(metric: str, service: Reading) -> Response:
    """A metric by id or name, with its native body as it was given, and the neutral one."""
    found = await _found(service, metric)
    body = found.latest.body
    more = {
        "native": native_of(found),
        "neutral": None if body is None else body.model_dump(mode="json"),
    }
    summary = (await _summaries(service, [found], await service.reader.standings()))[0]
    return _answer({"data": {**summary, **more}})


async def _found(service: Service, name: str) -> Metric:
    return _of_name(await service.fresh(), segment(name))


def _of_name(state: ControlState, name: str) -> Metric:
    found = state.find(name)
    if found is None:
        raise no_metric(name, state.names, "GET /recount/v1/metrics")
    return found


@router.get("/usage/{metric}", **_DOCUMENTED)
async def usage(
    metric: str,
    service: Reading,
    starting_on: Annotated[str, Param(description="RFC 3339, inclusive")],
    ending_before: Annotated[str, Param(description="RFC 3339, exclusive")],
    customer: Annotated[str | None, Param(description="whose; none: each customer")] = None,
    window_size: Annotated[str, Param(description="none, hour, day, week, month")] = "none",
    timezone: Annotated[str, Param(description="IANA name")] = "UTC",
    group_key: Annotated[list[str] | None, Param(description="repeatable")] = None,
    group_filter: Annotated[list[str] | None, Param(description="name=value")] = None,
    limit: Annotated[
        int | None, Param(ge=1, le=CUSTOMERS_MAX, description="customers of a page")
    ] = None,
    after: Annotated[
        str | None, Param(description="the `after` of the page before; for the first page none")
    ] = None,
) -> Response:
    """Usage by window and group, and the offsets it stands at; the metric by id or name.

    A page of all customers ends with `after` where more of them follow. Ask for
    the next one by the answer's `metric_id`: a name may be another metric's then.
    """
    found = await _found(service, metric)
    query = Query.of(
        found,
        customer=customer,
        starting_on=starting_on,
        ending_before=ending_before,
        window_size=window_size,
        timezone=timezone,
        group_key=group_key,
        group_filters=_filters(group_filter or []),
        find=service.control.state.find_typed,
        after=after,
        limit=limit,
    )
    reader = service.reader
    usage = await reader.usage(query)
    about = await unknown_of(service, customer, usage.rows)

    lines = await worked(len(usage.rows), partial(lines_of, reader.topic, usage.rows))
    lines = await marked(service, query, usage.rows, lines)
    more = {"metric_id": found.id, **about, **end_line(End(usage.as_of, usage.after))}
    return await worked(len(usage.rows), lambda: _answer({"data": lines, **more}))


@router.get("/usage", **_DOCUMENTED)
async def together(
    service: Reading,
    starting_on: Annotated[str, Param(description="RFC 3339, inclusive")],
    ending_before: Annotated[str, Param(description="RFC 3339, exclusive")],
    customer: Annotated[str | None, Param(description="whose; none: each customer")] = None,
    window_size: Annotated[str, Param(description="none, hour, day, week, month")] = "none",
    timezone: Annotated[str, Param(description="IANA name")] = "UTC",
    groups: Annotated[bool, Param(description="also each group of each group key")] = False,
    limit: Annotated[int, Param(ge=1, le=CUSTOMERS_MAX, description="customers of a page")] = 100,
    after: Annotated[
        str | None, Param(description="the `after` of the page before; for the first page none")
    ] = None,
) -> Response:
    """All metrics of each customer, read at one moment of the customer's partition.

    A page ends with `after` where more customers follow; they come in the order of their
    partitions. Windows without events have no line.
    """
    state = await service.fresh()
    query = TogetherQuery.of(
        state.metrics.values(),
        groups=groups,
        customer=customer,
        starting_on=starting_on,
        ending_before=ending_before,
        window_size=window_size,
        timezone=timezone,
        find=state.find_typed,
        after=after,
        limit=None if customer is not None else limit,
    )
    reader = service.reader
    reading = Together(reader, service.store, service.identity.deployment.homes)
    rows, end = await whole_page(reading, query)
    lines, last = await marked_together(service, rows), last_line(end, query)
    return await worked(len(rows), lambda: _answer({"data": lines, **last}))


@router.get("/periods", **_DOCUMENTED)
async def periods(service: Reading) -> Response:
    """The closed periods: each revision with its digest, and where its rows stand."""
    known = (await service.fresh()).periods
    return _answer({"data": [told_of(each) for key in sorted(known) for each in known[key]]})


@router.get("/periods/{period}", **_DOCUMENTED)
async def period(period: str, service: Reading, timezone: str = "UTC") -> Response:
    """The revisions of one closed period, such as 2026-11; its files are where it was closed."""
    known = revisions_of((await service.fresh()).periods, segment(period), timezone)
    return _answer({"data": [told_of(each) for each in known]})


@router.post("/metrics/try", **_DOCUMENTED, **_TRIED)
async def try_(
    request: Request,
    service: Reading,
    format: Annotated[str, Param(description="klaviyo, metronome or statsig")],  # noqa: A002
    starting_on: Annotated[str, Param(description="RFC 3339, inclusive")],
    ending_before: Annotated[str, Param(description="RFC 3339, exclusive")],
    against: Annotated[str | None, Param(description="a metric to compare with")] = None,
    customer: Annotated[str | None, Param(description="whose; none: each customer")] = None,
    window_size: Annotated[str, Param(description="none, hour, day, week, month")] = "none",
    timezone: Annotated[str, Param(description="IANA name")] = "UTC",
    sample: Annotated[str | None, Param(description="K/N: a share of the customers")] = None,
) -> Response:
    """A definition, counted over the log before it is created; nothing is written.

    The body is a native create body.
    """
    text = await body_text(request)
    other = None if against is None else await _found(service, against)
    given = {
        "customer": customer,
        "starting_on": starting_on,
        "ending_before": ending_before,
        "window_size": window_size,
        "timezone": timezone,
    }
    answer = await tried(service, format, text, other, {**given, "sample": sample})

    def made() -> Response:
        rows, clauses = row_lines(answer), clause_lines(answer)
        return _answer({"data": rows, "clauses": clauses, **end_lines(answer)})

    return await worked(len(answer.rows), made)


@router.post("/metrics/{metric}/replace", **CHANGED, **takes(Replacement))
async def replace(metric: str, request: Request, service: Managing) -> Response:
    """Let another metric take over this one's name, once it holds all of its past.

    This one gets the other's name, and counts on. The answer has both, the new one first.
    """
    body = read(Replacement, await body_json(request), "R")
    called, state = segment(metric), await service.fresh()
    old, new = _of_name(state, called), _of_name(state, body.new)  # both at one moment
    asked = Exchange.of(old, new, [called, body.new])
    if not asked.is_done:
        ready = await readiness(service.reader, service.control.state.find_typed, asked)
        check_ready(new, ready, allow_partial=body.allow_partial)
    async with service.writing() as writer:
        await writer.replace(asked)
    return _answer(
        {"data": await _summaries(service, [new, old], await service.reader.standings())}
    )


@router.get("/rejected", **_DOCUMENTED, **takes(query=_LISTED))
async def rejected(request: Request, service: Reading) -> Response:
    """The dead letters, newest first, page by page."""
    limit = number_in(request, "limit", 100, LETTERS_MAX)
    cursor = request.query_params.get("next_page")
    walk = Walk(service, {"path": request.url.path}, cursor, "next_page")
    service.contact.check()
    topic = service.identity.topics["rejected"][0]
    letters = await letters_of(service.settings.address, topic)
    page = walk.page([(_newest(letter), letter) for letter in letters], limit)
    return _answer({"data": [_shown(each) for each in page.rows], "next_page": page.next})


def _newest(letter: Letter) -> Key:
    """The place of a letter: what was appended last comes first."""
    return -letter.append_time_ms, -letter.partition, -letter.offset, letter.topic


def _shown(letter: Letter) -> dict[str, Any]:
    original = letter.original
    return {
        "reason": letter.reason,
        "detail": letter.detail,
        "partition": letter.partition,
        "offset": letter.offset,
        "append_time_ms": letter.append_time_ms,
        "original": None if original is None else original.decode(errors="replace"),
        "redriven": letter.redriven,
    }


@router.get("/explain/{transaction_id}", **_DOCUMENTED)
async def explain(
    transaction_id: str, service: Reading, customer: str | None = None, first: bool = False
) -> Response:
    """Where an event lies, its fate, and what every metric version says of it.

    first: only the record that counts, not its duplicates; it needs `customer`.
    """
    named = segment(transaction_id)
    if first and customer is None:
        raise Refused(400, "first needs customer", parameter="first")
    line = await first_of(service, named, customer) if first and customer is not None else None
    lines = [line] if line else await looked_up(service, frozenset({named}), customer)
    if not lines:
        raise no_event(named, customer)
    return _answer({"data": lines})


@router.get("/events/{metric}", **_DOCUMENTED)
async def events(
    metric: str,
    service: Reading,
    customer: Annotated[str, Param(description="whose number")],
    starting_on: Annotated[str, Param(description="RFC 3339, inclusive")],
    ending_before: Annotated[str, Param(description="RFC 3339, exclusive")],
    group: Annotated[list[str] | None, Param(description="name=value: one group")] = None,
    limit: Annotated[int, Param(ge=1, le=LETTERS_MAX, description="events of a page")] = 100,
    after: Annotated[
        str | None, Param(description="the `after` of the page before; for the first page none")
    ] = None,
) -> Response:
    """The events that a number counts, with their places in the log and what they contributed.

    A page ends with `after` where others may follow; an answer of one page has a recount.
    """
    wanted = _filters(group or [])
    query = Query.of(
        await _found(service, metric),
        customer=customer,
        starting_on=starting_on,
        ending_before=ending_before,
        group_key=tuple(wanted),
        group_filters=wanted,
        find=service.control.state.find_typed,
    )
    lines, end = await events_of(service, query, place_of(after), limit)
    return _answer({"data": lines, **end.line(service.reader.topic)})


def _filters(texts: list[str]) -> dict[str, frozenset[str]]:
    """name=value; one name given twice allows both values."""
    wanted: dict[str, frozenset[str]] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise Refused(400, "group_filter is name=value", parameter="group_filter")
        wanted[name] = wanted.get(name, frozenset()) | {value}
    return wanted
