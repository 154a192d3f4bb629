"""Redis: a commit applied in one script, cells loaded in one; redis_reads.py has the reads."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ..core.cell_cache import Layout, RustCells
from ..core.cells import ELEMENTS, CellKey
from ..core.commit import Answer, Commit
from ..core.dedup import flushes_of
from ..core.mending import Mending
from ..core.state import PartitionState, Trimmed, encode_state, fence_of
from ..errors import PartitionHalt
from .redis_client import guard, policy_of
from .redis_corrections import mend, trim
from .redis_keys import Keys, asked_key, control_key, identity_key, member
from .redis_listing import elements_of, slices_of
from .redis_nodes import followed
from .redis_owners import RedisOwners
from .requests import Script, commit_frame, load_frame

_LUA: Final = Path(__file__).parent / "lua"
_APPLY: Final = Script((_LUA / "apply.lua").read_text())
_LOAD: Final = Script((_LUA / "load.lua").read_text())
_DROP_IDS: Final = Script((_LUA / "drop_ids.lua").read_text())
_CONTROL: Final = Script((_LUA / "control.lua").read_text())
_TELL_HALTED: Final = Script((_LUA / "tell_halted.lua").read_text())
_RIGHTS: Final = Script("""\
for _, command in ipairs({
  {'HSET', 'f', 'v'}, {'HDEL', 'f'}, {'SADD', 'm'}, {'SREM', 'm'}, {'RPUSH', 'e'}, {'LREM', 1, 'e'}
}) do
  redis.call(command[1], KEYS[1], unpack(command, 2))
  redis.call('TYPE', KEYS[1])
  redis.call('UNLINK', KEYS[1])
end
return redis.call('HMGET', KEYS[1], 'f')
""")
_COUNTED_S: Final = 5
_PACK: Final = msgspec.msgpack.Encoder()


class RedisStore(RedisOwners):
    """The rollups of one deployment."""

    async def close(self) -> None:
        """Give the connections back."""
        await self.nodes.close()

    # -- the deployment ------------------------------------------------------------------------

    @followed
    async def identity(self) -> bytes | None:
        """Return the copy of the deployment's identity; None where there is none."""
        key = identity_key(self.deployment)
        async with self.nodes.at(key) as redis:
            held: bytes | None = await redis.get(key)
            return held

    @followed
    async def write_identity(self, text: bytes, *, again: bool = False) -> None:
        """Write the copy of the identity, unless there is one; `again` replaces it."""
        key = identity_key(self.deployment)
        async with self.nodes.at(key) as redis:
            await redis.set(key, text, nx=not again)

    @followed
    async def keep_control(self, store_id: str, at: int = 0, element: bytes = b"") -> int:
        """Append to the copy of the control log if it ends at an offset; return where it ends.

        element: none only asks.
        """
        key = control_key(self.deployment)
        async with self.nodes.at(key) as redis:
            more = [element] if element else []
            return int(await _CONTROL(redis, keys=[key], args=[store_id, str(at), *more]))

    async def control_copy(self) -> list[bytes]:
        """Return the elements of the copy of the control log; none where nobody wrote one."""
        return await elements_of(self.nodes, control_key(self.deployment))

    async def eviction_policies(self) -> dict[str, str]:
        """Return maxmemory-policy by address: anything but noeviction may evict a bill.

        Raises:
            UsageError: the address is that of a part of a cluster.
        """
        found = {}
        for node in await self.nodes.every():
            async with guard(node):
                found[node.place] = await policy_of(node, in_one=not self.nodes.is_cluster)
        return found

    @followed
    async def count_request(self, name: str, window: int, window_s: int) -> int:
        """Count a request of an API key; return how many it has made in this window of time."""
        key = asked_key(self.deployment, name, window_s, window)
        async with self.nodes.at(key) as redis:
            pipe = redis.pipeline(transaction=False)
            pipe.incr(key)
            pipe.expire(key, window_s + _COUNTED_S)
            return int((await pipe.execute())[0])

    @followed
    async def check_rights(self, partitions: Iterable[int]) -> None:
        """Try every command that a commit writes with, on a key of no meaning, on every node.

        Raises:
            Halt: the user may not use one of them. In a commit it would come after a first write.
        """
        keys = {number: self.keys(number).rights for number in partitions}
        for group in await self.nodes.grouped(keys):
            for number in group[:1]:
                async with self.nodes.at(keys[number]) as redis:
                    await _RIGHTS(redis, keys=[keys[number]])

    # -- one partition -------------------------------------------------------------------------

    @followed
    async def register(self, partition: int, state: PartitionState) -> None:
        """Write a partition's first state, if it has none."""
        key = self.keys(partition).state
        async with self.nodes.at(key) as redis:
            pipe = redis.pipeline(transaction=True)
            for name, text in encode_state(state).items():
                pipe.hsetnx(key, name, text)
            await pipe.execute()

    @followed
    async def load(
        self, partition: int, cells: Sequence[CellKey], state: PartitionState
    ) -> dict[CellKey, str | None] | None:
        """Return the present texts of cells, or None where the partition stands elsewhere."""
        keys = self.keys(partition, state.epoch)
        by_key: dict[str, list[CellKey]] = defaultdict(list)
        fields: dict[str, list[str]] = defaultdict(list)
        numbers = state.worked_out.numbers
        there = [cell for cell in cells if cell.measure in numbers]
        for cell, (key, name) in zip(there, keys.located(there, numbers), strict=True):
            by_key[key].append(cell)
            fields[key].append(name)
        async with self.nodes.at(keys.state) as redis:
            found = await _LOAD(
                redis,
                keys=[keys.state, *by_key],
                args=[*fence_of(state), _PACK.encode([*fields.values()])],
            )
        if found is None:
            return None
        ordered = (cell for wanted in by_key.values() for cell in wanted)
        texts: dict[CellKey, str | None] = dict.fromkeys(cells)
        for cell, text in zip(ordered, found, strict=True):
            texts[cell] = None if text is None else text.decode()
        return texts

    def layout(self, partition: int, epoch: int) -> Layout:
        """Return where cells of a partition lie in an epoch."""
        return self.keys(partition, epoch).layout

    @followed
    async def load_missing(
        self, partition: int, cells: RustCells, state: PartitionState
    ) -> list[bytes | None] | None:
        """Return the present texts of the cells that a flush in native/ misses."""
        keys = self.keys(partition, state.epoch)
        frame = load_frame(keys, state, _LOAD.sha)
        async with self.nodes.at(keys.state) as redis:
            found: list[bytes | None] | None = await _LOAD.send(redis, cells.load_request(frame))
        return found

    async def load_ids(self, partition: int, counts: Mapping[int, int]) -> dict[int, list[bytes]]:
        """Return the packed elements of every generation of counts, read in slices."""
        keys = self.keys(partition)
        return {
            generation: await elements_of(self.nodes, keys.ids(generation))
            for generation in counts
        }

    async def load_duplicates(self, partition: int) -> list[bytes]:
        """Return the packed elements of the kept verdicts, read in slices."""
        return await elements_of(self.nodes, self.keys(partition).duplicates)

    async def flushes_of(
        self, partition: int, generations: Iterable[int], identity: bytes
    ) -> list[int]:
        """Return where the flushes that remember an identity begin."""
        keys = self.keys(partition)
        return [
            offset
            for generation in generations
            async for elements in slices_of(self.nodes, keys.ids(generation))
            for offset in flushes_of(elements, identity)
        ]

    @followed
    async def trim_duplicates(
        self,
        partition: int,
        state: PartitionState,
        elements: Sequence[bytes],
        trimmed: Trimmed,
    ) -> bool:
        """Let go of the oldest kept verdicts; False where the partition stands elsewhere."""
        keys, after = self.keys(partition, state.epoch), trimmed.text
        async with self.nodes.at(keys.state) as redis:
            return await trim(
                redis, keys, state, elements, key=keys.duplicates, field="trimmed", after=after
            )

    async def load_voids(self, partition: int) -> list[bytes]:
        """Return the elements of the kept corrections, read in slices."""
        return await elements_of(self.nodes, self.keys(partition).voids)

    @followed
    async def trim_voids(
        self,
        partition: int,
        state: PartitionState,
        elements: Sequence[bytes],
        trimmed: Trimmed,
    ) -> bool:
        """Let go of the oldest kept corrections; False where the partition stands elsewhere."""
        keys, after = self.keys(partition, state.epoch), trimmed.text
        async with self.nodes.at(keys.state) as redis:
            return await trim(
                redis, keys, state, elements, key=keys.voids, field="voids_trimmed", after=after
            )

    @followed
    async def drop_ids(
        self, partition: int, state: PartitionState, generation: int, elements: Sequence[bytes]
    ) -> bool:
        """Take elements out of an id log; False where the partition stands elsewhere."""
        keys = self.keys(partition, state.epoch)
        async with self.nodes.at(keys.state) as redis:
            done = await _DROP_IDS(
                redis, keys=[keys.state, keys.ids(generation)], args=[*fence_of(state), *elements]
            )
        return done is not None

    @followed
    async def tell_halted(self, partition: int, state: PartitionState, text: str) -> bool:
        """Note why an owner has halted; False where the partition stands elsewhere."""
        key = self.keys(partition).state
        async with self.nodes.at(key) as redis:
            done = await _TELL_HALTED(redis, keys=[key], args=[*fence_of(state), text])
        return done is not None

    async def apply(self, commit: Commit) -> Answer:
        """Write a commit whole, or refuse it whole, by the script."""
        work = self._written(commit) if commit.rust is None else self._sent(commit)
        return _answer(commit.partition, *await work)

    @followed
    async def mend(self, mending: Mending) -> Answer:
        """Write cells that were counted again whole, or refuse them whole, by a script."""
        keys = self.keys(mending.partition, mending.before.epoch)
        async with self.nodes.at(keys.state) as redis:
            return _answer(mending.partition, *await mend(redis, keys, mending))

    @followed
    async def _sent(self, commit: Commit) -> tuple[bytes, bytes]:
        """The script's answer to a commit whose cells are in native/."""
        assert commit.rust is not None
        keys, sha = self.keys(commit.partition, commit.before.epoch), _APPLY.sha
        request = commit.rust.commit_request(lambda: commit_frame(keys, commit, sha))
        async with self.nodes.at(keys.state) as redis:
            word, detail = await _APPLY.send(redis, request)
        return word, detail

    @followed
    async def _written(self, commit: Commit) -> tuple[bytes, bytes]:
        """The script's answer to a commit whose cells Python has."""
        keys = self.keys(commit.partition, commit.before.epoch)
        after, numbers = commit.after, commit.after.worked_out.numbers
        cells: dict[str, list[str]] = defaultdict(list)
        for (key, name), text in zip(
            keys.located(commit.cells, numbers), commit.cells.values(), strict=True
        ):
            cells[key] += (name, text)
        known = len(cells) if commit.are_known else 0
        sets: dict[str, list[str]] = {}
        places = keys.located(commit.elements, numbers, ELEMENTS)
        for (key, name), elements in zip(places, commit.elements.values(), strict=True):
            members = (member(name, element) for element in sorted(elements))
            sets.setdefault(key, []).extend(members)
        for key, names in _index(keys, commit.new_cells).items():
            sets[key] = sorted(names)
        if commit.learned:
            cells[keys.names] = [item for pair in commit.learned.items() for item in pair]
        dropped = [keys.ids(generation) for generation in commit.dropped]
        logs = []
        if commit.ids and commit.generation is not None:
            logs.append(keys.ids(commit.generation))
        if kept := commit.verdicts or commit.corrections:
            logs.append(keys.duplicates if commit.verdicts else keys.voids)
        state = [item for pair in commit.writes.items() for item in pair]
        body = _PACK.encode(
            {
                "state": state,
                "cells": list(cells.values()),
                "sets": list(sets.values()),
                "known": known,
                "dropped": len(dropped),
            }
        )
        async with self.nodes.at(keys.state) as redis:
            word, detail = await _APPLY(
                redis,
                keys=[keys.state, *cells, *sets, *dropped, *logs],
                args=[
                    *commit.fence,
                    str(after.next),
                    after.acts,
                    after.hist_text,
                    body,
                    commit.ids,
                    *kept,
                ],
            )
        return word, detail


def _answer(partition: int, word: bytes, detail: bytes) -> Answer:
    """What a script answers to a commit."""
    if word == b"wrong_type":
        raise PartitionHalt(
            partition,
            f"partition {partition}: Redis key {detail.decode()!r} is of a foreign type; nothing "
            f"was written. Remove it, or run `recount rebuild --partition {partition}`",
        )
    return Answer(word.decode())


def _index(keys: Keys, cells: Iterable[CellKey]) -> dict[str, set[str]]:
    """What the sets of customers and days gain by new cells."""
    customers: dict[str, set[str]] = defaultdict(set)
    buckets: dict[str, set[int]] = defaultdict(set)
    for measure, customer, bucket, _, _ in cells:
        customers[measure].add(customer)
        buckets[measure].add(bucket)
    index = {keys.customers(measure): names for measure, names in customers.items()}
    for measure, found in buckets.items():
        index[keys.days(measure)] = {str(keys.day_of(bucket)) for bucket in found}
    return index
