"""The twin of redis_epochs.py: what is built beside is another store; a switch moves it over."""

from collections.abc import AsyncIterator
from dataclasses import replace

from ..core.commit import Switch
from ..core.state import PartitionState
from .memory import MemoryStore, move


class MemoryEpochs:
    """The epochs of a store's partitions. given: the last number of each."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.beside = store.beside = MemoryStore()
        self.beside.without = store.without
        self.given: dict[int, int] = {}
        self._dead: dict[int, set[int]] = {}

    async def begin(self, partition: int, first: PartitionState) -> PartitionState | None:
        """Begin an epoch beside, or find the one that is being built; return its state."""
        if (found := await self.beside.state(partition)) is not None:
            return found
        current = await self._store.state(partition)
        held = 0 if current is None else current.epoch
        epoch = self.given[partition] = max(held, self.given.get(partition, 0)) + 1
        await self.beside.register(partition, replace(first, epoch=epoch))
        return await self.beside.state(partition)

    async def switch(self, partition: int, made: PartitionState) -> Switch:
        """Let readers and the owner see what was built."""
        built, current = await self.beside.state(partition), await self._store.state(partition)
        if built is None or built.epoch != made.epoch:
            return Switch.GONE
        if current is not None and current.next > built.next:
            return Switch.BEHIND
        move(partition, self.beside, self._store)
        if current is not None:
            self._dead.setdefault(partition, set()).add(current.epoch)
        return Switch.SWITCHED

    async def give_up(self, partition: int) -> bool:
        """Let what is being built go."""
        built = await self.beside.state(partition)
        if built is None:
            return False
        move(partition, self.beside, None)
        self._dead.setdefault(partition, set()).add(built.epoch)
        return True

    async def dead(self, partition: int) -> list[int]:
        """Return the epochs that nobody sees or builds."""
        return sorted(self._dead.get(partition, ()))

    async def drop(self, partition: int) -> AsyncIterator[int]:
        """There is nothing left of them here."""
        self._dead.pop(partition, None)
        yield 0
