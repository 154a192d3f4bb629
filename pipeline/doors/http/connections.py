"""Connections within bounds of time, for everything they do (of their number: listening.py).

Rule 1: a connection that is not answered, and one that does not listen, ends by itself: headers,
bodies, answers, TLS handshakes and idleness each have a limit.
Rule 2: an answer may come before its request has ended, where nobody needs the rest. The rest is
read for a moment, so that the answer is not lost on its way; then the connection is closed.
"""

import asyncio
from typing import Any, Final

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_S_MAX: Final = 10.0
WRITE_S_MAX: Final = 30.0  # for a client that does not read its answer
LINGER_S_MAX: Final = 1.0  # for the rest of a request that is answered already
_LINGER_BYTES_MAX: Final = 16 * 1_048_576


class PatientProtocol(H11Protocol):
    """HTTP whose clients are waited for, but not for ever."""

    _patience: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None
    _ending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Go on waiting where the headers are not complete yet."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop()
        elif self._patience is None:
            self._wait()
        if (
            self.cycle is not None
            and self.cycle.response_complete
            and self.conn.their_state is h11.SEND_BODY
        ):
            self._close()  # it was answered; nobody will read the rest

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop()
        self._written()
        if self._ending is not None:
            self._ending.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for a client that does not read, but not for ever."""
        super().pause_writing()
        self._written()
        self._writing = self.loop.call_later(WRITE_S_MAX, self.transport.abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        self._written()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """Bound the end of a connection that the answer has closed."""
        super().on_response_complete()
        self._bound_end()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is idle, within a bound."""
        super().timeout_keep_alive_handler()
        self._bound_end()

    def _close(self) -> None:
        self.transport.close()
        self._bound_end()

    def _bound_end(self) -> None:
        """A closed transport waits for its buffer, for ever where nobody reads it: only so long.

        pause_writing() does not see this: a buffer below the high-water mark pauses nothing.
        """
        if self._ending is None and self.transport.is_closing():
            self._ending = self.loop.call_later(WRITE_S_MAX, self.transport.abort)

    def _wait(self) -> None:
        self._patience = self.loop.call_later(HEADER_S_MAX, self._close)

    def _stop(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _written(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None


class Finished:
    """Sees that a connection goes on only where its request was read to the end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        rest = _Rest(receive, read=not has_body, asked_for="expect" not in headers)

        async def finished(message: Message) -> None:
            if message["type"] == "http.response.start" and not await rest.is_read():
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, rest.receive, finished)


class _Rest:
    """What of a request was not read yet.

    asked_for: whether its body comes without being asked for.
    """

    def __init__(self, receive: Receive, *, read: bool, asked_for: bool) -> None:
        self._receive = receive
        self._read = read
        self._asked_for = asked_for

    async def receive(self) -> Message:
        """Receive, and see whether that was the end."""
        message = await self._receive()
        self._asked_for = True
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._read = True
        return message

    async def is_read(self) -> bool:
        """Whether the request was read to its end; the rest is read now, within bounds."""
        if self._read or not self._asked_for:
            return self._read
        size = 0
        try:
            async with asyncio.timeout(LINGER_S_MAX):
                while not self._read and size < _LINGER_BYTES_MAX:
                    size += len((await self.receive()).get("body", b""))
        except TimeoutError:
            pass
        return self._read
