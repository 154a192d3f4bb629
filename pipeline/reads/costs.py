"""What cells would take in Redis: how many different ones there are, and their bytes.

CELL_BYTES is the one place of these figures in the code. `make bench-memory` measured them
(docs/performance.md, "Memory"); they are rounded up, and hold the keys with Redis' own tables.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from definitions.metric import Aggregation

# A UNIQUE cell is paid for each element: it has no text of its own.
CELL_BYTES: Final[Mapping[Aggregation, int]] = {
    Aggregation.COUNT: 15,
    Aggregation.SUM: 23,
    Aggregation.MAX: 23,
    Aggregation.MIN: 23,
    Aggregation.MEAN: 27,
    Aggregation.LATEST: 48,
    Aggregation.FIRST: 48,
    Aggregation.UNIQUE: 92,
}
DIGESTS_MAX: Final = 100_000  # of each aggregation, some 100 bytes each


class Distinct:
    """How many different things were seen: exact up to `most`, about right beyond.

    Digests of 64 bits are kept. Where there are more than `most`, only those that end with a zero
    bit are, then with two, and so on; each of them stands for so many. The error is some 0.4 %.
    """

    def __init__(self, most: int = DIGESTS_MAX) -> None:
        self._most = most
        self._bits = 0
        self._kept: set[int] = set()

    def add(self, thing: str) -> None:
        """Note a thing."""
        digest = int.from_bytes(blake2b(thing.encode(), digest_size=8).digest())
        if digest & self._mask:
            return
        self._kept.add(digest)
        while len(self._kept) > self._most:
            self._bits += 1
            self._kept = {each for each in self._kept if not each & self._mask}

    @property
    def _mask(self) -> int:
        return (1 << self._bits) - 1

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._kept) << self._bits

    @property
    def is_exact(self) -> bool:
        """Whether that is counted, not estimated."""
        return not self._bits


class Cost(NamedTuple):
    """What a backfill would write. estimated: the figures are about right."""

    cells: int
    bytes: int
    estimated: bool


class CellCount:
    """The different cells that a definition makes, by their aggregations."""

    def __init__(self) -> None:
        self._kinds: dict[Aggregation, Distinct] = {}

    def add(self, kind: Aggregation, cell: tuple[object, ...]) -> None:
        """Note a cell; of UNIQUE an element with its cell."""
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = Distinct()
        known.add(repr(cell))

    def cost(self, of: int = 1) -> Cost:
        """What all customers take, where one of so many was looked at."""
        counts = {kind: known.count * of for kind, known in self._kinds.items()}
        exact = of == 1 and all(known.is_exact for known in self._kinds.values())
        return Cost(
            sum(counts.values()),
            sum(CELL_BYTES[kind] * count for kind, count in counts.items()),
            not exact,
        )
