"""What the pipeline needs of the outside world. Two real implementations each: edges/ has them.

Every method may raise StoreUnavailable or LogUnavailable (retry later), and Halt.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from .core.cells import CellAddress, CellKey
from .core.commit import Answer, Commit
from .core.records import DeadLetter, LogRecord
from .core.state import PartitionState


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets a partition's log holds: [start, end).

    high: where the next record will lie. It is past `end` while a transaction is open: what lies
    between is durable, but nobody can read it until the transaction has ended. -1: not asked for.
    """

    start: int
    end: int
    high: int = -1

    @property
    def durable(self) -> int:
        """The offset below which everything is durable."""
        return max(self.high, self.end)


@dataclass(frozen=True, slots=True)
class Book:
    """Cells of one partition with the state they stand at, from one atomic read.

    elements: the UNIQUE sets, by cell. foreign: what lies in the keys asked for and is not ours,
    as texts for people; a reader halts on it, the audit tells of it.
    """

    state: PartitionState
    cells: Mapping[CellKey, str]
    elements: Mapping[CellKey, frozenset[str]]
    foreign: tuple[str, ...] = ()


class Listing(NamedTuple):
    """What has cells of some measures in a partition: customers and days, from one atomic read."""

    state: PartitionState
    owners: frozenset[str]
    days: frozenset[int]


class RollupStore(Protocol):
    """Redis, or its twin: the only place where a number is kept."""

    async def state(self, partition: int) -> PartitionState | None:
        """Return a partition's state; None where it was never registered, or was emptied."""
        ...

    async def load(
        self, partition: int, cells: Sequence[CellKey], state: PartitionState
    ) -> dict[CellKey, str | None] | None:
        """Return the present texts of cells, or None where the partition stands elsewhere.

        Both come from one atomic read; a state is told apart by its fence.
        """
        ...

    async def load_ids(self, partition: int, counts: Mapping[int, int]) -> dict[int, list[bytes]]:
        """Return what commits appended, by generation of counts. Not atomic: the caller checks."""
        ...

    async def names(self, partition: int) -> dict[str, str]:
        """Return what a partition has learned of names (core/names.py)."""
        ...

    async def drop_ids(
        self, partition: int, state: PartitionState, generation: int, elements: Sequence[bytes]
    ) -> bool:
        """Take elements out of an id log; False where the partition stands elsewhere."""
        ...

    async def apply(self, commit: Commit) -> Answer:
        """Write a commit whole, or refuse it whole."""
        ...

    async def register(self, partition: int, state: PartitionState) -> None:
        """Write a partition's first state, if it has none."""
        ...

    async def nexts(self, partitions: Sequence[int]) -> dict[int, int | None]:
        """Return `next` of several partitions; None where there is none."""
        ...

    async def listing(self, partition: int, measures: Iterable[str]) -> Listing | None:
        """Return what has cells of any of these measures; None where there is no state."""
        ...

    async def read(
        self,
        partition: int,
        measures: Sequence[str],
        customers: Sequence[str],
        days: Sequence[int],
    ) -> Book | None:
        """Return every cell of these measures, customers and days, from one atomic read."""
        ...

    async def read_each(
        self,
        partitions: Sequence[int],
        measures: Sequence[str],
        customers: Sequence[str],
        days: Sequence[int],
    ) -> dict[int, Book | None]:
        """Return the same of several partitions, each from an atomic read of its own."""
        ...

    def addresses(self, partition: int) -> AsyncIterator[CellAddress]:
        """Yield every address that holds cells, indexed or not; those made meanwhile may lack."""
        ...

    def strays(self, partition: int) -> AsyncIterator[str]:
        """Yield what lies under the partition's prefix outside cells and is not ours."""
        ...

    async def read_addresses(
        self, partition: int, addresses: Sequence[CellAddress]
    ) -> Book | None:
        """Return every cell under these addresses, from one atomic read."""
        ...


class EventLog(Protocol):
    """The events topic with its dead letters: Kafka, or its twin."""

    async def spans(self) -> dict[int, Span]:
        """Return what the log holds, for every partition that exists now."""
        ...

    def read(self, partition: int, lo: int, hi: int) -> AsyncIterator[Sequence[LogRecord]]:
        """Yield the committed records of [lo, hi) in order, in batches."""
        ...

    async def probe(self, partition: int, offset: int) -> LogRecord | None:
        """Return the first committed record at or after an offset; None where there is none yet.

        Asks the log itself, over a connection of its own and without a group (docs/faults.md 37).
        """
        ...

    async def reject(self, partition: int, letters: Sequence[DeadLetter]) -> None:
        """Write dead letters; return once they are durable."""
        ...


class Clock(Protocol):
    """Processing time: when to flush, never what a flush contains."""

    def now(self) -> datetime:
        """Return the present moment, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never step back."""
        ...
