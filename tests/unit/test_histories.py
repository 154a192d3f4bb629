"""What readers are told of a metric's history, over the twins."""

import asyncio
import json
from datetime import timedelta
from typing import Any

from pipeline.reads.history import history_of
from pipeline.reads.query import Query

from ..property.test_audit import ShortLog
from ..world import DAY_MS, FIVE, NOW, NOW_MS, World, definition_record, event
from .test_reads import reader

DAYS = 6
CUT = 3  # days that retention took
DAY = timedelta(days=1)


def defined(world: World, **more: Any) -> None:
    """A metric comes."""
    record = json.dumps(definition_record("SUM", "SUM", FIVE["SUM"], **more)).encode()
    world.control.apply(world.control.next, record)
    world.definitions.changes += 1


def asked(world: World) -> list[tuple[Any, ...]]:
    """Value, history and `complete` of each day."""
    query = Query.of(
        world.control.metrics["SUM"],
        customer="c",
        starting_on=NOW.replace(hour=0),
        ending_before=NOW.replace(hour=0) + DAYS * DAY,
        window_size="day",
    )
    rows = asyncio.run(reader(world).usage(query)).rows
    return [(str(row.value), row.history.word, row.complete) for row in rows]


def test_what_is_said_of_a_past_before_while_and_after_it_is_counted() -> None:
    """Backfilling with a percentage; and where the log lost its beginning, from when on."""
    world = World(metrics={}, log=ShortLog(1))
    for day in range(DAYS):
        stamp = (NOW + day * DAY).isoformat()
        world.append([event(day, timestamp=stamp)], NOW_MS + day * DAY_MS)

    async def apply() -> Any:
        owner = world.owner()
        await owner.open()
        await owner.take(world.log.records[0])
        world.log.begins = CUT  # type: ignore[attr-defined]
        defined(world)
        return owner

    owner = asyncio.run(apply())
    metric = world.control.metrics["SUM"]
    assert history_of(metric, [world.state]).members == {"history": "backfilling", "percent": 0}

    past = world.past(owner)
    past.size.records = 1
    asyncio.run(owner.tick(None))
    asyncio.run(past.step())
    told = history_of(metric, [world.state]).members
    exact = (NOW + (CUT + 1) * DAY + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert told == {"history": "backfilling", "percent": 33, "exact_from": exact}
    assert {row[1:] for row in asked(world)} == {("backfilling", False)}
    while asyncio.run(past.step()):
        pass

    assert history_of(metric, [world.state]).members == {"history": "from", "exact_from": exact}
    rows = asked(world)
    assert [row[0] for row in rows] == ["0", "0", "0", "3", "4", "5"]
    assert [row[1:] for row in rows[: CUT + 2]] == [("from", False)] * (CUT + 2)
