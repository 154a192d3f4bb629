"""The lane's consumer: when it asks for more, and that nothing it fetched is dropped."""

import asyncio
import subprocess
import sys
from typing import Any

from ..services import ROOT


def test_a_full_buffer_holds_fetching_up_for_no_longer_than_it_is_full() -> None:
    """While every buffer is full nothing is asked; then at once, and never for a second."""
    _alone("fetch_once")


def test_what_a_seek_went_back_for_is_handed_over() -> None:
    """Also where the seek came while a later batch was waiting for room in the stream."""
    _alone("seek_while_handing_over")


def _alone(name: str) -> None:
    # In a process of its own: the transport replaces classes of aiokafka.
    code = f"from tests.unit.test_transport import {name}; {name}()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


class Fetched:
    """A record, as far as a message reads it."""

    offset, timestamp, timestamp_type = 7, 1_000, 1


class Lane:
    """Notes what is handed over."""

    def queued(self, partition: int) -> None:
        """Note a batch."""
        assert partition == 0


def fetch_once() -> None:
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
            kafka = {"bootstrap_servers": ["localhost"]}
            parts = {"consumer_generation_id": 1, "kafka": kafka, "lane": Lane()}
            self.app = type("App", (), parts)()

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


def seek_while_handing_over() -> None:
    """Hand offset 7 over, seek to 3 before it is taken, and hand 3 over: by Faust's own loop."""
    from faust.types import TP  # noqa: PLC0415
    from faust.types.tuples import ConsumerMessage  # noqa: PLC0415

    from pipeline.app.transport import LaneThread  # noqa: PLC0415
    from pipeline.app.worker import _app  # noqa: PLC0415
    from pipeline.settings import load_settings  # noqa: PLC0415

    point, taken = TP("events", 0), []

    def message(offset: int) -> ConsumerMessage:
        return ConsumerMessage(*point, offset, 0.0, 1, (), None, [], None, None, None, point)

    class Client:
        """As far as a seek asks aiokafka."""

        def seek(self, _point: TP, offset: int) -> None:
            """Note nothing: Faust's own memory is what matters."""

        async def position(self, _point: TP) -> int:
            """Where it was told to be."""
            return 3

    async def run() -> None:
        settings = load_settings()
        kafka = settings.address.aiokafka()
        app = _app(settings, Lane(), "events", kafka)  # type: ignore[arg-type]
        consumer: Any = app.consumer
        stopped = asyncio.Event()

        async def getmany(timeout: float) -> Any:  # noqa: ASYNC109  Faust's signature
            assert timeout > 0
            yield point, message(7)
            yield point, message(3)
            stopped.set()

        async def callback(found: ConsumerMessage) -> None:
            if found.offset > 3:
                thread = LaneThread(consumer, loop=asyncio.get_running_loop())
                await thread._seek_wait(Client(), {point: 3})
            taken.append(found.offset)

        consumer.getmany, consumer.callback = getmany, callback
        fetcher: Any = type("Fetcher", (), {"_stopped": stopped})()
        async with asyncio.timeout(10):
            await consumer._drain_messages(fetcher)

    asyncio.run(run())
    assert taken == [7, 3], taken
