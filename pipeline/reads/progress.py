"""The past of metrics that is being counted: how much, how fast, and what it waits for."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..control.entities import Metric, Version
from ..core.limits import is_scarce
from ..core.state import PartitionState
from ..ports import Clock, RollupStore
from .history import BACKFILLING, COMPLETE, History, backfilling, history_of, paced
from .standing import Standing

_LOOK_S: Final = 0.5  # between two looks

States = Sequence[PartitionState]


class Progress:
    """Tells of the past of metrics in the partitions of a deployment.

    Nothing that is stored says how fast it goes: what a reader tells is what it saw between two
    looks of its own.
    """

    def __init__(self, store: RollupStore, partitions: Sequence[int], clock: Clock) -> None:
        self._store = store
        self._partitions = partitions
        self._clock = clock

    async def of_metrics(
        self, metrics: Sequence[Metric], standings: Mapping[int, Standing]
    ) -> dict[str, History]:
        """What each metric has seen of the log, by id; nothing while a partition is not open."""
        if any(standing.closed is not None for standing in standings.values()):
            return {}
        states = [standing.state for standing in standings.values()]
        return await self._paced(
            lambda states: {metric.id: history_of(metric, states) for metric in metrics}, states
        )

    async def of_all(
        self, versions: Mapping[str, Version], standings: Mapping[int, Standing]
    ) -> dict[str, Any]:
        """What `status` tells of all versions together."""
        states = [standing.state for standing in standings.values()]
        found = (await self._paced(lambda seen: {"": backfilling(versions, seen)}, states))[""]
        if found.word != BACKFILLING:
            return {"history": COMPLETE}
        used, limit = await self._store.memory()
        full = is_scarce(used, limit)
        paused = f"memory: Redis uses {100 * used // limit} % of its maxmemory" if full else None
        return {**found.members, "paused": paused}

    async def _paced(
        self, told: Callable[[States], dict[str, History]], states: States
    ) -> dict[str, History]:
        """What is told of states; where a past is being counted, how fast, after a second look."""
        before = told(states)
        if all(each.word != BACKFILLING for each in before.values()):
            return before
        began = self._clock.monotonic()
        await asyncio.sleep(_LOOK_S)
        found = [await self._store.state(number) for number in self._partitions]
        after = told([state for state in found if state is not None])
        took_s = self._clock.monotonic() - began
        return {
            name: paced(each, after[name], took_s) if each.word == BACKFILLING else each
            for name, each in before.items()
        }
