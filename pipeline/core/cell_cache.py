"""The cells of an owned partition in native/: cached, merged and written as requests there.

The reference is core/commit.py, settle(), with the encoders of core/aggregations.py and the keys
of edges/redis_keys.py: a commit that is made here says the same to Redis, text by text
(tests/property/test_native_cells.py).

One cache. While native/ is used every cell of the partition is cached there and nowhere else, also
one that only Python can merge: a number of more than 18 digits before the point or 9 after it, a
text of another form. native/ hands such texts out, Python joins them, native/ takes the result.

Rule 1: what a flush changed may stay only if the store has accepted it: keep(). Anything else that
ends a flush, and any error, is followed by clear().
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from types import ModuleType
from typing import Any, NamedTuple

from definitions.metric import Aggregation

from .aggregations import encode_partial, merge_partials, stored_partial
from .cells import CellKey
from .compiled import told
from .plan import Plan


class Layout(NamedTuple):
    """Where cells of a partition lie. head: of every key. per_day: base buckets of a day."""

    head: str
    per_day: int


class RustCells:
    """The cells of one partition, for one owner.

    bytes_max: of the cells that are kept between flushes; a flush may hold its own beside them.
    """

    def __init__(self, module: ModuleType, partition: int, layout: Layout, bytes_max: int) -> None:
        self._make: Callable[[], Any] = lambda: module.Store(
            partition=partition,
            prefix=layout.head.encode(),
            per_day=layout.per_day,
            bytes_max=bytes_max,
        )
        self.clear()

    def __len__(self) -> int:
        return self._len

    def clear(self) -> None:
        """Forget everything."""
        self._store = self._make()
        self._kinds: dict[str, Aggregation] = {}  # of the measures that the store knows
        self._request: bytes | None = None
        self._is_open = False  # whether a flush was not kept yet
        self._note_size()

    def _note_size(self) -> None:
        # Noted, not asked for: native/ may be at work without Python's lock.
        self._len = len(self._store)
        self.nbytes: int = self._store.nbytes  # of what is kept

    def begin(self, plan: Plan, numbers: Mapping[str, int]) -> bool:
        """Begin the flush of a plan, which is taken; say whether cells have to be loaded.

        Args:
            plan: Its plain part is emptied.
            numbers: Of each measure, in the layout of this partition.

        Raises:
            Broken: native/ failed.
        """
        if self._is_open:
            self.clear()
        self._is_open = True
        with told():
            self._store.begin()
            if plan.plain is not None:
                self._learn(plan.plain.kinds, numbers)
                plan.plain.give(self._store)
            cells, elements = plan.cells, plan.elements
            self._learn({key.measure: kind for key, (kind, _) in cells.items()}, numbers)
            self._learn({key.measure: Aggregation.UNIQUE for key in elements}, numbers)
            self._store.join(
                [(*key, encode_partial(kind, partial)) for key, (kind, partial) in cells.items()],
                [(*key, list(members)) for key, members in elements.items()],
            )
            return bool(self._store.missing_count)

    def _learn(self, kinds: Mapping[str, Aggregation], numbers: Mapping[str, int]) -> None:
        for measure in kinds.keys() - self._kinds.keys():
            self._store.learn(measure, kinds[measure].value, numbers[measure])
            self._kinds[measure] = kinds[measure]

    def missing(self) -> list[CellKey]:
        """The cells that have to be loaded, in the order that loaded() takes their texts in."""
        with told():
            return [_cell(found) for found in self._store.missing()]

    def load_request(self, frame: Mapping[str, Any]) -> bytes:
        """The bytes that ask Redis for them. frame: see native/src/requests.rs."""
        with told():
            request: bytes = self._store.load_request(frame)
        return request

    def settle(self, texts: Sequence[bytes | None]) -> None:
        """Make the final texts of the flush.

        Args:
            texts: What the store holds for the missing cells; None of one that does not exist.

        Raises:
            Damage: nothing of ours wrote one of them.
            Broken: native/ failed.
        """
        with told():
            self._store.loaded(texts)
            odd = self._store.odd()
        if odd:
            texts_of = [self._merged(_cell(found), parts) for found, parts in odd]
            with told():
                self._store.settled(texts_of)

    def _merged(self, cell: CellKey, texts: Sequence[str]) -> str:
        """The text of texts that native/ does not merge."""
        kind = self._kinds[cell.measure]
        partials = [stored_partial(kind, text, cell) for text in texts]
        return encode_partial(
            kind, reduce(lambda left, right: merge_partials(kind, left, right), partials)
        )

    def commit_request(self, frame: Callable[[], Mapping[str, Any]]) -> bytes:
        """The bytes that write the flush: made once, so that a repetition sends the same."""
        if self._request is None:
            with told():
                self._request = self._store.commit_request(frame())
        return self._request

    def cells(self) -> list[tuple[CellKey, str, bool]]:
        """The same for a store that takes no requests: cell, final text, whether it is new."""
        with told():
            return [(_cell(found), text, new) for found, text, new in self._store.cells()]

    def elements(self) -> list[tuple[CellKey, str, bool]]:
        """Likewise what UNIQUE cells gain: cell, element, whether the cell is new."""
        with told():
            return [(_cell(found), text, new) for found, text, new in self._store.elements()]

    def keep(self) -> None:
        """The store has accepted the flush: what it changed may stay."""
        self._request, self._is_open = None, False
        with told():
            self._store.keep()
            self._note_size()


def _cell(found: tuple[str, str, int, int, list[str | None]]) -> CellKey:
    measure, owner, bucket, grouping_set, groups = found
    return CellKey(measure, owner, bucket, grouping_set, tuple(groups))
