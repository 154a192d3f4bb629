"""What Klaviyo's doors share, JSON:API, sparse fields, pages (docs/formats.md 1.2)."""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, quote

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from definitions.formats import klaviyo as rules
from definitions.formats.bodies import dump_json
from definitions.times import NS_PER_MS, rfc3339

from ...control.terms import terms_of
from ...core.buckets import moment_of
from ...core.names import EventType
from ...errors import UnknownNameError
from ..http.cursors import Walk
from ..http.errors import JSON_API, NOT_FOUND, Refused
from ..http.paths import segment
from ..http.requests import needs, takes
from ..http.service import Pace, Service
from . import shapes
from .event_filters import asks_integration

PAGE: Final = 200
FIELDS: Final = "sparse fields, comma-separated"
_CURSOR: Final = "page[cursor]"
_LISTED: Final = {
    "fields[metric]": FIELDS,
    "filter": 'equals(integration.name,"TEXT"): no metric, for none has an integration',
    _CURSOR: "of the link to a page",
}
READS: Final = Pace("klaviyo-read", ((3, 1), (60, 60)))
_PROPERTIES: Final = Pace("klaviyo-properties", ((1, 1), (15, 60)))
Reading = Annotated[Service, Depends(needs("read", READS))]
_FIELDS: Final = {
    "custom-metric": {
        "created",
        "definition",
        "definition.aggregation_method",
        "definition.metric_groups",
        "id",
        "name",
        "updated",
    },
    "metric": {"created", "id", "integration", "name", "updated"},
    "event": {"datetime", "event_properties", "id", "timestamp", "uuid"},
}
# kinds of values (core/names.py) → Klaviyo's word, the widest first
_TYPES: Final = {"l": "List", "o": "Object", "s": "String", "n": "Numeric", "b": "Boolean"}


_PROPERTY_ID: Final = msgspec.json.Decoder(tuple[str, str])  # of a metric, and the name


class JsonApi(JSONResponse):
    """An answer in JSON:API, from its text."""

    media_type = JSON_API

    def render(self, content: Any) -> bytes:
        """Encode the text."""
        return str(content).encode()


async def revised(request: Request) -> None:
    """Refuse a request without a revision; which one it is does not matter (CK13)."""
    if not request.headers.get("revision", "").strip():
        raise Refused(400, "the header `revision` is required", parameter="revision")


_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": shapes.Errors} for status in (400, 401, 403, 404, 408, 413, 415, 429, 503)
}
DOCUMENTED: Final[dict[str, Any]] = {"responses": _ERRORS, "response_class": JsonApi}
ONE: Final[dict[str, Any]] = {**DOCUMENTED, "response_model": shapes.Document}
router = APIRouter(prefix="/api", tags=["Klaviyo"], dependencies=[Depends(revised)])


def answer(body: Mapping[str, Any], status: int = 200) -> Response:
    """An answer whose numbers have their exact digits (C16)."""
    return JsonApi(dump_json(body), status_code=status)


def base_of(request: Request) -> str:
    """Where this server was asked for."""
    return f"{request.url.scheme}://{request.url.netloc}"


def fields_of(request: Request, kind: str) -> set[str] | None:
    """The sparse fields that are asked for; None is all."""
    name = f"fields[{kind}]"
    text = request.query_params.get(name)
    if text is None:
        return None
    fields = {field.strip() for field in text.split(",") if field.strip()}
    if fields - _FIELDS[kind]:
        message = f"{name} is some of {', '.join(sorted(_FIELDS[kind]))}"
        raise Refused(400, message, parameter=name)
    return fields


def sparse(attributes: dict[str, Any], fields: set[str] | None) -> dict[str, Any]:
    """Attributes with the fields asked for; a dotted one leaves a part of its member."""
    if fields is None:
        return attributes
    shown = {name: value for name, value in attributes.items() if name in fields}
    for name, value in attributes.items():
        inner = {field.partition(".")[2] for field in fields if field.startswith(f"{name}.")}
        if inner and name not in shown:
            shown[name] = {key: held for key, held in value.items() if key in inner}
    return shown


def here_of(request: Request) -> str:
    """The link of what was asked for."""
    path = quote(request.url.path.replace("\0", "%2F"), safe="/%")
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{base_of(request)}{path}{query}"


# -- metrics ----------------------------------------------------------------------------------


async def known(service: Service) -> dict[str, tuple[str, EventType | None]]:
    """Every metric by its id: those of the catalogue, and the event types that were seen.

    Returns:
        id → name of its events, and what the stream taught of them.
    """
    catalogue, learned = (
        terms_of(service.identity.formats).klaviyo_metrics,
        await service.learned(),
    )
    named = {id_: (name, learned.get(name)) for id_, name in sorted(catalogue.items())}
    taken = set(catalogue.values())
    rest = {name: (name, seen) for name, seen in sorted(learned.items()) if name not in taken}
    return {**rest, **named}


async def resources_of(
    request: Request, service: Service, ids: Iterable[str]
) -> list[dict[str, Any]]:
    """The resources of metrics, each once; one that nobody has seen stands for its own name."""
    every, terms = await known(service), terms_of(service.identity.formats)
    return [
        _metric(request, id_, *every.get(id_, (rules.event_of(id_, terms), None)))
        for id_ in dict.fromkeys(ids)
    ]


def _metric(request: Request, id_: str, name: str, seen: EventType | None) -> dict[str, Any]:
    first = None if seen is None else rfc3339(moment_of(seen.first_ms * NS_PER_MS))
    attributes = {"name": name, "created": first, "updated": first, "integration": None}
    return {
        "type": "metric",
        "id": id_,
        "attributes": sparse(attributes, fields_of(request, "metric")),
        "links": {"self": f"{base_of(request)}/api/metrics/{quote(id_, safe='')}/"},
    }


@router.get("/metrics", **ONE, **takes(query=_LISTED))
async def list_metrics(request: Request, service: Reading) -> Response:
    """List the metrics: the catalogue's, and the event types that the stream has taught."""
    asked = request.query_params.get("filter")
    every = {} if asks_integration(asked) else await known(service)
    named = terms_of(service.identity.formats).klaviyo_metrics
    walk = walk_of(request, service, {"list": "metrics", "filter": asked}, None)
    rows = [((int(id_ in named), id_), (id_, *known_as)) for id_, known_as in every.items()]
    page = walk.page(rows, PAGE)
    shown = [_metric(request, *row) for row in page.rows]
    links = {"self": here_of(request), **next_link(request, page.next)}
    return answer({"data": shown, "links": links})


@router.get("/metrics/{metric_id}", **ONE, **takes(query={"fields[metric]": FIELDS}))
async def retrieve_metric(metric_id: str, request: Request, service: Reading) -> Response:
    """Return a metric."""
    return answer(await _one_metric(request, service, segment(metric_id)))


async def _one_metric(request: Request, service: Service, id_: str) -> dict[str, Any]:
    every = await known(service)
    if id_ not in every:
        raise UnknownNameError(NOT_FOUND)
    return {"data": _metric(request, id_, *every[id_]), "links": {"self": here_of(request)}}


@router.get("/metrics/{metric_id}/flow-triggers", **ONE)
@router.get("/metrics/{metric_id}/relationships/flow-triggers", **ONE)
async def list_flows(metric_id: str, request: Request, service: Reading) -> Response:
    """The flows that a metric triggers: Recount has none."""
    if segment(metric_id) not in await known(service):
        raise UnknownNameError(NOT_FOUND)
    return answer({"data": [], "links": {"self": here_of(request)}})


# -- properties -------------------------------------------------------------------------------

_Asking = Annotated[Service, Depends(needs("read", _PROPERTIES))]


@router.get("/metrics/{metric_id}/metric-properties", **ONE)
async def list_properties(metric_id: str, request: Request, service: _Asking) -> Response:
    """List the properties that events of a metric were seen with, so that filters can be made."""
    id_ = segment(metric_id)
    properties = await _properties(service, id_)
    shown = [_property(request, id_, name, properties[name]) for name in sorted(properties)]
    return answer({"data": shown, "links": {"self": here_of(request)}})


@router.get("/metrics/{metric_id}/relationships/metric-properties", **ONE)
async def list_property_ids(metric_id: str, request: Request, service: _Asking) -> Response:
    """The same, identifiers alone."""
    id_ = segment(metric_id)
    names = sorted(await _properties(service, id_))
    data = [{"type": "metric-property", "id": _property_id(id_, name)} for name in names]
    return answer({"data": data, "links": {"self": here_of(request)}})


async def _properties(service: Service, metric_id: str) -> Mapping[str, str]:
    every = await known(service)
    if metric_id not in every:
        raise UnknownNameError(NOT_FOUND)
    seen = every[metric_id][1]
    return {} if seen is None else seen.properties


@router.get("/metric-properties/{property_id}", **ONE)
async def retrieve_property(property_id: str, request: Request, service: Reading) -> Response:
    """Return a property of a metric."""
    metric_id, name = _property_of(property_id)
    kinds = await _kinds(service, metric_id, name)
    shown = _property(request, metric_id, name, kinds)
    return answer({"data": shown, "links": {"self": here_of(request)}})


async def _kinds(service: Service, metric_id: str, name: str) -> str:
    """The kinds of values that a property was seen with."""
    kinds = await _properties(service, metric_id)
    if name not in kinds:
        raise UnknownNameError(NOT_FOUND)
    return kinds[name]


@router.get(
    "/metric-properties/{property_id}/metric", **ONE, **takes(query={"fields[metric]": FIELDS})
)
async def metric_of_property(property_id: str, request: Request, service: Reading) -> Response:
    """Return the metric of a property."""
    metric_id, name = _property_of(property_id)
    await _kinds(service, metric_id, name)
    return answer(await _one_metric(request, service, metric_id))


@router.get("/metric-properties/{property_id}/relationships/metric", **ONE)
async def metric_id_of_property(property_id: str, request: Request, service: Reading) -> Response:
    """The same, its identifier alone."""
    metric_id, name = _property_of(property_id)
    await _kinds(service, metric_id, name)
    data = {"type": "metric", "id": metric_id}
    return answer({"data": data, "links": {"self": here_of(request)}})


def _property_of(property_id: str) -> tuple[str, str]:
    """The metric and the name that the id of a property holds.

    Raises:
        UnknownNameError: no property has this id.
    """
    try:
        held = _PROPERTY_ID.decode(base64.b64decode(property_id, b"-_", validate=True))
    except (ValueError, RecursionError) as error:
        raise UnknownNameError(NOT_FOUND) from error
    return held


def _property_id(metric_id: str, name: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([metric_id, name]).encode()).decode()


def _property(request: Request, metric_id: str, name: str, kinds: str) -> dict[str, Any]:
    id_ = _property_id(metric_id, name)
    kind = next(word for letter, word in _TYPES.items() if letter in kinds)
    return {
        "type": "metric-property",
        "id": id_,
        "attributes": {"label": name, "property": name, "inferred_type": kind},
        "relationships": {"metric": {"data": {"type": "metric", "id": metric_id}}},
        "links": {"self": f"{base_of(request)}/api/metric-properties/{id_}/"},
    }


# -- pages ------------------------------------------------------------------------------------


def walk_of(request: Request, service: Service, question: Any, cursor: str | None) -> Walk:
    """Return the walk that a request begins or goes on with.

    cursor: of the body; without it the query's. It may come within the whole link that carried it.
    """
    name = "page[cursor]" if cursor is None else "page_cursor"
    text = request.query_params.get(name, "") if cursor is None else cursor
    if "://" in text:
        try:
            text = parse_qs(text.partition("?")[2], max_num_fields=100).get(_CURSOR, [""])[0]
        except ValueError:
            text = ""
        text = text or "a link without a cursor"
    return Walk(service, question, text, name)


def next_link(request: Request, cursor: str | None) -> dict[str, str]:
    """Return the link of the next page, if there is one."""
    if cursor is None:
        return {}
    others = [
        f"{quote(name)}={quote(value)}"
        for name, value in request.query_params.items()
        if name != _CURSOR
    ]
    query = "&".join([*others, f"page%5Bcursor%5D={quote(cursor)}"])
    return {"next": f"{here_of(request).partition('?')[0]}?{query}"}
