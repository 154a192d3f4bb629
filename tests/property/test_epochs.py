"""The model of the whole, with rebuilds beside: builders, two at once, given up, killed, switched.

Builders are the product's own (app/building.py), over the twins, and stop at every call as workers
do. The numbers that readers see are wrong at times: that is why one rebuilds. Whatever owners,
zombies and builders do then, the epoch that is switched to is exact, without what voids have taken
back, and no read stands before an earlier one.
"""

import random
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest

from pipeline.app import building
from pipeline.app.backfill import Backfill
from pipeline.app.building import Building
from pipeline.app.catalogue import Definitions
from pipeline.app.owner import Owner
from pipeline.core.limits import Limits
from pipeline.edges.clock import SetClock
from pipeline.edges.memory_epochs import MemoryEpochs
from pipeline.errors import ConflictError

from ..world import NOW
from .test_model import HistoricStore, Model, Stopping, Worker, drive

BUILDERS = (3, 4)
PARTS = 2
RUNS = 40


class EpochStore(HistoricStore):
    """What is built beside is in the same Redis: it goes back with it."""

    epochs: MemoryEpochs

    def snapshot(self) -> dict[int, Any]:
        """Everything that is held now."""
        return {
            **super().snapshot(),
            -1: deepcopy((self.epochs.beside._partitions, self.epochs.given)),
        }

    def restore(self, snapshot: dict[int, Any]) -> None:
        """Go back."""
        super().restore({0: snapshot[0]})
        beside, given = deepcopy(snapshot[-1])
        self.epochs.beside._partitions, self.epochs.given = beside, given


class Rebuilding(Model):
    """One partition, workers, and up to two rebuilds of it."""

    is_common = False
    epochs: type[MemoryEpochs] = MemoryEpochs
    store: EpochStore

    def begin(self) -> None:
        """An empty deployment."""
        self.store = EpochStore()
        self.store.epochs = self.epochs(self.store)
        self.wrong: set[int] = set()  # epochs with a number that is wrong
        self.stood = 0
        self.switched = 0
        super().begin()
        patched = patch.object(building, "_RETRY_S", (0, 0))
        patched.start()
        self.patches.append(patched)

    def new_store(self) -> HistoricStore:
        """The one that has epochs."""
        self.store.without = self.store.epochs.beside.without = self.without
        return self.store

    def more(self, draw: random.Random) -> dict[Callable[[], Any], tuple[int, Callable[[], Any]]]:
        """What rebuilds add."""
        return {
            lambda: self.build(draw.choice(BUILDERS)): (3, lambda: True),
            lambda: self.spoil(draw): (2, lambda: self.store._partitions[0].cells),
            self.give_up: (1, lambda: draw.random() < 0.3),
        }

    def build(self, number: int) -> None:
        """A rebuild begins, or begins again; it builds and switches."""
        self.kill(number)
        worker = Worker(is_old=False)
        self.workers[number] = worker
        self._hear(worker.control, len(self.records), is_old=False)
        worker.definitions = Definitions(worker.control)
        epochs: Any = Stopping(self.store.epochs, worker)
        epochs.beside = Stopping(self.store.epochs.beside, worker)
        store: Any = Stopping(self.store, worker)
        log: Any = Stopping(self.log, worker)

        async def refresh() -> Any:
            await worker.pause()
            self._hear(worker.control, len(self.records), is_old=False)
            return worker.control

        clock = SetClock(NOW + timedelta(days=4_000))
        owner = Owner(
            0,
            store=epochs.beside,
            log=log,
            definitions=worker.definitions,
            clock=clock,
            flush_s=0.25,
            limits=Limits(0, 0),
        )
        made = Building(
            owner,
            Backfill(owner, log=log, definitions=worker.definitions, clock=clock),
            store=store,
            epochs=epochs,
            log=log,
            definitions=worker.definitions,
            refresh=refresh,
            clock=clock,
            told=lambda *_: None,
        )

        async def work() -> None:
            await made.build()
            await made.is_there()
            await made.switch()

        self._begin(number, work())

    def _finish(self, number: int, worker: Worker) -> None:
        if number not in BUILDERS:
            super()._finish(number, worker)
            return
        assert worker.task is not None
        try:
            worker.task.result()
        except ConflictError:
            pass
        else:
            self.switched += 1
            self.store.history.append(self.store.snapshot())
            self.store.unchecked = True
        del self.workers[number]

    def spoil(self, draw: random.Random) -> None:
        """A number that readers see is wrong: somebody wrote to it."""
        held = self.store._partitions[0]
        for cell in sorted(held.cells, key=repr):
            if cell.measure.startswith(("sum#", "count#")):
                held.cells[cell] = f"{draw.randrange(1_000, 9_000)}"
                self.wrong.add(self._epoch())
                return

    def _epoch(self) -> int:
        state = self.loop.run_until_complete(self.store.state(0))
        assert state is not None
        return state.epoch

    def give_up(self) -> None:
        """Somebody gives up what is built."""
        self.loop.run_until_complete(self.store.epochs.give_up(0))

    def rewind(self, point: int) -> None:
        """Redis goes back, with what is built and with what was switched to."""
        self.stood = 0
        super().rewind(point)

    def equals_the_recount(self) -> None:
        """What readers see never goes back, and equals the recount if nobody spoilt it."""
        if not hasattr(self, "wrong") or not self.store.history:
            return
        state = self.loop.run_until_complete(self.store.state(0))
        assert state is not None
        assert state.next >= self.stood, "a read stands before an earlier one"
        self.stood = state.next
        if state.epoch in self.wrong:
            return
        super().equals_the_recount()

    def teardown(self) -> None:
        """A last rebuild reaches its end: then every number is right."""
        if hasattr(self, "wrong") and self.store.history and not self.loop.is_closed():
            for number in list(self.workers):
                self.kill(number)
            self.give_up()
            before, self.wrong = self.switched, {*self.wrong, self._epoch()}
            self.build(BUILDERS[0])
            self.steps(BUILDERS[0], 10_000)
            assert self.switched == before + 1, "a rebuild did not come to its end"
            self.wrong.discard(self._epoch())
            state = self.loop.run_until_complete(self.store.state(0))
            assert state is not None
            assert not state.stale, "cells were not mended before the switch"
        super().teardown()


@pytest.mark.parametrize("part", range(PARTS))
def test_rebuilds_beside_are_exact(part: int) -> None:
    """With kills, zombies, lost answers, rewinds, two rebuilds: what is switched to is right."""
    switched = corrected = 0
    for seed in range(part, RUNS, PARTS):
        model = Rebuilding()
        try:
            drive(model, seed, 120)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        switched += model.switched
        corrected += int(model.store._partitions[0].fields["corrected"])

    assert corrected > RUNS // PARTS
    assert switched > RUNS // PARTS  # more than the last one of each run
