"""Identities: who an event is, where it lives, and whether it has been seen (docs/design.md 5).

Rule 1: the identity is the pair (customer_id, transaction_id), length-prefixed, never glued.
Rule 2: the index is exact. It holds what the id log in Redis holds: a commit that was accepted
proves them equal, any refusal drops the index.
Rule 3: generations come from the log clock, so a replay forgets at the same records.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Final, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from .compiled import MODULE
from .event import Event

ID_BYTES: Final = 12
ID_HASH: Final = "xxh3_128/96"
HEAD_BYTES: Final = 8  # of an element of an id log: the first offset of its flush, little-endian
_LOAD_MAX: Final = 0.72
_SLOTS: Final = 8
_BUCKETS_MIN: Final = 1 << 15  # its memory is zero, and so not there, until it is used
_EMPTY: Final = 0
_REMEMBERED_CHARS_MAX: Final = 64  # 131,072 of them: 80 MiB at most
_TAGS: Final = 250  # a generation's tag is 1 + g mod 250; at most five live side by side

_U64 = NDArray[np.uint64]
_U32 = NDArray[np.uint32]
_U8 = NDArray[np.uint8]


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


class IdIndex:
    """An exact set of 12-byte ids with their generations, asked for a batch at once.

    Buckets of eight slots, so that one line of memory answers for one id; an id whose bucket is
    full lies in the next one that was not. 13 bytes a slot: 18 to 36 bytes an id.

    native: inserts sooner; the places are the same where it matters.
    """

    def __init__(self, expected: int = 0, native: ModuleType | None = MODULE) -> None:
        self._native = native
        self._allocate(expected)

    def _allocate(self, expected: int) -> None:
        buckets = _BUCKETS_MIN
        while expected > buckets * _SLOTS * _LOAD_MAX:
            buckets *= 2
        self._high: _U64 = np.zeros((buckets, _SLOTS), np.uint64)
        self._low: _U32 = np.zeros((buckets, _SLOTS), np.uint32)
        self._tag: _U8 = np.zeros((buckets, _SLOTS), np.uint8)
        self._filled: _U8 = np.zeros(buckets, np.uint8)
        self._mask = np.uint64(buckets - 1)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, bytes."""
        return sum(array.nbytes for array in self.arrays)

    def add(self, ids: Sequence[bytes], generation: int) -> list[bool]:
        """Add ids; return for each whether it is new: neither held before nor earlier in ids."""
        high, low = _unpack(b"".join(ids))
        new = ~self._seen(high, low)
        if len(set(ids)) < len(ids):
            first = dict(zip(reversed(ids), reversed(range(len(ids))), strict=True))
            new &= np.array([first[id_] == number for number, id_ in enumerate(ids)])
        self._record(high[new], low[new], generation)
        found: list[bool] = new.tolist()
        return found

    def seen(self, ids: bytes) -> NDArray[np.bool_]:
        """Return for each packed id whether the index holds it."""
        return self._seen(*_unpack(ids))

    def _seen(self, high: _U64, low: _U32) -> NDArray[np.bool_]:
        found = np.zeros(len(high), np.bool_)
        pending, at = np.arange(len(high)), (high & self._mask).astype(np.intp)
        while len(pending):
            # Empty slots are zero in all three arrays, which an id may be as well: ask the tag.
            alike = self._high[at] == high[pending, None]
            if alike.any():
                who, slot = np.nonzero(alike)
                where, id_ = at[who], pending[who]
                equal = (self._low[where, slot] == low[id_]) & (self._tag[where, slot] != _EMPTY)
                found[id_[equal]] = True
            on = self._filled[at] == _SLOTS
            if not on.any():
                break
            on &= ~found[pending]
            pending, at = pending[on], (at[on] + 1) & int(self._mask)
        return found

    def record(self, ids: bytes, generation: int) -> None:
        """Add packed ids that are distinct and not in the index."""
        self._record(*_unpack(ids), generation)

    def _record(self, high: _U64, low: _U32, generation: int) -> None:
        self.reserve(len(high))
        self._insert(high, low, np.full(len(high), tag_of(generation), np.uint8))

    def reserve(self, count: int) -> None:
        expected = self._size + count
        if expected > self._tag.size * _LOAD_MAX:
            self._rebuild(np.ones(self._tag.shape, np.bool_), expected)

    @property
    def arrays(self) -> tuple[_U64, _U32, _U8, _U8]:
        """High and low parts of ids, tags, and how many slots of a bucket are filled.

        Whoever adds ids to them, which is native/src/index.rs, reserves first and says so.
        """
        return self._high, self._low, self._tag, self._filled

    def took(self, count: int) -> None:
        """Note that count ids were added to the arrays."""
        self._size += count

    def forget_before(self, oldest: int, newest: int) -> None:
        """Drop every generation but those from oldest to newest, both included."""
        living = [tag_of(generation) for generation in range(oldest, newest + 1)]
        keep = np.isin(self._tag, living)
        if int(keep.sum()) != self._size:
            self._rebuild(keep, int(keep.sum()))

    def _rebuild(self, keep: NDArray[np.bool_], expected: int) -> None:
        keep &= self._tag != _EMPTY
        high, low, tag = self._high[keep], self._low[keep], self._tag[keep]
        self._allocate(expected)
        self._insert(high, low, tag)

    def _insert(self, high: _U64, low: _U32, tag: _U8) -> None:
        self._size += len(high)
        if self._native is not None:
            self._native.insert(high, low, tag, self.arrays)
            return
        flat_high, flat_low, flat_tag = self._high.ravel(), self._low.ravel(), self._tag.ravel()
        at = (high & self._mask).astype(np.intp)
        while len(at):
            slot = self._filled[at]
            while (full := slot == _SLOTS).any():
                at = np.where(full, (at + 1) & int(self._mask), at)
                slot = self._filled[at]
            # Of those that want the same slot one is written last; the others try again.
            where = at * _SLOTS + slot
            flat_high[where], flat_low[where] = high, low
            won = (flat_high[where] == high) & (flat_low[where] == low)
            if won.all():
                flat_tag[where], self._filled[at] = tag, slot + 1
                return
            flat_tag[where[won]], self._filled[at[won]] = tag[won], slot[won] + 1
            at, high, low, tag = at[~won], high[~won], low[~won], tag[~won]


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


def superfluous(elements: Sequence[bytes], wanted: int) -> list[bytes] | None:
    """Return the elements of an id log that say again what others say; None if that is not all.

    Redis that lost the tail of a commit drops it at the next start, but leaves its beginning in
    the append-only file; at the start after that one, the beginning runs (measured on 7.0.15;
    docs/reliability.md). By then the worker has applied the same records again,
    so every cell has its final value, and only appended ids are there twice.

    Args:
        wanted: How many ids there must be.
    """
    if count_in(elements) < 0:
        return None
    ids = np.frombuffer(ids_in(elements), np.dtype(f"V{ID_BYTES}"))
    _, which, times = np.unique(ids, return_inverse=True, return_counts=True)
    extra, dropped, at = len(ids) - wanted, [], 0
    if len(times) != wanted:
        return None  # ids of records that are not applied yet, or lost ones
    for element in elements:
        count = count_in([element])
        mine = which[at : at + count]
        at += count
        if count <= extra and (times[mine] > 1).all():
            times[mine] -= 1
            extra -= count
            dropped.append(element)
    return dropped if extra == 0 else None


def _unpack(ids: bytes) -> tuple[_U64, _U32]:
    packed = np.frombuffer(ids, np.dtype([("high", "<u8"), ("low", "<u4")]))
    return np.ascontiguousarray(packed["high"]), np.ascontiguousarray(packed["low"])
