"""Redis: apply a commit in one script, load cells in one, read them in one MULTI."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ..core.commit import Answer, Commit
from ..core.state import PartitionState, decode_state, encode_state, fence_of
from ..core.tally import CellKey
from ..errors import Halt, StoreUnavailable
from ..ports import CELLS, ELEMENTS, Address, Book
from .keys import Keys, identity_key
from .redis_client import connect, guard

_APPLY: Final = (Path(__file__).parent / "apply.lua").read_text()
_LOAD: Final = (Path(__file__).parent / "load.lua").read_text()
_DROP_IDS: Final = (Path(__file__).parent / "drop_ids.lua").read_text()
_RIGHTS: Final = """\
for _, command in ipairs({{'HSET', 'f', 'v'}, {'SADD', 'm'}, {'RPUSH', 'e'}}) do
  redis.call(command[1], KEYS[1], unpack(command, 2))
  redis.call('TYPE', KEYS[1])
  redis.call('UNLINK', KEYS[1])
end
return redis.call('HMGET', KEYS[1], 'f')
"""
_ID_SLICE: Final = 200  # list elements a slice: heartbeats go on while ids load
_SCAN_COUNT: Final = 2_000
_COUNTED_S: Final = 5
_REBUILDING: Final = "rebuilding"
_SNAPSHOT_TRIES_MAX: Final = 50
_PACK: Final = msgspec.msgpack.Encoder()


class RedisStore:
    """The rollups of one deployment."""

    def __init__(self, url: str, deployment: str, base_bucket_s: int = 3600) -> None:
        self._client = connect(url)
        self._apply = self._client.register_script(_APPLY)
        self._load = self._client.register_script(_LOAD)
        self._drop_ids = self._client.register_script(_DROP_IDS)
        self._rights = self._client.register_script(_RIGHTS)
        self._deployment = deployment
        self.base_bucket_s = base_bucket_s

    def keys(self, partition: int) -> Keys:
        """The keys of a partition."""
        return Keys(self._deployment, partition, self.base_bucket_s)

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    # -- the deployment ------------------------------------------------------------------------

    async def identity(self) -> bytes | None:
        """Return the copy of the deployment's identity; None where there is none."""
        async with guard(self._client):
            held: bytes | None = await self._client.get(identity_key(self._deployment))
            return held

    async def write_identity(self, text: bytes, *, again: bool = False) -> None:
        """Write the copy of the identity, unless there is one; `again` replaces it."""
        async with guard(self._client):
            await self._client.set(identity_key(self._deployment), text, nx=not again)

    async def eviction_policy(self) -> str:
        """Return maxmemory-policy: anything but noeviction may evict a bill."""
        async with guard(self._client):
            config = await self._client.config_get("maxmemory-policy")
            return str(config["maxmemory-policy"])

    async def count_request(self, name: str, window: int, window_s: int) -> int:
        """Count a request of an API key; return how many it has made in this window of time."""
        key = f"recount:{self._deployment}:asked:{name}:{window_s}:{window}"
        async with guard(self._client):
            pipe = self._client.pipeline(transaction=False)
            pipe.incr(key)
            pipe.expire(key, window_s + _COUNTED_S)
            return int((await pipe.execute())[0])

    async def check_rights(self) -> None:
        """Try every command that a commit writes with, on a key of no meaning.

        Raises:
            Halt: the user may not use one of them. In a commit it would come after a first write.
        """
        async with guard(self._client):
            await self._rights(keys=[f"{self.keys(0).prefix}rights"])

    # -- one partition -------------------------------------------------------------------------

    async def state(self, partition: int) -> PartitionState | None:
        """Return a partition's state; None where it was never registered, or was emptied."""
        async with guard(self._client):
            return _state(await self._client.hgetall(self.keys(partition).state))

    async def register(self, partition: int, state: PartitionState) -> None:
        """Write a partition's first state, if it has none."""
        key = self.keys(partition).state
        async with guard(self._client):
            pipe = self._client.pipeline(transaction=True)
            for name, text in encode_state(state).items():
                pipe.hsetnx(key, name, text)
            await pipe.execute()

    async def load(
        self, partition: int, cells: Sequence[CellKey], state: PartitionState
    ) -> dict[CellKey, str | None] | None:
        """Return the present texts of cells, or None where the partition stands elsewhere."""
        keys = self.keys(partition)
        by_key: dict[str, list[CellKey]] = {}
        for cell in cells:
            by_key.setdefault(_cells_key(keys, cell), []).append(cell)
        fields = [[keys.field(cell) for cell in wanted] for wanted in by_key.values()]
        async with guard(self._client):
            found = await self._load(
                keys=[keys.state, *by_key], args=[*fence_of(state), _PACK.encode(fields)]
            )
        if found is None:
            return None
        ordered = (cell for wanted in by_key.values() for cell in wanted)
        return {
            cell: None if text is None else text.decode()
            for cell, text in zip(ordered, found, strict=True)
        }

    async def load_ids(self, partition: int, counts: Mapping[int, int]) -> dict[int, list[bytes]]:
        """Return the packed elements of every generation of counts, read in slices."""
        keys, packed = self.keys(partition), {}
        for generation in counts:
            parts: list[bytes] = []
            async with guard(self._client):
                while True:
                    at = len(parts)
                    part = await self._client.lrange(keys.ids(generation), at, at + _ID_SLICE - 1)
                    parts += part
                    if len(part) < _ID_SLICE:
                        break
            packed[generation] = parts
        return packed

    async def names(self, partition: int) -> dict[str, str]:
        """Return what a partition has learned of names (core/names.py)."""
        async with guard(self._client):
            found = await self._client.hgetall(self.keys(partition).names)
        return {place.decode(): text.decode() for place, text in found.items()}

    async def drop_ids(
        self, partition: int, state: PartitionState, generation: int, elements: Sequence[bytes]
    ) -> bool:
        """Take elements out of an id log; False where the partition stands elsewhere."""
        keys = self.keys(partition)
        async with guard(self._client):
            done = await self._drop_ids(
                keys=[keys.state, keys.ids(generation)], args=[*fence_of(state), *elements]
            )
        return done is not None

    async def apply(self, commit: Commit) -> Answer:
        """Write a commit whole, or refuse it whole, by the script."""
        keys = self.keys(commit.partition)
        cells: dict[str, list[str]] = {}
        for cell, text in commit.cells.items():
            cells.setdefault(_cells_key(keys, cell), []).extend((keys.field(cell), text))
        sets: dict[str, list[str]] = {}
        for cell, elements in commit.elements.items():
            key = keys.elements(cell.measure, keys.day_of(cell.bucket), cell.customer)
            members = (keys.member(cell, element) for element in sorted(elements))
            sets.setdefault(key, []).extend(members)
        for key, names in _index(keys, commit.new_cells).items():
            sets[key] = sorted(names)
        if commit.learned:
            cells[keys.names] = [item for pair in commit.learned.items() for item in pair]
        dropped = [keys.ids(generation) for generation in commit.dropped]
        log = (
            [keys.ids(commit.generation)]
            if commit.new_ids and commit.generation is not None
            else []
        )
        state = [item for pair in commit.writes.items() for item in pair]
        body = _PACK.encode(
            {
                "state": state,
                "cells": list(cells.values()),
                "sets": list(sets.values()),
                "dropped": len(dropped),
            }
        )
        after = commit.after
        async with guard(self._client):
            word, detail = await self._apply(
                keys=[keys.state, *cells, *sets, *dropped, *log],
                args=[*commit.fence, str(after.next), after.acts, body, commit.new_ids],
            )
        if word == b"wrong_type":
            raise Halt(
                f"Redis key {detail.decode()!r} is of a foreign type; nothing was written. "
                "Remove it, or run `recount rebuild`"
            )
        return Answer(word.decode())

    # -- reads ---------------------------------------------------------------------------------

    async def customers(self, partition: int, measures: Iterable[str]) -> set[str]:
        """Return the customers that have cells of any of these measures."""
        keys = self.keys(partition)
        async with guard(self._client):
            raw: set[bytes] = await self._client.sunion(
                [keys.customers(measure) for measure in measures]
            )
        return {name.decode() for name in raw}

    async def read(
        self,
        partition: int,
        measures: Sequence[str],
        customers: Sequence[str],
        days: Sequence[int],
    ) -> Book | None:
        """Return every cell of these measures, customers and days, from one MULTI.

        Only days that have cells are asked for: the days known before the MULTI must be those
        known in it, otherwise a flush made a new one and the question is asked again.
        """
        keys = self.keys(partition)
        known: set[int] = set()
        for _ in range(_SNAPSHOT_TRIES_MAX):
            wanted = [
                Address(kind, measure, day, customer)
                for measure in measures
                for customer in customers
                for day in days
                if day in known
                for kind in (CELLS, ELEMENTS)
            ]
            async with guard(self._client):
                pipe = self._client.pipeline(transaction=True)
                for measure in measures:
                    pipe.smembers(keys.days(measure))
                book = await _book(pipe, keys, wanted, skipped=len(measures))
            if book is None or book[0] <= known or not customers:
                return None if book is None else book[1]
            known |= book[0]
        raise StoreUnavailable("the stream adds days faster than they can be read; try again")

    async def addresses(self, partition: int) -> AsyncIterator[Address]:
        """Yield the address of every key of cells, whether an index names it or not, once each."""
        keys, cursor = self.keys(partition), 0
        pattern, seen = f"{_escape(keys.prefix)}[cu]:*", set[bytes]()
        while True:
            async with guard(self._client):
                cursor, names = await self._client.scan(cursor, match=pattern, count=_SCAN_COUNT)
            # SCAN may name a key twice, but only while the table is resized: soon after.
            fresh = [name for name in names if name not in seen]
            seen = set(names)
            for name in fresh:
                address = keys.address_of(name.decode())
                if address is not None:
                    yield address
            if not cursor:
                return

    async def read_addresses(self, partition: int, addresses: Sequence[Address]) -> Book | None:
        """Return the cells under these addresses, from one atomic read."""
        async with guard(self._client):
            pipe = self._client.pipeline(transaction=True)
            book = await _book(pipe, self.keys(partition), addresses)
        return None if book is None else book[1]

    # -- rebuild -------------------------------------------------------------------------------

    async def begin_rebuild(self, partition: int) -> None:
        """Mark a partition: from now on every commit is refused and every reader waits."""
        async with guard(self._client):
            pipe = self._client.pipeline(transaction=True)
            pipe.unlink(self.keys(partition).state)
            pipe.hset(self.keys(partition).state, _REBUILDING, "1")
            await pipe.execute()

    async def clear(self, partition: int) -> int:
        """Delete every key of a marked partition but its state; return how many there were."""
        keys, count = self.keys(partition), 0
        async with guard(self._client):
            names: list[bytes] = []
            async for name in self._client.scan_iter(
                f"{_escape(keys.prefix)}*", count=_SCAN_COUNT
            ):
                if name.decode() != keys.state:
                    names.append(name)
                if len(names) >= _SCAN_COUNT:
                    count += await self._client.unlink(*names)
                    names.clear()
            if names:
                count += await self._client.unlink(*names)
        return count

    async def finish_rebuild(self, partition: int, state: PartitionState) -> None:
        """Give a cleared partition its first state."""
        key = self.keys(partition).state
        async with guard(self._client):
            pipe = self._client.pipeline(transaction=True)
            pipe.unlink(key)
            pipe.hset(key, mapping=encode_state(state))
            await pipe.execute()


def _state(fields: Mapping[bytes, bytes]) -> PartitionState | None:
    if not fields:
        return None
    if _REBUILDING.encode() in fields:
        raise StoreUnavailable(
            "a partition is being rebuilt; if no `recount rebuild` runs any more, run it again"
        )
    try:
        return decode_state({name.decode(): text.decode() for name, text in fields.items()})
    except (KeyError, ValueError) as error:
        raise Halt(
            f"a partition's hash in Redis is damaged or foreign ({error}); run `recount rebuild`"
        ) from error


def _cells_key(keys: Keys, cell: CellKey) -> str:
    return keys.cells(cell.measure, keys.day_of(cell.bucket), cell.customer)


def _index(keys: Keys, cells: Iterable[CellKey]) -> dict[str, set[str]]:
    index: dict[str, set[str]] = {}
    for cell in cells:
        index.setdefault(keys.customers(cell.measure), set()).add(cell.customer)
        index.setdefault(keys.days(cell.measure), set()).add(str(keys.day_of(cell.bucket)))
    return index


async def _book(
    pipe: Any, keys: Keys, addresses: Sequence[Address], *, skipped: int = 0
) -> tuple[set[int], Book] | None:
    """Read the state and these keys of cells, behind `skipped` questions for days.

    Returns:
        The days, and the book; None where the partition has no state.
    """
    pipe.hgetall(keys.state)
    for address in addresses:
        if address.kind == CELLS:
            pipe.hgetall(keys.at(address))
        else:
            pipe.smembers(keys.at(address))
    answers = await pipe.execute()
    days = {int(day) for answer in answers[:skipped] for day in answer}
    fields, *found = answers[skipped:]
    state = _state(fields)
    if state is None:
        return None
    cells: dict[CellKey, str] = {}
    elements: dict[CellKey, set[str]] = {}
    for address, content in zip(addresses, found, strict=True):
        _collect(keys, address, content, cells, elements)
    sets = {cell: frozenset(members) for cell, members in elements.items()}
    return days, Book(state, cells, sets)


def _collect(
    keys: Keys,
    address: Address,
    content: Any,
    cells: dict[CellKey, str],
    elements: dict[CellKey, set[str]],
) -> None:
    kind, measure, day, customer = address
    if kind == CELLS:
        for field, text in content.items():
            cells[keys.cell_of(measure, day, customer, field.decode())] = text.decode()
        return
    for member in content:
        cell, element = keys.element_of(measure, day, customer, member.decode())
        elements.setdefault(cell, set()).add(element)


def _escape(pattern: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in pattern)
