"""Fault 37: a first offset above `next` is a hole until the log itself proves it a gap."""

import asyncio
from typing import Any

import pytest

from pipeline.app.opening import SeekBack
from pipeline.app.owner import Owner
from pipeline.core.records import Span
from pipeline.edges.memory import MemoryLog

from ..world import World, event


def world_of(count: int, *, without: range = range(0)) -> World:
    """A log of some events, offsets in `without` taken by markers or deleted by compaction."""
    world = World()
    world.append(event(number) for number in range(count))
    records = world.log.records[0]
    world.log.records[0] = [record for record in records if record.offset not in without]
    return world


class MarkedLog(MemoryLog):
    """A log that ends with markers of transactions: offsets that no record has."""

    async def spans(self) -> dict[int, Span]:
        """Up to the last marker."""
        return {0: Span(0, 10)}


def opened(world: World, work: Any) -> Owner:
    """Let an owner of the partition do something."""
    owner = world.owner()

    async def run() -> None:
        await owner.open()
        await work(owner)

    asyncio.run(run())
    return owner


def test_f37_a_lost_part_of_a_fetch_is_fetched_again() -> None:
    """One seek back to next; what was queued behind the hole is dropped until it is closed."""
    world = world_of(12)
    records = world.log.records[0]

    async def work(owner: Owner) -> None:
        await owner.take(records[:3])
        with pytest.raises(SeekBack) as back:
            await owner.take(records[6:8])
        assert back.value.offset == 3
        await owner.take(records[8:10])  # was queued before the seek
        assert owner.state.next == 3
        await owner.take(records[3:7])
        await owner.take(records[7:])

    owner = opened(world, work)

    assert owner.state.next == 12
    assert owner.state.counters["counted"] == 12
    assert owner.done["gaps"] == 0


def test_f37_a_gap_of_the_log_is_stepped_over() -> None:
    """Offsets that the log does not hold are passed, after it was asked, and counted."""
    world = world_of(12, without=range(4, 9))
    records = world.log.records[0]

    async def work(owner: Owner) -> None:
        await owner.take(records[:4])
        await owner.take(records[4:])

    owner = opened(world, work)

    assert owner.state.next == 12
    assert owner.state.counters["consumed"] == 7
    assert owner.done["gaps"] == 1


def test_f37_a_hole_at_the_tail_is_found_by_the_timer() -> None:
    """A position past next, nothing queued: fetched again if records lie there, else passed."""
    world = world_of(10)
    records = world.log.records[0]

    async def lost(owner: Owner) -> None:
        await owner.take(records[:6])
        await owner.tick(6)
        with pytest.raises(SeekBack) as back:
            await owner.tick(10)
        assert back.value.offset == 6

    opened(world, lost)
    markers = World(log=MarkedLog(1))
    markers.append(event(number) for number in range(6))

    async def passed(owner: Owner) -> None:
        await owner.take(markers.log.records[0])
        await owner.tick(10)

    assert opened(markers, passed).state.next == 10
