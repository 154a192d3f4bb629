"""Twins of Redis and Kafka in memory, for laws and models.

Honest about what they lack: no network, no time-outs, no out-of-memory. What the script refuses
this store refuses, in the same order and with the same words.
"""

import copy
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..core.cell_cache import Layout, RustCells
from ..core.cells import CELLS, ELEMENTS, CellAddress, CellKey
from ..core.commit import Answer, Commit, in_python
from ..core.dedup import flushes_of
from ..core.mending import Mending
from ..core.records import DeadLetter, LogRecord, Span
from ..core.state import PartitionState, Trimmed, decode_state, encode_state, fence_of
from ..ports import Book, Listing, OwnerCells
from .memory_held import HeldPartition, address_of, differs, is_ours


class MemoryStore:
    """A RollupStore in a dict. snapshot() and restore() take Redis back to an earlier point.

    without: refusals that are left out, for the model that has to notice it: names of FENCE,
    "already" (that `acts` and `hist` are those after the commit), "load" (the fence of a load).
    """

    without: frozenset[str] = frozenset()

    def __init__(self, base_bucket_s: int = 3600) -> None:
        self._per_day = 86_400 // base_bucket_s
        self._partitions: dict[int, HeldPartition] = {}
        self.beside: MemoryStore | None = None
        self._strays: dict[int, list[str]] = {}

    def snapshot(self) -> dict[int, HeldPartition]:
        """Return everything held now."""
        return copy.deepcopy(self._partitions)

    def restore(self, snapshot: dict[int, HeldPartition]) -> None:
        """Go back to a snapshot, as a Redis does that lost its last writes."""
        self._partitions = copy.deepcopy(snapshot)

    async def state(self, partition: int) -> PartitionState | None:
        """Return a partition's state; None where it was never registered, or was emptied."""
        held = self._partitions.get(partition)
        return None if held is None else decode_state(held.fields)

    async def register(self, partition: int, state: PartitionState) -> None:
        """Write a partition's first state, if it has none."""
        self._partitions.setdefault(partition, HeldPartition(fields=encode_state(state)))

    async def load(
        self, partition: int, cells: Sequence[CellKey], state: PartitionState
    ) -> dict[CellKey, str | None] | None:
        """Return the present texts of cells, or None where the partition stands elsewhere."""
        held = self._partitions.get(partition)
        if held is None or differs(self.without, "load", held.fields, fence_of(state)):
            return None
        return {cell: held.cells.get(cell) for cell in cells}

    def layout(self, partition: int, epoch: int) -> Layout:
        """Return where cells lie; here nothing is written as Redis has it."""
        return Layout(f"{partition}:{epoch}:", self._per_day)

    async def load_missing(
        self, partition: int, cells: RustCells, state: PartitionState
    ) -> list[bytes | None] | None:
        """Return the present texts of the cells that a flush in native/ misses."""
        missing = cells.missing()
        found = await self.load(partition, missing, state)
        if found is None:
            return None
        texts = (found[cell] for cell in missing)
        return [None if text is None else text.encode() for text in texts]

    async def load_ids(self, partition: int, counts: Mapping[int, int]) -> dict[int, list[bytes]]:
        """Return the packed elements of every generation of counts."""
        held = self._partitions.get(partition, HeldPartition())
        return {generation: list(held.ids.get(generation, ())) for generation in counts}

    async def flushes_of(
        self, partition: int, generations: Iterable[int], identity: bytes
    ) -> list[int]:
        """Return where the flushes that remember an identity begin."""
        held = self._partitions.get(partition, HeldPartition())
        lists = (held.ids.get(generation, []) for generation in generations)
        return [offset for elements in lists for offset in flushes_of(elements, identity)]

    async def load_duplicates(self, partition: int) -> list[bytes]:
        """Return the packed elements of the kept verdicts."""
        return list(self._partitions.get(partition, HeldPartition()).duplicates)

    async def trim_duplicates(
        self,
        partition: int,
        state: PartitionState,
        elements: Sequence[bytes],
        trimmed: Trimmed,
    ) -> bool:
        """Let go of the oldest kept verdicts; False where the partition stands elsewhere."""
        held = self._partitions.get(partition, HeldPartition())
        return self._trim(held, held.duplicates, state, "trimmed", (elements, trimmed))

    async def load_voids(self, partition: int) -> list[bytes]:
        """Return the elements of the kept corrections."""
        return list(self._partitions.get(partition, HeldPartition()).voids)

    async def trim_voids(
        self,
        partition: int,
        state: PartitionState,
        elements: Sequence[bytes],
        trimmed: Trimmed,
    ) -> bool:
        """Let go of the oldest kept corrections; False where the partition stands elsewhere."""
        held = self._partitions.get(partition, HeldPartition())
        return self._trim(held, held.voids, state, "voids_trimmed", (elements, trimmed))

    def _trim(
        self,
        held: HeldPartition,
        kept: list[bytes],
        state: PartitionState,
        name: str,
        gone: tuple[Sequence[bytes], Trimmed],
    ) -> bool:
        fields = held.fields
        if not fields or differs(self.without, "load", fields, fence_of(state)):
            return False
        if fields[name] != encode_state(state)[name]:
            return False
        fields[name] = gone[1].text
        for element in gone[0]:
            if element in kept:
                kept.remove(element)
        return True

    async def mend(self, mending: Mending) -> Answer:
        """Write cells that were counted again, or refuse them."""
        held = self._partitions.get(mending.partition)
        if held is None or not is_ours(self.without, held.fields, mending.fence):
            return Answer.REFUSED
        after = mending.after
        stands = (held.fields["next"], held.fields["acts"], held.fields["hist"])
        if stands == (str(after.next), after.acts, after.hist_text):
            return Answer.ALREADY
        if differs(self.without, "mend", held.fields, mending.fence):
            return Answer.REFUSED
        held.mend(mending)
        held.fields.update(mending.writes)
        return Answer.APPLIED

    async def names(self, partition: int) -> dict[str, str]:
        """Return what a partition has learned of names."""
        return dict(self._partitions.get(partition, HeldPartition()).names)

    async def drop_ids(
        self, partition: int, state: PartitionState, generation: int, elements: Sequence[bytes]
    ) -> bool:
        """Take elements out of an id log; False where the partition stands elsewhere."""
        held = self._partitions.get(partition)
        if held is None or differs(self.without, "load", held.fields, fence_of(state)):
            return False
        for element in elements:
            if element in held.ids.get(generation, ()):
                held.ids[generation].remove(element)
        return True

    async def tell_halted(self, partition: int, state: PartitionState, text: str) -> bool:
        """Note why an owner has halted; False where the partition stands elsewhere."""
        held = self._partitions.get(partition)
        if held is None or differs(self.without, "load", held.fields, fence_of(state)):
            return False
        held.fields["halted"] = text
        return True

    async def apply(self, commit: Commit) -> Answer:
        """Write a commit whole, or refuse it whole."""
        held = self._partitions.get(commit.partition)
        # The order of the script: another store or release, applied already, another state.
        if held is None or not is_ours(self.without, held.fields, commit.fence):
            return Answer.REFUSED
        fields, after = held.fields, commit.after
        same = (fields["acts"], fields["hist"]) == (after.acts, after.hist_text)
        if fields["next"] == str(after.next) and (same or "already" in self.without):
            return Answer.ALREADY
        if differs(self.without, "commit", fields, commit.fence):
            return Answer.REFUSED
        commit = in_python(commit)
        held.cells.update(commit.cells)
        for cell, elements in commit.elements.items():
            held.elements.setdefault(cell, set()).update(elements)
        for cell in commit.new_cells:
            held.customers.setdefault(cell.measure, set()).add(cell.customer)
        for generation in commit.dropped:
            held.ids.pop(generation, None)
        if commit.new_ids and commit.generation is not None:
            held.ids.setdefault(commit.generation, []).append(commit.ids)
        held.duplicates += commit.verdicts
        held.voids += commit.corrections
        held.names.update(commit.learned)
        fields.update(commit.writes)
        return Answer.APPLIED

    async def nexts(self, partitions: Sequence[int]) -> dict[int, int | None]:
        """Return `next` of several partitions."""
        held = {number: self._partitions.get(number) for number in partitions}
        return {at: None if it is None else int(it.fields["next"]) for at, it in held.items()}

    async def building(self, partition: int) -> PartitionState | None:
        """Return the state of what is built beside a partition (memory_epochs.py)."""
        return None if self.beside is None else await self.beside.state(partition)

    async def memory(self) -> tuple[int, int]:
        """There is no limit here."""
        return 0, 0

    async def listing(self, partition: int, measures: Iterable[str]) -> Listing | None:
        """Return what has cells of any of these measures."""
        held, wanted = self._partitions.get(partition), set(measures)
        if held is None:
            return None
        cells = [cell for cell in (*held.cells, *held.elements) if cell.measure in wanted]
        return Listing(
            decode_state(held.fields),
            frozenset().union(*(held.customers.get(measure, set()) for measure in wanted)),
            frozenset(cell.bucket // self._per_day for cell in cells),
        )

    async def read(
        self,
        partition: int,
        measures: Sequence[str],
        customers: Sequence[str],
        days: Sequence[int],
    ) -> Book | None:
        """Return every cell of these measures, customers and days."""
        names, owners = set(measures), set(customers)
        wanted = [
            address
            async for address in self.addresses(partition)
            if address.owner in owners and address.day in days
        ]
        book = await self.read_addresses(partition, wanted)
        if book is None:
            return None
        return replace(
            book,
            cells={cell: text for cell, text in book.cells.items() if cell.measure in names},
            elements={
                cell: found for cell, found in book.elements.items() if cell.measure in names
            },
        )

    async def addresses(self, partition: int) -> AsyncIterator[CellAddress]:
        """Yield every address that holds cells."""
        held = self._partitions.get(partition)
        if held is None:
            return
        state = decode_state(held.fields)
        for address in {
            *(address_of(CELLS, cell, state, self._per_day) for cell in held.cells),
            *(address_of(ELEMENTS, cell, state, self._per_day) for cell in held.elements),
        }:
            yield address

    async def read_each(
        self,
        partitions: Sequence[int],
        measures: Sequence[str],
        customers: Sequence[str],
        days: Sequence[int],
    ) -> dict[int, Book | None]:
        """Return the same of several partitions."""
        return {each: await self.read(each, measures, customers, days) for each in partitions}

    async def owners(
        self, partition: int, measures: Iterable[str]
    ) -> AsyncIterator[Sequence[str]]:
        """Yield the owners of each measure in turn, so that some come twice."""
        held = self._partitions.get(partition)
        for measure in () if held is None else measures:
            yield sorted(held.customers.get(measure, ())) if held else []

    async def has_owner(self, partition: int, measures: Sequence[str], owner: str) -> bool | None:
        """Return whether an owner has cells of any of these measures."""
        held = self._partitions.get(partition)
        return held is not None and any(
            owner in held.customers.get(measure, ()) for measure in measures
        )

    async def read_owners(
        self,
        partition: int,
        measures: Sequence[str],
        sets: Sequence[str],  # noqa: ARG002  a dict looks everything up
        owners: Sequence[str],
        days: range,
    ) -> OwnerCells | None:
        """Return the cells of the first three of these owners."""
        book = await self.read(partition, measures, owners[:3], days)
        return None if book is None else OwnerCells(book, len(owners[:3]))

    async def strays(self, partition: int) -> AsyncIterator[str]:
        """Yield what a test put there."""
        for text in self._strays.get(partition, ()):
            yield text

    async def read_addresses(
        self, partition: int, addresses: Sequence[CellAddress]
    ) -> Book | None:
        """Return every cell under these addresses."""
        held, wanted = self._partitions.get(partition), set(addresses)
        if held is None:
            return None
        state = decode_state(held.fields)
        return Book(
            state,
            {
                cell: text
                for cell, text in held.cells.items()
                if address_of(CELLS, cell, state, self._per_day) in wanted
            },
            {
                cell: frozenset(members)
                for cell, members in held.elements.items()
                if address_of(ELEMENTS, cell, state, self._per_day) in wanted
            },
        )


def move(partition: int, source: MemoryStore, to: MemoryStore | None) -> None:
    """Move a partition, whole, to another store, or to none."""
    held = source._partitions.pop(partition)  # noqa: SLF001  our own
    if to is not None:
        to._partitions[partition] = held  # noqa: SLF001  our own


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A record of MemoryLog. timestamp: append time, milliseconds."""

    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None = None
    timestamp_type: int = 1


class MemoryLog:
    """An EventLog in lists. Offsets may be sparse, as a real log's are."""

    def __init__(self, partitions: int) -> None:
        self.records: dict[int, list[MemoryRecord]] = {number: [] for number in range(partitions)}
        self.dead_letters: dict[tuple[int, int], DeadLetter] = {}

    def append(self, partition: int, value: bytes | None, timestamp: int) -> None:
        """Append a record at the end of a partition."""
        records = self.records[partition]
        offset = records[-1].offset + 1 if records else 0
        records.append(MemoryRecord(offset, timestamp, value))

    async def spans(self) -> dict[int, Span]:
        """Return what the log holds."""
        return {
            number: Span(0, records[-1].offset + 1 if records else 0)
            for number, records in self.records.items()
        }

    async def marks(self) -> dict[int, Span]:
        """Return the same: there are no transactions here."""
        return await self.spans()

    async def read(self, partition: int, lo: int, hi: int) -> AsyncIterator[Sequence[LogRecord]]:
        """Yield the records of [lo, hi)."""
        yield [record for record in self.records[partition] if lo <= record.offset < hi]

    async def probe(self, partition: int, offset: int) -> LogRecord | None:
        """Return the first record at or after an offset."""
        return next((item for item in self.records[partition] if item.offset >= offset), None)

    async def look(self, partition: int, offsets: Collection[int]) -> AsyncIterator[LogRecord]:
        """Yield the records at these offsets."""
        for item in self.records[partition]:
            if item.offset in offsets:
                yield item

    async def offset_at(self, partition: int, append_ms: int) -> int | None:
        """Return the first offset that was appended at a time or later."""
        found = (item.offset for item in self.records[partition] if item.timestamp >= append_ms)
        return next(found, None)

    async def reject(self, partition: int, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters, one for each offset."""
        for letter in letters:
            self.dead_letters[partition, letter.record.offset] = letter
