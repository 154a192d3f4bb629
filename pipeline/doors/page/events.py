"""Events on the page: one by its id, or those behind a number; each with its fate and why."""

import asyncio
from contextlib import aclosing
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ...errors import BadParameter
from ...reads.search import Search, Sought
from ..http.errors import Refused
from ..http.looking import LOOK_S_MAX, first_of, looked_up
from .definitions import found_metric
from .periods import period_of
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
    return rendered(request, "events_found.html", lines=lines, more=False, metric=None)


@router.get("/page/events/search")
async def by_customer(request: Request, visit: Reads) -> Response:
    """The events of a customer in a period, the first of them that the log holds."""
    form, service = dict(request.query_params), visit.service
    customer = form.get("customer", "").strip()
    if not customer:
        raise BadParameter("customer", "give the customer whose events you look for")
    period = period_of(form, service.clock.now())
    metric = await found_metric(service, form["metric"]) if form.get("metric") else None
    sought = Sought.of(
        customer,
        period.starting_on,
        period.ending_before,
        event_type=form.get("type", "").strip() or None,
        metric_id=None if metric is None else metric.id,
    )
    lines = await _searched(visit, sought)
    return rendered(
        request,
        "events_found.html",
        lines=lines[:FOUND_MAX],
        more=len(lines) > FOUND_MAX,
        metric=metric,
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
