"""The application: routers, errors, request ids; and the server that runs it."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import h11
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from definitions.errors import DefinitionError, Problem

from ..core.windows import RefusedPeriod
from ..errors import PipelineError
from ..settings import Settings
from . import own
from .http.errors import NOT_FOUND, Refused, refused_of, rendered
from .http.paths import Segments
from .http.reporting import ServerVitals, attend, tell
from .http.requests import service_of
from .http.service import Limited, serving
from .klaviyo import resources as klaviyo_resources
from .klaviyo import routes as klaviyo
from .klaviyo import usage as klaviyo_usage
from .metronome import routes as metronome
from .statsig import routes as statsig

_HEADER_BYTES_MAX: Final = 65_536
_HEADER_S_MAX: Final = 10.0
_KEEP_ALIVE_S: Final = 30
_CONNECTIONS_MAX: Final = 1_000


def application(settings: Settings) -> FastAPI:
    """Return the application of one deployment."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with serving(settings) as service:
            app.state.service, vital = service, app.state.vital
            if settings.telemetry_port is not None:
                tell(settings.telemetry_port, vital, service)
            attending = asyncio.create_task(attend(vital, service))
            gc.freeze()  # what is there now stays: collections look at requests alone
            gc.set_threshold(100_000, 50, 50)
            yield
            attending.cancel()

    app = FastAPI(
        title="Recount",
        description="Usage metering that can prove its numbers. Every door needs a key: "
        "`recount keys create`.",
        version="1",
        lifespan=lifespan,
    )
    app.state.vital = ServerVitals()
    for door in (metronome, klaviyo, klaviyo_resources, klaviyo_usage, statsig, own):
        app.include_router(door.router)
    app.add_middleware(Identified)
    app.add_middleware(Segments)
    for kind in (Refused, PipelineError, DefinitionError, RefusedPeriod, Limited, Exception):
        app.exception_handler(kind)(_told)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http)
    app.openapi_schema = _described(app.openapi())
    return app


def _described(page: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI page, less what no door answers: 422, bodies of empty answers."""
    for path, operations in page["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            for status in ("202", "204") if path.startswith("/api/") else ():
                operation["responses"].get(status, {}).pop("content", None)
    return page


class Identified:
    """Gives every answer a request id, and how far the control log was read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, began = Request(scope), time.perf_counter()

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                took = time.perf_counter() - began
                request.app.state.vital.count(scope["path"], message["status"], took)
                if scope["path"].startswith("/api/") and _wants_json(request):
                    MutableHeaders(scope=message)["Content-Type"] = "application/json"
                read_to = service_of(request).control.state.next
                message["headers"] += [
                    (b"x-request-id", _request_id(request).encode()),
                    (b"x-recount-control-offset", b"%d" % read_to),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)


def _wants_json(request: Request) -> bool:
    """Whether a client of Klaviyo's asks for the plain media type, as the guide's calls do."""
    return request.headers.get("accept", "").split(";")[0].strip() == "application/json"


async def _told(request: Request, error: Exception) -> Response:
    """Render an error; one of ours that nobody expected is logged by the server with its trace."""
    return rendered(request, refused_of(error))


def _request_id(request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    if given.isascii() and given.replace("-", "").isalnum() and len(given) <= 64:
        return given
    made: str = request.app.state.service.new_id()
    return made


async def _invalid(request: Request, error: Any) -> Response:
    problems = tuple(
        Problem("", "/" + "/".join(map(str, each["loc"])), each["msg"]) for each in error.errors()
    )
    message = "; ".join(f"{problem.pointer}: {problem.message}" for problem in problems)
    return rendered(request, Refused(400, message, problems))


async def _http(request: Request, error: Any) -> Response:
    message = NOT_FOUND if error.status_code == 404 else str(error.detail)
    return rendered(request, Refused(error.status_code, message, headers=error.headers or {}))


class PatientProtocol(H11Protocol):
    """HTTP that waits only so long for headers: silent clients would hold the server."""

    _patience: asyncio.TimerHandle | None = None

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

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._patience = self.loop.call_later(_HEADER_S_MAX, self.transport.close)

    def _stop(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM."""
    uvicorn.run(
        application(settings),
        http=PatientProtocol,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEADER_BYTES_MAX,
        timeout_keep_alive=_KEEP_ALIVE_S,
        limit_concurrency=_CONNECTIONS_MAX,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
