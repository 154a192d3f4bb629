"""Voids and amends as they are sent, and what decides whether a version counts an amend."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import pytest

from pipeline.app import originals
from pipeline.app import owner as app_owner
from pipeline.app.mending import Mender
from pipeline.app.opening import Opening, SeekBack, retrying
from pipeline.app.originals import Originals
from pipeline.audit import Auditor
from pipeline.core.activation import Activation
from pipeline.core.correction import RecordPlace
from pipeline.core.fold.amend import Amend
from pipeline.core.fold.fold import fold
from pipeline.core.mending import counting_at
from pipeline.core.past import Past, Pasts
from pipeline.core.records import LogRecord, Span
from pipeline.core.state import PartitionState
from pipeline.edges.clock import SetClock
from pipeline.edges.memory import MemoryLog
from pipeline.errors import Halt, LogUnavailable, PartitionHalt, UsageError
from pipeline.log.correcting import amend_of, void_of

from ..world import FIVE, NOW, NOW_MS, World, definition_record, deliver

PLACE = RecordPlace(0, 1)
STAMP = "2026-11-29T10:00:00.000000001Z"


def test_an_amend_that_is_sent_again_is_the_same() -> None:
    """Its id follows from the place and from what it says, and fits into an id."""
    event = {"event_type": "use", "properties": {"v": 1}}
    made = [amend_of("t", "c", PLACE, None, STAMP, event) for _ in range(2)]
    other = amend_of("t", "c", PLACE, None, STAMP, {**event, "properties": {"v": 2}})
    body = json.loads(made[0].line)

    assert made[0] == made[1]
    assert other.transaction_id != made[0].transaction_id
    assert body["timestamp"] == STAMP
    assert body["amends"] == {"transaction_id": "t", "at": "0@1"}
    assert body["event"] == event
    assert void_of("t", "c", PLACE, None, NOW).transaction_id == "void:0@1"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"event_type": ""}, None),
        ({"event_type": "e" * 257}, None),
        ({"event_type": "e", "properties": {"v": [[[["x"] * 2]] * 8] * 8}, "more": 1}, None),
        ({"event_type": "e", "properties": {"v": "x" * 1_100_000}}, None),
        ({"event_type": "e"}, "x" * 501),
    ],
)
def test_what_no_worker_would_take_is_not_sent(event: dict[str, Any], reason: str | None) -> None:
    """Names, members and sizes that would end as a dead letter, and reasons that are too long."""
    with pytest.raises(UsageError, match=r".+"):
        amend_of("t", "c", PLACE, reason, STAMP, event)


def test_a_version_counts_an_amend_if_it_counts_the_original() -> None:
    """Whenever the amend comes: after the version has ended, or where its past has got to."""
    first = Activation(10, 1, "", 0, 1)
    later = replace(first, offset=50)
    active = {"m#1": first, "n#1": later, "o#1": later}
    pasts = Pasts({"m#1": Past(0, 10, 0, 0), "n#1": Past(5, 30, 0, 0)})
    state = replace(World().state, active=active, ended={"m#1": 40}, hist=pasts, next=100)

    assert counting_at(state, 60, 20) == {"m#1", "n#1"}
    assert counting_at(state, 60, 45) == {"n#1"}
    assert counting_at(state, 60, 3) == {"m#1"}
    assert counting_at(state, 60, 55) == {"n#1", "o#1"}
    assert counting_at(state, 25, 20) == {"m#1", "n#1"}
    assert counting_at(state, 35, 20) == {"m#1"}  # n's past will get to it
    assert counting_at(state, 45, 45) == frozenset()
    assert counting_at(state, 100, 20) == frozenset()


def _line(number: int, group: str, value: int) -> bytes:
    return json.dumps(
        {
            "transaction_id": f"t{number}",
            "customer_id": "a",
            "event_type": "use",
            "timestamp": NOW.isoformat(),
            "properties": {"v": value, "g": group},
        }
    ).encode()


def _correction(kind: str, number: int, **more: Any) -> bytes:
    ids = {"kind": kind, "transaction_id": f"{kind}{number}", "customer_id": "a"}
    named = {f"{kind}s": {"transaction_id": f"t{number}", "at": f"0@{number}"}}
    return json.dumps({**ids, "timestamp": NOW.isoformat(), **named, **more}).encode()


async def _amends_of_the_beginning(
    self: Mender, job: Any, state: PartitionState, upto: int
) -> list[Amend]:
    voids, found = job.voids, []
    for offset in voids.living(job.upto, upto):
        versions = counting_at(state, offset, voids.root_of(offset)) & job.versions
        found.append(Amend(offset, await self._definitions.matcher(versions)))
    return found


@pytest.mark.parametrize("late", [True, False])
def test_an_amend_that_comes_while_its_cells_are_counted_again_counts(*, late: bool) -> None:
    """It reaches a cell that is being counted, which its original does not reach.

    late: Amends count that came since a job began; without that it would be lost.
    """
    world = World(metrics={"SUM": FIVE["SUM"]})
    log: MemoryLog = world.log
    for value in (
        _line(0, "x", 1),
        _line(1, "y", 2),
        _correction("void", 1),
        _correction("amend", 0, event={"event_type": "use", "properties": {"v": 7, "g": "y"}}),
    ):
        log.append(0, value, NOW_MS)

    async def run() -> Any:
        owner = world.owner()
        await owner.open()
        mender = world.mender(owner)
        await deliver(owner, log.records[0][:3])
        await mender.step()
        await mender.step()  # the log is read up to the void
        await deliver(owner, log.records[0][3:])
        while mender.is_due:
            await mender.step()
        return await world.book()

    with nullcontext() if late else patch.object(Mender, "_amends", _amends_of_the_beginning):
        book = asyncio.run(run())
    found = {cell.groups: text for cell, text in book.cells.items() if cell.grouping_set}

    assert (found == {("y",): "7"}) == late, found


def test_metrics_that_come_hold_no_mending_up() -> None:
    """A job goes on with what it has read, however many metrics are activated meanwhile."""
    world = World(metrics={"SUM": FIVE["SUM"]})
    for number in range(300):
        world.append([_line(number, "x", 1)])
    world.append([_correction("void", 1)])

    async def run() -> int:
        owner = world.owner()
        await owner.open()
        await deliver(owner, world.log.records[0])
        mender = world.mender(owner)
        mender.size.records = 100
        for steps in range(20):
            if not mender.is_due:
                return steps
            record = definition_record(f"m{steps}", f"n{steps}", FIVE["MAX"])
            world.control.apply(world.control.next, json.dumps(record).encode())
            world.definitions.changes += 1
            await owner.tick(None)
            await mender.step()
        return 20

    assert asyncio.run(run()) < 10
    assert world.state.counters["corrected"] == 1


def test_what_corrections_name_is_looked_at_together() -> None:
    """One look at the log for many corrections of a batch, and for those that wait at a start."""
    world, looks = World(metrics={"MAX": FIVE["MAX"]}), list[int]()
    for number in range(30):
        world.append([_line(number, "x", 1)])
    for number in range(30):
        world.append([_correction("void", number)])
    look = world.log.look

    def counted(partition: int, offsets: Any) -> Any:
        looks.append(len(offsets))
        return look(partition, offsets)

    async def run() -> None:
        owner = world.owner()
        await owner.open()
        await deliver(owner, world.log.records[0])
        assert looks == [30]
        owner = world.owner()
        await owner.open()
        mender = world.mender(owner)
        while mender.is_due:
            await mender.step()
        assert looks == [30, 30]

    with patch.object(world.log, "look", counted):
        asyncio.run(run())
    assert world.state.counters["corrected"] == 30
    assert not asyncio.run(world.book()).cells


def test_originals_that_are_large_are_looked_at_in_parts() -> None:
    """What is kept of them is bounded, and none is passed over."""
    world = World(metrics={"MAX": FIVE["MAX"]})
    for number in range(30):
        world.append([_line(number, "x", 1)])
    for number in reversed(range(30)):
        world.append([_correction("void", number)])

    async def run() -> None:
        owner = world.owner()
        await owner.open()
        await deliver(owner, world.log.records[0])

    with patch.object(originals, "_BYTES_MAX", 400):
        asyncio.run(run())
    assert world.state.counters["corrected"] == 30


def test_originals_that_retention_takes_while_they_are_looked_at() -> None:
    """They are not there any more; the others are found."""
    world = World(metrics={"MAX": FIVE["MAX"]})
    log = CutWhileRead(1)
    for number in range(5):
        log.append(0, _line(number, "x", 1), NOW_MS)
    opening = Opening(
        0, world.store, log, world.definitions, SetClock(NOW), partial(retrying, released=bool)
    )
    seen = Originals()

    async def run() -> list[Any]:
        return [await seen.at(offset, opening, lambda: range(5)) for offset in (1, 3)]

    found = asyncio.run(run())
    assert found[0] is None
    assert found[1].offset == 3


def test_what_lies_behind_a_correction_is_folded_once() -> None:
    """A batch is folded once up to its first correction, and from there on part by part."""
    world, folded = World(metrics={"SUM": FIVE["SUM"]}), list[int]()
    for number in range(0, 1_100, 11):
        world.append([_line(number + at, "x", 1) for at in range(10)])
        world.append([_correction("void", number)])

    def counted(records: Any, **arguments: Any) -> Any:
        folded.append(len(records))
        return fold(records, **arguments)

    async def run() -> None:
        owner = world.owner()
        await owner.open()
        await deliver(owner, world.log.records[0])

    with patch.object(app_owner, "fold", counted):
        asyncio.run(run())
    assert world.state.counters["corrected"] == 100
    assert sum(folded) < 2 * 1_100 + 100


@pytest.mark.parametrize("applied", [False, True])
def test_an_original_behind_the_end_of_the_log_is_asked_for_later(*, applied: bool) -> None:
    """A new leader may not know its end yet: no correction fails for it, no cell is given up."""
    world = World(metrics={"MAX": FIVE["MAX"]}, log=ForgetfulLog(1))
    log = cast("ForgetfulLog", world.log)
    world.append([_line(0, "x", 1), _correction("void", 0)])

    async def run() -> None:
        owner = world.owner()
        await owner.open()
        if applied:
            await deliver(owner, log.records[0])
            owner = world.owner()
            await owner.open()
            mender = world.mender(owner)
            log.ends = 0
            with pytest.raises(LogUnavailable):
                await mender.step()
            log.ends = 2
            while mender.is_due:
                await mender.step()
            return
        log.ends = 0
        with pytest.raises(PartitionHalt):  # it stays so: the partition cannot be opened
            await owner.take(log.records[0])
        log.ends = 2
        await owner.open()
        await deliver(owner, log.records[0][owner.state.next :])

    asyncio.run(run())
    assert world.state.counters["corrected"] == 1
    assert not applied or not world.state.unmended


class HookedLog(MemoryLog):
    """A log at whose reads something happens once."""

    left = 0
    hook: Callable[[], Coroutine[Any, Any, None]]
    running: asyncio.Task[None] | None = None

    async def _reads(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.running = asyncio.create_task(self.hook())
            for _ in range(20):
                await asyncio.sleep(0)

    async def spans(self) -> dict[int, Span]:
        """The spans, after the hook."""
        await self._reads()
        return await super().spans()

    async def offset_at(self, partition: int, time_ms: int) -> int | None:
        """The offset, after the hook."""
        await self._reads()
        return await super().offset_at(partition, time_ms)

    async def read(
        self, partition: int, start: int, end: int
    ) -> AsyncGenerator[Sequence[LogRecord]]:
        """The records, after the hook."""
        await self._reads()
        async for each in super().read(partition, start, end):
            yield each


@pytest.mark.parametrize("reads", range(1, 4))
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("what", ["dropped", "read again", "gone back"])
def test_a_partition_that_is_read_again_amid_a_job_begins_it_anew(
    what: str, reads: int, *, fresh: bool
) -> None:
    """A refused commit of a live batch, or a Redis that lost its last writes, at every await."""
    log = HookedLog(1)
    world = World(metrics={name: FIVE[name] for name in ("MAX", "UNIQUE", "SUM")}, log=log)
    world.append([_line(number % 9, f"g{number % 3}", number) for number in range(12)])
    world.append([_correction("void", number) for number in (8, 4, 7)])

    async def run() -> None:
        owner = world.owner()
        await owner.open()
        records = log.records[0]
        await deliver(owner, records[:13])
        before = world.store.snapshot()
        await deliver(owner, records[13:])

        async def hook() -> None:
            if what == "gone back":
                world.store.restore(before)
            await owner.drop()
            if what != "dropped":
                await owner.open()

        if fresh:  # it has to look at the originals again
            owner = world.owner()
            await owner.open()
        log.hook, log.left = hook, reads
        mender = world.mender(owner)
        mender.size.records = 4
        for _ in range(60):
            with suppress(SeekBack):
                await mender.step()
            if log.running is not None and log.running.done():
                if owner.stands is None:
                    await owner.open()
                await deliver(owner, records[owner.state.next :])
            if not mender.is_due:
                break
        assert log.left < 0
        assert not mender.is_due

    asyncio.run(run())
    made = Auditor(world.identity, world.heard, world.store, log)
    found = asyncio.run(made.run(lambda _: None, lambda _: None))
    assert (found.mismatches, found.lines) == (0, [])
    assert not world.state.stale
    assert world.state.counters["corrected"] == 3


class ForgetfulLog(MemoryLog):
    """A log that says that it ends earlier than it does."""

    ends = 2

    async def spans(self) -> dict[int, Span]:
        """What it says."""
        return {0: Span(0, self.ends)}

    async def look(self, partition: int, offsets: Any) -> Any:
        """Nothing is found behind the end."""
        async for each in super().look(partition, {at for at in offsets if at < self.ends}):
            yield each


class CutWhileRead(MemoryLog):
    """A log whose first two records go at the first look."""

    start = 0

    async def spans(self) -> dict[int, Span]:
        """What is left."""
        return {0: Span(self.start, 5)}

    async def look(self, partition: int, offsets: Any) -> Any:
        """Fail once."""
        if not self.start:
            self.start = 2
            raise Halt("the log does not hold offset 0 any more")
        assert min(offsets) >= self.start
        async for each in super().look(partition, offsets):
            yield each
