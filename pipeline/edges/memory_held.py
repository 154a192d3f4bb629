"""What MemoryStore holds of one partition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..core.cells import CellAddress, CellKey, group_number
from ..core.mending import Mending
from ..core.state import FENCE, PartitionState


@dataclass
class HeldPartition:
    """The keys of one partition."""

    fields: dict[str, str] = field(default_factory=dict)
    cells: dict[CellKey, str] = field(default_factory=dict)
    elements: dict[CellKey, set[str]] = field(default_factory=dict)
    ids: dict[int, list[bytes]] = field(default_factory=dict)
    duplicates: list[bytes] = field(default_factory=list)
    voids: list[bytes] = field(default_factory=list)
    customers: dict[str, set[str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def mend(self, mending: Mending) -> None:
        """Take cells that were counted again."""
        self.cells.update(mending.texts)
        for cell in mending.gone:
            self.cells.pop(cell, None)
        for cell, elements in mending.lost.items():
            left = self.elements.get(cell, set()) - elements
            self.elements.pop(cell, None)
            if left:
                self.elements[cell] = left


def address_of(kind: str, cell: CellKey, state: PartitionState, per_day: int) -> CellAddress:
    """Return where a cell lies."""
    number = state.worked_out.numbers[cell.measure]
    return CellAddress(kind, group_number(number), cell.bucket // per_day, cell.customer)


def differs(
    without: frozenset[str], kind: str, fields: Mapping[str, str], fence: Sequence[str]
) -> bool:
    """Whether what is stored is not what was expected. without: see MemoryStore."""
    if kind in without:
        return False
    pairs = zip(FENCE, fence, strict=True)
    return any(fields[name] != wanted for name, wanted in pairs if name not in without)


def is_ours(without: frozenset[str], fields: Mapping[str, str], fence: Sequence[str]) -> bool:
    """Whether what is stored is of the same store, epoch and rules."""
    pairs = zip(FENCE[:2], fence, strict=False)
    return all(fields[name] == wanted or name in without for name, wanted in pairs)
