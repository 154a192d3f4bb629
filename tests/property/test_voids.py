"""What a void takes back is in no number, exactly; whatever else happens meanwhile.

Random logs: events of all kinds, ids that are used again, voids of them, resent voids, voids of
duplicates, of nothing, twice, before the original, of voids; append times step back. Workers apply
them in batches of any size, with native/ and without, mend cells step by step beside live batches,
count the past of metrics that come later, and are replaced at any moment. In the end every cell is
the oracle's, which leaves the events out, and the audit's ledger says the same.

Each mutant is one way to be wrong; some log must show it.
"""

import asyncio
import json
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from pipeline.app import correcting as app_correcting
from pipeline.app import mending as app_mending
from pipeline.app.duplicates import Duplicates
from pipeline.app.mending import Mender
from pipeline.app.opening import SeekBack
from pipeline.core import backfill as core_backfill
from pipeline.core import commit
from pipeline.core.compiled import MODULE
from pipeline.core.fold import correct as fold_correct
from pipeline.core.fold import subtract as fold_subtract
from pipeline.core.fold.amend import Added, add_cells
from pipeline.core.id_index import IdIndex
from pipeline.core.mending import CountedAgain, Mending, Reached, mending_of
from pipeline.core.state import PartitionState
from pipeline.core.voids import Voids
from pipeline.edges.memory import MemoryLog
from pipeline.errors import Halt
from pipeline.reads.recounting import active_of
from pipeline.recount.ledger import Cell, Ledger, LedgerTerms

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
from .test_history import stamp

LIMITS = deployment(dedup_window_ms=4 * DAY_MS, max_age_ms=3 * DAY_MS, max_ahead_ms=DAY_MS)
HOUR_MS = 3_600_000
LOGS = 150
TERMS = LedgerTerms(
    LIMITS.dedup_window_ms,
    LIMITS.max_age_ms,
    LIMITS.max_ahead_ms,
    LIMITS.base_bucket_s,
    1,
    strict=False,
    generations=LIMITS.generations,
)


def void(number: object, customer: str, original: Any, at: Any, ms: int) -> dict[str, Any]:
    """A void."""
    return {
        "kind": "void",
        "transaction_id": f"v{number}",
        "customer_id": customer,
        "timestamp": stamp(ms),
        "voids": {"transaction_id": original, "at": at},
    }


def amend(line: dict[str, Any], ms: int, draw: random.Random) -> dict[str, Any]:
    """An amend of what a void would take back."""
    event: dict[str, Any] = {
        "event_type": draw.choice(["use", "use", "use", "else"]),
        "properties": {"v": draw.choice([0, 1, 1, 2, 3, -1, "odd"]), "g": draw.choice("xy")},
    }
    if draw.random() < 0.1:
        event = draw.choice([{}, {**event, "customer_id": "b"}, {**event, "properties": 1}])
    named = {"amends": line.pop("voids")}
    return {**line, "kind": "amend", "timestamp": stamp(ms), **named, "event": event}


def fill(log: MemoryLog, draw: random.Random) -> None:
    """Append a random log."""
    clock, sent = NOW_MS, list[tuple[str, str, int, int]]()
    amends = dict[int, str]()  # offset → whose event it is
    voids: list[dict[str, Any]] = []
    # Slow logs have many events in a cell.
    steps = draw.choice([[0, 1_000, 60_000], [0, 1_000, 60_000, HOUR_MS, DAY_MS // 2]])
    for number in range(draw.randrange(10, 70)):
        clock += draw.choice(steps)
        append_ms = clock - (draw.choice([5, HOUR_MS, DAY_MS]) if draw.random() < 0.2 else 0)
        if sent and draw.random() < 0.35:
            name, customer, at, offset = draw.choice(sent[-15:])
            if draw.random() < 0.1:
                customer = draw.choice("ab")
            if draw.random() < 0.1:
                offset += draw.choice([-1, 1, 60])
            name = amends.get(offset, name)
            line = void(number, customer, name, f"0@{offset}", clock)
            if draw.random() < 0.5:
                line = amend(line, at if draw.random() < 0.95 else clock, draw)
                amends[number] = name
            if draw.random() < 0.1:
                line[line["kind"] + "s"] = draw.choice(
                    [None, 1, {}, {"at": "0@1"}, {"transaction_id": "t0"}]
                )
            if voids and draw.random() < 0.25:
                line = draw.choice(voids)
            voids.append(line)
            name = str(line["transaction_id"])
            sent.append((name, line["customer_id"], at, number))
            log.append(0, json.dumps(line).encode(), append_ms)
            continue
        days = draw.choice([0, 0, 0, 1e-3, 1, 2, 4, -0.5, -1, -1 + 1e-4, -2])
        name, customer, at = f"t{number}", draw.choice("ab"), clock - int(days * DAY_MS)
        if sent and draw.random() < 0.3:
            name, customer, before, _ = draw.choice(sent[-12:])
            at = at if draw.random() < 0.5 else before
        sent.append((name, customer, at, number))
        line = {
            "transaction_id": name,
            "customer_id": customer,
            "event_type": draw.choice(["use", "use", "use", "else"]),
            "timestamp": stamp(at),
            "properties": {"v": draw.choice([0, 1, 1, 2, 3, -1, "odd"]), "g": draw.choice("xy")},
        }
        log.append(0, json.dumps(line).encode(), append_ms)


class Corrected:
    """A world with voids on its log, in which metrics come while a worker runs."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        native = MODULE if self.draw.random() < 0.7 else None
        self.first = self.draw.sample(sorted(FIVE), self.draw.choice([0, 3, 5]))
        metrics = {name: FIVE[name] for name in self.first}
        self.world = World(metrics=metrics, settings=LIMITS, native=native)
        fill(self.world.log, self.draw)
        self.starts: dict[str, int] = {}

    async def run(self) -> None:
        """Everything in a random order, then the rest."""
        owner = self.world.owner()
        await owner.open()
        past, mender = self.world.past(owner), self.world.mender(owner)
        rest = sorted(FIVE.keys() - set(self.first))
        records, at = self.world.log.records[0], 0
        while at < len(records) or rest or past.due is not None or mender.is_due:
            does = self.draw.choice(["live", "live", "define", "past", "past", "mend", "again"])
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
            elif does == "mend":
                mender.size.records = self.draw.choice([1, 2, 5, 30])
                for _ in range(self.draw.choice([1, 2, 5])):
                    await mender.step()
            elif does == "again" and self.draw.random() < 0.2:
                owner = self.world.owner()
                await owner.open()
                past, mender = self.world.past(owner), self.world.mender(owner)
            if self.draw.random() < 0.2:
                self.check_now(await self.world.book())

    def _define(self, kind: str, clock_ms: int) -> None:
        """A metric comes, of all the log or from an hour on."""
        starts = None
        if self.draw.random() < 0.4:
            days = self.draw.choice([-5, -2, -1, 0, 1])
            self.starts[kind] = (clock_ms + days * DAY_MS) // HOUR_MS * HOUR_MS
            starts = stamp(self.starts[kind])
        record = definition_record(kind, kind, FIVE[kind], effective_from=starts)
        control = self.world.control
        control.apply(control.next, json.dumps(record).encode())
        assert not control.ignored
        self.world.definitions.changes += 1

    def check_now(self, book: Any) -> None:
        """Every cell that is not called stale is the ledger's, up to where the book stands."""
        state = book.state
        assert state.balanced
        ledger = self.ledger(state)
        assert {name: ledger.fates[name] for name in state.counters} == dict(state.counters)
        held = {
            Cell(*cell): (book.cells.get(cell), book.elements.get(cell))
            for cell in {*book.cells, *book.elements}
        }
        wanted = ledger.texts()

        def right(cell: Cell) -> bool:
            version = cell.measure.rpartition(".")[0]
            starts = self.starts.get(version.split("#")[0], 0)
            return not state.is_stale(version, cell.bucket, cell.bucket) and (
                cell.bucket * HOUR_MS >= starts
            )

        for cell in {*held, *wanted}:
            if right(cell):
                assert held.get(cell) == wanted.get(cell), cell

    def ledger(self, state: PartitionState) -> Ledger:
        """The recount of what is applied."""
        named = frozenset(range(len(self.world.log.records[0])))
        made = Ledger(0, TERMS, active_of(self.world.control, state), named=named)
        for record in self.world.log.records[0]:
            if record.offset < state.next:
                made.feed(record.offset, record.timestamp, record.value)
        made.settle()
        return made

    def check(self) -> None:
        """Every cell that is read is the oracle's, and nothing else is there."""
        book = asyncio.run(self.world.book())
        assert not book.state.stale
        self.check_now(book)
        assert all(map(book.state.is_ready, (f"{kind}#1" for kind in FIVE)))
        books = recount(self.world.records(), FIVE, terms(LIMITS))
        names = ("duplicate", "rejected", "corrected")
        assert {name: book.state.counters[name] for name in names} == {
            name: books.fates[name] for name in names
        }
        found = {name: book.state.rejected.get(name, 0) for name in books.reasons}
        assert found == books.reasons
        assert self._read(answers_of(book, FIVE)) == self._read(answers(books, FIVE))

    def _read(self, cells: dict[tuple[Any, ...], Any]) -> dict[tuple[Any, ...], Any]:
        return {
            cell: held
            for cell, held in cells.items()
            if cell[2] * HOUR_MS >= self.starts.get(cell[0], 0)
        }


def wrong_of(seed: int) -> str | None:
    """What is wrong with one log; None is nothing."""
    corrected = Corrected(seed)
    try:
        asyncio.run(corrected.run())
        corrected.check()
    except (AssertionError, Halt, SeekBack, ValueError) as error:
        return f"seed {seed}: {str(error)[:2000]}"
    return None


@pytest.mark.parametrize("part", range(3))
def test_what_was_taken_back_is_in_no_number(part: int) -> None:
    """Whenever the void came, and whatever else was done meanwhile."""
    found = [wrong for seed in range(part, LOGS, 3) if (wrong := wrong_of(seed)) is not None]
    assert found == []


# -- what would be wrong -------------------------------------------------------------------------


async def _without_the_rest(self: Mender, job: Any, state: PartitionState) -> Mending:
    """A mending commit that leaves out what was applied while the log was read."""
    after = await self._after(job, state)
    return mending_of(self._owner.partition, state, after, job.found)


def _forgetful(*arguments: Any) -> Mending:
    """A UNIQUE element goes although another event has it."""
    made = mending_of(*arguments)
    return replace(made, lost=arguments[3].wanted.elements)


async def _none(*_: Any) -> frozenset[int]:
    return frozenset()


MUTANTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "cells are not counted again": lambda: patch.object(CountedAgain, "take", lambda *_: None),
    "a stale mark is lost": lambda: patch.object(commit, "stale_of", lambda _: {}),
    "a past counts what was taken back": lambda: patch.object(
        Voids, "between", lambda *_: frozenset()
    ),
    "only versions of now are looked at": lambda: patch.object(
        app_correcting, "counting_at", lambda state, *_: frozenset(state.folded[:1])
    ),
    "what comes while cells are counted is lost": lambda: patch.object(
        Mender, "_ended", _without_the_rest
    ),
    "an element goes that another event has": lambda: patch.object(
        app_mending, "mending_of", _forgetful
    ),
    "a duplicate is taken back": lambda: patch.object(Duplicates, "between", _none),
    "a record is taken back twice": lambda: patch.object(Voids, "by_of", lambda *_: None),
    "a correction leaves no id": lambda: patch.object(IdIndex, "record", lambda *_: None),
    "cells are counted again without amends": lambda: patch.object(
        app_mending, "added_in", lambda *_, **__: Added()
    ),
    "a past leaves amends out": lambda: patch.object(
        core_backfill, "added_in", lambda *_, **__: Added()
    ),
    "an amend that was taken back counts": lambda: patch.object(Voids, "living", _applied),
    "the original of an amend stays": lambda: patch.object(
        fold_correct, "_reached", _reached_nothing
    ),
    "an amend may change the time": lambda: patch.object(
        fold_correct, "_at_one_time", lambda *_: True
    ),
    "what is being counted again is subtracted from": lambda: patch.object(
        fold_subtract, "version_of", lambda _: ""
    ),
    "a cell stays of which nothing is left": lambda: patch.object(
        fold_subtract, "_is_doubtful", lambda *_: False
    ),
    "the largest stays": lambda: patch.object(fold_subtract, "_is_of_it", lambda *_: False),
    "an event is subtracted twice": lambda: patch.object(fold_subtract, "add_cells", _twice),
    "nothing is subtracted": lambda: patch.object(fold_subtract, "add_cells", lambda *_: None),
    "all is mended at once": lambda: patch.object(
        app_correcting.Correcting, "applied", _applied_without_waiting
    ),
}


def _applied(self: Voids, low: int, high: int) -> list[int]:
    return sorted(each for each in self.by.tolist() if low <= each < high)


def _twice(*arguments: Any) -> None:
    add_cells(*arguments)
    add_cells(*arguments)


def _reached_nothing(*_: Any) -> Reached:
    return Reached({}, {})


def _applied_without_waiting(self: Any, plan: Any, _reached: Any) -> None:
    if plan.taken_back is not None:
        self.voids = self.voids.with_(plan.taken_back)


@pytest.mark.parametrize("mutant", [None, *MUTANTS])
def test_every_step_is_needed(mutant: str | None) -> None:
    """Each way to be wrong is noticed by some log."""
    with nullcontext() if mutant is None else MUTANTS[mutant]():
        found = next((wrong for seed in range(LOGS) if (wrong := wrong_of(seed))), None)
    assert (found is None) == (mutant is None), f"{mutant}: {found}"
