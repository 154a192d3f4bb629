"""The lane: a partition that is taken away neither holds up the others nor stays in memory."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pipeline.app.desk import BadBatch, Desk
from pipeline.app.lane import Lane
from pipeline.core.commit import Answer, Commit
from pipeline.edges.clock import SetClock, SystemClock
from pipeline.edges.memory import MemoryStore
from pipeline.errors import Damage

from ..world import NOW, World, event


class SilentStore(MemoryStore):
    """A store that never answers a commit."""

    async def apply(self, commit: Commit) -> Answer:
        """Wait for ever."""
        await asyncio.Event().wait()
        return await super().apply(commit)


def test_release_frees_whoever_hands_over() -> None:
    """With a commit in flight and the queue full, release() ends the wait of the next batch."""
    world = World(store=SilentStore())
    world.append(event(number) for number in range(8))

    async def seek(_partition: int, _offset: int) -> None:
        raise AssertionError("nothing has to be fetched again")

    async def run() -> None:
        owner = world.owner()
        await owner.open()
        desk = Desk(owner, SystemClock(), world.past(owner), world.mender(owner))
        records: list[Any] = world.log.records[0]
        for number in range(3):  # one is being taken, two wait
            await desk.put(records[number : number + 1], seek)
            await asyncio.sleep(0)
        fourth = asyncio.create_task(desk.put(records[3:4], seek))
        await asyncio.sleep(0)
        assert not fourth.done()
        owner.release = _at_once  # type: ignore[method-assign]  # its limit of 2 s is not the point
        await desk.release()
        async with asyncio.timeout(1):
            await fourth

    asyncio.run(run())
    assert world.state.next == 0


def test_what_cannot_be_read_halts_behind_what_lies_before_it() -> None:
    """The batches before it are applied; mended, the desk goes on from where the store stands."""
    world, clock = World(), SetClock(NOW)
    world.append(event(number) for number in range(8))
    sought: list[int] = []

    async def seek(_partition: int, offset: int) -> None:
        sought.append(offset)

    async def until(holds: Callable[[], bool]) -> None:
        for _ in range(1_000):
            if holds():
                return
            await asyncio.sleep(0)
        raise AssertionError("it does not come to that")

    async def run() -> None:
        owner = world.owner()
        desk = Desk(owner, clock, world.past(owner), world.mender(owner))
        assert await desk.open() == 0
        records: list[Any] = world.log.records[0]
        await desk.put(records[:4], seek)
        await desk.put([BadBatch(4, Damage("is corrupt"))], seek)
        await until(lambda: (desk.halted or "").endswith("is corrupt"))
        await until(lambda: world.store._partitions[0].fields.get("halted", "") != "")
        assert (desk.is_closed, desk.owner.stands, desk.owner.kept.ids) == (True, None, 0)

        await desk.tick(4, seek)
        await asyncio.sleep(0)
        assert sought == []  # it was looked at a moment ago
        clock.move(timedelta(seconds=6))
        await desk.tick(4, seek)
        await until(lambda: desk.halted is None)
        assert (sought, desk.is_closed, desk.owner.stands) == ([4], False, 4)
        await desk.put(records[4:], seek)
        await until(lambda: world.store._partitions[0].fields["next"] == "8")
        await until(lambda: desk.owner.stands == 8)
        await desk.release()

    asyncio.run(run())


def test_a_tick_of_what_was_given_up_does_nothing() -> None:
    """Ticks are tasks of their own: the partition may be another process's when one begins."""
    parts: Any = None

    async def seek(_partition: int, _offset: int) -> None:
        raise AssertionError("nothing has to be fetched again")

    asyncio.run(Lane(parts)._tick(0, 5, {}, seek))


def test_nothing_is_fetched_for_an_owner_that_has_enough() -> None:
    """One batch is taken and two wait: whoever hands over has no need to wait for the store."""
    world = World(store=SilentStore())
    world.append(event(number) for number in range(8))
    parts: Any = None  # of a worker, which opens no partition here

    async def seek(_partition: int, _offset: int) -> None:
        raise AssertionError("nothing has to be fetched again")

    async def run() -> list[frozenset[int]]:
        lane, owner = Lane(parts), world.owner()
        await owner.open()
        lane.desks[0] = Desk(owner, SystemClock(), world.past(owner), world.mender(owner))
        closed = []
        for number in range(3):
            closed.append(lane.closed)
            lane.queued(0)
            batch: list[Any] = world.log.records[0][number : number + 1]
            async with asyncio.timeout(1):
                await lane.take(0, batch, seek)
            await asyncio.sleep(0)
        return [*closed, lane.closed]

    assert asyncio.run(run()) == [set(), set(), set(), {0}]


async def _at_once(within_s: float) -> None:
    assert within_s > 0


def test_nothing_of_a_released_partition_stays() -> None:
    """Ids and cells of an owner go with it: a worker's collector does not come by for hours.

    Records go once they are applied, although whoever handed them over still holds the batch.
    """
    world = World()
    world.append(event(number) for number in range(8))
    sought: list[int] = []

    async def seek(_partition: int, offset: int) -> None:
        sought.append(offset)

    async def run() -> "weakref.ref[Any]":
        owner = world.owner()
        await owner.open()
        desk = Desk(owner, SystemClock(), world.past(owner), world.mender(owner))
        records: list[Any] = world.log.records[0]
        first = records[:4]
        await desk.put(first, seek)
        await desk.put(records[6:], seek)  # a hole: it is sent back
        await desk.put(records[4:], seek)
        for _ in range(50):
            await asyncio.sleep(0)
        assert (owner.stands, owner.kept.ids, first) == (8, 8, [])
        await desk.release()
        await asyncio.sleep(0)
        return weakref.ref(owner)

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(run())() is None
    finally:
        gc.enable()
    assert sought == [4]
