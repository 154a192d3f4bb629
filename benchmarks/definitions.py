"""What definitions cost that cannot match, or do: `python -m benchmarks.definitions`.

One worker's own code over the in-memory twins of log and store: three matching metrics an event,
and more and more metrics of other event types beside them; then more and more that match. Rounds
are interleaved; the ratio is to the round without any.
"""

import argparse
import asyncio
import gc
import json
import time
from datetime import timedelta
from statistics import median

from rich.console import Console
from rich.table import Table

from definitions.formats import metronome
from definitions.metric import Definition
from pipeline.edges.memory import MemoryRecord
from tests.world import NOW, NOW_MS, World

from .jobs import METRICS

SIZES = (0, 10, 100, 1_000, 10_000)  # definitions that cannot match
MATCHING = (1, 3, 10, 25, 50)
_BATCH = 6_000


def metrics(others: int) -> dict[str, Definition]:
    """The three metrics of the throughput benchmark, and others that no event of it matches."""
    made = {metric["name"]: metric for metric in METRICS}
    made |= {
        f"other-{number}": {
            "name": f"other-{number}",
            "aggregation_type": "COUNT",
            "event_type_filter": {"in_values": [f"type {number}"]},
            "property_filters": [{"name": f"property {number}", "exists": True}],
        }
        for number in range(others)
    }
    return {
        name: metronome.parse(
            json.dumps({"event_type_filter": {"in_values": ["api_request"]}, **metric})
        )[1]
        for name, metric in made.items()
    }


def matching(count: int) -> dict[str, Definition]:
    """So many of the three metrics, under other names."""
    made = {f"{number}": METRICS[number % len(METRICS)] for number in range(count)}
    return {
        name: metronome.parse(json.dumps({**metric, "name": name}))[1]
        for name, metric in made.items()
    }


def records(count: int) -> list[MemoryRecord]:
    """Events of about 280 bytes."""
    lines = (
        {
            "transaction_id": f"{number:012d}-4bf92f3577b34da6",
            "customer_id": f"customer-{number % 250:06d}",
            "event_type": "api_request",
            "timestamp": (NOW - timedelta(milliseconds=number)).isoformat(timespec="milliseconds"),
            "properties": {
                "tokens": str(number % 5000),
                "latency": number % 900 + 0.25,
                "region": "eu-central-1",
                "model": "large-2026",
                "request_path": "/v1/chat/completions",
            },
        }
        for number in range(count)
    )
    return [
        MemoryRecord(offset, NOW_MS, json.dumps(line).encode())
        for offset, line in enumerate(lines)
    ]


def cost(world: World, made: list[MemoryRecord]) -> float:
    """CPU microseconds an event."""

    async def work() -> float:
        owner = world.owner()
        await owner.open()
        await owner.take(made[:100])  # compiles the matcher
        began = time.process_time()
        for at in range(100, len(made), _BATCH):
            await owner.take(made[at : at + _BATCH])
        return time.process_time() - began

    return asyncio.run(work()) / (len(made) - 100) * 1e6


def costs(
    catalogues: dict[int, dict[str, Definition]], events: int, rounds: int
) -> dict[int, list[float]]:
    """The CPU microseconds an event of every round, by the size of the catalogue."""
    made = records(events)
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)
    seen: dict[int, list[float]] = {size: [] for size in catalogues}
    for _ in range(rounds):
        for size, catalogue in catalogues.items():
            seen[size].append(cost(World(metrics=catalogue), made))
    return seen


def curves(events: int = 60_000, rounds: int = 5) -> dict[str, list[tuple[float, float]]]:
    """Step and CPU µs an event; there is no rate, for nothing is fetched."""
    others = costs({size: metrics(size) for size in SIZES if size}, events, rounds)
    more = costs({size: matching(size) for size in MATCHING}, events, rounds)
    return {
        name: [(float(size), median(each)) for size, each in seen.items()]
        for name, seen in (("others", others), ("matching", more))
    }


def main() -> None:
    """Print cost and ratio for each number of definitions."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.definitions")
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for title, catalogues in (
        ("definitions that cannot match", {size: metrics(size) for size in SIZES}),
        ("definitions that match", {size: matching(size) for size in MATCHING}),
    ):
        seen = costs(catalogues, options.events, options.rounds)
        base = seen[min(seen)]
        table = Table(title, "CPU µs an event", "ratio")
        for size, each in seen.items():
            ratio = median(own / least for own, least in zip(each, base, strict=True))
            table.add_row(f"{size:,}", f"{median(each):.2f}", f"{ratio:.2f}")
        Console().print(table)


if __name__ == "__main__":
    main()
