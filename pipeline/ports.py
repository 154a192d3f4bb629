"""What the pipeline needs of the outside world, as contracts.

edges/ has two of each, the real one and its twin in memory; tests/integration/contracts holds
both to the same answers.

How to read a method. *Returning* means that the first sentence is true. load(), drop_ids() and
apply() can also answer no (None, False, Answer.REFUSED). That is no error. It says that the state
which the caller worked on is not the stored one, and that nothing was changed: the caller drops
what it computed, and reads the partition again.

What every method may raise, beside what it names itself:

* StoreUnavailable, LogUnavailable: the service does not answer, or refuses for now. Nothing is
  known about a write: it may have been done. Every write here may be sent again, unchanged.
* Halt: going on would make numbers wrong. Repeating does not help; a person has to act.
* Damage (a Halt): the same of one partition alone, that is named in the call.
* NotOpen (a StoreUnavailable), PartitionHalt (a Damage): methods that return a PartitionState, or
  cells with it, raise these for a partition that a rebuild is emptying, or whose state is damaged
  or foreign.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from .core.cell_cache import Layout, RustCells
from .core.cells import CellAddress, CellKey
from .core.commit import Answer, Commit
from .core.mending import Mending
from .core.records import DeadLetter, LogRecord, Span
from .core.state import PartitionState, Trimmed


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


class OwnerCells(NamedTuple):
    """The cells of some owners, from one atomic read. owners: of how many of those asked for."""

    book: Book
    owners: int


class RollupStore(Protocol):
    """Redis, or its twin: the only place where a number is kept.

    One partition has one state and the cells that stand at it. Only apply() changes both.
    """

    async def state(self, partition: int) -> PartitionState | None:
        """Return a partition's state. None: it was never registered, or Redis lost it.

        A reader cannot tell the two apart; deploy/checks.py can, by the deployment's record.
        """
        ...

    async def load(
        self, partition: int, cells: Sequence[CellKey], state: PartitionState
    ) -> dict[CellKey, str | None] | None:
        """Return the stored text of each of these cells; of one that does not exist None.

        All are read at one moment, at which the partition stands at `state` (told by its fence).
        None instead of a dict: it stands elsewhere, so what was folded on `state` is void. With
        no cells it only asks whether the partition still stands there.
        """
        ...

    def layout(self, partition: int, epoch: int) -> Layout:
        """Return where cells of a partition lie in an epoch: what native/ writes requests with."""
        ...

    async def load_missing(
        self, partition: int, cells: RustCells, state: PartitionState
    ) -> list[bytes | None] | None:
        """Return the texts of the cells that a flush in native/ misses, in their order.

        As load() does: None for a cell that does not exist, None instead of a list where the
        partition stands elsewhere.
        """
        ...

    async def load_ids(self, partition: int, counts: Mapping[int, int]) -> dict[int, list[bytes]]:
        """Return the packed ids that commits appended, for each generation of `counts`.

        An element is what one commit appended: the first offset of its flush (8 bytes), then 12
        bytes for each id (core/dedup.py). It is not one atomic read: the caller reads the state
        before and after, and compares the numbers of ids with it.
        """
        ...

    async def flushes_of(
        self, partition: int, generations: Iterable[int], identity: bytes
    ) -> list[int]:
        """Return the first offsets of the flushes that remember an identity, of generations."""
        ...

    async def load_duplicates(self, partition: int) -> list[bytes]:
        """Return the elements of the partition's kept verdicts (core/verdicts.py).

        It is not one atomic read, as load_ids() is not.
        """
        ...

    async def trim_duplicates(
        self,
        partition: int,
        state: PartitionState,
        elements: Sequence[bytes],
        trimmed: Trimmed,
    ) -> bool:
        """Take elements of the kept verdicts out once each, and note that they are trimmed.

        False: the partition does not stand at `state`, or was trimmed since; nothing was done.
        """
        ...

    async def load_voids(self, partition: int) -> list[bytes]:
        """Return the elements of the kept corrections (core/voids.py), as load_ids() does."""
        ...

    async def trim_voids(
        self, partition: int, state: PartitionState, elements: Sequence[bytes], trimmed: Trimmed
    ) -> bool:
        """Trim the kept corrections as trim_duplicates() does the kept verdicts; False: as it."""
        ...

    async def mend(self, mending: Mending) -> Answer:
        """Write cells that were counted again whole, or refuse them whole.

        APPLIED, ALREADY, REFUSED, Raises: see apply(). Of an empty cell nothing stays.
        """
        ...

    async def names(self, partition: int) -> dict[str, str]:
        """Return what a partition has learned of names (core/names.py); empty if nothing."""
        ...

    async def drop_ids(
        self, partition: int, state: PartitionState, generation: int, elements: Sequence[bytes]
    ) -> bool:
        """Take each of these elements out of a generation's id log once.

        False: the partition does not stand at `state`, and nothing was taken out. An element that
        is not there is passed over, so that the call may be repeated.
        """
        ...

    async def tell_halted(self, partition: int, state: PartitionState, text: str) -> bool:
        """Note beside a state why its owner has halted (core/state.py, Halted); empty: it goes on.

        False: the partition does not stand at `state`; nothing was noted. No number depends on it.
        """
        ...

    async def apply(self, commit: Commit) -> Answer:
        """Write a commit whole, or refuse it whole.

        Its cells may be in native/ (`commit.rust`); the same commit again has the same bytes.

        APPLIED: the store now holds `commit.after`. ALREADY: it held it before; the same commit
        came twice, by this process or another. After both the caller may keep what it computed.
        REFUSED: the fence of `commit.before` is not what is stored; nothing was written, and the
        caller reads the partition again.

        Raises:
            StoreUnavailable: the commit was applied or not. Sending it again tells: a commit
                that was applied is ALREADY.
            PartitionHalt: a key is of a foreign type; nothing was written.
        """
        ...

    async def register(self, partition: int, state: PartitionState) -> None:
        """Write a partition's first state. Where there is one, it stays as it is."""
        ...

    async def nexts(self, partitions: Sequence[int]) -> dict[int, int | None]:
        """Return `next` of each of these partitions, read one by one.

        None: there is no offset, because the partition has no state or is being emptied. This is
        the one question that a rebuild does not refuse.
        """
        ...

    async def building(self, partition: int) -> PartitionState | None:
        """Return the state of what a rebuild builds beside a partition; None: nothing is built."""
        ...

    async def memory(self) -> tuple[int, int]:
        """Return the bytes that the store uses, and its limit; 0 is none, or it is not told."""
        ...

    async def listing(self, partition: int, measures: Iterable[str]) -> Listing | None:
        """Return the owners and the days that have cells of any of these measures.

        None: the partition has no state. An owner is listed in the commit that made its first
        cell, so a cell that the state holds is never missing.
        """
        ...

    async def read(
        self,
        partition: int,
        measures: Sequence[str],
        customers: Sequence[str],
        days: Sequence[int],
    ) -> Book | None:
        """Return every cell of these measures, owners and days, from one atomic read.

        None: the partition has no state. `days` may be a range of any length: only days that have
        cells are asked for.

        Raises:
            StoreUnavailable: days are added faster than they can be read; ask again.
            Damage: a key that was asked for holds something foreign.
        """
        ...

    async def read_each(
        self,
        partitions: Sequence[int],
        measures: Sequence[str],
        customers: Sequence[str],
        days: Sequence[int],
    ) -> dict[int, Book | None]:
        """Return what read() says of each of these partitions.

        Each book is from an atomic read of its own: two books may stand at different moments.
        """
        ...

    def owners(self, partition: int, measures: Iterable[str]) -> AsyncIterator[Sequence[str]]:
        """Yield the owners that have cells of any of these measures, in parts.

        Who is listed when this begins is yielded, perhaps more than once; who is listed while it
        runs may be yielded or not. Nothing else waits for it.

        Raises:
            StoreUnavailable: the index moved to another node meanwhile; begin again.
        """
        ...

    async def has_owner(self, partition: int, measures: Sequence[str], owner: str) -> bool | None:
        """Return whether an owner has cells of any of these measures.

        False: of none. None: our user may not ask for it.
        """
        ...

    async def read_owners(
        self,
        partition: int,
        measures: Sequence[str],
        sets: Sequence[str],
        owners: Sequence[str],
        days: range,
    ) -> OwnerCells | None:
        """Return every cell of these measures and days, of the first of these owners.

        All of it is from one atomic read, which takes as many owners as Redis gives in a short
        time, at least one. None: the partition has no state.

        Args:
            sets: Those of the measures that have elements (UNIQUE).

        Raises:
            Damage: a key that was asked for holds something foreign.
        """
        ...

    def addresses(self, partition: int) -> AsyncIterator[CellAddress]:
        """Yield every address that holds cells, whether an index names it or not, once each.

        An address that is made while this runs may be yielded or not.
        """
        ...

    def strays(self, partition: int) -> AsyncIterator[str]:
        """Yield a sentence for people about everything foreign outside cells.

        That is: keys under the partition's prefix, fields of its state, members of its indexes.
        What is foreign inside keys of cells, read_addresses() tells.
        """
        ...

    async def read_addresses(
        self, partition: int, addresses: Sequence[CellAddress]
    ) -> Book | None:
        """Return every cell under these addresses, from one atomic read; None without a state.

        Unlike read() it does not halt on what is foreign: the book tells it (`foreign`).
        """
        ...


class EventLog(Protocol):
    """The events topic with its dead letters: Kafka, or its twin.

    A record is committed if no transaction hides it: an open one hides it for now, an aborted one
    for ever. Offsets may have holes.
    """

    async def spans(self) -> dict[int, Span]:
        """Return the offsets that the log holds, for every partition that exists now.

        Raises:
            Halt: the topic is gone.
        """
        ...

    def read(self, partition: int, lo: int, hi: int) -> AsyncIterator[Sequence[LogRecord]]:
        """Yield the committed records of [lo, hi), in order, in batches; then end.

        Ending means that every offset below hi was passed.

        Raises:
            LogUnavailable: no progress for half a minute, as where hi lies behind an open
                transaction. What was yielded before is right.
            Damage: the log does not hold lo any more, or a batch cannot be read.
        """
        ...

    async def probe(self, partition: int, offset: int) -> LogRecord | None:
        """Return the first committed record at or after an offset; None where there is none yet.

        Asks the log itself, over a connection of its own and without a group: what a consumer
        delivered is no proof that nothing lies between (docs/faults.md 37).

        Raises:
            Damage: the log does not hold the offset any more, or the batch cannot be read.
        """
        ...

    def look(self, partition: int, offsets: Collection[int]) -> AsyncIterator[LogRecord]:
        """Yield the committed records at these offsets, ascending, of those where one is.

        Whoever has enough closes it: other questions wait meanwhile.

        Raises: see probe(), but for offsets that the log does not hold.
        """
        ...

    async def offset_at(self, partition: int, append_ms: int) -> int | None:
        """Return the first offset whose record was appended at a time or later; None: none was.

        Every record before it was appended earlier, also where append times step back.
        """
        ...

    async def reject(self, partition: int, letters: Sequence[DeadLetter]) -> None:
        """Write dead letters; returning means that all of them are durable.

        A letter whose original the topic does not take is written without it, with its length
        and digest.

        Raises:
            LogUnavailable: some may be durable. Writing all again is right: readers list a letter
                once, by where its event lay and when it was appended.
        """
        ...


class Clock(Protocol):
    """Processing time: it decides when to flush, never what a flush contains."""

    def now(self) -> datetime:
        """Return the present moment, UTC. It may step back."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some moment; they never step back."""
        ...
