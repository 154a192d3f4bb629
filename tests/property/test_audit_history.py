"""The audit is exact while the past of metrics is being counted, and finds what is wrong there."""

import asyncio
import json
import random
from typing import Any

import pytest

from pipeline.audit import Auditor, Findings
from pipeline.control.members import digest_of
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
        hear(world, definition_record(name, name, made))
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


class ComingStore(PastStore):
    """A store in which metrics come, change and end at any of its reads."""

    world: World
    changes: list[dict[str, Any]]
    wait = 0  # reads before the first change

    async def _live(self) -> None:
        self.wait -= 1
        past, self.past = self.past, None
        if past is not None:
            self.owner = past._owner
            if self.wait < 0 and self.changes and self.draw.random() < 0.5:
                for _ in range(self.draw.randrange(1, len(self.changes) + 1)):
                    hear(self.world, self.changes.pop(0))
                await self.owner.tick(None)
                past = self.world.past(self.owner)
        self.past = past
        await super()._live()


def hear(world: World, record: dict[str, Any]) -> None:
    """Let a record of the control log come."""
    told = len(world.control.ignored)
    world.control.apply(world.control.next, json.dumps(record).encode())
    assert len(world.control.ignored) == told
    world.definitions.changes += 1


def changes_of(draw: random.Random) -> list[dict[str, Any]]:
    """Metrics that come, then have a second version that counts for others, or end."""
    names, later = sorted(METRICS), "2026-03-01T10:00:00Z"
    draw.shuffle(names)
    made: list[dict[str, Any]] = []
    for name, other in zip(names, reversed(names), strict=True):
        own = {"schema_version": 1, "metric_id": name}
        change = {**own, "type": "end", "version": 1, "effective_to": later, "archived": True}
        if METRICS[name].origin.format == METRICS[other].origin.format and draw.random() < 0.5:
            change = definition_record(name, name, METRICS[other], effective_from=later)
            change = {**change, "version": 2, "digest": digest_of({**change, "version": 2})}
        first = draw.randrange(len(made) + 1)
        made.insert(first, definition_record(name, name, METRICS[name]))
        made.insert(draw.randrange(first + 1, len(made) + 1), change)
    return made


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("sizes", SIZES)
def test_metrics_that_come_and_go_while_it_runs_are_no_mismatch(
    sizes: tuple[int, int], seed: int
) -> None:
    """A metric of many customers that comes between two books is in neither: the next audit's."""
    store = ComingStore()
    store.draw = random.Random(seed)
    world = store.world = World(metrics={}, store=store)
    world.append(lines(EVENTS))

    async def work() -> Findings:
        owner = world.owner()
        await owner.open()
        await owner.take(world.log.records[0][:APPLIED])
        store.past = world.past(owner)
        store.changes, store.wait = changes_of(store.draw), seed % 6
        store.waiting = list(world.log.records[0][APPLIED:])
        made = Auditor(world.identity, world.heard, store, world.log)
        return await made.run(lambda _: None, lambda _: None)

    with passes(*sizes):
        found = asyncio.run(work())

    assert (found.mismatches, found.lines) == (0, [])
    assert world.control.metrics
    assert audited(world).mismatches == 0
