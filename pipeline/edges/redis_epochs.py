"""Epochs of a partition in Redis: built beside, switched to, dropped; and emptied in place.

Rule 1: what readers see is the hash `P state`. It names its epoch, and that is in every other key.
So one RENAME of `P building` changes the epoch for readers, for the owner and for whoever is late.
Rule 2: keys of an epoch are deleted in small parts, each of which looks first whether the epoch is
still dead (lua/drop_keys.lua). A number is never given twice.
"""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ..core.commit import Switch
from ..core.state import PartitionState, encode_state, epoch_in, store_text
from .redis import RedisStore
from .redis_client import ResponseError, is_refused, memory_of
from .redis_keys import Keys
from .redis_listing import names_of, walked
from .redis_nodes import followed
from .requests import Script

_LUA: Final = Path(__file__).parent / "lua"
_BEGIN: Final = Script((_LUA / "begin_epoch.lua").read_text())
_SWITCH: Final = Script((_LUA / "switch_epoch.lua").read_text())
_DROP: Final = Script((_LUA / "drop_keys.lua").read_text())
_EMPTY: Final = Script((_LUA / "begin_rebuild.lua").read_text())
_FILL: Final = Script((_LUA / "finish_rebuild.lua").read_text())
_GIVEN: Final = "given"
_MEASURED: Final = 1_000  # keys of cells that are measured each, in an epoch
_SAMPLED: Final = 20  # of the others one in so many is
_UNLINKED_AT_ONCE: Final = 500  # half a millisecond of Redis


class RedisEpochs:
    """The epochs of a store's partitions. beside: the same deployment, as it is being built."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self.beside = store.beside()

    @followed
    async def begin(self, partition: int, first: PartitionState) -> PartitionState | None:
        """Begin an epoch beside, or find the one that is being built; return its state."""
        keys = self._store.keys(partition)
        fields = encode_state(first)
        store_id = fields.pop("store_id")
        pairs = [text for pair in fields.items() for text in pair]
        async with self._store.nodes.at(keys.current) as redis:
            await _BEGIN(
                redis,
                keys=[keys.current, keys.building, keys.epochs],
                args=[store_id, "1", *pairs],
            )
        return await self.beside.state(partition)

    @followed
    async def switch(self, partition: int, made: PartitionState) -> Switch:
        """Let readers and the owner see what was built."""
        keys = self._store.keys(partition)
        async with self._store.nodes.at(keys.current) as redis:
            word = await _SWITCH(
                redis,
                keys=[keys.current, keys.building],
                args=[store_text(made.store_id, made.epoch)],
            )
        return Switch(word.decode())

    @followed
    async def give_up(self, partition: int) -> bool:
        """Let what is being built go; its keys are dropped as those of any dead epoch."""
        key = self._store.keys(partition).building
        async with self._store.nodes.at(key) as redis:
            return bool(await redis.unlink(key))

    async def dead(self, partition: int) -> list[int]:
        """Return the epochs that may have keys, and that nobody sees or builds."""
        living, known = await self._epochs(partition)
        return sorted(known - living) if living else []

    async def drop(self, partition: int) -> AsyncIterator[int]:
        """Delete the keys of dead epochs in parts; yield how many after each, also if none.

        It ends at once where this user may not list keys: others do it.
        """
        store = self._store
        keys, dead = store.keys(partition), await self.dead(partition)
        if not dead or not await self._may_drop(keys):
            return
        async for names in walked(store.nodes, keys, keys.every):
            living, _ = await self._epochs(partition)
            of = {name: epoch for name in names if (epoch := keys.epoch_of(name)) is not None}
            gone = [name for name, epoch in of.items() if epoch not in living]
            for at in range(0, len(gone), _UNLINKED_AT_ONCE):
                part = gone[at : at + _UNLINKED_AT_ONCE]
                yield await self.drop_names(keys, {of[name] for name in part}, part) or 0
            yield 0
        await self.drop_names(keys, dead, ())

    @followed
    async def drop_names(
        self, keys: Keys, epochs: Collection[int], names: Sequence[bytes]
    ) -> int | None:
        """Delete keys of these epochs; without names, forget the epochs.

        None: one of them is seen or built, so nothing was done.
        """
        async with self._store.nodes.at(keys.current) as redis:
            count: int | None = await _DROP(
                redis,
                keys=[keys.current.encode(), keys.building.encode(), keys.epochs.encode(), *names],
                args=[str(epoch) for epoch in epochs],
            )
        return count

    @followed
    async def _epochs(self, partition: int) -> tuple[set[int], set[int]]:
        """Which epochs live, and which may have keys, from one moment; none without a state."""
        keys = self._store.keys(partition)
        async with self._store.nodes.at(keys.current) as redis:
            pipe = redis.pipeline(transaction=True)
            pipe.hget(keys.current, "store_id")
            pipe.hget(keys.building, "store_id")
            pipe.hgetall(keys.epochs)
            current, building, known = await pipe.execute()
        if current is None:
            return set(), set()
        texts = [text.decode() for text in (current, building) if text is not None]
        numbers = {int(name) for name in known if name != _GIVEN.encode()}
        return {epoch_in(text)[1] for text in texts}, numbers

    async def size(self, partition: int) -> int:
        """Return how many bytes of Redis the current epoch takes and the one that is built lacks.

        Lists and indexes are measured each, and the first keys of cells; then one in twenty is.
        0: this user may not ask.
        """
        store, total, signs = self._store, 0.0, dict[int | None, int]()
        seen: Counter[int | None] = Counter()  # keys, by epoch
        for each, sign in ((self.beside, -1), (store, 1)):
            if (state := await each.state(partition)) is not None:
                signs[state.epoch] = sign
        keys = store.keys(partition)
        async for names in walked(store.nodes, keys, keys.every):
            for epoch, sign in signs.items():
                mine = [name for name in names if keys.epoch_of(name) == epoch]
                every = 1 if seen[epoch] < _MEASURED else _SAMPLED
                total += sign * await self._bytes_of(keys, mine, every)
                seen[epoch] += len(mine)
        return max(int(total), 0)

    async def room(self, partition: int) -> tuple[int, int]:
        """Return the bytes that the Redis of a partition uses, and its maxmemory; 0 is none."""
        return await memory_of(
            await self._store.nodes.node_at(self._store.keys(partition).current)
        )

    @followed
    async def _bytes_of(self, keys: Keys, names: Sequence[bytes], every: int) -> float:
        """How many bytes keys take, about. every: one key of cells in so many is measured."""
        cells = [name for name in names if keys.is_of_cells(name)]
        others = [name for name in names if not keys.is_of_cells(name)]
        some = cells[::every]
        async with self._store.nodes.at(keys.current) as redis:
            pipe = redis.pipeline(transaction=False)
            for name in (*others, *some):
                pipe.execute_command("MEMORY", "USAGE", name)
            try:
                found = [size or 0 for size in await pipe.execute()]
            except ResponseError as error:
                if not is_refused(error):
                    raise
                return 0
        of_cells = sum(found[len(others) :]) * len(cells) / max(len(some), 1)
        return float(sum(found[: len(others)])) + of_cells

    @followed
    async def _may_drop(self, keys: Keys) -> bool:
        """Whether this user may list keys, and forget epochs."""
        async with self._store.nodes.at(keys.current) as redis:
            try:
                await redis.scan(0, match=keys.current, count=1)
                await redis.hdel(keys.rights, "f")
            except ResponseError as error:
                if not is_refused(error):
                    raise
                return False
        return True

    # -- in place ------------------------------------------------------------------------------

    @followed
    async def begin_rebuild(self, partition: int) -> int:
        """Mark a partition: from now on every commit is refused and every reader waits.

        Returns:
            The epoch that it will have.
        """
        keys = self._store.keys(partition)
        async with self._store.nodes.at(keys.current) as redis:
            return int(await _EMPTY(redis, keys=[keys.current, keys.building, keys.epochs]))

    async def clear(self, partition: int, epoch: int) -> int:
        """Delete every key of a marked partition before this epoch; return how many there were."""
        keys, count = self._store.keys(partition), 0
        async for found in names_of(self._store.nodes, keys, keys.every):
            of = {name: keys.epoch_of(name) for name in found}
            names = [name for name, each in of.items() if each is not None and each < epoch]
            if names:
                count += await self._unlink(keys, names)
        return count

    async def forget(self, partition: int) -> None:
        """Delete the state of a cleared partition that will have keys of other names."""
        keys = self._store.keys(partition)
        await self._unlink(keys, [keys.current.encode(), keys.epochs.encode()])

    @followed
    async def finish_rebuild(self, partition: int, epoch: int, state: PartitionState) -> bool:
        """Give a cleared partition its first state; False: another rebuild has begun since."""
        keys = self._store.keys(partition)
        fields = encode_state(replace(state, epoch=epoch))
        async with self._store.nodes.at(keys.current) as redis:
            done = await _FILL(
                redis,
                keys=[keys.current, keys.epochs],
                args=[str(epoch), *(text for pair in fields.items() for text in pair)],
            )
        return done is not None

    @followed
    async def _unlink(self, keys: Keys, names: Sequence[bytes]) -> int:
        """Delete keys of a partition; return how many there were."""
        async with self._store.nodes.at(keys.current) as redis:
            return int(await redis.unlink(*names))
