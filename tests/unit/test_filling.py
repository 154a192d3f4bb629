"""When the past is counted: not while Redis is nearly full, and after live batches."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.app.desk import Desk
from pipeline.app.filling import Filling, Seek
from pipeline.edges.clock import SystemClock
from pipeline.edges.memory import MemoryStore
from pipeline.errors import Damage

from ..world import FIVE, World, definition_record, event

EVENTS = 40
_STEPS = 10_000  # within which the second partition would have had its turn


class Measured(MemoryStore):
    """A store that says how full it is."""

    used = 0

    async def memory(self) -> tuple[int, int]:
        """Of a hundred bytes."""
        return self.used, 100


async def late(world: World) -> Desk:
    """A desk whose owner has applied everything before it heard of a metric."""
    world.append(event(number) for number in range(EVENTS))
    owner = world.owner()
    await owner.open()
    await owner.take(world.log.records[0])
    record = json.dumps(definition_record("SUM", "SUM", FIVE["SUM"])).encode()
    world.control.apply(world.control.next, record)
    world.definitions.changes += 1
    await owner.tick(None)
    desk = Desk(owner, SystemClock(), world.past(owner), world.mender(owner))
    desk.past.size.records = 5
    return desk


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a fact."""
    async with asyncio.timeout(8):
        for _ in count():
            if condition():
                return
            await asyncio.sleep(0)


async def filling_until(filling: Filling, seek: Seek, condition: Callable[[], bool]) -> None:
    """Let it go on until a fact holds."""
    task = asyncio.create_task(filling.run(seek))
    try:
        await until(condition)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def filled(world: World, desk: Desk, then: Callable[[Filling], Any]) -> None:
    """Count the past beside what the test does."""

    async def seek(_partition: int, _offset: int) -> None:
        raise AssertionError("nothing has to be fetched again")

    filling = Filling(lambda: {0: desk}, store=world.store, clock=SystemClock(), share=0.5)
    task = asyncio.create_task(filling.run(seek))
    try:
        await then(filling)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_a_past_waits_while_redis_is_nearly_full() -> None:
    """Above 80 % of maxmemory nothing of the past is counted; below it goes on by itself."""
    store = Measured()
    store.used = 81
    world = World(metrics={}, store=store)

    async def run() -> None:
        desk = await late(world)

        async def then(filling: Filling) -> None:
            await until(lambda: filling.is_paused)
            assert desk.past.behind == EVENTS
            store.used = 80
            await until(lambda: desk.past.due is None)
            assert not filling.is_paused

        await filled(world, desk, then)

    asyncio.run(run())
    assert world.state.is_ready("SUM#1")


def test_a_past_goes_on_beside_live_batches_that_never_end() -> None:
    """While a live batch waits no slice is taken, but after every fourth flush one is."""
    world = World(metrics={})

    async def run() -> None:
        desk = await late(world)
        desk.waiting = 1  # somebody always waits

        async def then(_filling: Filling) -> None:
            await asyncio.sleep(0)
            assert desk.past.behind == EVENTS
            for _ in range(3 * EVENTS):
                if desk.past.due is None:
                    break
                desk.owner.flushes += 4
                seen = desk.past.behind
                await until(lambda seen=seen: desk.past.behind < seen)  # type: ignore[misc]
            assert desk.past.due is None

        await filled(world, desk, then)

    asyncio.run(run())
    assert world.state.is_ready("SUM#1")


class _Stepping:
    """A partition whose slices end when they are told to; it stands for owner and past at once."""

    def __init__(self, at_once: Counter[str], *, live: bool) -> None:
        self.owner = self.past = self.mender = cast("Any", self)
        self.due: object | None = object()
        self.is_due = self.is_amid = False  # no cell waits to be mended
        self.waiting = self.flushes = 0
        self.took_s = 0.0
        self._at_once = at_once
        self._live = live

    async def step(self) -> None:
        """A slice; beside it a live flush is made, if live events come."""
        self._at_once["now"] += 1
        self._at_once["most"] = max(self._at_once["most"], self._at_once["now"])
        await asyncio.sleep(0)
        self.flushes += self._live
        self._at_once["now"] -= 1
        self._at_once["steps"] += 1

    async def close(self) -> None:
        """Nothing is held."""

    async def halts(self, error: Damage) -> None:
        """It never does."""
        raise error


@pytest.mark.parametrize(("live", "most"), [(False, 2), (True, 1)])
def test_two_partitions_count_their_past_at_once_only_while_no_live_event_comes(
    live: bool, most: int
) -> None:
    """Beside live events the stream waits for one slice, however many partitions have a past."""
    at_once: Counter[str] = Counter()

    async def run() -> None:
        served = {number: _Stepping(at_once, live=live) for number in range(3)}

        async def seek(_partition: int, _offset: int) -> None:
            raise AssertionError("nothing has to be fetched again")

        filling = Filling(lambda: served, store=Measured(), clock=SystemClock(), share=0.5)
        await filling_until(
            filling,
            seek,
            lambda: at_once["steps"] >= (_STEPS if live else 0) and at_once["most"] >= most,
        )

    asyncio.run(run())
    assert at_once["most"] == most


class _Waiting:
    """A mender or a past that always has work. took_s: of each step."""

    def __init__(self, took_s: float, job: int) -> None:
        self.due: object | None = object()
        self.is_due, self.is_amid = True, False
        self.took_s = took_s
        self.steps = 0
        self._job = job

    async def step(self) -> None:
        """One of a job of so many."""
        await asyncio.sleep(0)
        self.steps += 1
        self.is_amid = self.steps % self._job != 0

    async def close(self) -> None:
        """Nothing is held."""


def test_corrections_and_a_past_take_turns_by_time() -> None:
    """Neither waits for the other to end: corrections may come for ever."""
    mender, past = _Waiting(2.0, 10), _Waiting(1.0, 1)
    served = cast("Any", SimpleNamespace(owner=SimpleNamespace(flushes=0), waiting=0))
    served.mender, served.past = mender, past

    async def run() -> None:
        async def seek(_partition: int, _offset: int) -> None:
            raise AssertionError("nothing has to be fetched again")

        filling = Filling(lambda: {0: served}, store=Measured(), clock=SystemClock(), share=0.5)
        await filling_until(filling, seek, lambda: mender.steps >= 100)

    asyncio.run(run())
    assert 150 <= past.steps <= 250
