"""A rebuild beside traffic that never ends: it is switched to."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from pipeline.app.building import Building
from pipeline.control.records import ControlState
from pipeline.core.commit import Switch
from pipeline.core.records import LogRecord
from pipeline.core.state import PartitionState
from pipeline.edges.clock import SystemClock
from pipeline.edges.memory import MemoryLog, MemoryStore, move
from pipeline.edges.memory_epochs import MemoryEpochs

from ..world import FIVE, NOW_MS, World, definition_record, event

_AFAR = 1 << 40  # whoever reads to there reads for ever


class EndlessLog(MemoryLog):
    """A log that gains a record whenever its end is read."""

    async def read(self, partition: int, lo: int, hi: int) -> AsyncIterator[Sequence[LogRecord]]:
        """Yield record after record."""
        while hi > _AFAR or lo < hi:
            if lo == len(self.records[partition]):
                self.append(partition, event(lo), NOW_MS)
            yield [self.records[partition][lo]]
            lo += 1
            await asyncio.sleep(0)


def building_of(
    world: World,
    epochs: MemoryEpochs,
    current: MemoryStore,
    refresh: Callable[[], Awaitable[ControlState]],
) -> Building:
    """What builds an epoch beside; the world's store is that of the epoch."""
    owner = world.owner()
    return Building(
        owner,
        world.past(owner),
        store=current,
        epochs=epochs,
        log=world.log,
        definitions=world.definitions,
        refresh=refresh,
        clock=SystemClock(),
        told=lambda *_: None,
    )


@pytest.mark.parametrize("metrics", [0, 1])
def test_a_metric_that_comes_before_the_switch_holds_nothing_up(metrics: int) -> None:
    """Its past is counted, and then it is switched, though records never cease to come."""
    world = World(metrics={"SUM": FIVE["SUM"]}, log=EndlessLog(1))
    world.append(event(number) for number in range(20))
    left = metrics

    async def refresh() -> ControlState:
        nonlocal left
        if built and left:
            left -= 1
            record = json.dumps(definition_record("MAX", "MAX", FIVE["MAX"])).encode()
            world.control.apply(world.control.next, record)
            world.append(event(number) for number in range(1_000, 1_005))
        return world.control

    built = False

    async def run() -> None:
        nonlocal built
        await world.apply()
        epochs = MemoryEpochs(world.store)
        world.store, current = epochs.beside, world.store
        building = building_of(world, epochs, current, refresh)
        await building.build()
        built = True
        async with asyncio.timeout(8):
            await building.switch()
        world.store = current

    asyncio.run(run())
    assert world.state.epoch == 1
    assert world.state.next >= 20
    assert world.state.is_ready("SUM#1")
    assert not metrics or world.state.is_ready("MAX#1")


class Overtaken(MemoryEpochs):
    """The owner that readers see applies some records just before the first switch."""

    overtake: Callable[[], Awaitable[None]] | None = None
    is_careless = False

    async def switch(self, partition: int, made: PartitionState) -> Switch:
        """Switch; a careless one to whatever is built."""
        overtake, self.overtake = self.overtake, None
        if overtake is not None:
            await overtake()
        if self.is_careless:
            move(partition, self.beside, self._store)
            return Switch.SWITCHED
        return await super().switch(partition, made)


@pytest.mark.parametrize("careless", [False, True])
def test_no_switch_goes_back(*, careless: bool) -> None:
    """What readers saw stands before what they see. Without the store's refusal it would not."""
    world = World(metrics={"SUM": FIVE["SUM"]})
    world.append(event(number) for number in range(20))

    async def run() -> None:
        live = world.owner()
        await live.open()
        await live.take(world.log.records[0])
        epochs = Overtaken(world.store)
        epochs.is_careless = careless

        async def overtake() -> None:
            world.append(event(number) for number in range(20, 25))
            await live.take(world.log.records[0][20:])

        epochs.overtake = overtake
        world.store, current = epochs.beside, world.store
        building = building_of(world, epochs, current, world.heard)
        await building.build()
        await building.switch()
        world.store = current

    asyncio.run(run())
    assert world.state.epoch == 1
    assert world.state.next == (20 if careless else 25)
