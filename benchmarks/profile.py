"""Where each microsecond of a worker goes: `make profile`, or `python -m benchmarks.profile`.

A worker applies a topic twice: once to be timed, once under py-spy, which looks at its threads 400
times a second. Each look is given to the innermost function that the list below knows, and the
microseconds of the first run are shared out by the looks of the second. Beside them stands the
bare Rust consumer on the same topic, where it can be built: what a worker takes more is the price
of all that the consumer does not do.

`--job`, `--customers` and `--law` choose other events: `--customers 100000 --law zipf`.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import redis
from rich.console import Console
from rich.table import Table

from tests.services import ROOT, Recount, Services, services

from .jobs import JOBS, METRONOME
from .measuring import Around, Standing, deployed, machine, run_peer, run_worker
from .prepare import prepare
from .traffic import Traffic, fill, now
from .variants import CHECKING, Place

# part → (budget in µs, what names a function of it: file, or file and function)
PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "fetch: sockets, checksums, records": (
        "1.2",
        (
            "aiokafka/",
            "app/transport.py",
            "edges/kafka",
            "core/raw.py",
            "asyncio/streams.py",
            "asyncio/selector_events.py",
        ),
    ),
    "plain events: decode, judge, look up, fold (native/)": ("3.0", ("RustFold.take (",)),
    "their records in, their cells out": ("", ("core/fold/rust.py",)),
    "other events, and all of them without native/": (
        "",
        (
            "core/event.py",
            "core/dedup.py",
            "core/fold/judge.py",
            "core/fold/fold.py",
            "core/fold/adders.py",
            "core/fold/columns.py",
            "numpy/",
            "definitions/",
            "Tally.",
            "_Accumulator.",
        ),
    ),
    "cells, final values, commit": (
        "0.3",
        (
            "core/commit.py",
            "cell_cache.py",
            "core/fold/tally.py",
            "core/aggregations.py",
            "edges/",
            "redis/",
            "hiredis",
        ),
    ),
    "the rest: owner, Faust, event loop": ("", ("",)),
}
# Where threads wait: the loop, those of a pool, and the one that ends with its parent.
IDLE = ("select (selectors.py", "_worker (concurrent/futures/thread.py", "watch (pipeline/app/")
LOOKS_A_SECOND = 400


def part_of(frames: list[str]) -> str:
    """The part that a look belongs to: of the innermost function that a part knows."""
    known = list(PARTS.items())[:-1]
    for frame in reversed(frames):
        for part, (_, names) in known:
            if any(name in frame for name in names):
                return part
    return list(PARTS)[-1]


def shares(path: Path) -> Counter[str]:
    """The looks of each part; idle threads, the supervisor and imports are left out."""
    found: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        busy = "importlib._bootstrap" not in stack and not any(name in frames[-1] for name in IDLE)
        if busy and "worker-process" in stack:
            found[part_of(frames)] += int(count)
    return found


def profiled(recount: Recount, events: int, path: Path) -> None:
    """Let a worker apply the topic under py-spy."""
    spy = shutil.which("py-spy") or str(Path(sys.executable).parent / "py-spy")
    look = [
        spy,
        "record",
        "-r",
        str(LOOKS_A_SECOND),
        "--subprocesses",
        "-f",
        "raw",
        "-o",
        str(path),
    ]
    process = subprocess.Popen(
        [*look, "--", sys.executable, "-m", "pipeline", "worker"],
        env=recount.environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        _applied(recount, events)
    finally:
        process.send_signal(2)
        process.wait(60)


def _applied(recount: Recount, events: int) -> None:
    standing, until = Standing(recount), time.monotonic() + 60 + events / 5_000
    while standing.done() < events and time.monotonic() < until:
        time.sleep(0.05)


def filled(found: Services, traffic: Traffic) -> Recount:
    """A deployment with a filled topic."""
    recount = deployed(found, "profile", traffic.job)
    fill(found.kafka, f"{recount.deployment}.usage.events", traffic, expect=False)
    return recount


def bare(recount: Recount, events: int, folder: Path) -> float | None:
    """CPU µs an event of the bare consumer; None where it is not here."""
    if prepare({"rust"}):
        return None
    topic = f"{recount.deployment}.usage.events"
    place = Place(recount.services.kafka, "", topic, events, folder / "cells", folder)
    _, command, _ = CHECKING["rust"]
    around = Around(redis.Redis.from_url(recount.services.redis), None)
    told = run_peer(command(place), place.path, around, cwd=ROOT, within_s=300)
    return told["cpu"] / told["events"] * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile")
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--job", choices=sorted(JOBS), default="metronome")
    parser.add_argument("--customers", type=int, default=1_000)
    parser.add_argument("--law", choices=("turns", "uniform", "zipf"), default="turns")
    given = parser.parse_args()
    events, job = given.events, JOBS[given.job]
    traffic = Traffic(events, now(), customers=given.customers, law=given.law, job=job)
    with tempfile.TemporaryDirectory() as made, services() as found:
        timed = filled(found, traffic)
        around = Around(redis.Redis.from_url(found.redis), None)
        told = run_worker(timed, events, around)
        redis_us = around.used()[0] / told["events"] * 1e6
        raw = Path(made) / "looks"
        profiled(filled(found, traffic), events, raw)
        looks = shares(raw)
        least = bare(timed, events, Path(made)) if job is METRONOME else None
    cost, total = told["cpu"] / told["events"] * 1e6, sum(looks.values())
    table = Table("part", "µs an event", "share", "budget")
    for part, (budget, _) in PARTS.items():
        share = looks[part] / total
        table.add_row(part, f"{cost * share:.2f}", f"{share:.0%}", budget)
    table.add_row("worker, all of it", f"{cost:.2f}", "100%", "4.5")
    table.add_row("Redis", f"{redis_us:.2f}", "", "0.3")
    if least is not None:
        table.add_row("beside: the bare Rust consumer, all of it", f"{least:.2f}", "", "")
    Console().print(table)
    print(f"{total:,} looks; {machine()}")


if __name__ == "__main__":
    main()
