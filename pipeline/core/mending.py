"""Cells that a correction has reached → what they must hold, counted again from the log.

What a record adds to a UNIQUE cell, or as the largest to a MAX cell, cannot be subtracted
(core/fold/subtract.py): what stood before is not kept. Such cells are stale from the commit of
the correction on, and are mended afterwards: the owner reads the part of the log that can reach
their base buckets, counts these cells alone, and writes what they hold, under the fence of every
other commit.

What lies in a cell, whoever counts it: the events of records below `next` that are no duplicates,
at the offsets at which the version counts, except those that were taken back below `next`.

Rule 1: stale cells go on taking live events. What they hold meanwhile is of no use, and readers
are told so (`PartitionState.stale`); the mending commit replaces it.
Rule 2: a mending commit stands at one `next`: it holds everything before it. What is taken back
while the log is read is not left out yet; it is stale for its own sake.
Rule 3: a record that is left out, or of another customer, still moves the log clock.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from .aggregations import Partial, encode_partial, merge_partials
from .cells import CellKey, Change
from .stale import Buckets
from .state import PartitionState, changed_fields, fence_of


class Reached(NamedTuple):
    """Cells that records reach: those of texts, and the elements of UNIQUE ones.

    Of one record texts say what it added; of several, of one of them.
    """

    texts: Mapping[CellKey, Change]
    elements: Mapping[CellKey, frozenset[str]]

    @property
    def cells(self) -> Collection[CellKey]:
        """All of them."""
        return self.texts.keys() | self.elements.keys()


def joined_reached(each: Iterable[Reached]) -> Reached:
    """What several records reach."""
    texts: dict[CellKey, Change] = {}
    elements: dict[CellKey, frozenset[str]] = {}
    for reached in each:
        texts |= reached.texts
        for cell, found in reached.elements.items():
            elements[cell] = elements.get(cell, frozenset()) | found
    return Reached(texts, elements)


def stale_part(reached: Reached, state: PartitionState) -> Reached:
    """The cells among these that are stale."""

    def is_stale(cell: CellKey) -> bool:
        return state.is_stale(version_of(cell), cell.bucket, cell.bucket)

    return Reached(
        {cell: change for cell, change in reached.texts.items() if is_stale(cell)},
        {cell: elements for cell, elements in reached.elements.items() if is_stale(cell)},
    )


def version_of(cell: CellKey) -> str:
    """The version that a cell belongs to."""
    return cell.measure.rpartition(".")[0]


def stale_of(cells: Iterable[CellKey]) -> dict[str, Buckets]:
    """The versions and the base buckets that cells belong to."""
    found: dict[str, Buckets] = {}
    for cell in cells:
        here, version = Buckets(cell.bucket, cell.bucket), version_of(cell)
        found[version] = found[version].with_(here) if version in found else here
    return found


def spans_of(state: PartitionState, version: str) -> list[tuple[int, int]]:
    """The offsets at which a version has counted so far: of its past, and from its start on."""
    activation, past = state.active[version], state.hist.by_version.get(version)
    spans = [] if past is None else [(past.start, min(past.next, activation.offset))]
    return [*spans, (activation.offset, min(state.ended.get(version, state.next), state.next))]


def counting_at(state: PartitionState, offset: int, root: int) -> frozenset[str]:
    """The versions that have counted the record at an offset, if it counts at all.

    Args:
        root: The same, or of an amend what it goes back to: a version counts it if it counts its
            root, and has come to the amend.
    """
    return frozenset(
        version
        for version, activation in state.active.items()
        if _begins(state, version) <= root < state.ended.get(version, offset + 1)
        and (
            activation.offset <= offset < state.next
            or any(low <= offset < high for low, high in spans_of(state, version)[:-1])
        )
    )


def _begins(state: PartitionState, version: str) -> int:
    """The first offset at which a version counts, or will."""
    past = state.hist.by_version.get(version)
    return state.active[version].offset if past is None else past.start


class Part(NamedTuple):
    """[low, high) of the log, and the versions that count there."""

    low: int
    high: int
    versions: frozenset[str]


def parts_of(state: PartitionState, versions: Collection[str], low: int, high: int) -> list[Part]:
    """Cut [low, high) where versions begin or end to count."""
    spans = {version: spans_of(state, version) for version in versions}
    cuts = {edge for each in spans.values() for span in each for edge in span}
    edges = sorted({low, high, *(edge for edge in cuts if low < edge < high)})
    return [
        Part(
            begin,
            end,
            frozenset(
                version
                for version, each in spans.items()
                if any(first <= begin and end <= last for first, last in each)
            ),
        )
        for begin, end in pairwise(edges)
    ]


@dataclass(slots=True)
class CountedAgain:
    """What was counted so far of some cells."""

    wanted: Reached
    texts: dict[CellKey, Change] = field(default_factory=dict)
    elements: dict[CellKey, set[str]] = field(default_factory=dict)

    def take(
        self, cells: Mapping[CellKey, Change], elements: Mapping[CellKey, Collection[str]]
    ) -> None:
        """Add what a plan changes, where it is wanted."""
        for cell in self.wanted.texts.keys() & cells.keys():
            kind, partial = cells[cell]
            held = self.texts.get(cell)
            whole: Partial = partial
            if held is not None:
                whole = merge_partials(kind, held.partial, partial)
            self.texts[cell] = Change(kind, whole)
        for cell in self.wanted.elements.keys() & elements.keys():
            found = self.wanted.elements[cell].intersection(elements[cell])
            self.elements.setdefault(cell, set()).update(found)


@dataclass(frozen=True, slots=True)
class Mending:
    """One fenced write of cells that were counted again; `next` stays.

    texts: what they hold. gone: those that hold nothing, of which nothing stays. lost: elements
    that UNIQUE cells do not hold any more.
    """

    partition: int
    before: PartitionState
    after: PartitionState
    texts: Mapping[CellKey, str]
    gone: Sequence[CellKey]
    lost: Mapping[CellKey, frozenset[str]]

    @property
    def fence(self) -> tuple[str, ...]:
        """What must be stored, as text."""
        return fence_of(self.before)

    @property
    def writes(self) -> dict[str, str]:
        """The fields of the partition's hash that change."""
        return changed_fields(self.before, self.after)

    @property
    def cells(self) -> Collection[CellKey]:
        """All cells that it is about."""
        return {*self.texts, *self.gone, *self.lost}


def mending_of(
    partition: int, before: PartitionState, after: PartitionState, found: CountedAgain
) -> Mending:
    """Return the commit of cells that were counted up to before.next."""
    wanted = found.wanted
    texts = {cell: encode_partial(kind, partial) for cell, (kind, partial) in found.texts.items()}
    lost = {
        cell: elements - found.elements.get(cell, set())
        for cell, elements in wanted.elements.items()
    }
    return Mending(
        partition,
        before,
        after,
        texts,
        sorted(wanted.texts.keys() - texts.keys(), key=repr),
        {cell: elements for cell, elements in lost.items() if elements},
    )
