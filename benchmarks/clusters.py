"""One broker and one Redis beside three brokers and a Redis Cluster of three shards.

`python -m benchmarks.clusters`: in each round every place starts its services, fills a topic with
the same events, lets one worker process apply it, and is audited. Three brokers keep three copies
of each record, and each shard has a replica, as docs/operations.md advises. All of it shares the
cores of this machine: ratios are those of the work, not of clusters with machines of their own.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.fault.brokers import OwnBrokers, own_brokers
from tests.fault.cluster import own_cluster
from tests.fault.own import OwnKafka, own_kafka, own_redis
from tests.services import Recount, Services, fresh

from .jobs import METRONOME
from .measuring import Around, cpu_of, machine, run_worker, set_up
from .traffic import Traffic, fill, now

EVENTS: Final = 1_000_000
ROUNDS: Final = 3


@dataclass(frozen=True)
class Running:
    """The services of a place. copies: of each record. stores, brokers: their processes."""

    services: Services
    copies: int
    stores: list[int]
    brokers: list[int]


class AroundMany(Around):
    """What all processes of Redis and all brokers use while something runs."""

    def __init__(self, running: Running) -> None:
        self._running = running
        super().__init__(None, None)

    def _now(self) -> tuple[float, float]:
        return sum(map(cpu_of, self._running.stores)), sum(map(cpu_of, self._running.brokers))


def _pids(*processes: Any) -> list[int]:
    return [each.process.pid for each in processes]


@contextmanager
def place(folder: Path, *, brokers: bool, shards: bool, secure: bool = False) -> Iterator[Running]:
    """Services that end with the block. secure: clients log in to Kafka by SCRAM over TLS."""
    with ExitStack() as stack:
        kafka: OwnKafka | OwnBrokers
        if brokers:
            kafka = stack.enter_context(own_brokers(folder, secure=secure))
        else:
            kafka = stack.enter_context(own_kafka(folder))
        if shards:
            cluster = stack.enter_context(own_cluster(folder / "redis"))
            url, stores = cluster.url, _pids(*cluster.nodes)
        else:
            store = stack.enter_context(own_redis(folder))
            url, stores = store.url, _pids(store)
        nodes, login = [kafka], dict[str, str]()
        if isinstance(kafka, OwnBrokers):
            nodes, login = [*kafka.nodes], kafka.login
        services = Services(kafka.address, url, login)
        yield Running(services, len(nodes), stores, _pids(*nodes))


Made = Callable[[Path], Any]
PLACES: Final[Mapping[str, Made]] = {
    "one broker, one Redis": lambda at: place(at, brokers=False, shards=False),
    "three brokers, one Redis": lambda at: place(at, brokers=True, shards=False),
    "one broker, three shards": lambda at: place(at, brokers=False, shards=True),
    "three brokers, three shards": lambda at: place(at, brokers=True, shards=True),
    "the same, SCRAM over TLS": lambda at: place(at, brokers=True, shards=True, secure=True),
}


def measure(running: Running, events: int) -> dict[str, float]:
    """Fill a topic, apply it, audit it; return rates, thousand a second, and CPU, µs an event."""
    recount = Recount(running.services, fresh("clusters"))
    set_up(recount, METRONOME, "--replication-factor", str(running.copies))
    traffic, at = Traffic(events, now()), running.services.address
    began = time.perf_counter()
    topic = f"{recount.deployment}.usage.events"
    fill(at.bootstrap, topic, traffic, expect=False, login=at.rdkafka())
    filled = time.perf_counter() - began
    around = AroundMany(running)
    told = run_worker(recount, events, around)
    stores, brokers = around.used()
    audit = recount.run("audit", within_s=1800)[-1]
    assert (audit["mismatches"], audit["events"]) == (0, events), audit
    micro = 1e6 / told["events"]
    return {
        "filled": events / filled / 1000,
        "rate": told["events"] / told["seconds"] / 1000,
        "half": told["half_events"] / told["half_seconds"] / 1000,
        "worker": told["cpu"] * micro,
        "redis": stores * micro,
        "kafka": brokers * micro,
    }


def main() -> None:
    """Run every place in every round; print medians, and each place beside the first."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clusters")
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in PLACES}
    for number in range(asked.rounds):
        for name, made in PLACES.items():
            with (
                tempfile.TemporaryDirectory(prefix="recount-clusters-") as folder,
                made(Path(folder)) as running,
            ):
                run = measure(running, asked.events)
            runs[name].append(run)
            print(f"round {number + 1}, {name}: {json.dumps(run)}", flush=True)
    table = Table(
        "",
        "k events/s",
        "second half",
        "ratio",
        "worker µs",
        "Redis µs",
        "Kafka µs",
        "filling k/s",
    )
    middle = {
        name: {key: median(run[key] for run in own) for key in own[0]}
        for name, own in runs.items()
    }
    first = next(iter(middle.values()))
    for name, own in middle.items():
        table.add_row(
            name,
            f"{own['rate']:.0f}",
            f"{own['half']:.0f}",
            f"{own['rate'] / first['rate']:.2f}",
            *(f"{own[key]:.2f}" for key in ("worker", "redis", "kafka")),
            f"{own['filled']:.0f}",
        )
    Console(width=140).print(table)
    print(f"{asked.events:,} events, {asked.rounds} rounds; audits agree. {machine()}")


if __name__ == "__main__":
    main()
