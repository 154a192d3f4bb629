"""Fetching goes on at once when a buffer that was full has room again."""

import asyncio
import subprocess
import sys
from typing import Any

from ..services import ROOT


def test_a_full_buffer_holds_fetching_up_for_no_longer_than_it_is_full() -> None:
    """While every buffer is full nothing is asked; then at once, and never for a second."""
    # In a process of its own: the transport replaces classes of aiokafka.
    alone = [sys.executable, "-c", "from tests.unit.test_transport import main; main()"]

    subprocess.run(alone, check=True, cwd=ROOT)


class Fetched:
    """A record, as far as a message reads it."""

    offset, timestamp, timestamp_type = 7, 1_000, 1


class Lane:
    """Notes what is handed over."""

    def queued(self, partition: int) -> None:
        """Note a batch."""
        assert partition == 0


def main() -> None:
    """Fetch once from a consumer whose buffers are full for its first looks."""
    from faust.types import TP  # noqa: PLC0415

    from pipeline.app.transport import LaneConsumer  # noqa: PLC0415

    class Bare(LaneConsumer):
        """A consumer without Kafka: its buffers are full for the first looks."""

        def __init__(self) -> None:
            self.looks = 0
            self.waited: list[float] = []
            self.slept: list[float] = []
            self.flow_active = True
            self.app = type("App", (), {"consumer_generation_id": 1, "lane": Lane()})()

        should_stop = False

        def _get_active_partitions(self) -> set[TP]:
            self.looks += 1
            return set() if self.looks < 4 else {TP("events", 0)}

        async def sleep(self, n: Any, **_: Any) -> None:
            """Note how long Faust was asked to sleep."""
            self.slept.append(n)

        async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109  Faust's signature
            self.waited.append(timeout)
            return {tp: [Fetched()] for tp in active_partitions}

        async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109  Faust's signature
            active = self._get_active_partitions()
            assert active, "Faust would sleep for a second"
            return await self._getmany(active, timeout), active

    consumer = Bare()

    async def first() -> int:
        async for _, message in consumer.getmany(1.0):
            return int(message.offset)
        raise AssertionError("nothing was fetched")

    assert asyncio.run(first()) == Fetched.offset
    assert consumer.slept == [0.02] * 3  # Faust's own pause is a second
    assert consumer.waited == [0.1]
