"""What web pages may ask a server that is not their own: ingest by Statsig's web clients."""

from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from .paths import of_web

_ASKED_S: Final = 86_400  # how long a browser remembers that it may ask


class Browsers:
    """Tells browsers that a page of any origin may ask some paths, and no other.

    That is no weaker than asking them without a browser: the key decides, and no cookie is read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open = CORSMiddleware(
            app,
            allow_origins=["*"],
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            max_age=_ASKED_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        is_open = scope["type"] == "http" and of_web(scope["path"])
        await (self._open if is_open else self._app)(scope, receive, send)
