"""Kept verdicts go with the log's start: at an opening, and when a generation ends."""

import asyncio
from dataclasses import replace

import pytest

from pipeline.core import verdicts
from pipeline.core.records import Span
from pipeline.core.verdicts import duplicates_in, pack
from pipeline.edges.memory import MemoryLog
from pipeline.errors import Halt

from ..world import DAY_MS, NOW_MS, World, deliver, event


class CutLog(MemoryLog):
    """A log whose beginning retention removes."""

    start = 0

    async def spans(self) -> dict[int, Span]:
        """What is left."""
        return {
            at: replace(span, start=self.start) for at, span in (await super().spans()).items()
        }


def kept(world: World) -> list[int]:
    """The offsets that are still kept."""
    elements = asyncio.run(world.store.load_duplicates(0))
    found: list[int] = duplicates_in(elements, world.state.trimmed).tolist()
    return found


def later(world: World, days: int) -> None:
    """Append an event of another day."""
    world.append([event(f"d{days}")], at_ms=NOW_MS + days * DAY_MS)


@pytest.mark.parametrize("at_once", [1, 5_000])
def test_verdicts_of_lost_records_are_let_go_at_an_opening(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only elements that are wholly before the log's start go; the rest adds up every time."""
    monkeypatch.setattr(verdicts, "TRIMMED_MAX", at_once)
    log = CutLog(1)
    world = World(log=log)
    for _ in range(4):
        world.append([event(1), event(2)])
    asyncio.run(world.apply(cuts=(3, 6)))
    assert kept(world) == [2, 3, 4, 5, 6, 7]

    for start, rest, trimmed in ((3, [3, 4, 5, 6, 7], 1), (5, [3, 4, 5, 6, 7], 1), (6, [6, 7], 4)):
        log.start = start
        asyncio.run(world.owner().open())
        assert kept(world) == rest
        assert world.state.trimmed.records == trimmed
    assert world.state.counters["duplicate"] == 6


def test_a_running_owner_lets_go_when_a_generation_ends() -> None:
    """Once in a quarter of the window it looks where the log starts."""
    log = CutLog(1)
    world = World(log=log)
    world.append([event(1), event(1)])
    for days in (1, 10, 20, 30, 40, 50):
        later(world, days)

    async def run() -> None:
        owner = world.owner()
        await owner.open()
        for at, record in enumerate(log.records[0]):
            log.start = min(at, 3)
            await deliver(owner, [record])
            held = await world.store.state(0)
            assert owner.state == held

    asyncio.run(run())
    assert kept(world) == []
    assert world.state.trimmed.records == 1


@pytest.mark.parametrize("damage", ["lost", "foreign", "more"])
def test_verdicts_that_do_not_add_up_stop_the_partition(damage: str) -> None:
    """A list that was lost, or that somebody else wrote to, is exit 5, and says what to do."""
    world = World()
    world.append([event(1), event(1)])
    asyncio.run(world.apply())
    held = world.store._partitions[0].duplicates
    if damage == "lost":
        held.clear()
    else:
        held += [b"foreign"] if damage == "foreign" else pack([0])

    with pytest.raises(Halt, match=r"1 records were judged duplicates.*recount rebuild"):
        asyncio.run(world.owner().open())


def test_a_partition_that_moves_while_it_is_trimmed_is_opened_again() -> None:
    """Nothing is taken out on a state that is not the present one."""
    log = CutLog(1)
    world = World(log=log)
    world.append([event(1), event(1)])
    asyncio.run(world.apply())
    log.start = 2
    slow, real = world.owner(), world.store.trim_duplicates

    async def overtaken(*arguments: object) -> bool:
        world.store.trim_duplicates = real  # type: ignore[method-assign]
        await world.owner().open()
        return await real(*arguments)  # type: ignore[arg-type]

    world.store.trim_duplicates = overtaken  # type: ignore[method-assign, assignment]

    asyncio.run(slow.open())

    assert slow.state == world.state
    assert world.state.trimmed.records == 1
