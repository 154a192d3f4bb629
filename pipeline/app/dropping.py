"""What dead epochs left in the store, dropped by the owners of the partitions, a little at a time.

Rule: a part takes the store a millisecond, and the next one waits for a moment: live events come
between. Whoever stops half way is followed by whoever owns the partition next.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from typing import Final, Protocol

from ..core.commit import Switch
from ..core.state import PartitionState
from ..errors import Unavailable
from ..ports import RollupStore

_LOOK_S: Final = 2.0
_PAUSE_S: Final = 0.02  # between two parts


class Epochs(Protocol):
    """The epochs of partitions: numbers that a rebuild makes beside those that readers see.

    A partition has one current epoch, and at most one that is being built. Everybody else's
    methods (RollupStore) are about the current one; those of `beside` about the other.
    """

    @property
    def beside(self) -> RollupStore:
        """What is being built, as a store: state() is None where nothing is."""
        ...

    async def begin(self, partition: int, first: PartitionState) -> PartitionState | None:
        """Begin to build an epoch, or find the one that is being built; return its state.

        None: it was given up, or switched to, at the same time. The number of a new one is
        greater than that of any before.
        """
        ...

    async def switch(self, partition: int, made: PartitionState) -> Switch:
        """Make the epoch that was built the current one, for everybody at once.

        BEHIND: the current one has applied more; nothing was done. GONE: `made` is not of what is
        being built; nothing was done.
        """
        ...

    async def give_up(self, partition: int) -> bool:
        """Let what is being built go; False where nothing was."""
        ...

    async def dead(self, partition: int) -> list[int]:
        """Return the epochs that may have keys, and are neither current nor being built."""
        ...

    def drop(self, partition: int) -> AsyncIterator[int]:
        """Delete what dead epochs left, in parts of a millisecond; yield what each had.

        Between two parts the caller decides when to go on. It may stop: the next one begins again.
        """
        ...


class Dropping:
    """Drops the dead epochs of the partitions that this process owns."""

    def __init__(self, owned: Callable[[], Collection[int]], epochs: Epochs) -> None:
        self._owned = owned
        self._epochs = epochs
        self._seen: dict[int, list[int]] = {}  # dead when it was looked at last
        self.dropped = 0  # keys

    async def run(self) -> None:
        """Go on for ever."""
        while True:
            await asyncio.sleep(_LOOK_S)
            for number in list(self._owned()):
                try:
                    await self._look(number)
                except Unavailable:
                    continue  # at the next look

    async def _look(self, number: int) -> None:
        """Drop what was dead at the last look too: a slow reader may still ask for it before."""
        dead = await self._epochs.dead(number)
        before, self._seen[number] = self._seen.get(number), dead
        if not dead or before != dead:
            return
        async for count in self._epochs.drop(number):
            self.dropped += count
            if number not in self._owned():
                return
            await asyncio.sleep(_PAUSE_S)
