"""Whether an identity has been seen: an index of the living ids of a partition.

Rule: the index is exact. It holds what the id log in Redis holds: a commit that was accepted
proves them equal, any refusal drops the index.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .compiled import MODULE
from .dedup import ID_BYTES, count_in, ids_in, tag_of

_LOAD_MAX: Final = 0.72
_SLOTS: Final = 8
_BUCKETS_MIN: Final = 1 << 15  # its memory is zero, and so not there, until it is used
_EMPTY: Final = 0

_U64 = NDArray[np.uint64]
_U32 = NDArray[np.uint32]
_U8 = NDArray[np.uint8]


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
