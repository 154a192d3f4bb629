"""Events on the page: one by its id, or those behind a number; each with its fate and why."""

import asyncio
from contextlib import aclosing
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ...control.entities import Metric
from ...errors import BadParameter
from ...reads.query import Query
from ...reads.search import Search, Sought
from ..http.errors import Refused
from ..http.looking import LOOK_S_MAX, events_of, first_of, looked_up, place_of
from .definitions import found_metric
from .periods import AskedPeriod, period_of
from .showing import rendered
from .visits import Visit, visiting

router = APIRouter(include_in_schema=False)
Reads = Annotated[Visit, Depends(visiting("read"))]
FOUND_MAX: Final = 100  # events of one search


@router.get("/page/events")
async def events(request: Request, visit: Reads) -> Response:
    """The two forms; the events are looked for by a request of their own."""
    form = dict(request.query_params)
    state, now = await visit.service.fresh(), visit.service.clock.now()
    found = sorted(state.metrics.values(), key=lambda each: each.name.casefold())
    return rendered(
        request,
        "events.html",
        form=form,
        period=period_of(form, now),
        metrics=found,
        by_id=bool(form.get("id")),
        by_customer=bool(form.get("customer")) and not form.get("id"),
        query=request.url.query,
    )


@router.get("/page/events/found")
async def by_id(request: Request, visit: Reads) -> Response:
    """The records with an id, each with its fate and what every metric says of it."""
    form = dict(request.query_params)
    id_, customer = form.get("id", "").strip(), form.get("customer", "").strip() or None
    if not id_:
        raise BadParameter("id", "give the transaction_id of an event")
    lines: list[dict[str, Any]] = []
    if customer is not None and not form.get("repeats"):
        line = await first_of(visit.service, id_, customer)
        lines = [] if line is None else [line]
    if not lines:
        lines = await looked_up(visit.service, frozenset({id_}), customer)
    return rendered(request, "events_found.html", lines=lines, more=False)


@router.get("/page/events/search")
async def by_customer(request: Request, visit: Reads) -> Response:
    """The events of a customer in a period, the first of them that the log holds."""
    form, service = dict(request.query_params), visit.service
    customer = form.get("customer", "").strip()
    if not customer:
        raise BadParameter("customer", "give the customer whose events you look for")
    period = period_of(form, service.clock.now())
    if form.get("metric"):
        metric = await found_metric(service, form["metric"])
        return await _behind(request, visit, form, metric, period)
    sought = Sought.of(
        customer,
        period.starting_on,
        period.ending_before,
        [given] if (given := form.get("property", "").strip()) else [],
        event_type=form.get("type", "").strip() or None,
    )
    lines = await _searched(visit, sought)
    return rendered(
        request,
        "events_found.html",
        lines=lines[:FOUND_MAX],
        more=len(lines) > FOUND_MAX,
    )


async def _behind(
    request: Request, visit: Visit, form: dict[str, str], metric: Metric, period: AskedPeriod
) -> Response:
    """The events that a number counts, with what each contributes."""
    service, customer = visit.service, form["customer"].strip()
    query = Query.of(
        metric,
        customer=customer,
        starting_on=period.starting_on,
        ending_before=period.ending_before,
        find=service.control.state.find_typed,
    )
    after = place_of(form.get("after") or None)
    lines, end = await events_of(service, query, after, FOUND_MAX)
    told = end.line(service.reader.topic)
    more = urlencode({**form, "after": told["after"]}) if "after" in told else None
    return rendered(
        request,
        "events_behind.html",
        lines=lines,
        end=told,
        metric=metric,
        customer=customer,
        next=more,
    )


async def _searched(visit: Visit, sought: Sought) -> list[dict[str, Any]]:
    """At most one event more than are shown."""
    service = visit.service
    service.contact.check()  # only the log has it
    state = await service.fresh()
    search = Search(service.identity, state, service.store, service.log)
    found: list[dict[str, Any]] = []
    lines = search.lines(sought)
    try:
        async with service.large(), asyncio.timeout(LOOK_S_MAX), aclosing(lines):
            async for line in lines:
                found.append(line)
                if len(found) > FOUND_MAX:
                    break
    except TimeoutError as error:
        message = f"the log was not searched to its end within {LOOK_S_MAX:.0f} s"
        raise Refused(400, f"{message}; choose a shorter period") from error
    return found
