"""What comes in: bodies within bounds, and whose key it is."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fastapi import Request
from pydantic import BaseModel

from definitions.formats.bodies import parse_json

from ...control.api_keys import key_of
from .described import examples_of, schema_of
from .errors import Refused
from .parameters import refuse_strange
from .service import Pace, Service

BODY_BYTES_MAX: Final = 5_242_880  # Klaviyo's largest event; a hundred of Metronome's are less
BODY_S_MAX: Final = 15.0
_MEMBERS_MAX: Final = 100  # of a gzip body
_HEADERS: Final = ("authorization", "statsig-api-key")
_SCHEMES: Final = ("bearer ", "klaviyo-api-key ")
_UNAUTHORISED: Final = "the key is missing or is not known"


def service_of(request: Request) -> Service:
    """The server's hold on the deployment."""
    service: Service = request.app.state.service
    return service


def needs(role: str, pace: Pace | None = None) -> Callable[[Request], Awaitable[Service]]:
    """What lets a request through whose key has a role; manage may read as well.

    pace: how often the vendor lets a key do this, where the deployment is set to heed it.
    """

    async def let_through(request: Request) -> Service:
        service = service_of(request)
        text = _key_text(request)
        # A key made or revoked by any server counts at once: the control log is read to its end.
        key = key_of((await service.fresh()).keys, text) if text else None
        if key is None:
            raise Refused(401, _UNAUTHORISED, headers={"WWW-Authenticate": "Bearer"})
        if role not in key.roles and not (role == "read" and "manage" in key.roles):
            raise Refused(403, f"the key does not have the role {role!r}")
        await service.limit(key.id, pace)
        refuse_strange(request)
        request.state.roles = key.roles
        return service

    return let_through


def _key_text(request: Request) -> str:
    for name in _HEADERS:
        text = request.headers.get(name, "")
        for scheme in _SCHEMES:
            if text.lower().startswith(scheme):
                return text[len(scheme) :].strip()
        if text and name != "authorization":
            return text.strip()
    return ""


async def body_bytes(request: Request) -> bytes:
    """Return the body, at most BODY_BYTES_MAX of it, gzip undone.

    Raises:
        Refused: too large, too slow, an unknown encoding.
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
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding == "gzip":
        raw = _unzipped(bytes(raw))
    elif encoding != "identity":
        raise Refused(415, "Content-Encoding is gzip or identity")
    return bytes(raw)


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


def _unzipped(raw: bytes) -> bytearray:
    """Undo gzip: every member, one after the other, as RFC 1952 has it.

    Raises:
        Refused: no gzip, cut off, more members or more bytes than are taken.
    """
    text = bytearray()
    for _ in range(_MEMBERS_MAX):
        machine = zlib.decompressobj(wbits=31)
        try:
            text += machine.decompress(raw, BODY_BYTES_MAX + 1 - len(text))
        except zlib.error as error:
            raise Refused(400, f"the body is not gzip: {error}") from error
        if len(text) > BODY_BYTES_MAX:
            raise Refused(413, f"a body has at most {BODY_BYTES_MAX} bytes, unzipped")
        if not machine.eof:
            raise Refused(400, "the gzip body is cut off: its end is missing")
        raw = machine.unused_data
        if not raw.strip(b"\0"):  # writers may fill up with zeros
            return text
    raise Refused(400, f"the gzip body has more than {_MEMBERS_MAX} members")


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
