"""A deployment under test: its own Redis behind a proxy, traffic, workers, and the oracle."""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.log.publish import publish

from ..services import Recount
from ..waiting import eventually
from .harness import Workers, assert_exact
from .own import OwnRedis, own_redis
from .proxy import Proxy
from .watch import RECOVERY_S_MAX, Watch

PARTITIONS = 2
CUSTOMERS = 12
BODIES: tuple[dict[str, Any], ...] = (
    {"name": "n", "aggregation_type": "COUNT"},
    {
        "name": "s",
        "aggregation_type": "SUM",
        "aggregation_key": "v",
        "property_filters": [{"name": "v"}],
    },
)


@dataclass
class Scene:
    """A deployment, its traffic and its workers."""

    recount: Recount
    workers: Workers
    watch: Watch
    name: str
    partitions: int = PARTITIONS
    customers: int = CUSTOMERS
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    sent: int = 0

    def prepare(self, *options: str) -> None:
        """Make the deployment with two metrics."""
        self.recount.run("init", "--partitions", str(self.partitions), *options)
        for body in BODIES:
            self.metrics[self.recount.create(body)] = body

    def events(self, count: int) -> list[dict[str, Any]]:
        """New events, some of them twice."""
        now = datetime.now(UTC).isoformat()  # noqa: TID251  a test's own clock
        made: list[dict[str, Any]] = [
            {
                "transaction_id": f"t{number - number % 10 // 9}",
                "customer_id": f"c{number // 10 % self.customers}",
                "event_type": "use",
                "timestamp": now,
                "properties": {"v": number % 7},
            }
            for number in range(self.sent, self.sent + count)
        ]
        self.sent += count
        return made

    def publish(self, count: int = 400) -> None:
        """Send new events, durable before this returns."""
        self.send([json.dumps(event).encode() for event in self.events(count)])

    def send(self, lines: list[bytes]) -> None:
        """Send lines as `recount publish` does."""
        address = self.recount.services.address
        topic = f"{self.recount.deployment}.usage.events"
        homes = self.partitions
        asyncio.run(
            publish(address, topic, lines, homes=homes, keyed=True, progress=lambda _: None)
        )

    def worker(self, *options: str, **environment: str) -> "subprocess.Popen[bytes]":
        """Start a worker behind the proxies."""
        return self.workers.start(*options, **environment)

    def running(self, *options: str, **environment: str) -> "subprocess.Popen[bytes]":
        """Start a worker, and wait until it has applied the first events."""
        made = self.worker(*options, **environment)
        self.publish()
        self.caught_up()
        return made

    def caught_up(self, within_s: float = 40) -> None:
        """Wait until nothing is left to apply."""
        eventually(
            self.watch.at_the_end, within_s=within_s, because="the end of the log is reached"
        )

    def recovers(
        self,
        fault: str | None = None,
        *,
        within_s: float = RECOVERY_S_MAX,
        live: bool = False,
    ) -> None:
        """Wait until the stream moves again, within the limit; note how long it took.

        live: traffic goes on (see Watch.moved()).
        """
        self.note(fault, self.watch.moved(within_s, live=live))

    def note(self, fault: str | None, seconds: float) -> None:
        """Say how long something took, also in the file FAULT_TIMES."""
        line = json.dumps({"test": self.name, "fault": fault, "seconds": round(seconds, 1)})
        sys.stderr.write(f"recovery {line}\n")
        if path := os.environ.get("FAULT_TIMES"):
            with Path(path).open("a") as file:
                file.write(line + "\n")

    def exact(self) -> int:
        """Reach the end, then compare everything with the oracle and the audit."""
        self.caught_up()
        return assert_exact(self.recount, self.metrics)

    def halted(self, process: "subprocess.Popen[bytes]", says: str, within_s: float = 40) -> None:
        """Wait until a worker stopped on purpose, and said why."""
        assert process.wait(within_s) == 5, self.workers.logs()
        assert says in self.workers.logs()

    def halted_alone(
        self, process: "subprocess.Popen[bytes]", says: str, *partitions: int, within_s: float = 40
    ) -> None:
        """Wait until `status` says of these partitions alone that they have halted, and why."""

        def told() -> bool:
            *lines, total = self.recount.run("status")
            reasons = {line["partition"]: line.get("reason", "") for line in lines}
            halted = total.get("halted_partitions", [])
            return halted == [*partitions] and all(says in reasons[each] for each in halted)

        eventually(told, within_s=within_s, because=f"{partitions} have halted: {says}")
        eventually(
            lambda: says in self.workers.logs(), within_s=within_s, because="a worker says so"
        )
        assert process.poll() is None, self.workers.logs()


@dataclass(kw_only=True)
class Stage(Scene):
    """What a fault test works on. recount reaches the services directly, workers by proxies."""

    redis: OwnRedis
    proxy: Proxy


@contextmanager
def staged(
    recount: Recount,
    folder: Path,
    name: str,
    *,
    kafka: str | None = None,
    redis: tuple[str, ...] = (),
    partitions: int = PARTITIONS,
) -> Iterator[Stage]:
    """A stage on a Redis of its own; workers reach Kafka at `kafka`, where it is given."""
    with own_redis(folder, *redis) as own:
        direct = replace(recount, services=replace(recount.services, redis=own.url))
        proxy = Proxy(own.port)
        behind = f"redis://127.0.0.1:{proxy.port}/0"
        through = replace(recount.services, kafka=kafka or recount.services.kafka, redis=behind)
        workers = Workers(replace(recount, services=through), folder)
        watch = Watch(direct, partitions)
        stage = Stage(direct, workers, watch, name, partitions, redis=own, proxy=proxy)
        try:
            yield stage
        finally:
            workers.end()
            proxy.close()
            stage.watch.close()
            sys.stderr.write(workers.logs())


def seeded(name: str) -> random.Random:
    """The draws of a test: SEED, or a fresh one, which is printed."""
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    sys.stderr.write(f"{name}: SEED={seed}\n")
    return random.Random(f"{name}{seed}")
