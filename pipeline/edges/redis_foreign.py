"""What lies under a partition's prefix in Redis and is not ours: a sentence each."""

from collections.abc import AsyncIterator
from typing import Any, Final

from ..core.names import is_field
from ..core.state import is_state_field
from .redis_books import quoted
from .redis_keys import Keys, is_day, is_index

_SCAN_COUNT: Final = 2_000


async def strays_in(client: Any, keys: Keys) -> AsyncIterator[str]:
    """Yield what lies under the partition's prefix outside cells and is not ours."""
    for name in await client.hkeys(keys.state):
        if not is_state_field(name.decode(errors="replace")):
            yield f"key {keys.state!r}: {quoted(name)} is not ours"
    async for name in client.scan_iter(keys.every, count=_SCAN_COUNT):
        text = name.decode(errors="replace")
        kind, rest = keys.kind_of(text)
        address = keys.address_of(text)
        if address is not None and keys.at(address).encode() == name:
            continue
        if text == keys.state:
            continue
        if text == keys.names:
            async for stray in _stray_names(client, text):
                yield stray
            continue
        if (kind == "ids" and is_day(rest)) or text == keys.duplicates:
            wanted = "list"
        elif is_index(kind) and text.encode() == name:
            wanted = "set"
        else:
            yield f"key {quoted(name)} is not one of ours"
            continue
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
