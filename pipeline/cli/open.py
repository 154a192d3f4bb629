"""What most commands open: the deployment of the settings, its numbers and its metrics."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ..control.entities import DeploymentRecord, Metric
from ..control.log import ControlLog
from ..control.writer import Writer
from ..deploy import opened as deployed
from ..edges.clock import SystemClock
from ..edges.kafka import KafkaLog
from ..edges.redis import RedisStore
from ..errors import harmless
from ..reads.known import is_known, no_metric
from ..reads.marks import Away, Patience
from ..reads.summary import summary_of
from ..reads.together import Together
from ..reads.usage import Reader
from ..settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Opened:
    """A deployment, ready to be asked."""

    settings: Settings
    control: ControlLog
    identity: DeploymentRecord
    store: RedisStore
    log: KafkaLog
    away: str | None = None

    @property
    def reader(self) -> Reader:
        """A reader of its numbers."""
        return self.waiting(self.settings.read_wait_ms / 1000)

    def waiting(self, wait_s: float) -> Reader:
        """A reader that waits so long for workers to apply what is durable."""
        clock, settings = SystemClock(), self.settings
        log = self.log if self.away is None else Away(self.away)
        patience = Patience(wait_s, clock)
        return Reader(self.identity, self.store, log, clock, settings.lateness, patience=patience)

    def together(self, reader: Reader) -> Together:
        """A reader of all metrics together."""
        return Together(reader, self.store, self.identity.deployment.homes)

    async def knows(self, customer: str) -> bool:
        """Whether any metric has counted an event of a customer."""
        metrics = self.control.state.metrics.values()
        return await is_known(self.store, self.identity, metrics, customer)

    @property
    def writer(self) -> Writer:
        """What writes metrics to the control log."""
        return Writer(self.control, self.identity, SystemClock())

    async def summaries(self, metrics: Sequence[Metric]) -> list[dict[str, Any]]:
        """Return a line for each metric (reads/summary.py)."""
        reader, find = self.reader, self.control.state.find_typed
        standings = await reader.standings() if metrics else {}
        now = SystemClock().now()
        unresolved = await reader.unresolved(metrics, find)
        histories = await reader.progress.of_metrics(metrics, standings)
        return [
            summary_of(each, histories.get(each.id), standings, now, unresolved[each.id])
            for each in metrics
        ]

    def metric(self, name_or_id: str) -> Metric:
        """Return a metric by id or name."""
        found = self.control.state.find(name_or_id)
        if found is None:
            names = self.control.state.names
            raise no_metric(name_or_id, names, "`recount metrics list --all`")
        return found


@asynccontextmanager
async def opened(*, reads: bool = False, sends: bool = False) -> AsyncIterator[Opened]:
    """Open the deployment of the settings. sends: whether events will be sent.

    reads: numbers and definitions alone. While Kafka is away Redis has both, which is said.

    Raises:
        UsageError: it does not exist. Halt: it must not be touched. Unavailable: a service does
            not answer.
    """
    settings = load_settings()
    wait_s = settings.kafka_wait_ms / 1000 if reads else None
    async with deployed.opened(settings.place, sends=sends, kafka_wait_s=wait_s) as found:
        if found.away is not None:
            sys.stderr.write(
                f"recount: {harmless(found.away)}. This is from Redis alone, with the definitions "
                f"up to offset {found.control.state.next} of the control log: nothing is "
                "complete\n"
            )
        yield Opened(settings, found.control, found.record, found.store, found.log, found.away)
