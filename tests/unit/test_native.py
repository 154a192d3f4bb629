"""A fault of native/ costs speed, never an event."""

import asyncio
import time
from types import ModuleType, SimpleNamespace
from typing import Any, Final, cast

import pytest

from definitions.metric import Comparison, Condition, Definition, Field, Operator
from pipeline.app.opening import SeekBack
from pipeline.app.reporting import WorkerVitals, samples
from pipeline.core.compiled import MODULE
from pipeline.core.fold.spelled import PATHS

from ..property.test_laws import assert_recount
from ..services import ROOT
from ..world import FIVE, World, event

FOLDED: Final = "recount_folded_events_total"


class NoStore:
    """A store of cells that nothing comes into."""

    nbytes = 0

    def __init__(self, **terms: Any) -> None:
        """Take what native/ takes."""

    def __len__(self) -> int:
        return 0


def test_a_partition_goes_on_without_it() -> None:
    """It fails in the middle of a plan, its ids in the index: opened again, folded by Python."""

    class Folder:
        def __init__(self, **terms: Any) -> None:
            self.real = MODULE.Folder(**terms) if MODULE is not None else None
            self.calls = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def begin(self, *records: Any) -> None:
            """Begin a plan, where there is somebody who can."""
            if self.real is not None:
                self.real.begin(*records)

        def take(self, **rest: Any) -> Any:
            """Take some records, and fail."""
            if self.real is not None:
                self.real.take(**rest)
                self.real.learn("use", [])
                self.real.take(**rest)
            raise RuntimeError("broken")

    store = MODULE.Store if MODULE is not None else NoStore
    records = MODULE.Records if MODULE is not None else SimpleNamespace(of=lambda *_: None)
    native = SimpleNamespace(Folder=Folder, Records=records, Store=store)
    world = World(native=cast("ModuleType", native))
    world.append(event(number % 70) for number in range(100))

    async def run() -> list[int]:
        owner = world.owner()
        await owner.open()
        starts, records = [], world.log.records[0]
        try:
            await owner.take(records)
        except SeekBack as back:
            starts.append(back.offset)
            await owner.take(records[back.offset :])
        return [*starts, owner.done["broken"], owner.state.next]

    assert asyncio.run(run()) == [0, 1, 100]
    assert_recount(world)


def searching(*parts: str, operator: Operator = Operator.CONTAINS) -> Definition:
    """COUNT of events whose `v` has one of these parts."""
    field = Field(source="property", key="v")
    test = Condition(
        field=field,
        operator=operator,
        operands=parts,
        comparison=Comparison.TEXT,
        if_unknown=False,
    )
    count = FIVE["COUNT"]
    measure = count.measures[0].model_copy(update={"where": (test,)})
    return count.model_copy(update={"measures": (measure,), "dimensions": ()})


def cost_of(definition: Definition, values: list[str]) -> float:
    """CPU seconds that a worker takes for events with these values, all of them by native/."""
    world = World(metrics={"n": definition})
    world.append(event(at, properties={"v": value}) for at, value in enumerate(values))

    async def run() -> float:
        owner = world.owner()
        await owner.open()
        began = time.process_time()
        await owner.take(world.log.records[0])
        assert owner.done["native/"] == len(values)
        return time.process_time() - began

    return asyncio.run(run())


@pytest.mark.skipif(MODULE is None, reason="native/ is not built here")
def test_a_search_looks_at_a_text_once() -> None:
    """The worst text and part cost no more than others of their size: no product of lengths."""
    texts = ["a" * 900_000] * 4
    worst = cost_of(searching("a" * 30_000 + "b" + "a" * 30_000), texts)
    assert worst < 20 * cost_of(searching("b" * 60_001), texts)


@pytest.mark.skipif(MODULE is None, reason="native/ is not built here")
def test_one_of_ten_thousand_is_found_without_looking_at_all() -> None:
    """A hundred times the operands of IN cost less than five times as much."""
    words = [f"word{number:06}" for number in range(10_000)]
    texts = words[-1:] * 3_000
    many = cost_of(searching(*words, operator=Operator.IN), texts)
    assert many < 5 * cost_of(searching(*words[-100:], operator=Operator.IN), texts)


def test_every_path_is_counted_and_documented() -> None:
    """Telemetry has a series for each path and reason, and docs/operations.md a line."""
    world = World(native=None)
    world.append([event(1), event(2), b"{"])
    owner = world.owner()

    async def run() -> None:
        await owner.open()
        await owner.take(world.log.records[0])

    asyncio.run(run())
    vital = WorkerVitals(dict, dict, lambda: owner.done, lambda: True, lambda: False)
    told = {tuple(labels): value for name, labels, value in samples(vital) if name == FOLDED}
    text = (ROOT / "docs/operations.md").read_text()

    assert told.keys() == {(path, each) for path, reasons in PATHS.items() for each in reasons}
    assert {labels: value for labels, value in told.items() if value} == {("python", "absent"): 3}
    for path, reason in told:
        assert f"| `{path}` | {reason and f'`{reason}`'} |".replace("|  |", "| |") in text
