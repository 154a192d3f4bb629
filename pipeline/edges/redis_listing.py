"""What is too long for one answer: every key of a partition by name, and lists in slices.

Keys are listed by walking one Redis (SCAN), past all keys that it has, of whatever partition. A
node of a cluster also knows the keys of each slot, and a partition is in one slot.

Rule: what is listed is whole. While a slot is moved its keys are on two nodes. So each step also
asks, in the same MULTI, for the type of a key that is never there: of a slot that is on the move,
or gone, the answer is no type but ASK or MOVED.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

from ..errors import StoreUnavailable
from .redis_client import ResponseError, is_refused
from .redis_keys import Keys, slot_of
from .redis_nodes import Nodes, followed

_SCAN_COUNT: Final = 2_000
_ELEMENTS_AT_ONCE: Final = 200  # of a list: heartbeats go on while it loads
# Of a slot whose keys are listed at once: a tenth of a second of Redis, 20 MB of ours.
SLOT_KEYS_MAX: Final = 200_000


async def names_of(nodes: Nodes, keys: Keys, pattern: str) -> AsyncIterator[list[bytes]]:
    """Yield the names of a partition's keys in parts, each once; perhaps some more of them.

    Args:
        pattern: One of `keys`: which are wanted.

    Raises:
        StoreUnavailable: the slot is just being moved.
    """
    found = await _in_slot(nodes, keys) if nodes.is_cluster else None
    if found is None:
        async for names in walked(nodes, keys, pattern):
            yield names
        return
    for at in range(0, len(found), _SCAN_COUNT):
        yield found[at : at + _SCAN_COUNT]


@followed
async def _in_slot(nodes: Nodes, keys: Keys) -> list[bytes] | None:
    """The keys of a slot that are the partition's; None: too many, or we may not ask."""
    slot, most = slot_of(keys.state), SLOT_KEYS_MAX
    async with nodes.at(keys.state) as redis:
        try:
            if await redis.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) >= most:
                return None
            pipe = redis.pipeline(transaction=True)
            pipe.type(keys.rights)
            pipe.execute_command("CLUSTER", "GETKEYSINSLOT", slot, most)
            _, found = await pipe.execute()
        except ResponseError as error:
            if is_refused(error):
                return None
            raise
    return None if len(found) == most else [name for name in found if keys.holds(name)]


async def walked(nodes: Nodes, keys: Keys, pattern: str) -> AsyncIterator[list[bytes]]:
    """Walk all keys of the node that holds the partition."""
    cursor, seen, walked = 0, set[bytes](), None
    while True:
        redis, cursor, names = await _page(nodes, keys, cursor, pattern)
        if walked not in {None, redis}:
            raise StoreUnavailable(
                "the keys of a partition moved to another node while they were listed; again"
            )
        # SCAN may name a key twice, but only while the table is resized: soon after.
        fresh = [name for name in names if name not in seen]
        walked, seen = redis, set(names)
        yield fresh
        if not cursor:
            return


@followed
async def _page(
    nodes: Nodes, keys: Keys, cursor: int, pattern: str
) -> tuple[Any, int, list[bytes]]:
    """One step of a walk, and whom it was asked of."""
    async with nodes.at(keys.state) as redis:
        pipe = redis.pipeline(transaction=True)
        pipe.type(keys.rights)
        pipe.scan(cursor, match=pattern, count=_SCAN_COUNT)
        _, (cursor, names) = await pipe.execute()
    return redis, cursor, names


async def elements_of(nodes: Nodes, key: str) -> list[bytes]:
    """Return the whole of a list, read in slices."""
    return [element async for part in slices_of(nodes, key) for element in part]


async def slices_of(nodes: Nodes, key: str) -> AsyncIterator[list[bytes]]:
    """Yield a list slice by slice, from several moments."""
    at = 0
    while True:
        part = await _slice(nodes, key, at)
        yield part
        at += len(part)
        if len(part) < _ELEMENTS_AT_ONCE:
            return


@followed
async def _slice(nodes: Nodes, key: str, at: int) -> list[bytes]:
    async with nodes.at(key) as redis:
        part: list[bytes] = await redis.lrange(key, at, at + _ELEMENTS_AT_ONCE - 1)
        return part
