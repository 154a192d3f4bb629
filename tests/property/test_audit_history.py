"""The audit is exact while the past of metrics is being counted, and finds what is wrong there."""

import asyncio
import json
import random
from typing import Any

import pytest

from pipeline.audit import Auditor, Findings
from pipeline.edges.memory import MemoryStore

from ..world import FIVE, World, definition_record
from .test_audit import METRICS, SIZES, LiveStore, audited, lines, passes

EVENTS = 80
APPLIED = 50  # before the metrics come


class PastStore(LiveStore):
    """A store in which somebody counts live events and the past whenever it is read."""

    draw: random.Random
    past: Any = None

    async def _live(self) -> None:
        past, self.past = self.past, None
        if past is not None:
            past.size.records = self.draw.randrange(1, 4)
            if self.draw.random() < 0.7:
                await past.step()
            else:
                self.owner = past._owner
                await super()._live()
                self.owner = None
        self.past = past


async def begun(world: World) -> Any:
    """A worker that applied some records before it heard of the metrics."""
    owner = world.owner()
    await owner.open()
    await owner.take(world.log.records[0][:APPLIED])
    for name, made in METRICS.items():
        record = json.dumps(definition_record(name, name, made)).encode()
        world.control.apply(world.control.next, record)
    world.definitions.changes += 1
    await owner.tick(None)
    return world.past(owner)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", SIZES)
def test_a_past_that_is_being_counted_is_no_mismatch(sizes: tuple[int, int], seed: int) -> None:
    """Every read finds another part of the past counted, with new keys: each book is exact."""
    store = PastStore()
    store.draw = random.Random(seed)
    world = World(metrics={}, store=store)
    world.append(lines(EVENTS))

    async def work() -> Findings:
        past = await begun(world)
        store.waiting = list(world.log.records[0][APPLIED:])
        store.past = past
        made = Auditor(world.identity, world.heard, store, world.log)
        return await made.run(lambda _: None, lambda _: None)

    with passes(*sizes):
        found = asyncio.run(work())

    assert (found.mismatches, found.lines) == (0, [])
    assert world.state.hist.reached > 0
    assert found.cells > 0


@pytest.mark.parametrize("steps", [0, 2, 100])
def test_a_wrong_cell_of_a_past_is_found(steps: int) -> None:
    """Before, while and after the past is counted; and one that should not be there yet."""
    world = World(metrics={}, store=MemoryStore())
    world.append(lines(EVENTS))

    async def work() -> None:
        past = await begun(world)
        past.size.records = 10
        for _ in range(steps):
            await past.step()

    asyncio.run(work())
    whole = audited(world)
    held = world.store._partitions[0]
    assert (whole.mismatches, bool(whole.cells)) == (0, steps > 0)
    assert world.state.is_ready("COUNT#1") == (steps > 10)
    wrong = [cell for cell in held.cells if cell.measure == "COUNT#1.0"]
    if not steps:  # nothing of the past is counted: whatever is there is wrong
        wrong = _cells_of(world)
    for cell in wrong:
        held.cells[cell] = f"{int(held.cells.get(cell, 0)) + 1}"

    assert audited(world).mismatches == len(wrong) > 0


def _cells_of(world: World) -> list[Any]:
    """The cells of COUNT that the records applied so far would make."""
    other = World(metrics=FIVE)
    other.append(record.value for record in world.log.records[0][:APPLIED])
    asyncio.run(other.apply())
    return [cell for cell in other.store._partitions[0].cells if cell.measure == "COUNT#1.0"]
