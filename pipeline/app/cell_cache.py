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
    """CellKey → what the store holds for it. Where it grows too large, all of it is dropped.

    bytes_max: its bound in bytes (bytes_of()).
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._cells: dict[CellKey, Partial] = {}
        self.nbytes = 0
        self.get = self._cells.get

    def __len__(self) -> int:
        return len(self._cells)

    def keep(self, cells: Mapping[CellKey, Partial]) -> None:
        """Keep what a commit has stored; what would be too much alone is not kept."""
        size = _size(cell for cell in cells if cell not in self._cells)
        if self.nbytes + size > self._bytes_max:
            self.clear()
            size = _size(cells)
            if size > self._bytes_max:
                return
        self._cells.update(cells)
        self.nbytes += size

    def clear(self) -> None:
        """Forget everything."""
        self._cells.clear()
        self.nbytes = 0


def _size(cells: Iterable[CellKey]) -> int:
    return sum(map(bytes_of, cells))
