"""Crash, rewind, zombie, rebalance as one machine: the store always equals a recount.

Workers are real owners over the memory store, whose answers are the script's. A worker may stop
before its flush is sent, or after it was applied and before it knew; it may sleep and wake up as a
zombie; the store may go back to any earlier commit; definitions come and end at any moment, and
each worker learns of them when it looks.
"""

import asyncio
import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.app.definitions import Definitions
from pipeline.app.owner import Owner, SeekBack
from pipeline.core.commit import Answer, Commit
from pipeline.core.state import PartitionState
from pipeline.edges.memory import MemoryStore
from pipeline.recount.ledger import Active, Cell, Ledger, Terms

from ..world import NOW_MS, World, body, definition_record, deployment, event, parse


class Dies(Exception):
    """The worker is gone."""


class FaultyStore(MemoryStore):
    """Dies before or after the next commit, if told to, and keeps every commit as a snapshot."""

    dies: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Any] = []

    async def apply(self, commit: Commit) -> Answer:
        """Apply, or die around it."""
        if self.dies == "before":
            self.dies = None
            raise Dies
        answer = await super().apply(commit)
        if answer is Answer.APPLIED:
            self.history.append(self.snapshot())
        if self.dies == "after":
            self.dies = None
            raise Dies
        return answer


EXTRA = {
    f"extra{number}": parse(body(kind, f"extra{number}"))
    for number, kind in enumerate(("SUM", "UNIQUE", "COUNT", "LATEST"))
}


class Crashes(RuleBasedStateMachine):
    """One partition, up to three workers, any of them possibly a zombie."""

    @initialize()
    def begin(self) -> None:
        """An empty deployment."""
        self.store = FaultyStore()
        self.world = World(store=self.store, settings=deployment(max_age_ms=0))
        self.store.history.append(self.store.snapshot())
        self.workers: dict[int, Owner] = {}
        self.fetch: dict[int, int] = {}
        self.sent = 0

    def _run(self, number: int, work: Any) -> None:
        """Run a step of a worker; a death takes it away."""
        try:
            asyncio.run(work)
        except Dies:
            del self.workers[number]
        except SeekBack as back:
            self.fetch[number] = back.offset

    @rule(count=st.integers(1, 6), repeat=st.booleans())
    def produce(self, count: int, *, repeat: bool) -> None:
        """Events come, some of them a second time."""
        for _ in range(count):
            self.world.append([event(self.sent)], NOW_MS + self.sent)
            if repeat:
                self.world.append([event(self.sent // 2)], NOW_MS + self.sent)
            self.sent += 1

    @rule(number=st.integers(0, 2))
    def start(self, number: int) -> None:
        """A worker is assigned the partition; another one may still think it owns it."""
        owner = self.world.owner()
        owner._definitions = Definitions(self.world.control)
        self.workers[number] = owner

        async def opened() -> None:
            self.fetch[number] = await owner.open()

        self._run(number, opened())

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), count=st.integers(1, 8), dies=st.sampled_from([None, "before", "after"]))
    def take(self, data: st.DataObject, count: int, dies: str | None) -> None:
        """Any worker, zombie or not, takes the next records it fetched."""
        number = data.draw(st.sampled_from(sorted(self.workers)))
        at = self.fetch[number]
        records = self.world.log.records[0][at : at + count]
        if not records:
            return
        self.store.dies = dies
        self.fetch[number] = at + len(records)
        self._run(number, self.workers[number].take(records))
        self.store.dies = None

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def tick(self, data: st.DataObject) -> None:
        """An idle worker looks for new definitions."""
        number = data.draw(st.sampled_from(sorted(self.workers)))
        self._run(number, self.workers[number].tick(None))

    @rule(name=st.sampled_from(sorted(EXTRA)))
    def define(self, name: str) -> None:
        """A definition comes; every worker hears of it at its next flush."""
        if name not in self.world.control.metrics:
            record = definition_record(name, name, EXTRA[name])
            offset = self.world.control.next
            self.world.control.apply(offset, json.dumps(record).encode())
            assert not self.world.control.ignored
            for owner in self.workers.values():
                owner._definitions.changes += 1

    @precondition(lambda self: len(self.store.history) > 1)
    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        """Redis comes back as it was at an earlier commit."""
        point = data.draw(st.integers(0, len(self.store.history) - 1))
        self.store.restore(self.store.history[point])
        del self.store.history[point + 1 :]

    @invariant()
    def equals_the_recount(self) -> None:
        """At every moment the store equals an independent recount of the log up to `next`."""
        if not hasattr(self, "world"):
            return
        book = asyncio.run(self.world.book())
        ledger = self._recounted(book.state)
        assert book.state.balanced
        assert dict(book.state.counters) == {
            name: ledger.fates[name] for name in book.state.counters
        }
        held = {
            Cell(*cell): (book.cells.get(cell), book.elements.get(cell))
            for cell in {**book.cells, **book.elements}
        }
        assert held == ledger.texts()
        ids = sum(book.state.id_counts.values())
        assert ids == ledger.fates["counted"] + ledger.fates["unmatched"]

    def _recounted(self, state: PartitionState) -> Ledger:
        settings_ = self.world.settings
        known = self.world.control.versions
        active = []
        for key, activation in state.active.items():
            version = known[key].body
            assert version is not None
            active.append(Active(version, activation.offset, state.ended.get(key)))
        ledger = Ledger(
            0,
            Terms(settings_.dedup_window_ms, 0, settings_.max_ahead_ms, 3600, 1, strict=False),
            active,
        )
        for record in self.world.log.records[0][: state.next]:
            ledger.feed(record.offset, record.timestamp, record.value)
        return ledger

    def teardown(self) -> None:
        """A last worker reaches the end of the log."""
        if not hasattr(self, "world"):
            return

        async def finish() -> None:
            owner = self.world.owner()
            at = await owner.open()
            if records := self.world.log.records[0][at:]:
                await owner.take(records)

        asyncio.run(finish())
        assert self.world.state.next == len(self.world.log.records[0])
        self.equals_the_recount()


Crashes.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCrashes = Crashes.TestCase
