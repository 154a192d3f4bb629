"""A metric that comes later answers for the log's past, exactly.

Random logs: ids are used again with the original time and with another, events come late and
early, append times step back. Metrics come somewhere in the middle, some from a time on; what
lies before is counted in slices of any size, beside live batches, by workers with native/ and
without. In the end every cell is the oracle's, which had the metrics from the first record on.

Each mutant is one way to make the seam wrong; some log must show it.
"""

import asyncio
import json
import random
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest

from pipeline.app import backfill as app_backfill
from pipeline.app.opening import SeekBack
from pipeline.core import backfill
from pipeline.core.backfill import Due, Slice
from pipeline.core.compiled import MODULE
from pipeline.core.id_index import IdIndex
from pipeline.core.past import Pasts
from pipeline.core.records import LogRecord
from pipeline.edges.memory import MemoryLog
from pipeline.errors import Halt

from ..recount import answers, recount
from ..world import (
    DAY_MS,
    FIVE,
    NOW_MS,
    World,
    answers_of,
    definition_record,
    deliver,
    deployment,
    terms,
)

LIMITS = deployment(dedup_window_ms=4 * DAY_MS, max_age_ms=3 * DAY_MS, max_ahead_ms=DAY_MS)
HOUR_MS = 3_600_000
LOGS = 150


def stamp(ms: int) -> str:
    """A time of a log."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def fill(log: MemoryLog, draw: random.Random) -> None:
    """Append a random log."""
    clock = NOW_MS
    sent: list[tuple[str, int]] = []
    for number in range(draw.randrange(10, 60)):
        clock += draw.choice([0, 1_000, HOUR_MS, DAY_MS // 2, DAY_MS])
        append_ms = clock - (
            draw.choice([5, 60_000, HOUR_MS, DAY_MS]) if draw.random() < 0.2 else 0
        )
        days = draw.choice([0, 0, 1, 2, 4, -0.5, -1, -1 + 1e-4, -2])
        name, at = f"t{number}", clock - int(days * DAY_MS)
        if sent and draw.random() < 0.45:
            name, before = draw.choice(sent[-12:])
            at = at if draw.random() < 0.5 else before  # a producer that stamps again
        sent.append((name, at))
        line = {
            "transaction_id": name,
            "customer_id": draw.choice("ab"),
            "event_type": "use",
            "timestamp": stamp(at),
            "properties": {"v": draw.randrange(5), "g": draw.choice("xy")},
        }
        log.append(0, json.dumps(line).encode(), append_ms)


class Later:
    """A world in which metrics come while a worker runs."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        native = MODULE if self.draw.random() < 0.7 else None
        self.world = World(metrics={}, settings=LIMITS, native=native)
        fill(self.world.log, self.draw)
        self.starts: dict[str, int] = {}

    async def run(self) -> None:
        """Live batches, definitions, and slices of the past in a random order, then the rest."""
        owner, rest = self.world.owner(), list(FIVE)
        await owner.open()
        past = self.world.past(owner)
        records, at = self.world.log.records[0], 0
        while at < len(records) or rest or past.due is not None:
            does = self.draw.choice(["live", "live", "define", "past", "past", "again"])
            if does == "live" and at < len(records):
                count = self.draw.randrange(1, 9)
                await deliver(owner, records[at : at + count])
                at += count
            elif does == "define" and rest and at:
                self._define(rest.pop(), records[min(at, len(records)) - 1].timestamp)
                await owner.tick(None)
            elif does == "past":
                past.size.records = self.draw.choice([1, 2, 3, 5, 8])
                await past.step()
            elif does == "again" and self.draw.random() < 0.2:
                owner = self.world.owner()
                await owner.open()
                past = self.world.past(owner)

    def _define(self, kind: str, clock_ms: int) -> None:
        """A metric comes, of all the log or from an hour on."""
        starts = None
        if self.draw.random() < 0.6:
            days = self.draw.choice([-5, -2, -1, 0, 1])
            self.starts[kind] = (clock_ms + days * DAY_MS) // HOUR_MS * HOUR_MS
            starts = stamp(self.starts[kind])
        record = definition_record(kind, kind, FIVE[kind], effective_from=starts)
        control = self.world.control
        control.apply(control.next, json.dumps(record).encode())
        assert not control.ignored
        self.world.definitions.changes += 1

    def check(self) -> None:
        """Every cell that is read is the oracle's, and nothing else is there."""
        book = asyncio.run(self.world.book())
        assert all(map(book.state.is_ready, (f"{kind}#1" for kind in FIVE)))
        books = recount(self.world.records(), FIVE, terms(LIMITS))
        assert {name: book.state.counters[name] for name in ("duplicate", "rejected")} == {
            name: books.fates[name] for name in ("duplicate", "rejected")
        }
        assert book.state.balanced
        assert self._read(answers_of(book, FIVE)) == self._read(answers(books, FIVE))

    def _read(self, cells: dict[tuple[Any, ...], Any]) -> dict[tuple[Any, ...], Any]:
        return {
            cell: held
            for cell, held in cells.items()
            if cell[2] * HOUR_MS >= self.starts.get(cell[0], 0)
        }


def wrong_of(seed: int) -> str | None:
    """What is wrong with one log; None is nothing."""
    later = Later(seed)
    try:
        asyncio.run(later.run())
        later.check()
    except (AssertionError, Halt, SeekBack) as error:
        return f"seed {seed}: {str(error)[:2000]}"
    return None


@pytest.mark.parametrize("part", range(3))
def test_a_later_metric_equals_the_recount_of_the_whole_log(part: int) -> None:
    """Whenever it came, from whatever time on, and however its past was cut."""
    found = [wrong for seed in range(part, LOGS, 3) if (wrong := wrong_of(seed)) is not None]
    assert found == []


# -- what would be wrong -------------------------------------------------------------------------

_due_of, _counted, _slice_of = backfill.due_of, backfill.counted, backfill.slice_of


def _skipped(
    due: Due, records: Sequence[Any], upto: int, *, left_out: Collection[int], **more: Any
) -> Slice:
    left = [record for record in records if record.offset not in left_out]
    return _slice_of(due, left, upto, left_out=(), **more)


def _not_moved(
    _: int, records: Sequence[LogRecord], duplicates: Collection[int]
) -> Sequence[LogRecord]:
    return [record for record in records if record.offset not in duplicates]


def _high(by: int) -> Callable[..., Due | None]:
    """A seam that lies an offset beside the activation."""

    def due(state: Any, countable: Any) -> Due | None:
        found = _due_of(state, countable)
        ends = {state.active[each].offset for each in countable if each in state.active}
        if found is None or found.high not in ends or found.high + by <= found.low:
            return found
        return found._replace(high=found.high + by)

    return due


def _short(hist: Pasts, due: Due, hi: int, clock_ms: int) -> Pasts:
    """The past is called counted an offset too early."""
    return _counted(hist, due, hi + (hi + 1 == due.high), clock_ms)


class _LateLog:
    """A past that begins where the first bucket does: who is ahead of his time is not in it."""

    async def offset_at(self, partition: int, append_ms: int) -> int | None:
        found = (
            item.offset
            for item in self.records[partition]  # type: ignore[attr-defined]
            if item.timestamp >= append_ms + LIMITS.max_ahead_ms
        )
        return next(found, None)


def _one_index() -> Callable[[], IdIndex]:
    shared = IdIndex()
    return lambda: shared


MUTANTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "duplicates do not move the clock": lambda: patch.object(app_backfill, "slice_of", _skipped),
    "duplicates are not left out": lambda: patch.object(
        backfill, "left_of", lambda _, records, __: records
    ),
    "a slice begins without a clock": lambda: patch.object(
        backfill, "counted", lambda hist, due, hi, _: _counted(hist, due, hi, -1)
    ),
    "one index for all slices": lambda: patch.object(backfill, "IdIndex", _one_index()),
    "the past begins at effective_from": lambda: patch.object(
        MemoryLog, "offset_at", _LateLog.offset_at
    ),
    "the past ends before the activation": lambda: patch.object(backfill, "counted", _short),
    "the past ends behind the activation": lambda: patch.object(app_backfill, "due_of", _high(1)),
    "duplicates move the clock of no event": lambda: patch.object(backfill, "left_of", _not_moved),
    "a slice with duplicates leaves the clock": lambda: patch.object(
        backfill, "clock_of", lambda clock_ms, _: clock_ms
    ),
}


@pytest.mark.parametrize("mutant", [None, *MUTANTS])
def test_every_step_is_needed(mutant: str | None) -> None:
    """Each way to make the seam wrong is noticed by some log."""
    with nullcontext() if mutant is None else MUTANTS[mutant]():
        found = next((wrong for seed in range(LOGS) if (wrong := wrong_of(seed))), None)
    assert (found is None) == (mutant is None), f"{mutant}: {found}"
