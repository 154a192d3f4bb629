"""Kept corrections: which records were taken back, and by which, for whoever reads the log later.

A void at offset z takes the record at o back. Whoever reads a part of the log, a slice of the past
or the events of a cell, leaves o out if z is applied. Whether z was right hangs on all of the log
before it (was o a duplicate?), so the owner keeps what it decided, as it keeps who was a
duplicate (core/verdicts.py).

One list for each partition, one element for each correction: o and z (8 bytes each,
little-endian), pushed by the commit that applies z.

Rule 1: the distinct elements from `voids_trimmed.below` on are as many as the counter `corrected`
says, less those trimmed.
Rule 2: what lies before the log's start is let go: nobody can read either record any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .correction import TakenBack
from .state import Trimmed

TRIMMED_MAX: Final = 5_000  # elements, in one script
_BYTES: Final = 16
_Offsets = NDArray[np.int64]


def _nothing() -> _Offsets:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Voids:
    """All corrections that a partition keeps; never changed. Ordered by the originals.

    originals, by: offsets. No record is taken back twice.
    """

    originals: _Offsets = field(default_factory=_nothing)
    by: _Offsets = field(default_factory=_nothing)

    def __len__(self) -> int:
        return len(self.originals)

    def by_of(self, offset: int) -> int | None:
        """Return which record took the one at an offset back; None: none did."""
        at = int(self.originals.searchsorted(offset))
        if at == len(self.originals) or int(self.originals[at]) != offset:
            return None
        return int(self.by[at])

    def is_applied(self, by: int) -> bool:
        """Whether the correction at an offset is applied."""
        return bool((self.by == by).any())

    def root_of(self, offset: int) -> int:
        """The record that was amended first, of those that led to the one at an offset."""
        while len(found := self.originals[self.by == offset]):
            offset = int(found[0])
        return offset

    def living(self, low: int, high: int) -> list[int]:
        """The applied corrections in [low, high) that were not taken back themselves, in order."""
        found = self.by[(low <= self.by) & (self.by < high)]
        return sorted(np.setdiff1d(found, self.originals).tolist())

    def between(self, low: int, high: int) -> frozenset[int]:
        """The originals in [low, high)."""
        first, last = self.originals.searchsorted([low, high])
        return frozenset(self.originals[first:last].tolist())

    def until(self, offset: int) -> dict[int, int]:
        """Original → correction, of those by records before an offset."""
        found = self.by < offset
        pairs = zip(self.originals[found].tolist(), self.by[found].tolist(), strict=True)
        return dict(pairs)

    def since(self, offset: int) -> list[TakenBack]:
        """What was taken back by records at an offset or later, in the order of these."""
        found = self.by >= offset
        pairs = zip(self.originals[found].tolist(), self.by[found].tolist(), strict=True)
        return sorted((TakenBack(*pair) for pair in pairs), key=lambda each: each.by)

    def above(self, offset: int) -> "Voids":
        """Those by records at an offset or later."""
        left = self.by >= offset
        return Voids(self.originals[left], self.by[left])

    def with_(self, taken: TakenBack) -> "Voids":
        """The same and one more."""
        at = self.originals.searchsorted(taken.original)
        return Voids(
            np.insert(self.originals, at, taken.original), np.insert(self.by, at, taken.by)
        )


def voids_in(elements: Sequence[bytes], trimmed: Trimmed) -> Voids:
    """Return what the elements of a list say and is not trimmed.

    Raises:
        ValueError: they are not ours.
    """
    if any(len(element) != _BYTES for element in elements):
        raise ValueError("an element of the kept corrections is not ours")
    pairs = np.frombuffer(b"".join(elements), "<i8").astype(np.int64).reshape(-1, 2)
    pairs = np.unique(pairs[pairs[:, 1] >= trimmed.below], axis=0)
    originals, by = pairs[:, 0], pairs[:, 1]
    if len(np.unique(originals)) != len(pairs) or len(np.unique(by)) != len(pairs):
        raise ValueError("the kept corrections say of one record that it was taken back twice")
    return Voids(np.ascontiguousarray(originals), np.ascontiguousarray(by))


def voids_add_up(voids: Voids, trimmed: Trimmed, corrected: int) -> bool:
    """Whether the kept corrections are all that the counter speaks of (rule 1)."""
    return len(voids) == corrected - trimmed.records


def trim_voids(
    elements: Sequence[bytes], voids: Voids, trimmed: Trimmed, offset: int
) -> tuple[int, Trimmed] | None:
    """Return how many elements to take from the front, and what is trimmed then; None is nothing.

    An element goes when its correction lies before an offset, TRIMMED_MAX at once.
    """
    gone, below = 0, trimmed.below
    for element in elements[:TRIMMED_MAX]:
        by = int.from_bytes(element[8:], "little")
        if by >= offset:
            break
        gone += 1
        below = max(below, by + 1)
    if not gone:
        return None
    return gone, Trimmed(trimmed.records + int((voids.by < below).sum()), below)
