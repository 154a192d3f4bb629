"""The application: routers, errors, request ids; and the server that runs it."""

import asyncio
import gc
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi_offline import FastAPIOffline
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from definitions.errors import DefinitionError, Problem

from ..core.windows import RefusedPeriod
from ..errors import ExitCode, LogUnavailable, PipelineError, UsageError
from ..settings import Settings, started
from ..telemetry.logs import LOG
from . import corrections, own
from .http.browsers import Browsers
from .http.connections import Finished, PatientProtocol
from .http.described import hoist
from .http.errors import NOT_FOUND, Refused, refused_of, rendered
from .http.leaving import GivenUp
from .http.listening import is_loopback, listening
from .http.paths import Segments, door_of
from .http.reporting import ServerVitals, ToldRequest, attend, tell
from .http.requests import service_of
from .http.service import Limited, serving
from .klaviyo import events as klaviyo_events
from .klaviyo import reports as klaviyo_reports
from .klaviyo import resources as klaviyo_resources
from .klaviyo import routes as klaviyo
from .klaviyo import usage as klaviyo_usage
from .metronome import customers as metronome_customers
from .metronome import routes as metronome
from .openmeter import routes as openmeter
from .page import routes as page
from .page.sessions import Sessions
from .page.showing import told as told_on_page
from .page.trend import Trend
from .statsig import routes as statsig

_HEADER_BYTES_MAX: Final = 65_536
_HANDSHAKE_S_MAX: Final = 10.0
_KEEP_ALIVE_S: Final = 30
_CONNECTIONS_MAX: Final = 1_000
_UNENCRYPTED: Final = (
    "other machines can reach this address, and keys and numbers go over it unencrypted; set "
    "RECOUNT_TLS_CERTIFICATE and RECOUNT_TLS_KEY, or put a proxy with TLS before it"
)


def application(settings: Settings) -> FastAPI:
    """Return the application of one deployment."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with serving(settings) as service:
            app.state.service, vital = service, app.state.vital
            vital.service = service
            tasks = [
                asyncio.create_task(attend(vital, service)),
                asyncio.create_task(app.state.trend.follow(service)),
            ]
            LOG.info("listening", url=app.state.url)
            gc.freeze()  # what is there now stays: collections look at requests alone
            gc.set_threshold(100_000, 50, 50)
            yield
            LOG.info("stop")
            for task in tasks:
                task.cancel()

    app = FastAPIOffline(
        title="Recount",
        description="Usage metering that can prove its numbers. Every door needs a key: "
        "`recount keys create` prints one; *Authorize* takes it, in the form of each door.",
        version="1",
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.vital, app.state.url = ServerVitals(), None
    app.state.trend, app.state.sessions = Trend(), Sessions(settings.control_secrets)
    for door in (
        metronome,
        klaviyo,
        klaviyo_resources,
        klaviyo_usage,
        klaviyo_events,
        klaviyo_reports,
        statsig,
        openmeter,
        own,
        page,
        metronome_customers,
        corrections,
    ):
        app.include_router(door.router)
    app.add_middleware(Browsers)
    app.add_middleware(Identified)
    app.add_middleware(Segments)
    app.add_middleware(Finished)
    app.add_middleware(GivenUp)
    for kind in (Refused, PipelineError, DefinitionError, RefusedPeriod, Limited, Exception):
        app.exception_handler(kind)(_told)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http)
    app.openapi_schema = _described(app.openapi())
    return app


def _tell(settings: Settings, vital: ServerVitals) -> None:
    host, port = settings.telemetry_host, settings.telemetry_port
    if port is None:
        return
    try:
        tell(host, port, vital)
    except OSError as error:
        raise UsageError(
            f"RECOUNT_TELEMETRY_HOST and _PORT: {host} port {port}: {error.strerror or error}"
        ) from error


# How each door takes its key; the page at /docs asks for them by these names.
_KEYS: Final[dict[str, dict[str, str]]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The doors of Metronome, OpenMeter and Recount: the key alone.",
    },
    "klaviyo": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "Klaviyo's door: `Klaviyo-API-Key KEY`, these words first.",
    },
    "statsig": {
        "type": "apiKey",
        "in": "header",
        "name": "STATSIG-API-KEY",
        "description": "Statsig's door: the key alone.",
    },
}


def _described(page: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI page with what bodies hold, less what no door answers: 422, empty bodies."""
    page.setdefault("components", {})["securitySchemes"] = _KEYS
    hoist(page)
    for path, operations in page["paths"].items():
        kind = {"klaviyo": "klaviyo", "statsig": "statsig"}.get(door_of(path), "bearer")
        for operation in operations.values():
            operation["security"] = [{kind: []}]
            operation["responses"].pop("422", None)
            for status in ("202", "204") if path.startswith("/api/") else ():
                operation["responses"].get(status, {}).pop("content", None)
    return page


class Identified:
    """Gives every answer a request id, where the control log was read to, and if Kafka is away."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, began = Request(scope), time.perf_counter()
        told = ToldRequest(_request_id(request))

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                took, told.status = time.perf_counter() - began, message["status"]
                request.app.state.vital.count(scope["path"], message["status"], took)
                if door_of(scope["path"]) == "klaviyo" and _wants_json(request):
                    MutableHeaders(scope=message)["Content-Type"] = "application/json"
                service = service_of(request)
                read_to = service.control.state.next
                message["headers"] += [
                    (b"x-request-id", told.id.encode()),
                    (b"x-recount-control-offset", b"%d" % read_to),
                ]
                if service.contact.away:
                    message["headers"].append((b"x-recount-kafka", b"unreachable"))
            await send(message)

        try:
            await self._app(scope, receive, with_headers)
        except asyncio.CancelledError:
            told.leave()
            raise
        finally:
            told.tell(request, time.perf_counter() - began)


def _wants_json(request: Request) -> bool:
    """Whether a client of Klaviyo's asks for the plain media type, as the guide's calls do."""
    return request.headers.get("accept", "").split(";")[0].strip() == "application/json"


async def _told(request: Request, error: Exception) -> Response:
    """Render an error; one of ours that nobody expected is logged by the server with its trace."""
    return _answered(request, refused_of(error))


def _answered(request: Request, refused: Refused) -> Response:
    """An error as a program reads it, or as a person does."""
    if door_of(request.url.path) == "page":
        return told_on_page(request, refused)
    return rendered(request, refused)


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
    return _answered(request, Refused(400, message, problems))


async def _http(request: Request, error: Any) -> Response:
    message = NOT_FOUND if error.status_code == 404 else str(error.detail)
    return _answered(request, Refused(error.status_code, message, headers=error.headers or {}))


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM.

    Raises:
        UsageError: the address or the port cannot be had, or the TLS settings cannot be used.
    """
    _check_tls(settings)
    LOG.info("start", **started(settings), telemetry=settings.telemetry_port)
    if settings.tls_certificate is None and not is_loopback(host):
        LOG.warning("unencrypted", host=host, why=_UNENCRYPTED)
    app = application(settings)
    app.state.url = f"{'http' if settings.tls_certificate is None else 'https'}://{host}:{port}"
    _tell(settings, app.state.vital)
    # asyncio's default is a minute, and uvicorn offers no way to say it.
    asyncio.constants.SSL_HANDSHAKE_TIMEOUT = _HANDSHAKE_S_MAX  # type: ignore[attr-defined]
    config = uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        loop="asyncio",  # another one accepts past Listening
        log_config=None,  # its lines go where ours do
        log_level="warning",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=_HEADER_BYTES_MAX,
        timeout_keep_alive=_KEEP_ALIVE_S,
        limit_concurrency=_CONNECTIONS_MAX,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    with listening(host, port, settings.connections_per_address_max) as made:
        server = uvicorn.Server(config)
        # uvicorn shuts down, then raises the signal once more for whoever had it before.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.DONE))
        server.run(sockets=[made])
    if not server.started:
        raise LogUnavailable(
            "the server did not start: see above; the deployment was there before"
        )


def _check_tls(settings: Settings) -> None:
    """Refuse a certificate and a key that cannot serve, before anything listens."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        lacks = "RECOUNT_TLS_CERTIFICATE" if certificate is None else "RECOUNT_TLS_KEY"
        raise UsageError(f"{lacks} is not set: TLS takes a certificate and its private key")
    for variable, path in (("RECOUNT_TLS_CERTIFICATE", certificate), ("RECOUNT_TLS_KEY", key)):
        try:
            text = path.read_bytes()
        except OSError as error:
            raise UsageError(f"{variable}: {path}: {error.strerror}") from error
        if b"-----BEGIN " not in text:
            raise UsageError(f"{variable}: {path} is not PEM: it has no line `-----BEGIN …`")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(
                f"RECOUNT_TLS_KEY: {key} is not the private key of {certificate}"
            ) from error
        raise UsageError(
            f"RECOUNT_TLS_CERTIFICATE: {certificate} with RECOUNT_TLS_KEY: {key}: OpenSSL says "
            f"{error.reason or error}; a PEM certificate and its unencrypted PEM key are needed"
        ) from error


def _no_password() -> str:
    return ""  # OpenSSL would ask at the terminal
