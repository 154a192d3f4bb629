"""What a flush changes: the value that a fold makes and a commit is made of."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from definitions.metric import Aggregation

from .cells import CellKey, Change
from .correction import TakenBack
from .dedup import ID_BYTES
from .records import DeadLetter
from .state import PartitionState


class PlainChanges(Protocol):
    """What a plan's plain records change, still in native/: to be given away, once.

    kinds: the aggregations of all its measures. It is void when the next plan begins.
    """

    @property
    def kinds(self) -> Mapping[str, Aggregation]: ...

    def give(self, store: Any) -> None:
        """Give the cells to a store of native/ (core/cell_cache.py)."""
        ...


@dataclass(slots=True)
class Plan:
    """All changes of the records [lo, hi).

    cells, elements: what its records change, but for what native/ took of them: that is `plain`,
    and both may name one cell. generation, oldest: the ids' own, and the oldest that can still be
    asked for; None and 0 where no record was taken. duplicates: offsets of the records that were
    judged so. taken_back: what a correction took back: it has a plan of its own (fold/correct.py).
    stale: cells that are not right until they are mended. first: event type → offset of the first
    event of it. learned: see names.py. paths: how many events who folded (fold/spelled.py). Both
    may differ with the batches, and decide no
    number.
    """

    lo: int
    hi: int
    clock_ms: int
    last: tuple[int, int]
    generation: int | None
    oldest: int = 0
    cells: dict[CellKey, Change] = field(default_factory=dict)
    elements: dict[CellKey, set[str]] = field(default_factory=dict)
    new_ids: bytes = b""
    duplicates: list[int] = field(default_factory=list)
    taken_back: TakenBack | None = None
    stale: Collection[CellKey] = ()
    counters: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    first: dict[str, int] = field(default_factory=dict)
    learned: dict[str, str] = field(default_factory=dict)
    paths: dict[str, int] = field(default_factory=dict)
    plain: PlainChanges | None = None


def nothing(state: PartitionState, hi: int) -> Plan:
    """Return the plan of a span without records: [state.next, hi), often empty itself."""
    return Plan(state.next, hi, state.clock_ms, state.last, None)


def id_count(packed: bytes) -> int:
    return len(packed) // ID_BYTES
