"""`make soak`: seeded faults under live traffic with a continuous audit; one summary line.

Metrics of all three systems are created, updated, replaced and archived meanwhile (metrics.py):
METRICS of them in the first run, METRICS_LATER in each later one, which lasts a third as long. And
a short period is closed, revised and verified (periods.py).
SHAPE is plain, secure, cluster or both (shapes.py). Without RUNS one run lasts MINUTES; with it,
runs of at least EVENTS events and FAULTS_MIN faults each. ONLY names the faults that are drawn, if
not all of the shape; the summary says which of them were never drawn.
Every run ends at the end of the log, compared by `recount audit` and by the tests' own oracle.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from ..fault.harness import Workers, assert_exact, create_five
from ..fault.watch import Watch
from ..integration.doors import serving
from ..services import ROOT, Recount, fresh
from ..waiting import eventually
from .faults import Faults, Ground, Memory, grow
from .metrics import Metrics
from .periods import Closing
from .shapes import SHAPES, Place, place_of
from .traffic import Traffic

EVENTS_MIN = 200_000
FAULTS_MIN = 15
RATE_OF_HOURS = 400  # events a second: the oracle holds a run in memory
RATE_AFTERWARDS = 300  # once a run has its events, while faults go on
END_S_MAX = 180.0
METRICS = 200  # created in the first run, and changed, replaced and archived
METRICS_LATER = 40  # in each later one
KNOWN_MAX = 10  # of these the oracle counts so many
AUDIT_PAUSE_S = 3.0
CALM_EVERY = 8  # faults; then none until an audit has ended beside traffic and metrics that change
CALM_S_MAX = 60.0
FLAT_FROM_MINUTES = 30.0  # a shorter soak is still warming up
GROWTH_MAX = 1.5  # of the last quarter over the first; rebalances once left 125 MiB behind each
SHARED: dict[
    str, dict[str, Any]
] = {  # cells where many customers meet: a unit's, and the whole deployment's
    "statsig": {
        "name": "users",
        "type": "event_user",
        "unitTypes": ["userID"],
        "metricEvents": [{"name": "use", "criteria": []}],
    },
    "klaviyo": {
        "data": {
            "type": "custom-metric",
            "attributes": {
                "name": "all uses",
                "definition": {
                    "aggregation_method": "count",
                    "metric_groups": [{"metric_id": "use", "metric_filters": []}],
                },
            },
        }
    },
}


def say(text: str) -> None:
    """Tell whoever watches."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()


@dataclass
class Tally:
    """What a soak adds up to."""

    runs: int = 0
    events: int = 0
    corrections: int = 0  # sent, good and bad
    audits: int = 0
    mismatches: int = 0
    stalls: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    memory: list[Memory] = field(default_factory=list)  # of the largest worker, after each fault
    failures: list[str] = field(default_factory=list)
    metrics: Counter[str] = field(default_factory=Counter)  # what was done to them
    periods: Counter[str] = field(default_factory=Counter)  # what was done to a closed one

    def summary(self, seed: int, drawn_from: Faults) -> dict[str, Any]:
        """The last line."""
        every = [seconds for each in self.stalls.values() for seconds in each]
        return {
            "seed": seed,
            "runs": self.runs,
            "events": self.events,
            "corrections": self.corrections,
            "faults": len(every),
            "never": sorted({fault.__name__ for fault in drawn_from} - set(self.stalls)),
            "audits": self.audits,
            "mismatches": self.mismatches,
            "metrics": dict(self.metrics),
            "periods": dict(self.periods),
            "longest_stall_s": round(max(every, default=0.0), 1),
            "worst_stall_s": {
                name: round(max(each), 1) for name, each in sorted(self.stalls.items())
            },
            "worker_mib": self.growth(),
            "failures": self.failures,
        }

    def growth(self) -> dict[str, float]:
        """The largest worker without its index, which grows with what it has to remember."""
        quarter = max(len(self.memory) // 4, 1)
        first, last = (
            median([each.resident - each.ids for each in part] or [0.0])
            for part in (self.memory[:quarter], self.memory[-quarter:])
        )
        return {
            "first_quarter": round(first),
            "last_quarter": round(last),
            "max": round(max((each.resident for each in self.memory), default=0)),
            "ids_max": round(max((each.ids for each in self.memory), default=0)),
        }


class Run:
    """One deployment, from init to its last audit."""

    def __init__(self, place: Place, seed: int, folder: Path, rate: int, most: int) -> None:
        self.seed, self.rate, self.place, self.most = seed, rate, place, most
        self.draw = random.Random(seed)
        self.recount = Recount(place.services, fresh("soak"))
        self.redis_proxy = place.proxy()
        folder.mkdir()
        through = replace(place.services, kafka=place.kafka.proxied)
        if self.redis_proxy is not None:
            through = replace(through, redis=f"redis://127.0.0.1:{self.redis_proxy.port}/0")
        self.ground = Ground(
            recount=self.recount,
            workers=Workers(replace(self.recount, services=through), folder, place.session_s),
            kafka=place.kafka,
            store=place.store,
            redis_proxy=self.redis_proxy,
            draw=self.draw,
            folder=folder,
        )
        self.metrics: dict[str, dict[str, Any]] = {}
        self.watch = Watch(self.recount, 4)
        self.auditing = threading.Event()
        self.stack = ExitStack()

    def prepare(self) -> tuple[Traffic, Metrics]:
        """Make the deployment and its first metrics; start workers and a server."""
        copies = str(self.place.copies)
        self.recount.run("init", "--partitions", "4", "--replication-factor", copies)
        self.metrics = create_five(self.recount)
        for system, body in SHARED.items():
            text = json.dumps(body).encode()
            self.recount.run("metrics", "create", "--format", system, "-", stdin=text)
        self.ground.start_worker(2)
        self.ground.start_worker(1)
        log = self.ground.folder / "serve.log"
        server = self.stack.enter_context(serving(self.recount, log))
        key = server.keys["manage"]
        metrics = Metrics(self.recount, server.url, key, seed=self.seed, most=self.most)
        topic, where = f"{self.recount.deployment}.usage.events", self.recount.services.address
        return Traffic(where, topic, partitions=4, seed=self.seed, rate=self.rate), metrics

    def audit(self, tally: Tally) -> None:
        """Audit again and again; a service that is away is no finding."""
        while not self.auditing.is_set():
            damages = self.ground.damages
            audit = subprocess.Popen(
                # Beside the stream, not instead of it.
                ["nice", "-n", "10", sys.executable, "-m", "pipeline", "audit"],
                env=self.recount.environment,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            while audit.poll() is None and not self.auditing.wait(0.2):
                pass
            if audit.poll() is None:
                audit.kill()  # the run is over: its last audit is assert_exact()'s
            out, err = audit.communicate()
            if damages % 2 or damages != self.ground.damages:
                pass  # it may have seen what a fault damaged
            elif out and audit.returncode in {0, 1}:
                lines = [json.loads(line) for line in out.splitlines()]
                tally.audits += 1
                tally.mismatches += lines[-1]["mismatches"]
                if lines[-1]["mismatches"]:
                    tally.failures.append(f"seed {self.seed}: live audit {lines[:3]}")
            elif audit.returncode not in {4, -signal.SIGKILL}:
                tally.failures.append(f"seed {self.seed}: audit {err.decode()[-500:]}")
            self.auditing.wait(AUDIT_PAUSE_S)

    def moved(self) -> float:
        """Wait until the stream moves again; return how long that took, seconds."""
        self.watch.partitions = self.ground.partitions
        return self.watch.moved(within_s=3 * self.place.stall_s_max, live=True)

    def calm(self, tally: Tally) -> None:
        """No fault until an audit has ended; traffic goes on, and metrics come and go."""
        audits, ends = tally.audits, time.monotonic() + CALM_S_MAX
        while tally.audits == audits and time.monotonic() < ends:
            self.ground.pause(0.2)
        say(f"seed {self.seed}: calm, {tally.audits} audits beside live traffic so far")

    def go(self, tally: Tally, *, until: float, events: int, faults: int) -> None:
        """Inject faults until time, events and faults are enough; then reach the end, exact."""
        traffic, metrics = self.prepare()
        traffic.start()
        self.moved()
        metrics.start()
        closing = Closing(self.ground, self.recount, [*self.metrics], self.seed)
        closing.start()
        auditor = threading.Thread(target=self.audit, args=(tally,), daemon=True)
        auditor.start()
        injected, audited = 0, tally.audits
        names = list(self.place.faults)
        while (
            time.monotonic() < until
            or injected < faults
            or traffic.sent < events
            or metrics.creates
        ):
            fault = self.draw.choices(names, list(self.place.faults.values()))[0]
            if fault is grow and self.ground.partitions > 4:
                continue
            self.ground.pause(self.draw.uniform(0, 1.5))
            say(f"seed {self.seed}: {fault.__name__} at {sum(self.watch.nexts())}")
            fault(self.ground)
            stall = self.moved()
            tally.stalls[fault.__name__].append(stall)
            if memory := self.ground.memory():
                tally.memory.append(max(memory, key=lambda each: each.resident - each.ids))
            injected += 1
            if traffic.sent >= events:
                traffic.slow_down(RATE_AFTERWARDS)
            if stall > self.place.stall_s_max:
                tally.failures.append(f"seed {self.seed}: {fault.__name__} stalled {stall:.0f} s")
            if injected % CALM_EVERY == 0:
                self.calm(tally)
        if tally.audits == audited:
            tally.failures.append(f"seed {self.seed}: no audit ended beside live traffic")
        metrics.stop()
        tally.metrics += metrics.done
        closing.stop()
        traffic.stop()
        self.auditing.set()
        auditor.join()
        eventually(
            self.watch.at_the_end, within_s=END_S_MAX, because="the end of the log is reached"
        )
        eventually(
            lambda: self.recount.run("status")[-1]["history"] == "complete",
            within_s=END_S_MAX,
            because="the past of every metric is counted",
        )
        eventually(
            lambda: not any(line.get("stale") for line in self.recount.run("status")),
            within_s=END_S_MAX,
            because="what was taken back is counted again",
        )
        known = dict([*metrics.plain.items()][:KNOWN_MAX])
        tally.events += assert_exact(self.recount, {**self.metrics, **known}, others=True)
        closing.finish()
        tally.periods += closing.done
        for process in self.ground.alive:
            process.terminate()
            assert process.wait(25) == 0, "a worker did not leave within its limit"
        tally.runs += 1
        tally.corrections += traffic.corrections
        say(
            f"seed {self.seed}: exact, {traffic.sent} sent, {traffic.aborted} aborted transactions"
        )

    def close(self) -> None:
        """End what still runs."""
        self.auditing.set()
        self.ground.workers.end()
        self.stack.close()
        if self.redis_proxy is not None:
            self.redis_proxy.close()
        self.watch.close()


def main() -> int:
    """Run, and print the summary line; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shape", choices=SHAPES, default=SHAPES[0])
    parser.add_argument("--events", type=int, default=EVENTS_MIN, help="of a run, with --runs")
    parser.add_argument("--faults", type=int, default=FAULTS_MIN, help="of a run, at least")
    parser.add_argument("--metrics", type=int, default=METRICS, help="created in the first run")
    parser.add_argument("--only", default="", help="the names of faults, joined by commas")
    asked = parser.parse_args()
    only = [name for name in asked.only.split(",") if name]
    seed = asked.seed or random.SystemRandom().randrange(10**6)
    say(f"SHAPE={asked.shape} SEED={seed}")
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # nothing outlives a soak that is ended
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="recount-soak-") as made:
        folder = Path(made)
        with place_of(asked.shape, folder, only) as place:
            for number in range(max(asked.runs, 1)):
                rate = place.rate if asked.runs else RATE_OF_HOURS
                most = min(asked.metrics, METRICS_LATER) if number else asked.metrics
                run = Run(place, seed + number, folder / f"run-{number}", rate, most)
                until = 0.0 if asked.runs else time.monotonic() + asked.minutes * 60
                try:
                    run.go(tally, until=until, events=asked.events, faults=asked.faults)
                except AssertionError as error:
                    tally.failures.append(f"seed {run.seed}: {str(error)[-1500:]}")
                    say(tally.failures[-1])
                    say(run.ground.workers.logs())
                finally:
                    run.close()
    grown = tally.growth()
    long_enough = not asked.runs and asked.minutes >= FLAT_FROM_MINUTES
    if long_enough and grown["last_quarter"] > GROWTH_MAX * grown["first_quarter"]:
        tally.failures.append(f"workers grew: {grown} MiB")
    summary = {"shape": asked.shape, **tally.summary(seed, place.faults)}
    sys.stdout.write(json.dumps(summary) + "\n")
    return 1 if tally.failures or tally.mismatches else 0


if __name__ == "__main__":
    sys.exit(main())
