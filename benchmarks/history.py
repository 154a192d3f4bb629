"""Live events while the past is counted: `python -m benchmarks.history`.

A topic is filled with a million events, and applied. Then events come at a steady rate, and one
metric after another is created, so that the past of one is being counted all the while. The time
from producing a live event to its being readable is taken, as `make bench-growth` takes it where
no past is counted. The audit at the end compares every metric, those with their past too.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from pipeline.control.writer import Writer
from pipeline.core.state import PartitionState
from pipeline.deploy.opened import Deployed, opened
from pipeline.deploy.place import Place
from pipeline.edges.clock import SystemClock
from pipeline.reads.history import BACKFILLING, history_of
from tests.services import Recount, services

from . import aims
from .jobs import METRICS
from .latency import Steady
from .measuring import deployed, machine
from .traffic import Traffic, fill, now

EVENTS: Final = 1_000_000
RATE: Final = 5_000
SECONDS: Final = 60
_LOOK_S: Final = 0.05
_WITHIN_S: Final = 1_800


@asynccontextmanager
async def held(recount: Recount) -> AsyncIterator[Deployed]:
    """The deployment, open in this process: a command for each metric would cost CPU."""
    found = recount.services
    async with opened(Place(found.address, found.redis, recount.deployment)) as made:
        yield made


@dataclass
class Pasts:
    """Keeps a past being counted. made: metrics. counted: offsets. busy_s: how long, of took_s."""

    deployment: Deployed
    made: int = 0
    counted: int = 0
    busy_s: float = 0.0
    took_s: float = 0.0

    async def keep(self, steady: Steady) -> None:
        """Create a metric whenever the past of the one before is counted, while events come."""
        writer = Writer(self.deployment.control, self.deployment.record, SystemClock())
        began = time.perf_counter()
        while steady.goes_on:
            body = METRICS[self.made % len(METRICS)]
            text = json.dumps({**body, "name": f"{body['name']} {self.made}"})
            name, definition = writer.parse("metronome", text)
            metric, asked = await writer.create(name, definition, None), time.perf_counter()
            self.made += 1
            history = history_of(metric, await self._states())
            while history.word == BACKFILLING and steady.goes_on:
                await asyncio.sleep(_LOOK_S)
                history = history_of(metric, await self._states())
            self.busy_s += time.perf_counter() - asked
            self.counted += history.counted
        self.took_s = time.perf_counter() - began

    async def _states(self) -> list[PartitionState]:
        numbers = self.deployment.record.starts
        found = [await self.deployment.store.state(number) for number in numbers]
        return [state for state in found if state is not None]


async def measure(recount: Recount, supervisor: int, steady: Steady) -> Pasts:
    """Run the live events and the pasts beside them."""
    async with held(recount) as deployment:
        pasts = Pasts(deployment)
        running = asyncio.create_task(steady.run(supervisor))
        await steady.begun.wait()
        await pasts.keep(steady)
        await running
        return pasts


def main() -> None:
    """Print the latency, and how much of the past was counted meanwhile."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history")
    parser.add_argument("--events", type=int, default=EVENTS, help="of the past")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of live events")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, services(Path(folder)) as found:
        recount = deployed(found, "history")
        topic = f"{recount.deployment}.usage.events"
        fill(found.kafka, topic, Traffic(given.events, now()), expect=False)
        recount.run("worker", "--until-caught-up", within_s=_WITHIN_S)
        worker, steady = recount.start("worker"), Steady(recount, RATE, given.seconds)
        try:
            pasts = asyncio.run(measure(recount, worker.pid, steady))
        finally:
            worker.terminate()
            worker.wait(30)
        recount.run("worker", "--until-caught-up", within_s=_WITHIN_S)
        audit = recount.run("audit", within_s=_WITHIN_S)[-1]
    assert (audit["mismatches"], audit["unverifiable_cells"]) == (0, 0), audit
    told = steady.told
    beside = {
        "metrics_created": pasts.made,
        "past_events_a_second": round(pasts.counted / pasts.took_s),
        "busy_percent": round(100 * pasts.busy_s / pasts.took_s),
    }
    print(json.dumps({**told, **beside}))
    short = given.events < EVENTS or given.seconds < SECONDS
    aims.note(aims.HISTORY, {aims.BESIDE: told["p99_ms"]}, now(), short=short)
    Console(width=170).print(aims.table(aims.HISTORY))
    print(machine())


if __name__ == "__main__":
    main()
