"""Kept verdicts: which records were judged duplicates, for whoever reads a part of the log later.

Whether a record is a duplicate depends on all of the log before it. An identity that is used again
and again, each time with a new time, is counted at every fifth generation, say: whoever begins in
the middle cannot know at which. So the owner keeps its verdicts, and nobody judges a record twice
who has not read everything before it (docs/design.md 5).

One list for each partition; one element for each flush that met duplicates, pushed by the same
commit. An element holds the offset of its first duplicate (8 bytes), then the distance of each
to the one before it (4 bytes), little-endian.

Rule 1: the distinct offsets from `Trimmed.below` on are as many as the counter of duplicates says,
less those trimmed. Distinct: Redis may run the beginning of a torn commit later (docs/faults.md),
and then an element is there twice.
Rule 2: what lies before the log's start is let go, element by element: its records are gone.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .state import Trimmed

TRIMMED_MAX: Final = 5_000  # elements, in one script: some milliseconds of Redis
_FIRST_BYTES: Final = 8
_STEP_BYTES: Final = 4
_STEP_MAX: Final = (1 << 32) - 1

Offsets = NDArray[np.int64]
_NO_OFFSETS: Final[Offsets] = np.empty(0, np.int64)


def pack(offsets: Sequence[int]) -> list[bytes]:
    """Return the elements of offsets, which ascend: one, but for steps of 4 billion and more."""
    if not offsets:
        return []
    cuts = [
        at for at, (left, right) in enumerate(pairwise(offsets), 1) if right - left > _STEP_MAX
    ]
    bounds = [0, *cuts, len(offsets)]
    return [_element(offsets[low:high]) for low, high in pairwise(bounds)]


def _element(offsets: Sequence[int]) -> bytes:
    steps = np.diff(np.asarray(offsets, np.int64)).astype("<u4")
    return offsets[0].to_bytes(_FIRST_BYTES, "little") + steps.tobytes()


def unpack(element: bytes) -> Offsets:
    """Return the offsets of an element. Raises ValueError: it is not ours."""
    if len(element) < _FIRST_BYTES or (len(element) - _FIRST_BYTES) % _STEP_BYTES:
        raise ValueError(f"a kept verdict of {len(element)} bytes")
    first = int.from_bytes(element[:_FIRST_BYTES], "little", signed=True)
    steps = np.frombuffer(element, "<u4", offset=_FIRST_BYTES)
    offsets = np.empty(len(steps) + 1, np.int64)
    offsets[0] = first
    offsets[1:] = first + np.cumsum(steps, dtype=np.int64)
    return offsets


def offsets_in(elements: Sequence[bytes]) -> Offsets:
    """Return every offset of many elements, in no order. Raises ValueError: they are not ours."""
    short = [element for element in elements if len(element) == _FIRST_BYTES]
    long = [unpack(element) for element in elements if len(element) != _FIRST_BYTES]
    alone = np.frombuffer(b"".join(short), "<i8").astype(np.int64)  # most flushes met one
    return np.concatenate([alone, *long])


def duplicates_in(elements: Sequence[bytes], trimmed: Trimmed) -> Offsets:
    """Return every distinct offset that was judged a duplicate, ascending, and is still kept."""
    return kept_of([offsets_in(elements)], trimmed)


def kept_of(offsets: Sequence[Offsets], trimmed: Trimmed) -> Offsets:
    """Return of the offsets of all elements what is still kept, ascending, each once."""
    found: Offsets = np.unique(np.concatenate([_NO_OFFSETS, *offsets]))
    return found[np.searchsorted(found, trimmed.below) :]


def add_up(kept: Offsets, trimmed: Trimmed, duplicates: int) -> bool:
    """Whether the kept verdicts are all that the counter of duplicates speaks of (rule 1)."""
    return len(kept) == duplicates - trimmed.records


def trim(
    elements: Sequence[bytes], kept: Offsets, trimmed: Trimmed, log_start: int
) -> tuple[int, Trimmed] | None:
    """Return how many elements to take from the front, and what is trimmed then; None is nothing.

    An element goes when all of its offsets lie before the log's start, TRIMMED_MAX at once.
    """
    gone = 0
    below = trimmed.below
    for element in elements[:TRIMMED_MAX]:
        last = int(unpack(element)[-1])
        if last >= log_start:
            break
        gone += 1
        below = max(below, last + 1)
    if not gone:
        return None
    duplicates = trimmed.records + int(np.searchsorted(kept, below))
    return gone, Trimmed(duplicates, below)
