"""What a server says of itself: requests by door and answer, events, whether it is well."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from fastapi import Request

from ...edges.clock import SystemClock
from ...errors import Damage, PipelineError
from ...telemetry.answer import Sample, Sampled, answer
from ...telemetry.logs import LOG
from ...telemetry.names import SERVER_NAMES
from .paths import door_of
from .service import Service

_BEAT_S: Final = 1.0
_CHECK_BEATS: Final = 5
_SILENT_S_MAX: Final = 15.0
_BUG: Final = 500
_LEFT: Final = 499


@dataclass
class ServerVitals:
    """What a server counts, and when it was well last. service: from when it serves."""

    service: Service | None = None
    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    beat_at: float = 0.0
    is_ready: bool = False

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count an answer."""
        door = door_of(path)
        self.requests[door, status] += 1
        self.seconds[door] = self.seconds.get(door, 0.0) + seconds


@dataclass(slots=True)
class ToldRequest:
    """The line of a request in the log. status: of its answer; 0 is none, because of a bug."""

    id: str
    status: int = 0

    def leave(self) -> None:
        """Note that the client has left; before an answer that is 499."""
        self.status = self.status or _LEFT

    def tell(self, request: Request, took_s: float) -> None:
        """Tell of it; never its body, its query, its key, or what its path names."""
        self.status = self.status or _BUG
        route = getattr(request.scope.get("route"), "path", None)
        fields = {
            "id": self.id,
            "method": request.method,
            "route": route,
            "status": self.status,
            "ms": round(1_000 * took_s, 1),
            "key": getattr(request.state, "key_id", None),
        }
        if self.status == _BUG:
            LOG.error("request", **fields)
        elif self.status > _BUG:
            LOG.warning("request", **fields)
        elif self.status < 400 and request.method == "GET" and door_of(request.url.path) == "page":
            LOG.debug("request", **fields)  # a page that is open asks every few seconds
        else:
            LOG.info("request", **fields)


def _samples(vital: ServerVitals) -> Iterator[Sample]:
    for (door, status), answers in dict(vital.requests).items():
        yield "recount_requests_total", [door, str(status)], answers
    for door, seconds in dict(vital.seconds).items():
        yield "recount_request_seconds_total", [door], seconds
    if vital.service is not None:
        yield "recount_taken_events_total", [], vital.service.taken
        yield "recount_in_flight_events", [], vital.service.in_flight
        yield "recount_left_out_events_total", [], vital.service.left_out


def tell(host: str, port: int, vital: ServerVitals) -> None:
    """Answer /healthz, /readyz and /metrics. Raises OSError: see answer()."""
    clock: Callable[[], float] = SystemClock().monotonic
    answer(
        host,
        port,
        Sampled(SERVER_NAMES, lambda: _samples(vital)),
        is_alive=lambda: clock() - vital.beat_at < _SILENT_S_MAX,
        readiness=lambda: (
            vital.is_ready,
            "ready" if vital.is_ready else "Kafka or Redis does not answer",
        ),
    )


async def attend(vital: ServerVitals, service: Service) -> None:
    """Keep beating, and look now and then whether Kafka and Redis answer."""
    for beat in count():
        vital.beat_at = service.clock.monotonic()
        if not beat % _CHECK_BEATS:
            try:
                await service.ends.check()
                await service.fresh()
                service.contact.check()
                # That one is rebuilt, or damaged, is no reason: events are taken meanwhile.
                with suppress(Damage):
                    await service.store.nexts([*service.identity.starts])
                await service.check_copies()
                if service.sender.failed:  # the last events were not taken: could the next be?
                    await service.sender.ready()
            except PipelineError:
                vital.is_ready = False
            else:
                vital.is_ready = True
        await asyncio.sleep(_BEAT_S)
