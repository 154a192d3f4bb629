"""Klaviyo's events, read back from the log (docs/formats.md 1.6), within bounds of time and rows.

Rule: a page has the rows that come first of all that the filter lets through, in the order that is
asked; so the part of the log in which they can lie is read for each page, and never more than the
rows of one page are held.
"""

import asyncio
import uuid
from collections.abc import Mapping
from contextlib import aclosing
from decimal import Decimal
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from definitions.metric import VALUE_NAME
from definitions.times import NS_PER_S, rfc3339

from ...core.buckets import moment_of
from ...errors import BadParameter, UnknownNameError
from ...reads.listed_events import EventListing, ListedEvent
from ...reads.search import Sought
from ..http.cursors import Key, Walk
from ..http.errors import NOT_FOUND, Refused
from ..http.looking import LOOK_S_MAX, place_of
from ..http.parameters import number_in
from ..http.paths import segment
from ..http.requests import takes
from ..http.service import Service
from .event_filters import SORTS, asked_events
from .resources import (
    FIELDS,
    ONE,
    PAGE,
    Reading,
    answer,
    base_of,
    fields_of,
    here_of,
    known,
    next_link,
    resources_of,
    revised,
    sparse,
    walk_of,
)

EVENTS_MAX: Final = 100_000  # that are looked at for one page
_PAGE_MAX: Final = 1_000
_SHOWN: Final = {
    "fields[event]": FIELDS,
    "fields[metric]": FIELDS,
    "include": "metric",
}
_LISTED: Final = {
    **_SHOWN,
    "filter": 'equals(metric_id,"ID"), equals(profile_id,"ID"), bounds of datetime or timestamp',
    "sort": "datetime, -datetime, timestamp or -timestamp",
    "page[cursor]": "of the link to a page",
    "page[size]": f"1 to {_PAGE_MAX}; {PAGE} where it is not given",
}
_Row = tuple[Key, ListedEvent]
router = APIRouter(prefix="/api", tags=["Klaviyo"], dependencies=[Depends(revised)])


@router.get("/events", **ONE, **takes(query=_LISTED))
async def list_events(request: Request, service: Reading) -> Response:
    """List the events that count, a page at a time, as far as workers have applied the log."""
    params = request.query_params
    sort = params.get("sort") or SORTS[0]
    if sort not in SORTS:
        raise Refused(400, f"sort is one of {', '.join(SORTS)}", parameter="sort")
    asked, size = asked_events(params.get("filter")), number_in(request, "page[size]", PAGE, 1_000)
    question = {"list": "events", "filter": params.get("filter"), "sort": sort.startswith("-")}
    walk = walk_of(request, service, question, None)
    await service.fresh()
    every = await known(service)
    name = None if asked.metric_id is None else every.get(asked.metric_id, ("", None))[0]
    if name == "":
        message = (
            f"no metric has the id {str(asked.metric_id)[:100]!r}; GET /api/metrics lists them"
        )
        raise Refused(400, message, parameter="filter")
    sought = Sought(asked.profile, asked.starting_ns, asked.ending_ns, name)
    rows = await _first_rows(service, sought, walk, size, newest=sort.startswith("-"))
    page = walk.page(rows, size)
    links = {"self": here_of(request), **next_link(request, page.next)}
    return answer({**await _shown(request, service, page.rows), "links": links})


async def _first_rows(
    service: Service, sought: Sought, walk: Walk, size: int, *, newest: bool
) -> list[_Row]:
    """The rows that a page begins with, one more than it shows."""
    rows: list[_Row] = []
    seen = 0
    found = _listing(service).events(sought)
    try:
        async with service.large(), asyncio.timeout(LOOK_S_MAX), aclosing(found) as events:
            async for each in events:
                seen += 1
                if seen > EVENTS_MAX:
                    raise _too_much(f"more than {EVENTS_MAX} events lie in what it asks for")
                if each is None:
                    continue
                key = (-each.event.at if newest else each.event.at, *each.place)
                if not walk.is_past(key, whole=True):
                    rows.append((key, each))
                if len(rows) > 2 * size + 1:
                    rows = sorted(rows, key=lambda row: row[0])[: size + 1]
    except TimeoutError as error:
        raise _too_much(f"the log was not read within {LOOK_S_MAX:.0f} s") from error
    return rows


def _too_much(why: str) -> Refused:
    message = (
        f"{why}; give greater-or-equal(datetime,…) and less-than(datetime,…), closer together"
    )
    return Refused(400, message, parameter="filter")


def _listing(service: Service) -> EventListing:
    service.contact.check()  # only the log has them
    return EventListing(service.identity, service.control.state, service.store, service.log)


@router.get("/events/{event_id}", **ONE, **takes(query=_SHOWN))
async def retrieve_event(event_id: str, request: Request, service: Reading) -> Response:
    """Return an event."""
    found = await _found(service, event_id)
    shown = await _shown(request, service, [found])
    return answer({**shown, "data": shown["data"][0], "links": {"self": here_of(request)}})


@router.get("/events/{event_id}/metric", **ONE, **takes(query={"fields[metric]": FIELDS}))
async def metric_of_event(event_id: str, request: Request, service: Reading) -> Response:
    """Return the metric of an event."""
    found = await _found(service, event_id)
    ids = await _metric_ids(service)
    (shown,) = await resources_of(request, service, [_metric_id(found, ids)])
    return answer({"data": shown, "links": {"self": here_of(request)}})


@router.get("/events/{event_id}/relationships/metric", **ONE)
async def metric_id_of_event(event_id: str, request: Request, service: Reading) -> Response:
    """The same, its identifier alone."""
    found = await _found(service, event_id)
    data = {"type": "metric", "id": _metric_id(found, await _metric_ids(service))}
    return answer({"data": data, "links": {"self": here_of(request)}})


@router.get("/events/{event_id}/relationships/profile", **ONE)
async def profile_id_of_event(event_id: str, request: Request, service: Reading) -> Response:
    """The identifier of whom an event is of; Recount keeps no profiles."""
    data = {"type": "profile", "id": (await _found(service, event_id)).event.customer_id}
    return answer({"data": data, "links": {"self": here_of(request)}})


async def _found(service: Service, event_id: str) -> ListedEvent:
    try:
        place = place_of(segment(event_id))
    except BadParameter as error:
        raise UnknownNameError(NOT_FOUND) from error
    await service.fresh()
    found = None if place is None else await _listing(service).one(place)
    if found is None:
        raise UnknownNameError(NOT_FOUND)
    return found


async def _metric_ids(service: Service) -> dict[str, str]:
    """Event type → the id of its metric."""
    return {name: id_ for id_, (name, _) in (await known(service)).items()}


def _metric_id(found: ListedEvent, ids: Mapping[str, str]) -> str:
    return ids.get(found.event.event_type, found.event.event_type)


async def _shown(request: Request, service: Service, found: list[ListedEvent]) -> dict[str, Any]:
    """The resources of events, and of their metrics where they are asked for."""
    wanted = request.query_params.get("include")
    if wanted not in {None, "", "metric"}:
        raise Refused(400, "include is metric", parameter="include")
    ids = await _metric_ids(service)
    store_id = service.identity.deployment.store_id
    shown = [_resource(request, each, _metric_id(each, ids), store_id) for each in found]
    if not wanted:
        return {"data": shown}
    metrics = [_metric_id(each, ids) for each in found]
    return {"data": shown, "included": await resources_of(request, service, metrics)}


def _resource(
    request: Request, found: ListedEvent, metric_id: str, store_id: str
) -> dict[str, Any]:
    event, id_ = found.event, "{}@{}".format(*found.place)
    own = event.context.get("value")
    value = {VALUE_NAME: own} if isinstance(own, int | Decimal) else {}
    attributes = {
        "timestamp": event.at // NS_PER_S,
        "event_properties": {**event.properties, **value},
        "datetime": rfc3339(moment_of(event.at)).replace("Z", "+00:00"),
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{store_id}/{id_}")),
    }
    at = f"{base_of(request)}/api/events/{id_.replace('@', '%40')}"
    links = {"self": f"{at}/relationships/metric/", "related": f"{at}/metric/"}
    return {
        "type": "event",
        "id": id_,
        "attributes": sparse(attributes, fields_of(request, "event")),
        "relationships": {
            "profile": {"data": {"type": "profile", "id": event.customer_id}},
            "metric": {"data": {"type": "metric", "id": metric_id}, "links": links},
        },
        "links": {"self": f"{at}/"},
    }
