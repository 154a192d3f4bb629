"""What a partition's cells hold: cached, loaded, merged with a plan, in Python or in native/.

PythonCells is the reference and the fallback: cells as Python has them, core/commit.py, settle().
NativeCells keeps, merges and writes them in native/ (core/cell_cache.py). An owner has one of
the two.

Both keep cells within a bound in bytes. What a cell costs follows what it is called by, and that
comes from events: a count of cells would bound nothing. Python's estimate is from above: texts as
if every character took four bytes.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, Final, Protocol

from ..core.aggregations import Partial, stored_partial
from ..core.cell_cache import RustCells
from ..core.cells import CellKey
from ..core.commit import Commit, commit_of, settle
from ..core.plan import Plan
from ..core.state import PartitionState
from ..ports import RollupStore

Retry = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]

_CELL_BYTES: Final = 400  # key, partial and their places in the dict, without the texts in them
_CHAR_BYTES: Final = 4
_TEXT_BYTES: Final = 76  # of a text, whatever is in it


def bytes_of(cell: CellKey) -> int:
    """What a cell takes in memory, in bytes, at most."""
    chars = len(cell.customer)
    if not cell.groups:
        return _CELL_BYTES + _CHAR_BYTES * chars
    chars += sum(len(text or "") for text in cell.groups)
    return _CELL_BYTES + _CHAR_BYTES * chars + _TEXT_BYTES * len(cell.groups)


class CellCache:
    """CellKey → what the store holds for it.

    Two halves: what was kept since the last turn, and what was kept before it. Nothing goes while
    all of it fits. Where it does not, the older half goes, and the younger one takes its place: so
    what is used again and again stays.

    bytes_max: its bound in bytes (bytes_of()).
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._young: dict[CellKey, Partial] = {}
        self._old: dict[CellKey, Partial] = {}
        self._young_bytes = self._old_bytes = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    @property
    def nbytes(self) -> int:
        """What is kept, in bytes, at most."""
        return self._young_bytes + self._old_bytes

    def get(self, cell: CellKey) -> Partial | None:
        """Return what the store holds for a cell; None where that is not kept."""
        found = self._young.get(cell)
        return self._old.get(cell) if found is None else found

    def keep(self, cells: Mapping[CellKey, Partial]) -> None:
        """Keep what a commit has stored; what would be too much alone is not kept."""
        moved = _size(cell for cell in cells if self._old.pop(cell, None) is not None)
        size = _size(cell for cell in cells if cell not in self._young)
        self._old_bytes -= moved
        if self.nbytes + size > self._bytes_max:
            self._turn()
            size = _size(cells)  # what was young is old now, and may be met there again
            self._old_bytes -= _size(
                cell for cell in cells if self._old.pop(cell, None) is not None
            )
        if self.nbytes + size > self._bytes_max:
            self._old.clear()
            self._old_bytes = 0
        if size > self._bytes_max:
            return
        self._young.update(cells)
        self._young_bytes += size
        if not self._old and self._young_bytes > self._bytes_max // 2:
            self._turn()

    def _turn(self) -> None:
        """Let the older half go."""
        self._old, self._old_bytes = self._young, self._young_bytes
        self._young, self._young_bytes = {}, 0

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old = {}, {}
        self._young_bytes = self._old_bytes = 0


def _size(cells: Iterable[CellKey]) -> int:
    return sum(map(bytes_of, cells))


class Cells(Protocol):
    """The cells of an owned partition."""

    def __len__(self) -> int: ...

    @property
    def nbytes(self) -> int:
        """The bytes of what is kept."""
        ...

    def clear(self) -> None:
        """Forget everything: what was kept may not be what the store holds."""
        ...

    async def settle(
        self, before: PartitionState, active: PartitionState, plan: Plan, retry: Retry
    ) -> Commit | None:
        """Return the commit of a plan (core/commit.py); what is not kept is loaded.

        None: the partition does not stand at `before` any more.

        Args:
            retry: Repeats a call to the store until it is answered.
        """
        ...

    def keep(self) -> None:
        """Keep what the last commit left: the store has accepted it."""
        ...


class PythonCells:
    """Cells as Python has them."""

    def __init__(self, partition: int, store: RollupStore, *, bytes_max: int) -> None:
        self._partition = partition
        self._store = store
        self._cache = CellCache(bytes_max)
        self._finals: dict[CellKey, Partial] = {}

    def __len__(self) -> int:
        return len(self._cache)

    @property
    def nbytes(self) -> int:
        """The bytes of what is kept, at most."""
        return self._cache.nbytes

    def clear(self) -> None:
        """Forget everything."""
        self._cache.clear()
        self._finals = {}

    async def settle(
        self, before: PartitionState, active: PartitionState, plan: Plan, retry: Retry
    ) -> Commit | None:
        """Return the commit of a plan, with its cells as Python has them."""
        stored: dict[CellKey, Partial | None] = {}
        missing = []
        for cell in plan.cells:
            cached = self._cache.get(cell)
            if cached is None:
                missing.append(cell)
            else:
                stored[cell] = cached
        if missing:
            loaded: Mapping[CellKey, str | None] | None = await retry(
                lambda: self._store.load(self._partition, missing, before)
            )
            if loaded is None:
                return None
            for cell, text in loaded.items():
                kind = plan.cells[cell].aggregation
                stored[cell] = None if text is None else stored_partial(kind, text, cell)
        commit, self._finals = settle(self._partition, before, active, plan, stored)
        return commit

    def keep(self) -> None:
        """Keep what the last commit left."""
        self._cache.keep(self._finals)
        self._finals = {}


class NativeCells:
    """Cells in native/."""

    def __init__(
        self,
        partition: int,
        store: RollupStore,
        *,
        module: ModuleType,
        bytes_max: int,
    ) -> None:
        self._partition = partition
        self._store = store
        self._module = module
        self._bytes_max = bytes_max
        self.clear()

    def __len__(self) -> int:
        return len(self._cells)

    @property
    def nbytes(self) -> int:
        """The bytes of what is kept."""
        return self._cells.nbytes

    def clear(self) -> None:
        """Forget everything, also where cells lie: another owner may have numbered measures."""
        self._forget(0)

    def _forget(self, epoch: int) -> None:
        layout = self._store.layout(self._partition, epoch)
        self._epoch = epoch
        self._cells = RustCells(self._module, self._partition, layout, self._bytes_max)

    async def settle(
        self, before: PartitionState, active: PartitionState, plan: Plan, retry: Retry
    ) -> Commit | None:
        """Return the commit of a plan, whose cells stay in native/."""
        if before.epoch != self._epoch:
            self._forget(before.epoch)  # nothing is kept yet: a state comes from an opening
        cells = self._cells
        texts: list[bytes | None] = []
        if cells.begin(plan, active.worked_out.numbers):
            loaded = await retry(lambda: self._store.load_missing(self._partition, cells, before))
            if loaded is None:
                return None
            texts = loaded
        cells.settle(texts)
        return commit_of(self._partition, before, active, plan, rust=cells)

    def keep(self) -> None:
        """Keep what the last commit left."""
        self._cells.keep()
