"""Books: an owner's cells with the offset they stand at, each from one atomic read.

Why that proves anything: docs/design.md 7.


Rule: `began` is read before the keys are listed. A key that is not listed was made at or after
it, so what the recount first adds there later is left to the next audit; anything else is missing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ..core.cells import CELLS, ELEMENTS, CellAddress, group_number
from ..core.state import PartitionState
from ..ports import RollupStore
from ..reads.verdicts import WentBack
from ..recount.kept import Kept
from ..recount.ledger import Cell, Closing, Share

Held = tuple[str | None, frozenset[str] | None]  # a cell's text, and its UNIQUE elements
NOTHING: Final = (None, None)
KEYS_AT_ONCE: Final = 1_000  # of a MULTI: some milliseconds of Redis


@dataclass(slots=True)
class Books:
    """What the owners of one share hold, and at which states it was read.

    began: the state before the keys were listed. latest: the newest one read. stands: by owner.
    """

    share: Share
    began: PartitionState
    latest: PartitionState
    stands: dict[str, PartitionState] = field(default_factory=dict)
    cells: dict[Cell, str] = field(default_factory=dict)
    elements: dict[Cell, frozenset[str]] = field(default_factory=dict)
    listed: set[CellAddress] = field(default_factory=set)
    foreign: list[str] = field(default_factory=list)

    def held(self, cell: Cell) -> Held:
        """What the store holds for a cell."""
        return self.cells.get(cell), self.elements.get(cell)

    def is_stale(self, cell: Cell) -> bool:
        """Whether a cell waited to be mended when it was read, or cannot be mended any more."""
        state = self.stands.get(cell.customer, self.began)
        return state.is_stale(cell.measure.rpartition(".")[0], cell.bucket, cell.bucket)

    @property
    def until(self) -> int:
        """The offset at which the last of them closes."""
        return max((state.next for state in self.stands.values()), default=self.began.next)

    def closes_at(self, measure: str, owner: str) -> Closing:
        """Where an owner's book closes; one without keys closes where listing began."""
        state, version = self.stands.get(owner, self.began), measure.rpartition(".")[0]
        return Closing(state.next, _past(state, version), _past(self.began, version))


async def count_keys(
    store: RollupStore,
    partition: int,
    state: PartitionState,
    share: Share,
    is_shared: Callable[[str], bool],
) -> tuple[int, int]:
    """Return how many keys hold cells of one customer of the share, and of many customers.

    A key of several measures may be both.
    """
    own = shared = 0
    of_many, of_one = _groups(state, is_shared), _groups(state, lambda name: not is_shared(name))
    async for address in store.addresses(partition):
        shared += of_many(address.group)
        own += of_one(address.group) and share.holds(address.owner)
    return own, shared


def _groups(state: PartitionState, wanted: Callable[[str], bool]) -> Callable[[int], bool]:
    """Whether a group of measures has a wanted one; of one that is not known yet it may be."""
    known: dict[int, bool] = {}
    for number, measure in state.worked_out.measures.items():
        group = group_number(number)
        known[group] = known.get(group, False) or wanted(measure)
    return lambda group: known.get(group, True)


async def read_books(
    store: RollupStore,
    partition: int,
    state: PartitionState,
    share: Share,
    wanted: Callable[[str], bool],
) -> Books:
    """Read the books of every owner of a share, of wanted measures.

    Args:
        state: What the partition stands on, read just now.

    Raises:
        WentBack: Redis lost writes meanwhile; start again.
    """
    books = Books(share, state, state)
    owners: dict[str, list[CellAddress]] = {}
    may_hold = _groups(state, wanted)
    async for address in store.addresses(partition):
        if share.holds(address.owner) and may_hold(address.group):
            owners.setdefault(address.owner, []).append(address)
    for names in _batches(owners):
        addresses = [address for name in names for address in owners[name]]
        book = await store.read_addresses(partition, addresses)
        if book is None or book.state.moment < state.moment:
            raise WentBack
        books.stands |= dict.fromkeys(names, book.state)
        books.cells |= {
            Cell(*cell): text for cell, text in book.cells.items() if wanted(cell.measure)
        }
        books.elements |= {
            Cell(*cell): members for cell, members in book.elements.items() if wanted(cell.measure)
        }
        books.listed.update(addresses)
        books.foreign += book.foreign
        books.latest = max(books.latest, book.state, key=lambda each: each.moment)
    return books


def _past(state: PartitionState, version: str) -> int:
    """Up to where the past of a version is counted."""
    past = state.hist.by_version.get(version)
    return 0 if past is None else past.next


def _batches(owners: Mapping[str, list[CellAddress]]) -> Iterator[list[str]]:
    """Owners whose books are read together; one owner's is never split."""
    batch: list[str] = []
    keys = 0
    for name, addresses in owners.items():
        if batch and keys + len(addresses) > KEYS_AT_ONCE:
            yield batch
            batch, keys = [], 0
        batch.append(name)
        keys += len(addresses)
    if batch:
        yield batch


def expected_of(
    kept: dict[Cell, Kept],
    books: Books,
    partition: int,
    lies_in: Callable[[Cell, str], CellAddress],
) -> Callable[[Cell], Held]:
    """What a cell must hold, but for keys that were made after the listing began."""
    first: dict[CellAddress, int] = {}
    for cell, each in kept.items():
        for kind, at in ((CELLS, each.first_text), (ELEMENTS, each.first_element)):
            if at >= 0 and (address := lies_in(cell, kind)) not in books.listed:
                first[address] = min(at, first.get(address, at))
    late = {address for address, at in first.items() if at >= books.began.next}

    def expected(cell: Cell) -> Held:
        each = kept.get(cell)
        if each is None:
            return NOTHING
        text, elements = each.holds(partition)
        if late and lies_in(cell, CELLS) in late:
            text = None
        if late and lies_in(cell, ELEMENTS) in late:
            elements = None
        return text, elements

    return expected
