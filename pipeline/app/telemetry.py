"""/healthz, /readyz and /metrics of a worker process, from a thread of its own.

Everything is read from what the worker stands on already: nothing is counted for each event.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..core.state import FATES, PartitionState
from ..telemetry import NAMES, Name

_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Owned:
    """A partition that the process owns and has opened. end: of its log, -1 not looked at yet."""

    state: PartitionState
    remembered: int
    end: int


@dataclass(frozen=True, slots=True)
class Vital:
    """What is asked at every request. owned: by partition. done: counters of the process."""

    owned: Callable[[], dict[int, Owned]]
    done: Callable[[], Counter[str]]
    is_alive: Callable[[], bool]


class WorkerCollector(Collector):
    """Turns what a worker stands on into metrics."""

    def __init__(self, vital: Vital) -> None:
        self._vital = vital

    def collect(self) -> Iterable[Metric]:
        """Return every metric."""
        samples = list(_samples(self._vital))
        for name, kind in NAMES.items():
            family = CounterMetricFamily if kind.is_counter else GaugeMetricFamily
            made = family(name, kind.meaning, labels=kind.labels)
            for of, labels, value in samples:
                if of == name:
                    made.add_metric(labels, value)
            yield made


def _samples(vital: Vital) -> Iterator[tuple[Name, list[str], float]]:
    owned, done = vital.owned(), vital.done()
    yield "recount_assigned_partitions", [], len(owned)
    yield "recount_commits_total", [], done["commits"]
    yield "recount_refused_commits_total", [], done["refused"]
    yield "recount_gaps_total", [], done["gaps"]
    yield "recount_seeks_total", [], done["seeks"]
    for number, each in owned.items():
        state, label = each.state, str(number)
        for fate in FATES:
            yield "recount_events_total", [label, fate], state.counters[fate]
        for reason, count in state.rejected.items():
            yield "recount_rejected_events_total", [label, reason], count
        yield "recount_misplaced_events_total", [label], state.counters["misplaced"]
        yield "recount_next_offset", [label], state.next
        if each.end >= 0:
            yield "recount_lag_offsets", [label], max(each.end - state.next, 0)
        yield "recount_remembered_ids", [label], each.remembered


def serve(port: int, vital: Vital) -> None:
    """Answer on a port of every address, until the process ends.

    Raises:
        OSError: the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(WorkerCollector(vital))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, generate_latest(registry))
            elif self.path == "/healthz":
                self._say("alive", "the main loop does not turn", yes=vital.is_alive())
            elif self.path == "/readyz":
                self._say("ready", "no partition is open", yes=bool(vital.owned()))
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
