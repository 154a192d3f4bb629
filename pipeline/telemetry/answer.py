"""/healthz, /readyz and /metrics of a process, from a thread of its own."""

from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .names import TelemetryKind

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


def answer(
    port: int,
    collector: Collector,
    *,
    is_alive: Callable[[], bool],
    is_ready: Callable[[], bool],
    not_ready: str,
) -> None:
    """Answer on a port of every address, until the process ends.

    Args:
        not_ready: What /readyz says while it is not.

    Raises:
        OSError: the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(collector)
    ProcessCollector(registry=registry)  # memory, CPU, open files under their usual names

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(registry))
            elif self.path == "/healthz":
                self._say("alive", "the main loop does not turn", yes=is_alive())
            elif self.path == "/readyz":
                self._say("ready", not_ready, yes=is_ready())
            else:
                self._answer(404, b"/healthz, /readyz or /metrics\n")

        def _say(self, good: str, bad: str, *, yes: bool) -> None:
            self._answer(200 if yes else 503, f"{good if yes else bad}\n".encode())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", _TEXT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: normal work is silent."""

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, name="telemetry", daemon=True).start()
