"""The audit's speed and memory over a large log: `python -m benchmarks.audit --events 10000000`.

One deployment is filled and applied, then `recount audit` runs as a user runs it: on one core, in
two processes, and over a share of the customers. CPU is that of all its processes; memory is the
peak resident size of the largest, as the kernel counted it. An option that this version of the
command does not have is told so.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from pipeline.errors import ExitCode
from tests.services import ROOT, Recount, services

from . import aims
from .measuring import deployed
from .traffic import Traffic, fill, now

_WITHIN_S = 7_200
EVENTS = 2_000_000
SHARE = "1/50"


@dataclass(frozen=True)
class Audited:
    """One run: what it said, seconds, CPU seconds of all processes, MiB of the largest."""

    said: dict[str, int]
    seconds: float
    cpu: float
    peak_mib: int


def audited(recount: Recount, *options: str) -> Audited | None:
    """Run the audit; None where this version of it does not know the options."""
    began = time.perf_counter()
    audit = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "audit", *options],
        env=recount.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert audit.stdout is not None
    lines = audit.stdout.read().splitlines()
    _, status, used = os.wait4(audit.pid, 0)
    took, code = time.perf_counter() - began, os.waitstatus_to_exitcode(status)
    if code == ExitCode.USAGE:
        return None
    said = json.loads(lines[-1])
    assert (code, said["mismatches"]) == (0, 0), said
    return Audited(said, took, used.ru_utime + used.ru_stime, used.ru_maxrss // 1024)


def figures(
    events: int, plain: Audited, two: Audited | None, share: Audited | None
) -> dict[str, float]:
    """The figures of AIMS that were measured."""
    found = {"audit: CPU µs an event": plain.cpu / events * 1e6}
    if two is not None:
        found["audit: times as fast with two processes"] = plain.seconds / two.seconds
    if share is not None:
        what = "audit of 1/50 of the customers: CPU µs an event of the log"
        found[what] = share.cpu / events * 1e6
    return found


def main() -> None:
    """Print what each audit found, how long it took, and how much memory it held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--customers", type=int, default=1_000, help="of the log")
    given = parser.parse_args()
    ways = (("--processes", "1"), ("--processes", "2"), ("--customers", SHARE))
    with services() as found:
        recount = deployed(found, "audit")
        traffic = Traffic(given.events, now(), customers=given.customers)
        topic = f"{recount.deployment}.usage.events"
        fill(recount.services.kafka, topic, traffic, expect=False)
        recount.run("worker", "--until-caught-up", within_s=_WITHIN_S)
        runs = [audited(recount), *(audited(recount, *way) for way in ways[1:])]
    plain = runs[0]
    assert plain is not None
    made = Table("audit", "cells", "events", "s", "µs an event", "CPU µs an event", "peak MiB")
    for way, run in zip(ways, runs, strict=True):
        if run is None:
            made.add_row(" ".join(way), "not there")
            continue
        counts = (f"{run.said.get(name, ''):,}" for name in ("cells", "events"))
        times = (run.seconds, *(each / given.events * 1e6 for each in (run.seconds, run.cpu)))
        texts = (f"{each:.1f}" for each in times)
        made.add_row(" ".join(way), *counts, *texts, str(run.peak_mib))
    console = Console(width=170)
    console.print(made)
    told = figures(given.events, plain, runs[1], runs[2])
    aims.note(aims.AUDIT, told, now(), short=given.events < EVENTS)
    console.print(aims.table(aims.AUDIT))


if __name__ == "__main__":
    main()
