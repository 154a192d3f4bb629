"""What Statsig's own clients ask: events taken, and a configuration without gates to start with.

Their releases differ in what they ask (docs/formats.md 2.9 has a table); all begin with a
configuration, poll it, and send events in batches.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import Response

from definitions.events import translate_named
from definitions.formats.bodies import dump_json, parse_json

from ..http.errors import Refused
from ..http.requests import needs, sent_bytes, takes, text_of
from ..http.service import Service
from ..http.unpacking import unpacked
from . import models, shapes

_SHOWN_CHARS: Final = 7  # of a key that is hidden: `secret-`
# When the configuration changed last, in milliseconds: never, and not zero, which is "none yet".
_CHANGED: Final = 1
# The members that one client or another insists on, each empty.
_SPECS: Final[dict[str, Any]] = {
    "has_updates": True,
    "time": _CHANGED,
    "feature_gates": [],
    "dynamic_configs": [],
    "layer_configs": [],
    "layers": {},
    "id_lists": {},
}
# The second form has maps by name where the first one has lists.
_SPECS_BY_NAME: Final[dict[str, Any]] = {
    **_SPECS,
    "feature_gates": {},
    "dynamic_configs": {},
    "layer_configs": {},
    "experiment_to_layer": {},
    "condition_map": {},
}
_UNCHANGED: Final[dict[str, Any]] = {"has_updates": False}
_INITIAL: Final[dict[str, Any]] = {
    "has_updates": True,
    "time": _CHANGED,
    "hash_used": "none",
    "feature_gates": {},
    "dynamic_configs": {},
    "layer_configs": {},
    "param_stores": {},
    "sdkParams": {},
    "evaluated_keys": {},
}
_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": shapes.Refusal} for status in (400, 401, 403, 404, 408, 413, 415, 429, 503)
}
_LOGGED: Final[dict[str, Any]] = {
    "responses": {**_ERRORS, 503: {"model": shapes.Logged}},
    "response_model": shapes.Logged,
}
_EMPTY: Final[dict[str, Any]] = {"responses": _ERRORS, "response_model": shapes.Configuration}
_STATE: Final = takes(models.ClientState)
_SINCE: Final = takes(query={"sinceTime": "unix milliseconds: what the client has already"})
Web = Annotated[Service, Depends(needs("ingest", web=True))]
router = APIRouter(tags=["Statsig"])


def _answer(body: Any, status: int = 200) -> Response:
    return Response(dump_json(body), status_code=status, media_type="application/json")


@router.post("/v1/log_event", status_code=202, **_LOGGED, **takes(models.LogBody))
@router.post("/v1/rgstr", status_code=202, **_LOGGED, **takes(models.LogBody, "text/plain"))
async def log_event(request: Request, service: Web) -> Response:
    """Take events, at most 20,000; 202 only when Kafka has all of them durably.

    `gz=1` in the URL says that the body is gzip, as the web client has it.
    """
    packed = "gzip" if request.query_params.get("gz") == "1" else "identity"
    encoding = request.headers.get("content-encoding", packed)
    text = text_of(unpacked(await sent_bytes(request), encoding))
    body = parse_json(_without_key(text, request.state.key_text))
    events = body.get("events") if isinstance(body, dict) else None
    if isinstance(events, list) and len(events) > models.EVENTS_MAX:
        raise Refused(
            413, f"{len(events)} events; a body has at most {models.EVENTS_MAX}: send several"
        )
    found = translate_named("statsig", body, service.arrival())
    await service.ingest(found)
    service.left_out += len(body["events"]) - len(found)
    return _answer({"success": True}, 202)


def _without_key(text: str, key: str) -> str:
    """Hide the key: clients tell in events of their own which URL they asked, and it is in that.

    The log is kept for years, and read by many who must not have it.
    """
    return text.replace(key, f"{key[:_SHOWN_CHARS]}****")


def _specs(request: Request) -> Response:
    """The configuration of a client: no gate, no experiment, nothing that ever changes."""
    return _answer(_UNCHANGED if _has(request) else _SPECS)


def _specs_by_name(request: Request) -> Response:
    """The same in the form of later clients."""
    return _answer(_UNCHANGED if _has(request) else _SPECS_BY_NAME)


def _has(request: Request) -> bool:
    """Whether a client says that it has the configuration already."""
    since = request.query_params.get("sinceTime", "")
    return since.isascii() and since.isdigit() and since.lstrip("0") != ""


async def _posted_specs(request: Request) -> Response:
    """The configuration for earlier clients; what they say that they have is not read."""
    await sent_bytes(request)
    return _answer(_SPECS)


async def _id_lists(request: Request) -> Response:
    """Lists of ids that gates name: there are none."""
    await sent_bytes(request)
    return _answer({})


async def _initial(request: Request) -> Response:
    """What a web client starts with: the values of no gate, for whatever user; it is not read."""
    await sent_bytes(request)
    return _answer(_INITIAL)


def _in_path(key: Annotated[str, Path(description="A key, and `.json`.")]) -> str:
    return key


def _add(method: str, path: str, answer: Callable[[Request], Any], **more: Any) -> None:
    """Add what answers a path; where its last part is the key, the page tells of it."""
    needed = [Depends(needs("ingest", web=True))]
    if path.endswith("{key}"):
        needed.append(Depends(_in_path))
    router.add_api_route(path, answer, methods=[method], dependencies=needed, **_EMPTY, **more)


for _version, _form in (("v1", _specs), ("v2", _specs_by_name)):
    _add("GET", f"/{_version}/download_config_specs", _form, **_SINCE)
    _add("GET", f"/{_version}/download_config_specs/{{key}}", _form, **_SINCE)
_add("POST", "/v1/download_config_specs", _posted_specs, **_STATE)
_add("POST", "/v1/get_id_lists", _id_lists, **_STATE)
_add("GET", "/v1/get_id_lists", _id_lists)
_add("GET", "/v1/get_id_lists/{key}", _id_lists)
_add("POST", "/v1/initialize", _initial, **_STATE)
