"""Recount beside its floors and its peers: `make bench`, or `python -m benchmarks.bench`.

One topic's events, in four lengths, so that slow engines end as well; every variant by itself,
one after the other, round by round. A round of Recount counts only if `recount audit` agrees; the
numbers of every peer are compared with a recount and marked. Peers live in environments of their
own, which are made the first time (.recount/peers).
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import redis
from rich.console import Console

from pipeline.cli.open import opened
from pipeline.deploy.rebuild import reset
from tests.services import ROOT, Recount, Services, services

from .measuring import Around, Measured, broker_pid, deployed, machine, run_peer, run_worker
from .peers.common import Cell
from .report import save, summary, table
from .traffic import CLOSER, PARTITIONS, Expected, Traffic, fill, now

PEERS = Path(__file__).parent / "peers"
MADE = ROOT / ".recount" / "peers"
WITHOUT_NATIVE = str(Path(__file__).parent / "without_native")
WITHIN_S = 240


@dataclass(frozen=True)
class Variant:
    """One line of the table. size: long, middle, short or tiny: which topic it reads."""

    name: str
    title: str
    size: str
    command: Callable[["Bench", str, int, Path], Sequence[str]] | None


@dataclass
class Topic:
    """A filled topic: the deployment that it belongs to, and what it adds up to."""

    recount: Recount
    events: int
    expected: Expected

    @property
    def name(self) -> str:
        """The topic's name."""
        return f"{self.recount.deployment}.usage.events"


def _floor(variant: str) -> Callable[["Bench", str, int, Path], Sequence[str]]:
    return lambda bench, topic, events, path: [
        *(sys.executable, "-m", "benchmarks.floor", variant),
        *(bench.services.kafka, topic, str(events), str(path)),
    ]


def _python(
    environment: str, script: str, *more: str
) -> Callable[["Bench", str, int, Path], Sequence[str]]:
    def command(bench: "Bench", topic: str, events: int, path: Path) -> Sequence[str]:
        places = {"REDIS": bench.aside, "FOLDER": str(bench.folder / "state")}
        return [
            *(str(MADE / environment / "bin" / "python"), f"{script}.py"),
            *(bench.services.kafka, topic, str(events), str(path)),
            *(places.get(each, each) for each in more),
        ]

    return command


def _streams(variant: str) -> Callable[["Bench", str, int, Path], Sequence[str]]:
    return lambda bench, topic, events, path: [
        *("java", "-Xmx2g", "-cp", f"{MADE}/streams/classes:{MADE}/streams/lib/*", "peer.Peer"),
        *(bench.services.kafka, topic, str(events), variant, str(bench.folder / "state")),
        str(path),
    ]


VARIANTS = (
    Variant("floor-consume", "floor: confluent-kafka consume(5000)", "long", _floor("consume")),
    Variant("floor-d", "floor D: aiokafka, C-level records", "long", _floor("d")),
    Variant("floor-e", "floor E: D + msgspec decode", "long", _floor("e")),
    Variant("floor-b", "floor B: aiokafka getmany", "long", _floor("b")),
    Variant("floor-c", "floor C: B + msgspec decode", "long", _floor("c")),
    Variant("recount", "Recount, one worker process, all on", "long", None),
    Variant("recount-python", "the same without native/", "middle", None),
    Variant("streams-default", "Kafka Streams: defaults", "middle", _streams("default")),
    Variant("streams-memory", "Kafka Streams: in memory", "middle", _streams("memory")),
    Variant("streams-fast", "Kafka Streams: + fast time stamps", "middle", _streams("fast")),
    Variant("streams-threads", "Kafka Streams: + two threads", "middle", _streams("threads")),
    Variant("streams-eos", "Kafka Streams: exactly_once_v2", "middle", _streams("eos")),
    Variant(
        "bytewax", "Bytewax: as documented", "short", _python("bytewax", "bytewax_documented")
    ),
    Variant(
        "bytewax-batched",
        "Bytewax: batched by hand",
        "middle",
        _python("bytewax", "bytewax_batched"),
    ),
    Variant(
        "quix-final", "Quix Streams: final", "short", _python("quix", "quix", "final", "FOLDER")
    ),
    Variant(
        "quix-current",
        "Quix Streams: current",
        "short",
        _python("quix", "quix", "current", "FOLDER"),
    ),
    Variant(
        "faust-tables",
        "Faust as documented: tables",
        "tiny",
        _python("faust", "faust_documented", "tables", "REDIS", "FOLDER"),
    ),
    Variant(
        "faust-redis",
        "Faust as documented: Redis",
        "tiny",
        _python("faust", "faust_documented", "redis", "REDIS", "FOLDER"),
    ),
    Variant(
        "naive", "poll, json.loads, HINCRBYFLOAT", "short", _python("faust", "naive", "REDIS")
    ),
)


class Bench:
    """The services, the topics, and one run of a variant."""

    def __init__(self, found: Services, folder: Path, sizes: dict[str, int]) -> None:
        self.services = found
        self.folder = folder
        self.aside = f"{found.redis.rstrip('/').removesuffix('/0')}/9"  # for peers that use Redis
        self._redis = redis.Redis.from_url(found.redis)
        self._broker = broker_pid(folder)
        self._sizes = sizes
        self._topics: dict[str, Topic] = {}
        self._now = now()

    def topic(self, size: str) -> Topic:
        """A filled topic of a size, made when it is first asked for."""
        if size not in self._topics:
            recount = deployed(self.services, size)
            traffic = Traffic(self._sizes[size], self._now)
            made = Topic(recount, traffic.events, Expected())
            began = time.perf_counter()
            made.expected = fill(
                self.services.kafka, made.name, traffic, closed=size in {"short", "tiny"}
            )
            made.events += PARTITIONS if size in {"short", "tiny"} else 0
            print(f"topic {size}: {made.events:,} events, {time.perf_counter() - began:.0f} s")
            self._topics[size] = made
        return self._topics[size]

    def run(self, variant: Variant) -> Measured:
        """Run a variant once, and check its numbers."""
        topic = self.topic(variant.size)
        shutil.rmtree(self.folder / "state", ignore_errors=True)
        path = self.folder / "cells"
        if variant.command is None:
            asyncio.run(_forget(topic.recount))
        around = Around(self._redis, self._broker)
        if variant.command is None:
            more = {"PYTHONPATH": WITHOUT_NATIVE} if variant.name == "recount-python" else {}
            told = run_worker(topic.recount, topic.events, around, more=more)
        else:
            command = variant.command(self, topic.name, topic.events, path)
            cwd = ROOT if command[0] == sys.executable else PEERS
            told = run_peer(command, path, around, cwd=cwd, within_s=WITHIN_S)
        redis_cpu, broker_cpu = around.used()
        if variant.command is None:
            audit = topic.recount.run("audit", within_s=1800)[-1]
            assert audit["mismatches"] == 0, audit
            exact = "yes, duplicates once"
        elif variant.name.startswith("floor"):
            exact = ""
        else:
            exact = verdict(path, topic.expected)
        redis.Redis.from_url(self.aside).flushdb()
        return Measured(
            **{**told, "events": int(told["events"])},
            redis_cpu=redis_cpu,
            broker_cpu=broker_cpu,
            memory_mib=around.memory_mib,
            exact=exact,
        )


async def _forget(recount: Recount) -> None:
    """Drop what workers have made of a deployment's log, so that another round can begin."""
    os.environ.update(recount.environment)
    async with opened() as deployment:
        settings = deployment.settings
        await reset(settings.address, deployment.control, deployment.store, None, lambda _: None)


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
    right = sum(expected.every.get(at) == cell for at, cell in found.items())
    return f"no: {right:,} of {len(expected.every):,} cells"


def prepare(names: set[str]) -> None:
    """Make the peers' environments, where they are not there yet."""
    needed = {variant.name.partition("-")[0] for variant in VARIANTS if variant.name in names}
    uv = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    for environment in ("bytewax", "quix", "faust"):
        wanted, folder = PEERS / f"{environment}.txt", MADE / environment
        if not needed & {environment, "naive" if environment == "faust" else environment}:
            continue
        done = folder / "made-from.txt"
        if done.exists() and done.read_text() == wanted.read_text():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([uv, "venv", "-q", "--python", "3.11", str(folder)], check=True)
        python = str(folder / "bin" / "python")
        subprocess.run([uv, "pip", "install", "-q", "--python", python, "-r", wanted], check=True)
        shutil.copy(wanted, done)
    if "streams" in needed:
        _compile(PEERS / "kafka_streams", MADE / "streams")


def _compile(source: Path, made: Path) -> None:
    pom, done = source / "pom.xml", made / "made-from.xml"
    if not done.exists() or done.read_text() != pom.read_text():
        shutil.rmtree(made, ignore_errors=True)
        copy = ["dependency:copy-dependencies", f"-DoutputDirectory={made / 'lib'}"]
        subprocess.run(["mvn", "-q", "-B", "-f", str(pom), *copy], check=True)
        shutil.copy(pom, done)
    files = [str(path) for path in source.rglob("*.java")]
    subprocess.run(
        ["javac", "-cp", f"{made / 'lib'}/*", "-d", str(made / "classes"), *files], check=True
    )


def main() -> None:
    """Run every variant in every round; print the table, and keep it with --save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="names of variants, with commas")
    for size, events in (("long", 2_000_000), ("middle", 1_500_000), ("short", 400_000)):
        parser.add_argument(f"--{size}", type=int, default=events, help="events of the topic")
    parser.add_argument("--tiny", type=int, default=40_000, help="events of the topic")
    parser.add_argument("--save", action="store_true", help="into RESULTS.md, results/ and a plot")
    options = parser.parse_args()
    chosen = set(filter(None, options.only.split(",")))
    names = {variant.name for variant in VARIANTS if not chosen or variant.name in chosen}
    prepare(names)
    runs: dict[str, list[Measured]] = {name: [] for name in names}
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="recount-bench-") as made,
        services(Path(made)) as found,
    ):
        sizes = {size: getattr(options, size) for size in ("long", "middle", "short", "tiny")}
        bench = Bench(found, Path(made), sizes)
        for number in range(options.rounds):
            for variant in VARIANTS:
                if variant.name not in names:
                    continue
                runs[variant.name].append(run := bench.run(variant))
                print(
                    f"round {number + 1}, {variant.title}: {run.rate:.1f} k/s (second half "
                    f"{run.half_rate:.1f}), {run.cost:.2f} µs, exact: {run.exact}, "
                    f"{time.perf_counter() - began:.0f} s since the start",
                    flush=True,
                )
    titles = {variant.name: variant.title for variant in VARIANTS if variant.name in names}
    lines = summary(titles, runs)
    Console(width=160).print(table(lines))
    print(machine())
    if options.save:
        save(lines, runs, machine())


if __name__ == "__main__":
    main()
