"""Identities: who an event is, where it lives, and the elements of an id log (docs/design.md 5).

Rule 1: the identity is the pair (customer_id, transaction_id), length-prefixed, never glued.
Rule 2: generations come from the log clock, so a replay forgets at the same records.
Whether an identity has been seen says core/id_index.py, which alone needs numpy.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

import xxhash

from .event import Event

ID_BYTES: Final = 12
ID_HASH: Final = "xxh3_128/96"
HEAD_BYTES: Final = 8  # of an element of an id log: the first offset of its flush, little-endian
_REMEMBERED_CHARS_MAX: Final = 64  # 131,072 of them: 80 MiB at most
_TAGS: Final = 250  # a generation's tag is 1 + g mod 250; at most five live side by side


class Customer(NamedTuple):
    """What is asked of a customer at every event: home partition, head of an identity."""

    home: int
    head: bytes


def customer_of(customer_id: str, homes: int) -> Customer:
    """Return a customer's home (docs/design.md 2, Keying) and its length-prefixed bytes."""
    if len(customer_id) > _REMEMBERED_CHARS_MAX:
        return _customer_of.__wrapped__(customer_id, homes)
    return _customer_of(customer_id, homes)


@lru_cache(maxsize=1 << 17)
def _customer_of(customer_id: str, homes: int) -> Customer:
    raw = customer_id.encode()
    return Customer((murmur2(raw) & 0x7FFFFFFF) % homes, len(raw).to_bytes(4, "big") + raw)


class Heads(dict[str, bytes]):
    """Of the customers met, what their identities begin with: made when first asked for.

    away: the homes of those customers that do not live in this partition.
    """

    def __init__(self, partition: int, homes: int) -> None:
        super().__init__()
        self.away: dict[str, int] = {}
        self._partition = partition
        self._homes = homes

    def __missing__(self, customer_id: str) -> bytes:
        customer = customer_of(customer_id, self._homes)
        if customer.home != self._partition:
            self.away[customer_id] = customer.home
        self[customer_id] = customer.head
        return customer.head


def identities(events: Iterable[Event], heads: Heads, seed: int) -> list[bytes]:
    """Return the 12-byte ids of events: hashes of the pair (customer_id, transaction_id)."""
    digest = xxhash.xxh3_128_digest
    return [
        digest(heads[event.customer_id] + event.transaction_id.encode(), seed)[:ID_BYTES]
        for event in events
    ]


def identity_of(customer_id: str, transaction_id: str, seed: int) -> bytes:
    """Return the 12-byte id of one pair."""
    head = customer_of(customer_id, 1).head
    return xxhash.xxh3_128_digest(head + transaction_id.encode(), seed)[:ID_BYTES]


def seed_of(store_id: str) -> int:
    """Return the hash seed of a deployment: the first 64 bits of its store id (hex)."""
    return int(store_id.replace("-", "")[:16], 16)


def generation_of(clock_ms: int, window_ms: int, generations: int) -> int:
    """Return the generation of a record that the log clock stands at."""
    return clock_ms * generations // window_ms


def last_ms_of(generation: int, window_ms: int, generations: int) -> int:
    """Return where the log clock stands last in a generation."""
    return ((generation + 1) * window_ms - 1) // generations


def tag_of(generation: int) -> int:
    """Return what marks the ids of a generation in the index."""
    return 1 + generation % _TAGS


def murmur2(data: bytes) -> int:
    """Return Kafka's murmur2 of a key, as its default partitioner computes it."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    length = len(data)
    h = (0x9747B28C ^ length) & mask
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    if whole < length:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return h ^ (h >> 15)


def home_of(customer_id: str, homes: int) -> int:
    return customer_of(customer_id, homes).home


def element_at(offset: int, ids: bytes) -> bytes:
    """Return the element that a flush from an offset on appends to an id log.

    The offset leads from an identity back to its flush, and so to its record.
    """
    return offset.to_bytes(HEAD_BYTES, "little") + ids


def ids_in(elements: Iterable[bytes]) -> bytes:
    """Return the packed ids of the elements of an id log."""
    return b"".join(element[HEAD_BYTES:] for element in elements)


def count_in(elements: Iterable[bytes]) -> int:
    """Return how many ids the elements of an id log hold; -1 where one of them is not ours."""
    sizes = [len(element) - HEAD_BYTES for element in elements]
    if any(size <= 0 or size % ID_BYTES for size in sizes):
        return -1
    return sum(sizes) // ID_BYTES


def flushes_of(elements: Iterable[bytes], id_: bytes) -> list[int]:
    """Return the first offsets of the flushes that remember an id."""
    found = []
    for element in elements:
        at = element.find(id_, HEAD_BYTES)
        while at >= 0 and (at - HEAD_BYTES) % ID_BYTES:
            at = element.find(id_, at + 1)
        if at >= 0:
            found.append(int.from_bytes(element[:HEAD_BYTES], "little"))
    return found
