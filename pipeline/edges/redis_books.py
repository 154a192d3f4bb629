"""What Redis answers to readers → states, cells and elements, and what in it is not ours."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from ..core.activation import next_number
from ..core.cells import CELLS, ELEMENTS, CellAddress, CellKey
from ..core.state import PartitionState, decode_state
from ..errors import Damage, NotOpen, PartitionHalt
from ..ports import Book
from .redis_keys import Keys

REBUILDING: Final = "rebuilding"
_CLEAN: Final = (
    "somebody else wrote into this deployment's keys; `recount audit` names all of it; remove it, "
    "or run `recount rebuild`"
)


class Wanted(NamedTuple):
    """Where cells are read. measures: whose cells are wanted; None is all that lie there."""

    addresses: Sequence[CellAddress]
    measures: Sequence[str] | None = None


def state_in(fields: Mapping[bytes, bytes], partition: int) -> PartitionState | None:
    """Return the state that a partition's hash holds; None where it is empty.

    Raises:
        NotOpen: a rebuild empties the partition. PartitionHalt: the hash is not ours.
    """
    if not fields:
        return None
    if REBUILDING.encode() in fields:
        raise NotOpen(
            partition,
            "it is being rebuilt, and nothing of its log is applied again yet; if no "
            "`recount rebuild` runs any more, run it again",
        )
    try:
        return decode_state({name.decode(): text.decode() for name, text in fields.items()})
    except (KeyError, ValueError) as error:
        raise PartitionHalt(
            partition,
            f"the hash of partition {partition} in Redis is damaged or foreign ({error}); "
            f"run `recount rebuild --partition {partition}`",
        ) from error


def addresses_of(
    groups: Sequence[int], owners: Sequence[str], days: Iterable[int]
) -> list[CellAddress]:
    """Where the cells of groups, owners and days lie."""
    return [
        CellAddress(kind, group, day, owner)
        for group in groups
        for owner in owners
        for day in days
        for kind in (CELLS, ELEMENTS)
    ]


def book_of(keys: Keys, state: PartitionState, asked: Wanted, found: Sequence[Any]) -> Book:
    """Return the book of what was found at each address: a hash, a set, or an error."""
    if asked.measures is None:
        measures = state.worked_out.measures
    else:
        pairs = ((state.number_of(measure), measure) for measure in asked.measures)
        measures = {number: measure for number, measure in pairs if number is not None}
    numbers = next_number(state.active)

    def measure_of(number: int) -> str | None:
        if not 0 <= number < numbers:
            raise ValueError(f"no measure has the number {number}")
        return measures.get(number)

    cells: dict[CellKey, str] = {}
    elements: dict[CellKey, set[str]] = {}
    foreign: list[str] = []
    for address, content in zip(asked.addresses, found, strict=True):
        if isinstance(content, Exception):
            wanted = "hash" if address.kind == CELLS else "set"
            foreign.append(f"key {keys.at(address)!r} is not a {wanted}")
            continue
        for member in content:
            try:
                if address.kind == CELLS:
                    cell = keys.cell_of(address, member.decode(), measure_of)
                    if cell is not None:
                        cells[cell] = content[member].decode()
                else:
                    cell, element = keys.element_of(address, member.decode(), measure_of)
                    if cell is not None:
                        elements.setdefault(cell, set()).add(element)
            except ValueError:
                foreign.append(f"key {keys.at(address)!r}: {quoted(member)} is not ours")
    sets = {cell: frozenset(members) for cell, members in elements.items()}
    return Book(state, cells, sets, tuple(foreign))


def pairs_of(flat: Sequence[bytes] | dict[bytes, bytes]) -> dict[bytes, bytes]:
    """A hash, of the list that a script answers; a plain command answers a hash."""
    if isinstance(flat, dict):
        return flat
    items = iter(flat)
    return dict(zip(items, items, strict=True))


def is_wrong_type(error: Exception) -> bool:
    """Whether a command failed because the key holds something else."""
    return str(error).startswith("WRONGTYPE")


def quoted(raw: bytes) -> str:
    """Foreign bytes, so that people can read them."""
    return ascii(raw[:120].decode(errors="backslashreplace"))


def all_ours(book: Book) -> Book:
    """Return a book, or halt: numbers beside foreign fields cannot be answered for."""
    if book.foreign:
        raise Damage(f"Redis: {book.foreign[0]}: {_CLEAN}")
    return book


@contextmanager
def ours() -> Iterator[None]:
    """Halt where what is read of an index is damaged."""
    try:
        yield
    except ValueError as error:
        raise Damage(
            f"Redis: an index or a list of names is damaged ({error}): {_CLEAN}"
        ) from error


def among(days: Sequence[int], known: Iterable[int]) -> list[int]:
    """The days asked for that are known; a period of 8,000 years is a range, never walked."""
    return sorted(day for day in known if day in days)
