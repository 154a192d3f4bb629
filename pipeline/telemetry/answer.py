"""/healthz, /readyz and /metrics of a process, from a thread of its own."""

import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Thread, Timer
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..errors import harmless
from .names import TelemetryKind

CALLERS_MAX: Final = 16  # answered at a time
ANSWER_S_MAX: Final = 10.0  # for a question and its answer
_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
# name, values of its labels, value
Sample = tuple[str, list[str], float]


class Sampled(Collector):
    """Turns what a process stands on into metrics, whenever it is asked.

    Args:
        names: Every metric of the process. samples: what they are now.
    """

    def __init__(
        self, names: Mapping[Any, TelemetryKind], samples: Callable[[], Iterable[Sample]]
    ) -> None:
        self._names = names
        self._samples = samples

    def collect(self) -> Iterable[Metric]:
        """Return every metric."""
        samples = list(self._samples())
        for name, kind in self._names.items():
            family = CounterMetricFamily if kind.is_counter else GaugeMetricFamily
            made = family(name, kind.meaning, labels=kind.labels)
            for of, labels, value in samples:
                if of == name:
                    made.add_metric(labels, value)
            yield made


class _Bounded(ThreadingHTTPServer):
    """Answers a bounded number of callers at a time, each for a bounded time.

    One caller more is hung up on: a scrape comes again, and a stranger who holds connections open
    must cost the process neither threads nor files.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._free = BoundedSemaphore(CALLERS_MAX)
        super().__init__((host, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin to answer, or hang up where too many are being answered."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and hang up after ANSWER_S_MAX, however slowly the caller speaks or reads."""
        hanging_up = Timer(ANSWER_S_MAX, _hang_up, [request])
        hanging_up.daemon = True
        hanging_up.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            hanging_up.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers that went away."""


def _hang_up(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def answer(
    host: str,
    port: int,
    collector: Collector,
    *,
    is_alive: Callable[[], bool],
    readiness: Callable[[], tuple[bool, str]],
) -> None:
    """Answer on an address and a port, until the process ends.

    Args:
        readiness: Whether the process is ready, and what /readyz says then.

    Raises:
        OSError: the port is taken, or the address is none of this machine's.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)  # memory, CPU, open files under their usual names

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(registry))
            elif self.path == "/healthz":
                alive = is_alive()
                self._say("alive" if alive else "the main loop does not turn", yes=alive)
            elif self.path == "/readyz":
                is_ready, text = readiness()
                self._say(text, yes=is_ready)
            else:
                self._answer(404, b"/healthz, /readyz or /metrics\n")

        def _say(self, text: str, *, yes: bool) -> None:
            self._answer(200 if yes else 503, f"{harmless(text, keep=chr(10))}\n".encode())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", _TEXT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: normal work is silent."""

    server = _Bounded(host, port, Handler)
    Thread(target=server.serve_forever, name="telemetry", daemon=True).start()
