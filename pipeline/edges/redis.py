"""Redis: a commit applied in one script, cells loaded in one; redis_reads.py has the reads."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from ..core.cell_cache import Layout, RustCells
from ..core.cells import ELEMENTS, CellKey
from ..core.commit import Answer, Commit
from ..core.dedup import flushes_of
from ..core.state import PartitionState, Trimmed, encode_state, fence_of
from ..errors import Halt
from .redis_books import REBUILDING
from .redis_client import ResponseError, guard, is_refused
from .redis_keys import Keys, asked_key, identity_key, member
from .redis_reads import SCAN_COUNT, RedisReads
from .requests import commit_frame, load_frame, send

_APPLY: Final = (Path(__file__).parent / "lua" / "apply.lua").read_text()
_LOAD: Final = (Path(__file__).parent / "lua" / "load.lua").read_text()
_DROP_IDS: Final = (Path(__file__).parent / "lua" / "drop_ids.lua").read_text()
_TRIM: Final = (Path(__file__).parent / "lua" / "trim.lua").read_text()
_RIGHTS: Final = """\
for _, command in ipairs({
  {'HSET', 'f', 'v'}, {'SADD', 'm'}, {'RPUSH', 'e'}, {'LREM', 1, 'e'}
}) do
  redis.call(command[1], KEYS[1], unpack(command, 2))
  redis.call('TYPE', KEYS[1])
  redis.call('UNLINK', KEYS[1])
end
return redis.call('HMGET', KEYS[1], 'f')
"""
_ELEMENTS_AT_ONCE: Final = 200  # of a list: heartbeats go on while it loads
_COUNTED_S: Final = 5
_PACK: Final = msgspec.msgpack.Encoder()


class RedisStore(RedisReads):
    """The rollups of one deployment."""

    def __init__(self, url: str, deployment: str, base_bucket_s: int = 3600) -> None:
        super().__init__(url, deployment, base_bucket_s)
        self._apply = self._client.register_script(_APPLY)
        self._load = self._client.register_script(_LOAD)
        self._drop_ids = self._client.register_script(_DROP_IDS)
        self._trim = self._client.register_script(_TRIM)
        self._rights = self._client.register_script(_RIGHTS)

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    # -- the deployment ------------------------------------------------------------------------

    async def identity(self) -> bytes | None:
        """Return the copy of the deployment's identity; None where there is none."""
        async with guard(self._node):
            held: bytes | None = await self._client.get(identity_key(self.deployment))
            return held

    async def write_identity(self, text: bytes, *, again: bool = False) -> None:
        """Write the copy of the identity, unless there is one; `again` replaces it."""
        async with guard(self._node):
            await self._client.set(identity_key(self.deployment), text, nx=not again)

    async def eviction_policy(self) -> str:
        """Return maxmemory-policy: anything but noeviction may evict a bill.

        From INFO, which those who host Redis leave to their users more often than CONFIG.
        """
        async with guard(self._node):
            try:
                found = await self._client.info("memory")
            except ResponseError as error:
                if not is_refused(error):
                    raise
                found = {}
            if "maxmemory_policy" not in found:
                config = await self._client.config_get("maxmemory-policy")
                return str(config["maxmemory-policy"])
            return str(found["maxmemory_policy"])

    async def count_request(self, name: str, window: int, window_s: int) -> int:
        """Count a request of an API key; return how many it has made in this window of time."""
        key = asked_key(self.deployment, name, window_s, window)
        async with guard(self._node):
            pipe = self._client.pipeline(transaction=False)
            pipe.incr(key)
            pipe.expire(key, window_s + _COUNTED_S)
            return int((await pipe.execute())[0])

    async def check_rights(self) -> None:
        """Try every command that a commit writes with, on a key of no meaning.

        Raises:
            Halt: the user may not use one of them. In a commit it would come after a first write.
        """
        async with guard(self._node):
            await self._rights(keys=[self.keys(0).rights])

    # -- one partition -------------------------------------------------------------------------

    async def register(self, partition: int, state: PartitionState) -> None:
        """Write a partition's first state, if it has none."""
        key = self.keys(partition).state
        async with guard(self._node):
            pipe = self._client.pipeline(transaction=True)
            for name, text in encode_state(state).items():
                pipe.hsetnx(key, name, text)
            await pipe.execute()

    async def load(
        self, partition: int, cells: Sequence[CellKey], state: PartitionState
    ) -> dict[CellKey, str | None] | None:
        """Return the present texts of cells, or None where the partition stands elsewhere."""
        keys = self.keys(partition)
        by_key: dict[str, list[CellKey]] = defaultdict(list)
        fields: dict[str, list[str]] = defaultdict(list)
        numbers = state.worked_out.numbers
        there = [cell for cell in cells if cell.measure in numbers]
        for cell, (key, name) in zip(there, keys.located(there, numbers), strict=True):
            by_key[key].append(cell)
            fields[key].append(name)
        async with guard(self._node):
            found = await self._load(
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

    def layout(self, partition: int) -> Layout:
        """Return where cells of a partition lie."""
        return self.keys(partition).layout

    async def load_missing(
        self, partition: int, cells: RustCells, state: PartitionState
    ) -> list[bytes | None] | None:
        """Return the present texts of the cells that a flush in native/ misses."""
        frame = load_frame(self.keys(partition), state, self._load.sha)
        async with guard(self._node):
            found: list[bytes | None] | None = await send(
                self._client, self._load, cells.load_request(frame)
            )
        return found

    async def load_ids(self, partition: int, counts: Mapping[int, int]) -> dict[int, list[bytes]]:
        """Return the packed elements of every generation of counts, read in slices."""
        keys = self.keys(partition)
        return {generation: await self._elements_of(keys.ids(generation)) for generation in counts}

    async def load_duplicates(self, partition: int) -> list[bytes]:
        """Return the packed elements of the kept verdicts, read in slices."""
        return await self._elements_of(self.keys(partition).duplicates)

    async def flushes_of(
        self, partition: int, generations: Iterable[int], identity: bytes
    ) -> list[int]:
        """Return where the flushes that remember an identity begin."""
        keys = self.keys(partition)
        return [
            offset
            for generation in generations
            async for elements in self._slices_of(keys.ids(generation))
            for offset in flushes_of(elements, identity)
        ]

    async def _elements_of(self, key: str) -> list[bytes]:
        return [element async for part in self._slices_of(key) for element in part]

    async def _slices_of(self, key: str) -> AsyncIterator[list[bytes]]:
        at = 0
        while True:
            async with guard(self._node):
                part = await self._client.lrange(key, at, at + _ELEMENTS_AT_ONCE - 1)
            yield part
            at += len(part)
            if len(part) < _ELEMENTS_AT_ONCE:
                return

    async def trim_duplicates(
        self,
        partition: int,
        state: PartitionState,
        elements: Sequence[bytes],
        trimmed: Trimmed,
    ) -> bool:
        """Let go of the oldest kept verdicts; False where the partition stands elsewhere."""
        keys = self.keys(partition)
        async with guard(self._node):
            done = await self._trim(
                keys=[keys.state, keys.duplicates],
                args=[*fence_of(state), state.trimmed.text, trimmed.text, *elements],
            )
        return done is not None

    async def drop_ids(
        self, partition: int, state: PartitionState, generation: int, elements: Sequence[bytes]
    ) -> bool:
        """Take elements out of an id log; False where the partition stands elsewhere."""
        keys = self.keys(partition)
        async with guard(self._node):
            done = await self._drop_ids(
                keys=[keys.state, keys.ids(generation)], args=[*fence_of(state), *elements]
            )
        return done is not None

    async def apply(self, commit: Commit) -> Answer:
        """Write a commit whole, or refuse it whole, by the script."""
        word, detail = await (self._written(commit) if commit.rust is None else self._sent(commit))
        if word == b"wrong_type":
            raise Halt(
                f"Redis key {detail.decode()!r} is of a foreign type; nothing was written. "
                "Remove it, or run `recount rebuild`"
            )
        return Answer(word.decode())

    async def _sent(self, commit: Commit) -> tuple[bytes, bytes]:
        """The script's answer to a commit whose cells are in native/."""
        assert commit.rust is not None
        keys, sha = self.keys(commit.partition), self._apply.sha
        request = commit.rust.commit_request(lambda: commit_frame(keys, commit, sha))
        async with guard(self._node):
            word, detail = await send(self._client, self._apply, request)
        return word, detail

    async def _written(self, commit: Commit) -> tuple[bytes, bytes]:
        """The script's answer to a commit whose cells Python has."""
        keys = self.keys(commit.partition)
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
        if verdicts := commit.verdicts:
            logs.append(keys.duplicates)
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
        async with guard(self._node):
            word, detail = await self._apply(
                keys=[keys.state, *cells, *sets, *dropped, *logs],
                args=[
                    *commit.fence,
                    str(after.next),
                    after.acts,
                    after.hist,
                    body,
                    commit.ids,
                    *verdicts,
                ],
            )
        return word, detail

    # -- rebuild -------------------------------------------------------------------------------

    async def begin_rebuild(self, partition: int) -> None:
        """Mark a partition: from now on every commit is refused and every reader waits."""
        async with guard(self._node):
            pipe = self._client.pipeline(transaction=True)
            pipe.unlink(self.keys(partition).state)
            pipe.hset(self.keys(partition).state, REBUILDING, "1")
            await pipe.execute()

    async def clear(self, partition: int) -> int:
        """Delete every key of a marked partition but its state; return how many there were."""
        keys, count = self.keys(partition), 0
        async with guard(self._node):
            names: list[bytes] = []
            async for name in self._client.scan_iter(keys.every, count=SCAN_COUNT):
                if name.decode() != keys.state:
                    names.append(name)
                if len(names) >= SCAN_COUNT:
                    count += await self._client.unlink(*names)
                    names.clear()
            if names:
                count += await self._client.unlink(*names)
        return count

    async def forget(self, partition: int) -> None:
        """Delete the state of a cleared partition that will have keys of other names."""
        async with guard(self._node):
            await self._client.unlink(self.keys(partition).state)

    async def finish_rebuild(self, partition: int, state: PartitionState) -> None:
        """Give a cleared partition its first state."""
        key = self.keys(partition).state
        async with guard(self._node):
            pipe = self._client.pipeline(transaction=True)
            pipe.unlink(key)
            pipe.hset(key, mapping=encode_state(state))
            await pipe.execute()


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
