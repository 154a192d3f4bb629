"""What an owner that has halted leaves for readers, beside the state of its partition.

It stands behind the fence: nobody writes it where the partition has moved on. No number depends
on it. Where the state is not ours, or cannot be read, readers see that by themselves.
"""

from collections.abc import Callable
from contextlib import suppress

from definitions.times import NS_PER_MS

from ..core.buckets import ns_of
from ..core.state import Halted, PartitionState
from ..deploy.checks import check_state
from ..errors import Damage, Unavailable
from ..ports import Clock, RollupStore
from .catalogue import Definitions


class HaltNote:
    """The note of one partition. is_there: as far as its owner knows."""

    def __init__(
        self, partition: int, store: RollupStore, definitions: Definitions, clock: Clock
    ) -> None:
        self._partition = partition
        self._store = store
        self._definitions = definitions
        self._clock = clock
        self.is_there = False

    async def write(self, reason: str) -> None:
        """Note why the partition has halted, as of now. If the store is away: the next time."""
        looked_ms = ns_of(self._clock.now()) // NS_PER_MS
        self.is_there = True
        await self._write(lambda state: Halted(state.next, looked_ms, reason).text)

    async def clear(self) -> None:
        """Take the note back, if there is one: the partition has moved, or has nothing to do."""
        if self.is_there:
            self.is_there = False
            await self._write(lambda state: None if state.halted is None else "")

    async def _write(self, text_of: Callable[[PartitionState], str | None]) -> None:
        with suppress(Unavailable, Damage):
            held = await self._store.state(self._partition)
            state = check_state(held, self._definitions.identity, self._partition)
            text = text_of(state)
            if text is not None:
                await self._store.tell_halted(self._partition, state, text)
