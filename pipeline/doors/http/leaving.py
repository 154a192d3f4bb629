"""A question whose client has left is given up.

Rule: only questions are. What writes (events, definitions, keys) goes on to its end, so that a
client that is cut off finds the whole of it done or nothing.
"""

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ASKED_BY_POST: Final = frozenset(
    {"/v1/usage", "/v1/usage/groups", "/v1/events/search", "/api/metric-aggregates"}
)
_METERS: Final = "/api/v1/meters/"


class GivenUp:
    """Cancels a read when http.disconnect comes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; of a read, listen for the client meanwhile."""
        if scope["type"] != "http" or not _is_read(scope):
            await self._app(scope, receive, send)
            return
        inbox = _Inbox(receive)
        asked = asyncio.ensure_future(self._app(scope, inbox.take, send))
        listening = asyncio.create_task(inbox.listen())
        try:
            await asyncio.wait({asked, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                asked.cancel()
            try:
                await asked
            except asyncio.CancelledError:
                if not inbox.has_left:
                    raise
        finally:
            listening.cancel()
            asked.cancel()


def _is_read(scope: Scope) -> bool:
    path = scope["path"].rstrip("/")
    by_post = path in _ASKED_BY_POST or (path.startswith(_METERS) and path.endswith("/query"))
    return scope["method"] == "GET" or (scope["method"] == "POST" and by_post)


class _Inbox:
    """What the client sends, one message ahead of the application; the end of it wakes us."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._messages: asyncio.Queue[Message] = asyncio.Queue(maxsize=1)
        self.has_left = False

    async def take(self) -> Message:
        """What the application receives."""
        return await self._messages.get()

    async def listen(self) -> None:
        """Read on until the client has left; a body is read as fast as it is taken."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.has_left = True
                return
            await self._messages.put(message)
