"""How the cost of an event grows: `make bench-growth`, or `python -m benchmarks.growth`.

One worker process applies one topic after another, each with one thing changed: customers (drawn
uniformly, and by Zipf's law), groups, duplicates, size of an event, worker processes; every one is
audited. Definitions grow in definitions.py, beside the in-memory log and store. Then events come
at a steady rate, and the time from producing one to its being readable is taken.
"""

import argparse
import asyncio
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import redis
from rich.console import Console
from rich.table import Table

from tests.services import Services, services

from . import aims, definitions
from .jobs import METRONOME
from .latency import Steady
from .measuring import Around, deployed, machine, put_back, run_worker
from .report import curve
from .traffic import Traffic, fill, now

FOLDER = Path(__file__).parent / "results"
# what grows → its steps
STEPS: Mapping[str, Sequence[float]] = {
    "customers": (1_000, 10_000, 100_000, 1_000_000),
    "zipf": (1_000, 10_000, 100_000, 1_000_000),
    "groups": (1, 10, 100, 1_000),
    "duplicates": (0.0, 0.01, 0.1, 0.5),
    "filler": (0, 700, 4_000),
    "processes": (1, 2, 4),
}
ACROSS = {
    "customers": "customers, drawn uniformly",
    "zipf": "customers, Zipf 1.1",
    "groups": "groups of one metric",
    "duplicates": "share of duplicates",
    "filler": "bytes more an event (beyond 280)",
    "processes": "worker processes (two cores)",
    "others": "definitions that cannot match",
    "matching": "definitions that match",
}
WIDE = 2_000_000
STEADY_RATE = 20_000
STEADY_S = 20
_MANY = 100_000  # customers, from which on a topic has --wide events


class Point(NamedTuple):
    """One step: thousand events a second, CPU µs an event of the workers, and of Redis."""

    step: float
    rate: float
    cost: float
    redis: float


def grouped(metric: dict[str, Any]) -> dict[str, Any]:
    """A metric with a group key."""
    asked = [*metric.get("property_filters", ()), {"name": "group", "exists": True}]
    return {**metric, "group_keys": [["group"]], "property_filters": asked}


def measure(found: Services, traffic: Traffic, what: str, step: float) -> Point:
    """Apply one topic, audit it, and return its point."""
    job = METRONOME
    if what == "groups":
        job = replace(job, metrics=tuple(map(grouped, job.metrics)))
    recount = deployed(found, "growth", job)
    topic = f"{recount.deployment}.usage.events"
    if what in {"customers", "zipf"}:
        law = "zipf" if what == "zipf" else "uniform"
        traffic = replace(traffic, customers=int(step), law=law)
    elif what != "processes":
        kind = float if what == "duplicates" else int
        traffic = replace(traffic, **{what: kind(step)})
    fill(found.kafka, topic, traffic, expect=False)
    around = Around(redis.Redis.from_url(found.redis), None)
    processes = ["--processes", str(int(step))] if what == "processes" else []
    told = run_worker(recount, traffic.events, around, *processes)
    used, events = around.used()[0], told["events"]
    audit = recount.run("audit", within_s=1800)[-1]
    assert audit["mismatches"] == 0, audit
    put_back(recount, {})
    micro = 1e6 / events
    made = Point(step, events / told["seconds"] / 1000, told["cpu"] * micro, used * micro)
    print(
        f"{what} {step:g}: {made.rate:.0f} k/s, {made.cost:.2f} µs, Redis {made.redis:.2f}, "
        "audit agrees",
        flush=True,
    )
    return made


def steady(found: Services) -> dict[str, float]:
    """Produce at a steady rate; return the latency from produce to readable, and CPU an event."""
    recount = deployed(found, "steady")
    worker = recount.start("worker")
    measured = Steady(recount, STEADY_RATE, STEADY_S)
    try:
        asyncio.run(measured.run(worker.pid))
    finally:
        worker.terminate()
        worker.wait(30)
    audit = recount.run("audit", within_s=600)[-1]
    assert audit["mismatches"] == 0, audit
    return measured.told


def stated(curves: Mapping[str, Sequence[Point]]) -> dict[str, float]:
    """The figures of AIMS among the curves."""
    found = {}
    for what, law in (("customers", "uniform"), ("zipf", "Zipf")):
        for point in curves.get(what, ()):
            if point.step == STEPS[what][-1]:
                found[f"1,000,000 customers, {law}: worker, µs an event"] = point.cost
                found[f"1,000,000 customers, {law}: Redis, µs an event"] = point.redis
    return found


def main() -> None:
    """Run what was chosen; print a table, and keep curves and figures with --save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--wide", type=int, default=WIDE, help="events from 100,000 customers on")
    parser.add_argument("--only", default=",".join((*STEPS, "definitions", "steady")))
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    chosen, told = options.only.split(","), {}
    curves: dict[str, list[Point]] = {}
    if "definitions" in chosen:
        for what, points in definitions.curves().items():
            curves[what] = [Point(step, 0.0, cost, 0.0) for step, cost in points]
    with tempfile.TemporaryDirectory() as made, services(Path(made)) as found:
        for what, steps in STEPS.items():
            if what in chosen:
                curves[what] = []
                for step in steps:
                    is_wide = what in {"customers", "zipf"} and step >= _MANY
                    traffic = Traffic(options.wide if is_wide else options.events, now())
                    curves[what].append(measure(found, traffic, what, step))
        if "steady" in chosen:
            told = steady(found)
            print(json.dumps(told))
    table = Table("what", "step", "k events/s", "worker µs an event", "Redis µs an event")
    for what, points in curves.items():
        for step, rate, cost, used in points:
            ran = (f"{rate:.0f}", f"{used:.2f}") if rate else ("", "")
            table.add_row(what, f"{step:g}", ran[0], f"{cost:.2f}", ran[1])
    Console().print(table)
    aims.note(aims.GROWTH, stated(curves), now(), short=options.wide < WIDE)
    Console(width=170).print(aims.table(aims.GROWTH))
    if options.save:
        FOLDER.mkdir(exist_ok=True)
        at = f"{now():%Y-%m-%d %H:%M} UTC"
        kept = {"at": at, "machine": machine(), "curves": curves, "steady": told}
        (FOLDER / "growth.json").write_text(json.dumps(kept, indent=1) + "\n")
        for what, points in curves.items():
            cells = [(point.step, point.cost) for point in points]
            path = FOLDER / f"growth-{what}.svg"
            curve(cells, path, f"Cost of an event ({at})", ACROSS[what], "CPU µs an event")


if __name__ == "__main__":
    main()
