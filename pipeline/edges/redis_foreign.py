"""What lies under a partition's prefix in Redis and is not ours: a sentence each."""

from collections.abc import AsyncIterator
from typing import Any, Final

from ..core.names import is_field
from ..core.state import is_state_field
from .redis_books import quoted
from .redis_keys import Keys, is_day, is_index
from .redis_listing import names_of
from .redis_nodes import Nodes, followed

_SCAN_COUNT: Final = 2_000


async def strays_in(nodes: Nodes, keys: Keys) -> AsyncIterator[str]:
    """Yield what lies under the partition's prefix outside cells and is not ours."""
    for name in await _fields(nodes, keys.state):
        if not is_state_field(name.decode(errors="replace")):
            yield f"key {keys.state!r}: {quoted(name)} is not ours"
    async for names in names_of(nodes, keys, keys.every):
        for name in names:
            text = name.decode(errors="replace")
            address = keys.address_of(text)
            if text == keys.state or (address is not None and keys.at(address).encode() == name):
                continue
            for stray in await _of_key(nodes, keys, name):
                yield stray


@followed
async def _fields(nodes: Nodes, key: str) -> list[bytes]:
    async with nodes.at(key) as redis:
        fields: list[bytes] = await redis.hkeys(key)
        return fields


@followed
async def _of_key(nodes: Nodes, keys: Keys, name: bytes) -> list[str]:
    async with nodes.at(keys.state) as redis:
        return [stray async for stray in _strays(redis, keys, name)]


async def _strays(client: Any, keys: Keys, name: bytes) -> AsyncIterator[str]:
    """Yield what is wrong with a key that is neither the state nor one of cells."""
    text = name.decode(errors="replace")
    kind, rest = keys.kind_of(text)
    if text == keys.names:
        async for stray in _stray_names(client, text):
            yield stray
        return
    if (kind == "ids" and is_day(rest)) or text == keys.duplicates:
        wanted = "list"
    elif is_index(kind) and text.encode() == name:
        wanted = "set"
    else:
        yield f"key {quoted(name)} is not one of ours"
        return
    found = (await client.type(name)).decode()
    if found not in {wanted, "none"}:  # none: a living id log may go meanwhile
        yield f"key {quoted(name)} is a {found}, not a {wanted}"
    elif wanted == "set" and found == "set":
        async for member in client.sscan_iter(name, count=_SCAN_COUNT):
            if not _is_member(kind, member):
                yield f"key {quoted(name)}: member {quoted(member)} is not ours"


async def _stray_names(client: Any, key: str) -> AsyncIterator[str]:
    """Yield what is not ours among the names that a partition has learned."""
    found = (await client.type(key)).decode()
    if found != "hash":
        yield f"key {key!r} is a {found}, not a hash"
        return
    async for place, text in client.hscan_iter(key, count=_SCAN_COUNT):
        if not is_name(place, text):
            yield f"key {key!r}: {quoted(place)} is not ours"


def is_name(place: bytes, text: bytes) -> bool:
    """Whether a field of learned names, and its text, are ours."""
    try:
        return is_field(place.decode(), text.decode())
    except UnicodeDecodeError:
        return False


def _is_member(kind: str, member: bytes) -> bool:
    try:
        text = member.decode()
    except UnicodeDecodeError:
        return False
    return kind == "i" or is_day(text)
