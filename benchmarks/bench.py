"""Recount beside its floors and its peers: `make bench`, or `python -m benchmarks.bench`.

Each topic's events are read by every variant of its table, one after the other, round by round;
topics have several lengths, so that slow engines end as well. A round of Recount counts only if
`recount audit` agrees; the numbers of every peer are compared with a recount and marked. What the
peers need is made the first time (prepare.py). The last table says which aims are held (aims.py).
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import redis
from rich.console import Console

from tests.services import ROOT, Recount, Services, fresh, services

from . import aims
from .jobs import METRONOME
from .measuring import (
    Around,
    Measured,
    broker_pid,
    kept,
    machine,
    put_back,
    run_peer,
    run_worker,
    set_up,
)
from .peers.common import Cell
from .prepare import CHECKOUT, Before, prepare
from .report import Line, save, summary, table
from .traffic import CLOSER, PARTITIONS, Expected, Traffic, fill, now
from .variants import PEERS, SECTIONS, TOPICS, VARIANTS, Place, Variant

WITHIN_S = 300
# What a run may end with; the others go on, and the tables are printed.
_FAILS = (AssertionError, RuntimeError, TimeoutError, subprocess.TimeoutExpired)
SIZES = {"long": 2_000_000, "middle": 1_500_000, "short": 400_000, "tiny": 40_000}
SIZES |= {"job": 1_000_000, "wide": 2_000_000}


@dataclass
class Topic:
    """A filled topic: the deployment that it belongs to, and what it adds up to.

    empty: what Redis holds of the deployment before anything was applied.
    """

    recount: Recount
    events: int
    expected: Expected
    empty: Mapping[bytes, bytes]

    @property
    def name(self) -> str:
        """The topic's name."""
        return f"{self.recount.deployment}.usage.events"


class Bench:
    """The services, the topics, and one run of a variant."""

    def __init__(self, found: Services, folder: Path, sizes: Mapping[str, int]) -> None:
        self.services = found
        self.folder = folder
        self.aside = f"{found.redis.rstrip('/').removesuffix('/0')}/9"  # for peers that use Redis
        self._redis = redis.Redis.from_url(found.redis)
        self._broker = broker_pid(folder)
        self._sizes = sizes
        self._topics: dict[str, Topic] = {}
        self._now = now()

    def topic(self, name: str) -> Topic:
        """A filled topic, made when it is first asked for."""
        if name not in self._topics:
            filled = TOPICS[name]
            kind = Before if filled.before else Recount
            recount = kind(self.services, fresh(name))
            traffic = Traffic(self._sizes[filled.size], self._now, **filled.traffic)
            set_up(recount, traffic.job)
            made = Topic(recount, traffic.events, Expected(), kept(recount))
            compared = traffic.job is METRONOME and not filled.before
            began = time.perf_counter()
            made.expected = fill(
                self.services.kafka, made.name, traffic, closed=filled.closed, expect=compared
            )
            made.events += PARTITIONS if filled.closed else 0
            print(f"topic {name}: {made.events:,} events, {time.perf_counter() - began:.0f} s")
            self._topics[name] = made
        return self._topics[name]

    def run(self, variant: Variant) -> Measured:
        """Run a variant once, and check its numbers."""
        work = self._work if variant.command is None else self._peer
        return work(variant, self.topic(variant.topic))

    def _work(self, variant: Variant, topic: Topic) -> Measured:
        """A worker of Recount, from a log of which nothing is applied; audited."""
        put_back(topic.recount, topic.empty)
        around = Around(self._redis, self._broker)
        is_before = isinstance(topic.recount, Before)
        root = CHECKOUT if is_before else ROOT
        without = {"PYTHONPATH": str(root / "benchmarks" / "without_native")}
        more = {} if variant.native else without
        told = run_worker(topic.recount, topic.events, around, more=more)
        used = around.used()
        exact = "not asked"  # what the commit before counts is not in question
        if not is_before:
            audit = topic.recount.run("audit", within_s=1800)[-1]
            assert audit["mismatches"] == 0, audit
            exact = "yes, duplicates once"
        return _measured(told, used, around, exact)

    def _peer(self, variant: Variant, topic: Topic) -> Measured:
        """A peer or a floor; its cells are compared."""
        assert variant.command is not None
        state, path = self.folder / "state", self.folder / "cells"
        shutil.rmtree(state, ignore_errors=True)
        place = Place(self.services.kafka, self.aside, topic.name, topic.events, path, state)
        command = variant.command(place)
        around = Around(self._redis, self._broker)
        cwd = ROOT if command[0] == sys.executable else PEERS
        told = run_peer(command, path, around, cwd=cwd, within_s=WITHIN_S)
        used = around.used()
        exact = "" if "floor-" in variant.name else verdict(path, topic.expected)
        redis.Redis.from_url(self.aside).flushdb()
        return _measured(told, used, around, exact)


def _measured(
    told: Mapping[str, float], used: tuple[float, float], around: Around, exact: str
) -> Measured:
    return Measured(
        **{**told, "events": int(told["events"])},
        redis_cpu=used[0],
        broker_cpu=used[1],
        memory_mib=around.memory_mib,
        exact=exact,
    )


def verdict(path: Path, expected: Expected) -> str:
    """Compare a peer's cells with the recount."""
    found: dict[tuple[str, int], Cell] = {}
    with path.open() as file:
        for line in file:
            customer, hour, count, total, peak = json.loads(line)
            if not customer.startswith(CLOSER):
                peak = None if peak is None else Decimal(peak)
                found[customer, hour] = (count, Decimal(total), peak)
    if found == dict(expected.once):
        return "yes, duplicates once"
    if found == dict(expected.every):
        return "yes, duplicates twice"
    right = sum(expected.once.get(at) == cell for at, cell in found.items())
    return f"no: {right:,} of {len(expected.once):,} cells"


def options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="names of variants or of sections, with commas")
    for size, events in SIZES.items():
        parser.add_argument(f"--{size}", type=int, default=events, help="events of the topics")
    parser.add_argument("--save", action="store_true", help="into RESULTS.md, results/ and plots")
    return parser.parse_args()


def run_all(
    bench: Bench, variants: Sequence[Variant], rounds: int
) -> tuple[dict[str, list[Measured]], dict[str, str]]:
    """Run every variant in every round; return its runs, and why others did not run."""
    runs: dict[str, list[Measured]] = {variant.name: [] for variant in variants}
    failed: dict[str, str] = {}
    began = time.perf_counter()
    for number in range(rounds):
        for variant in variants:
            if variant.name in failed:
                continue
            try:
                run = bench.run(variant)
            except _FAILS as error:
                failed[variant.name] = f"{type(error).__name__}: {error}"[-300:]
                print(f"{variant.name} failed: {error}", flush=True)
                continue
            runs[variant.name].append(run)
            print(
                f"round {number + 1}, {variant.name}: {run.rate:.1f} k/s (second half "
                f"{run.half_rate:.1f}), {run.cost:.2f} µs, Redis {run.redis_cost:.2f}, "
                f"exact: {run.exact}, {time.perf_counter() - began:.0f} s since the start",
                flush=True,
            )
    return {name: own for name, own in runs.items() if name not in failed}, failed


def main() -> None:
    """Run what was chosen; print a table of each section and of the aims; keep it with --save."""
    given = options()
    chosen = set(filter(None, given.only.split(",")))
    wanted = [each for each in VARIANTS if not chosen or {each.name, each.section} & chosen]
    missing = prepare({variant.name for variant in wanted})
    variants = [each for each in wanted if each.name not in missing]
    for name, why in missing.items():
        print(f"not run: {name}: {why}", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="recount-bench-") as made,
        services(Path(made)) as found,
    ):
        sizes = {size: getattr(given, size) for size in SIZES}
        runs, failed = run_all(Bench(found, Path(made), sizes), variants, given.rounds)
    sections: dict[str, list[Line]] = {}
    for name, section in SECTIONS.items():
        own = {each.name: each.title for each in variants if each.section == name}
        titles = {each: title for each, title in own.items() if each in runs}
        if titles:
            sections[section.title] = summary(titles, runs, section.floor)
    console = Console(width=170)
    for title, lines in sections.items():
        console.print(table(title, lines))
    for name, why in {**missing, **failed}.items():
        print(f"not run: {name}: {why}")
    short = any(sizes[size] < SIZES[size] for size in SIZES)
    aims.note(aims.BENCH, aims.of_bench(runs), now(), short=short)
    console.print(aims.table())
    print(machine())
    if given.save:
        save(sections, runs, machine(), aims.lines())
    if any(each.command is None and each.name in failed for each in variants):
        sys.exit(1)  # a peer may fail; Recount may not


if __name__ == "__main__":
    main()
