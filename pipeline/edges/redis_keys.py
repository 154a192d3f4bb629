"""The names of the keys in Redis, and back. No other module builds a key or a pattern of keys.

ARCHITECTURE.md, "Keys in Redis", lists every key that is made here. What is *in* a key is built
elsewhere: the fields of `state` in core/state.py, those of `names` in core/names.py, the packed
ids in core/dedup.py, the texts of cells in core/aggregations.py.

Rule: no two addresses share a text. Every part that may hold anything carries its length or
stands last; a metric id holds neither `:` nor `#` (control/records.py checks).
Example: `recount:{default/3}:c:7f0c#1.0:20771:acme` holds the cells of one measure, day and owner.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from ..core.cells import CELLS, ELEMENTS, CellAddress, CellKey

SECONDS_PER_DAY: Final = 86_400
_NULL: Final = "-"
_WHOLE: Final = re.compile(r"0|-?[1-9][0-9]{0,8}", re.ASCII)


class Keys:
    """The keys of one partition: one hash tag, so one slot and one script."""

    def __init__(self, deployment: str, partition: int, base_bucket_s: int) -> None:
        self.prefix = f"recount:{{{deployment}/{partition}}}:"
        self.state = f"{self.prefix}state"
        self.names = f"{self.prefix}names"  # what events are called and carry (core/names.py)
        self.rights = f"{self.prefix}rights"  # made and deleted at once: may this user write?
        # What SCAN finds every key of the partition by, and every key of cells and elements.
        self.every = f"{_escape(self.prefix)}*"
        self.every_address = f"{_escape(self.prefix)}[{CELLS}{ELEMENTS}]:*"
        self._per_day = SECONDS_PER_DAY // base_bucket_s

    def kind_of(self, key: str) -> tuple[str, str]:
        """Return the kind of a key of the partition (`ids`, `i`, `c`, …), and what follows it."""
        kind, _, rest = key[len(self.prefix) :].partition(":")
        return kind, rest

    def ids(self, generation: int) -> str:
        """The id log of a generation."""
        return f"{self.prefix}ids:{generation}"

    def customers(self, measure: str) -> str:
        """The set of customers that have cells of a measure."""
        return f"{self.prefix}i:{measure}"

    def days(self, measure: str) -> str:
        """The set of days (since 1970, UTC) on which a measure has cells."""
        return f"{self.prefix}d:{measure}"

    def elements(self, measure: str, day: int, customer: str) -> str:
        """The set of UNIQUE elements of the same."""
        return self.at(CellAddress(ELEMENTS, measure, day, customer))

    def day_of(self, bucket: int) -> int:
        """The day that holds a base bucket."""
        return bucket // self._per_day

    def field(self, cell: CellKey) -> str:
        """The field of a cell in its hash: bucket of the day, then grouping set and values."""
        bucket = cell.bucket % self._per_day
        if not cell.grouping_set:
            return str(bucket)
        values = "".join(_NULL if text is None else f"{len(text)}:{text}" for text in cell.groups)
        return f"{bucket}:{cell.grouping_set}:{values}"

    def located(self, cells: Iterable[CellKey]) -> Iterator[tuple[str, str]]:
        """The hash and the field of each of many cells."""
        per_day, head = self._per_day, f"{self.prefix}{CELLS}:"
        for cell in cells:
            measure, customer, bucket, grouping_set, _ = cell
            day, place = divmod(bucket, per_day)
            text = self.field(cell) if grouping_set else str(place)
            yield f"{head}{measure}:{day}:{customer}", text

    def cell_of(self, measure: str, day: int, customer: str, field: str) -> CellKey:
        """The cell that a field stands for.

        Raises:
            ValueError: the field is not ours: field() makes each in one way alone.
        """
        head, _, rest = field.partition(":")
        bucket = day * self._per_day + int(head)
        if not rest:
            cell = CellKey(measure, customer, bucket, 0, ())
        else:
            number, _, values = rest.partition(":")
            cell = CellKey(measure, customer, bucket, int(number), tuple(_split(values)))
        if self.field(cell) != field:
            raise ValueError(f"not a field of ours: {field[:80]!r}")
        return cell

    def member(self, cell: CellKey, element: str) -> str:
        """The member of an element in the set of its day."""
        return f"{self.field(cell)}={element}"

    def element_of(
        self, measure: str, day: int, customer: str, member: str
    ) -> tuple[CellKey, str]:
        """The cell and the element that a member stands for.

        Raises:
            ValueError: the member is not ours.
        """
        end = _field_end(member)
        if member[end : end + 1] != "=":
            raise ValueError(f"not a member of ours: {member[:80]!r}")
        return self.cell_of(measure, day, customer, member[:end]), member[end + 1 :]

    def at(self, address: CellAddress) -> str:
        """The key of an address."""
        return f"{self.prefix}{address.kind}:{address.measure}:{address.day}:{address.owner}"

    def address_of(self, key: str) -> CellAddress | None:
        """Return the address of a key, or None if it is not one of cells."""
        parts = key[len(self.prefix) :].split(":", 3)
        if len(parts) != 4 or parts[0] not in {CELLS, ELEMENTS}:
            return None
        kind, measure, day, owner = parts
        if not _WHOLE.fullmatch(day):
            return None
        return CellAddress(kind, measure, int(day), owner)


def is_index(kind: str) -> bool:
    """Whether a key's kind is that of a set of customers or of days."""
    return kind in {"i", "d"}


def is_day(member: str) -> bool:
    """Whether a member of a set of days is one of ours."""
    return _WHOLE.fullmatch(member) is not None


def _field_end(text: str) -> int:
    """Return where the field ends at the head of a member: netstrings say their own length."""
    at = 0
    while at < len(text) and text[at].isdigit():
        at += 1
    if text[at : at + 1] != ":":
        return at
    at = text.index(":", at + 1) + 1
    while at < len(text) and text[at] != "=":
        if text[at] == _NULL:
            at += 1
            continue
        colon = text.index(":", at)
        at = colon + 1 + int(text[at:colon])
    return at


def _split(values: str) -> Iterable[str | None]:
    at = 0
    while at < len(values):
        if values[at] == _NULL:
            yield None
            at += 1
            continue
        colon = values.index(":", at)
        end = colon + 1 + int(values[at:colon])
        yield values[colon + 1 : end]
        at = end


def identity_key(deployment: str) -> str:
    """The copy of the deployment's identity, with its store id."""
    return f"recount:{deployment}:identity"


def asked_key(deployment: str, key_id: str, window_s: int, window: int) -> str:
    """The count of the requests that an API key made in one window of time; it expires."""
    return f"recount:{deployment}:asked:{key_id}:{window_s}:{window}"


def _escape(pattern: str) -> str:
    """A text that a pattern of SCAN finds as it is."""
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in pattern)
