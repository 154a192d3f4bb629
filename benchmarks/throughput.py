"""One worker process beside its floor: `make bench`, or `python -m benchmarks.throughput`.

Each round makes a deployment, fills its topic, reads it with the floor, then lets one worker
process apply it: three matching metrics an event, duplicates checked, fates counted, every flush
fenced and durable in Redis. A round counts only if `recount audit` agrees afterwards.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from pipeline.edges.redis import RedisStore
from tests.services import ROOT, Recount, fresh, services

PARTITIONS = 4
CUSTOMERS = 1_000
DUPLICATES = 0.01
METRICS: tuple[dict[str, Any], ...] = (
    {"name": "calls", "aggregation_type": "COUNT"},
    {
        "name": "tokens",
        "aggregation_type": "SUM",
        "aggregation_key": "tokens",
        "property_filters": [{"name": "tokens", "exists": True}],
    },
    {
        "name": "peak",
        "aggregation_type": "MAX",
        "aggregation_key": "latency",
        "property_filters": [
            {"name": "latency", "exists": True},
            {"name": "region", "in_values": ["eu-central-1", "us-east-1"]},
        ],
    },
)


@dataclass(frozen=True)
class Measured:
    """One side of a round."""

    events: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Thousand events a second."""
        return self.events / self.seconds / 1000

    @property
    def cost(self) -> float:
        """CPU microseconds an event."""
        return self.cpu / self.events * 1e6


def fill(kafka: str, topic: str, events: int, seed: int) -> None:
    """Publish events of about 280 bytes, keyed by customer as Kafka's clients do."""
    draw = random.Random(seed)  # noqa: S311  a seed, not a secret
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "batch.size": 262_144,
            "queue.buffering.max.messages": 500_000,
            "enable.idempotence": True,
        }
    )
    now = datetime.now(UTC)  # noqa: TID251  a benchmark's own clock
    for number in range(events):
        same = draw.random() < DUPLICATES and number
        own = draw.randrange(number) if same else number
        customer = f"customer-{own % CUSTOMERS:06d}"
        event = {
            "transaction_id": f"{own:012d}-4bf92f3577b34da6",
            "customer_id": customer,
            "event_type": "api_request",
            "timestamp": (now - timedelta(seconds=7200 - own * 7200 / events)).isoformat(
                timespec="milliseconds"
            ),
            "properties": {
                "tokens": str(own % 5000),
                "latency": own % 900 + 0.25,
                "region": "eu-central-1",
                "model": "large-2026",
                "request_path": "/v1/chat/completions",
            },
        }
        producer.produce(topic, json.dumps(event).encode(), key=customer.encode())
        if not number % 10_000:
            producer.poll(0)
    producer.flush()


def measure_floor(recount: Recount, topic: str, events: int) -> Measured:
    """Run the floor in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.floor", recount.services.kafka, topic]
    done = subprocess.run(
        [*command, str(PARTITIONS), str(events)], capture_output=True, check=True, cwd=ROOT
    )
    found = json.loads(done.stdout)
    return Measured(found["events"], found["seconds"], found["cpu"])


def measure_worker(recount: Recount, events: int) -> tuple[Measured, float]:
    """Let one worker process apply the topic; return its side and Redis' CPU seconds."""
    worker = recount.start("worker")
    try:
        return asyncio.run(_watch(recount, worker.pid, events))
    finally:
        worker.terminate()
        worker.wait(30)


async def _watch(recount: Recount, supervisor: int, events: int) -> tuple[Measured, float]:
    store = RedisStore(recount.services.redis, recount.deployment)
    began, first, cpu, redis_cpu = 0.0, 0, 0.0, 0.0
    deadline = time.perf_counter() + 60 + events / 10_000
    while True:
        states = [await store.state(number) for number in range(PARTITIONS)]
        done = sum(state.next for state in states if state is not None)
        if done and not began:
            began, first = time.perf_counter(), done
            cpu, redis_cpu = _cpu(_child(supervisor)), await _redis_cpu(store)
        if done >= events:
            took = time.perf_counter() - began
            used = _cpu(_child(supervisor)) - cpu
            redis_used = await _redis_cpu(store) - redis_cpu
            await store.close()
            return Measured(events - first, took, used), redis_used
        if time.perf_counter() > deadline:
            raise TimeoutError(f"the worker stands at {done} of {events}; see its log above")
        await asyncio.sleep(0.05)


async def _redis_cpu(store: RedisStore) -> float:
    info = await store._client.info("cpu")  # noqa: SLF001  a question about Redis itself
    return float(info["used_cpu_sys"]) + float(info["used_cpu_user"])


def _child(supervisor: int) -> int:
    found = subprocess.run(
        ["pgrep", "-P", str(supervisor)], capture_output=True, text=True, check=True
    )
    return int(found.stdout.split()[0])


def _cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_round(recount: Recount, events: int, seed: int) -> tuple[Measured, Measured, float]:
    """One round: fill, floor, worker, audit."""
    recount.run("init", "--partitions", str(PARTITIONS))
    for metric in METRICS:
        recount.create(metric)
    topic = f"{recount.deployment}.usage.events"
    fill(recount.services.kafka, topic, events, seed)
    floor = measure_floor(recount, topic, events)
    worker, redis_cpu = measure_worker(recount, events)
    audit = recount.run("audit", within_s=900)[-1]
    assert audit["mismatches"] == 0, audit
    assert audit["events"] == events, audit
    return floor, worker, redis_cpu / worker.events * 1e6


def main() -> None:
    """Print a table of medians and ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput")
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = []
    with services() as found:
        for number in range(options.rounds):
            rounds.append(run_round(Recount(found, fresh("bench")), options.events, number))
            floor, worker, _ = rounds[-1]
            print(
                f"round {number + 1}: floor {floor.rate:.0f} k/s, worker {worker.rate:.0f} k/s, "
                f"ratio {worker.rate / floor.rate:.2f}, audit agrees"
            )
    table = Table("", "k events/s", "CPU µs an event", "of the floor")
    floor_rate = median(floor.rate for floor, _, _ in rounds)
    floor_cost = median(floor.cost for floor, _, _ in rounds)
    rate = median(worker.rate for _, worker, _ in rounds)
    cost = median(worker.cost for _, worker, _ in rounds)
    ratio = median(worker.rate / floor.rate for floor, worker, _ in rounds)
    redis_cost = median(redis for _, _, redis in rounds)
    table.add_row("floor C: getmany + decode", f"{floor_rate:.0f}", f"{floor_cost:.2f}", "1.00")
    table.add_row("recount worker, all on", f"{rate:.0f}", f"{cost:.2f}", f"{ratio:.2f}")
    table.add_row("  its Redis", "", f"{redis_cost:.2f}", f"{redis_cost / floor_cost:.2f} of CPU")
    Console().print(table)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
