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
    """Yield what lies under the partition's prefix outside cells and is not ours.

    What an epoch holds that is not the one of these keys is of no matter: nobody reads it.
    """
    for name in await _fields(nodes, keys.state):
        if not is_state_field(name.decode(errors="replace")):
            yield f"key {keys.state!r}: {quoted(name)} is not ours"
    async for names in names_of(nodes, keys, keys.every):
        for name in names:
            text = name.decode(errors="replace")
            if keys.epoch_of(name) != keys.epoch:
                async for stray in _of_others(nodes, keys, name):
                    yield stray
                continue
            address = keys.address_of(text)
            if address is not None and keys.at(address).encode() == name:
                continue
            for stray in await _of_key(nodes, keys, name):
                yield stray


async def _of_others(nodes: Nodes, keys: Keys, name: bytes) -> AsyncIterator[str]:
    """Yield what is wrong with a key of another epoch: there may be no such epoch."""
    epoch = keys.epoch_of(name)
    if epoch is None:
        if name.decode(errors="replace") != keys.epochs:
            return
        for field in await _fields(nodes, keys.epochs):
            if field != b"given" and not field.isdigit():
                yield f"key {keys.epochs!r}: {quoted(field)} is not ours"
    # It is forgotten when it has no key any more: whoever listed this one may have done it before.
    elif (
        str(epoch).encode() not in await _fields(nodes, keys.epochs)
        and await _type(nodes, keys, name) != "none"
    ):
        yield f"key {quoted(name)} is of an epoch that there is not"


@followed
async def _fields(nodes: Nodes, key: str) -> list[bytes]:
    async with nodes.at(key) as redis:
        fields: list[bytes] = await redis.hkeys(key)
        return fields


@followed
async def _type(nodes: Nodes, keys: Keys, name: bytes) -> str:
    async with nodes.at(keys.state) as redis:
        found: bytes = await redis.type(name)
    return found.decode()


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
    if (kind == "ids" and is_day(rest)) or text in {keys.duplicates, keys.voids}:
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
