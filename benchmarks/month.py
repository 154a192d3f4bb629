"""Closing a month beside live traffic: `python -m benchmarks.month --customers 100000 --days 30`.

A month is filled with one event a customer and day, counted by three metrics: customers x days x 3
rows. Then events come at a steady rate while `recount period close` writes the month by day, as
Parquet. Told are the seconds and the memory of the job, the time from producing an event to its
being readable, the longest that Redis was busy with one command (SLOWLOG), and what DuckDB adds
up of the files beside what was published. Smaller: --customers 2000 --days 5.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import redis
from confluent_kafka import Message, Producer

from pipeline.edges import redis_owners
from tests.services import ROOT, Recount, fresh, services

from .measuring import Standing
from .traffic import PARTITIONS, now

MONTH = "2026-10"
METRICS: tuple[dict[str, Any], ...] = (
    {"name": "calls", "aggregation_type": "COUNT"},
    {"name": "tokens", "aggregation_type": "SUM", "aggregation_key": "tokens"},
    {"name": "peak", "aggregation_type": "MAX", "aggregation_key": "latency"},
)
FILTERS = [{"name": "tokens", "exists": True}, {"name": "latency", "exists": True}]
_SAMPLE = 50  # of so many live events one is timed
_WITHIN_S = 7_200


def event(number: int, customer: int, at: datetime) -> bytes:
    """An event of about 250 bytes."""
    made = {
        "transaction_id": f"{number:016x}",
        "customer_id": f"customer-{customer:06d}",
        "event_type": "completion",
        "timestamp": at.isoformat(),
        "properties": {"tokens": number % 997, "latency": number % 89, "region": "eu-central-1"},
    }
    return json.dumps(made).encode()


def month(customers: int, days: int) -> Iterator[tuple[int, bytes]]:
    """The events of a month, day by day, with their customers."""
    began = datetime.fromisoformat(f"{MONTH}-01T00:30:00+00:00")
    for day in range(days):
        for customer in range(customers):
            number = day * customers + customer
            at = began + timedelta(days=day, hours=customer % 24)
            yield customer, event(number, customer, at.astimezone(UTC))


def producer(kafka: str) -> Producer:
    """A producer that keys as Kafka's clients do."""
    return Producer(
        {
            "bootstrap.servers": kafka,
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "queue.buffering.max.messages": 500_000,
        }
    )


def fill(recount: Recount, customers: int, days: int) -> None:
    """Publish the month."""
    sending, topic = producer(recount.services.kafka), f"{recount.deployment}.usage.events"
    for number, (customer, line) in enumerate(month(customers, days)):
        sending.produce(topic, line, key=f"customer-{customer:06d}".encode())
        if not number % 10_000:
            sending.poll(0.2)
    sending.flush()


class Live:
    """Events at a steady rate, until it is stopped; of some the time until they are readable."""

    def __init__(self, recount: Recount, rate: int, customers: int) -> None:
        self._recount = recount
        self._rate = rate
        self._customers = customers
        self._ends = threading.Event()
        self._waiting: list[list[tuple[int, float]]] = [[] for _ in range(PARTITIONS)]
        self.latencies: list[float] = []
        self.sent = 0
        self._threads = [threading.Thread(target=each) for each in (self._produce, self._watch)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, once what was timed is readable."""
        self._ends.set()
        for thread in self._threads:
            thread.join(60)

    def _produce(self) -> None:
        sending = producer(self._recount.services.kafka)
        topic, began = f"{self._recount.deployment}.usage.events", time.perf_counter()
        while not self._ends.is_set():
            due = began + self.sent / self._rate
            while (left := due - time.perf_counter()) > 0:
                sending.poll(min(left, 0.005))
            customer = self.sent * 7_919 % self._customers
            line = event(1 << 40 | self.sent, customer, now())
            timed = None if self.sent % _SAMPLE else self._noted(time.perf_counter())
            key = f"customer-{customer:06d}".encode()
            sending.produce(topic, line, key=key, on_delivery=timed)
            sending.poll(0)
            self.sent += 1
        sending.flush()

    def _noted(self, at: float) -> Any:
        def acknowledged(_error: object, message: Message) -> None:
            self._waiting[message.partition()].append((message.offset(), at))

        return acknowledged

    def _watch(self) -> None:
        standing = Standing(self._recount)
        while not self._ends.is_set() or any(self._waiting):
            applied, seen = standing.nexts(), time.perf_counter()
            for waiting, following in zip(self._waiting, applied, strict=True):
                while waiting and waiting[0][0] < following:
                    self.latencies.append(seen - waiting.pop(0)[1])
            self._ends.wait(0.005)

    def told(self) -> dict[str, Any]:
        """Latencies in milliseconds."""
        found = sorted(self.latencies)
        if not found:
            return {"timed": 0}
        return {
            "timed": len(found),
            "events": self.sent,
            "p50_ms": round(found[len(found) // 2] * 1000),
            "p99_ms": round(found[len(found) * 99 // 100] * 1000),
            "max_ms": round(found[-1] * 1000),
        }


def closed(recount: Recount, folder: Path) -> dict[str, Any]:
    """Close the month as a user does; what it said, its seconds, CPU and peak memory."""
    began = time.perf_counter()
    arguments = ("period", "close", MONTH, "--window-size", "day", "--to", str(folder))
    job = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        env=recount.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert job.stdout is not None
    text = job.stdout.read()
    _, status, used = os.wait4(job.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, text
    told = json.loads(text)
    return {
        "rows": told["rows"],
        "files": told["files"],
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_mib": used.ru_maxrss // 1024,
    }


def summed(folder: Path) -> dict[str, int]:
    """What DuckDB adds up of the files."""
    with duckdb.connect() as database:
        found = database.execute(
            "SELECT metric, sum(CAST(value AS DECIMAL(38, 9))) FROM read_parquet(?) "
            "WHERE metric <> 'peak' GROUP BY ALL",
            [f"{folder}/*/*/*.parquet"],
        ).fetchall()
    return {name: int(total) for name, total in found}


def main() -> None:
    """Run it, and print one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.month")
    parser.add_argument("--customers", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--rate", type=int, default=5_000, help="live events a second; 0: none")
    given = parser.parse_args()
    count = given.customers * given.days
    with tempfile.TemporaryDirectory() as made, services(Path(made) / "stack") as found:
        recount, folder = Recount(found, fresh("month")), Path(made) / "periods"
        recount.run("init", "--partitions", str(PARTITIONS), "--max-age-days", "0")
        for metric in METRICS:
            recount.create({**metric, "property_filters": FILTERS})
        fill(recount, given.customers, given.days)
        recount.run("worker", "--until-caught-up", within_s=_WITHIN_S)
        print(f"{count:,} events are applied", file=sys.stderr, flush=True)
        with redis.Redis.from_url(found.redis) as store:
            store.config_set("slowlog-log-slower-than", 1_000)
            store.config_set("slowlog-max-len", 1_024)
            worker, live = recount.start("worker"), Live(recount, given.rate or 1, given.customers)
            try:
                if given.rate:
                    live.start()
                    while not live.latencies:  # the worker has joined, and counts
                        time.sleep(1)
                    live.latencies.clear()
                store.slowlog_reset()
                told: dict[str, Any] = closed(recount, folder)
                slow = store.slowlog_get(1_024)
            finally:
                live.stop() if given.rate else None
                worker.terminate()
                worker.wait(30)
        sha = redis_owners.OWNERS.sha.encode()
        scripts = [each["duration"] for each in slow if sha in each["command"]]
        told |= {
            "live": live.told() if given.rate else {},
            "redis_read_ms_max": round(max(scripts, default=0) / 1000, 1),
            "redis_any_ms_max": round(max((e["duration"] for e in slow), default=0) / 1000, 1),
            "reads_over_1_ms": len(scripts),
        }
        wanted = {"calls": count, "tokens": sum(number % 997 for number in range(count))}
        assert summed(folder) == wanted, (summed(folder), wanted)
        print(json.dumps(told))


if __name__ == "__main__":
    main()
