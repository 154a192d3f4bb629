"""Paths as the vendors write them: whose they are, slashes in one segment, a slash at the end."""

from typing import Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

# What Statsig's own clients ask, web pages among them.
EVENTS_OF_STATSIG: Final = ("/v1/log_event", "/v1/rgstr")
_OF_CLIENTS: Final = (
    *EVENTS_OF_STATSIG,
    "/v1/initialize",
    "/v1/download_config_specs",
    "/v2/download_config_specs",
    "/v1/get_id_lists",
)
# The first that a path begins with tells whose it is.
_DOORS: Final = {
    **dict.fromkeys(_OF_CLIENTS, "statsig"),
    "/v1/": "metronome",
    "/api/v1/": "openmeter",
    "/api/v2/": "openmeter",
    "/api/": "klaviyo",
    "/console/": "statsig",
    "/recount/": "recount",
    "/page/": "page",
}
_INNER: str = "\0"  # stands for a slash inside a segment; no name holds it


class Segments:
    """Decodes every segment of a path once and by itself, so that `a%2Fb` stays one segment."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Give the application a path whose segments are apart."""
        if scope["type"] == "http":
            raw = bytes(scope.get("raw_path") or scope["path"].encode())
            if b"%" not in raw and not raw.endswith(b"/"):
                await self._app(scope, receive, send)  # the path is as it is
                return
            parts = [unquote(part) for part in raw.decode("latin-1").split("/")]
            if len(parts) > 2 and not parts[-1]:
                parts.pop()
            path = "/".join(part.replace("/", _INNER) for part in parts)
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)


def segment(text: str) -> str:
    """Return a path parameter as its caller meant it."""
    return text.replace(_INNER, "/")


def door_of(path: str) -> str:
    """Whose door a path is of."""
    if path == "/":
        return "page"
    return next((door for head, door in _DOORS.items() if path.startswith(head)), "other")


def of_web(path: str) -> bool:
    """Whether web pages of other origins may ask a path."""
    return path.startswith(_OF_CLIENTS)
