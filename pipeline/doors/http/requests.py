"""What comes in: bodies within bounds, and whose key it is."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fastapi import Request
from pydantic import BaseModel

from definitions.formats.bodies import parse_json

from ...control.api_keys import key_of
from .described import examples_of, schema_of
from .errors import Refused
from .parameters import refuse_strange
from .paths import door_of
from .service import Pace, Service
from .unpacking import BODY_BYTES_MAX, unpacked

BODY_S_MAX: Final = 15.0
_HEADERS: Final = ("authorization", "statsig-api-key")
_SCHEMES: Final = ("bearer ", "klaviyo-api-key ")
# How each door takes a key; the others take it as the first does.
_FORMS: Final = {
    "": "`Authorization: Bearer KEY`",
    "klaviyo": "`Authorization: Klaviyo-API-Key KEY`",
    "statsig": "`STATSIG-API-KEY: KEY`",
}


def service_of(request: Request) -> Service:
    """The server's hold on the deployment."""
    service: Service = request.app.state.service
    return service


def needs(
    role: str, pace: Pace | None = None, *, web: bool = False
) -> Callable[[Request], Awaitable[Service]]:
    """What lets a request through whose key has a role; manage may read as well.

    pace: how often the vendor lets a key do this, where the deployment is set to heed it. web:
    web pages may do this, with a key that anybody can read, which may stand in the URL.
    """

    async def let_through(request: Request) -> Service:
        service = service_of(request)
        text = _key_text(request) or (_key_in_url(request) if web else "")
        # A key made or revoked by any server counts at once: the control log is read to its end.
        # While Kafka is away the keys are those that were known last.
        key = key_of((await service.fresh()).keys, text) if text else None
        if key is None:
            why = _why_no_key(request, is_sent=bool(text))
            raise Refused(401, why, headers={"WWW-Authenticate": "Bearer"})
        if role not in key.roles and not (role == "read" and "manage" in key.roles):
            raise Refused(403, f"the key does not have the role {role!r}")
        if key.is_public and not web:
            raise Refused(403, f"a key like {key.like} is only for what web pages may do")
        if role != "read":
            service.contact.check()
        await service.limit(key.id, pace)
        refuse_strange(request)
        request.state.roles = key.roles
        request.state.key_text = text
        request.state.key_id = key.id
        return service

    return let_through


def _why_no_key(request: Request, *, is_sent: bool) -> str:
    """Say what is wrong with a request's key, without showing any of it."""
    form = _FORMS.get(door_of(request.url.path), _FORMS[""])
    if is_sent:
        return "the key is not known here: it was revoked, mistyped, or is of another deployment"
    if request.headers.get("authorization"):
        return f"the header Authorization has no form that is known: send {form}"
    return f"the request has no key: send {form}"


def _key_text(request: Request) -> str:
    for name in _HEADERS:
        text = request.headers.get(name, "")
        for scheme in _SCHEMES:
            if text.lower().startswith(scheme):
                return text[len(scheme) :].strip()
        if text and name != "authorization":
            return text.strip()
    return ""


def _key_in_url(request: Request) -> str:
    """A key as Statsig's clients put it into a URL: `?k=KEY`, or `/KEY.json` at its end."""
    named: str = request.path_params.get("key", "")
    return request.query_params.get("k", "") or named.removesuffix(".json")


async def sent_bytes(request: Request) -> bytes:
    """Return the body as it came, at most BODY_BYTES_MAX of it.

    Raises:
        Refused: too large, too slow.
    """
    raw = bytearray()
    try:
        async with asyncio.timeout(BODY_S_MAX):
            async for part in request.stream():
                raw += part
                if len(raw) > BODY_BYTES_MAX:
                    raise Refused(413, f"a body has at most {BODY_BYTES_MAX} bytes")
    except TimeoutError as error:
        raise Refused(408, f"the body did not come within {BODY_S_MAX:.0f} s") from error
    return bytes(raw)


async def body_bytes(request: Request) -> bytes:
    """Return the body with its Content-Encoding undone. Raises Refused: see its two parts."""
    raw = await sent_bytes(request)
    return unpacked(raw, request.headers.get("content-encoding", "identity"))


def text_of(body: bytes) -> str:
    """Return a body as text.

    Raises:
        Refused: not UTF-8.
    """
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Refused(400, "the body is not UTF-8") from error


async def body_text(request: Request) -> str:
    """Return the body as text. Raises Refused: see body_bytes() and text_of()."""
    return text_of(await body_bytes(request))


async def body_json(request: Request) -> Any:
    """Return the body's JSON, numbers exact.

    Raises:
        DefinitionError: not JSON. Refused: see body_text().
    """
    return parse_json(await body_text(request))


def takes(
    body: type[BaseModel] | None = None,
    media: str = "application/json",
    *,
    query: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What the OpenAPI page says of a request; the code checks every rule.

    body: its model; the first of its examples stands beside it. query: parameter → what it means.
    """
    extra: dict[str, Any] = {}
    if body is not None:
        schema = schema_of(body)
        content = {media: {"schema": schema, "example": examples_of(body)[0]}}
        extra["requestBody"] = {"required": True, "content": content}
    extra["parameters"] = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": meaning,
            "schema": {"type": "string"},
        }
        for name, meaning in (query or {}).items()
    ]
    return {"openapi_extra": extra}
