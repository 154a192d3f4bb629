"""Cells that a partition wrote last, kept for its next flushes, within a bound in bytes.

What a cell costs follows what it is called by, and that comes from events: a count of cells would
bound nothing. The estimate is from above: texts as if every character took four bytes.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from ..core.aggregations import Partial
from ..core.cells import CellKey

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
