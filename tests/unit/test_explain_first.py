"""From an identity to its record: one flush of the log is read, not all of it."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from pipeline.core.records import LogRecord
from pipeline.edges.memory import MemoryLog
from pipeline.reads.explain import Explainer

from ..world import DAY_MS, NOW_MS, World, event


class Watched(MemoryLog):
    """Tells where reading began, and how many records were looked at."""

    begun: list[int]

    async def read(self, partition: int, lo: int, hi: int) -> AsyncIterator[Sequence[LogRecord]]:
        """Yield the records one by one."""
        self.begun.append(lo)
        async for records in super().read(partition, lo, hi):
            for record in records:
                yield [record]


def test_an_identity_leads_to_its_record() -> None:
    """The accepted one: not a duplicate after it, nor a copy before it that was too old."""
    log = Watched(1)
    world = World(log=log)
    old = "2025-01-01T00:00:00Z"
    for flush in range(5):
        events = [event(10 * flush + number, customer_id=f"c{number % 2}") for number in range(10)]
        world.append(events)
    world.append([event(7, customer_id="c9", timestamp=old), event(7, customer_id="c9")])
    world.append([event(27, customer_id="c1"), b"odd"])
    asyncio.run(world.apply(cuts=range(10, 50, 10)))

    def first(transaction_id: str, customer: str) -> tuple[int, str] | None:
        log.begun = []
        made = Explainer(world.identity, world.control, world.store, world.log)
        line = asyncio.run(made.first(transaction_id, customer))
        return None if line is None else (line["offset"], line["fate"])

    assert first("t27", "c1") == (27, "counted")
    assert log.begun == [20]
    assert first("t7", "c9") == (51, "counted")
    assert first("t7", "c1") == (7, "counted")
    assert first("t7", "c0") is None
    assert log.begun == []

    # Five generations later nobody remembers it any more.
    world.append([event("later", timestamp="2026-05-30T00:00:00Z")], at_ms=NOW_MS + 60 * DAY_MS)
    asyncio.run(world.apply())
    assert first("t27", "c1") is None
