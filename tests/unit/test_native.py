"""A fault of native/ costs speed, never an event."""

import asyncio
from types import ModuleType, SimpleNamespace
from typing import Any, cast

from pipeline.app.owner import SeekBack
from pipeline.core.compiled import MODULE

from ..property.test_laws import assert_recount
from ..world import World, event


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

    world = World(native=cast("ModuleType", SimpleNamespace(Folder=Folder)))
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
