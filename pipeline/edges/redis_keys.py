"""The names of the keys in Redis, and back. No other module builds a key or a pattern of keys.

ARCHITECTURE.md, "Keys in Redis", lists every key that is made here. What is *in* a key is built
elsewhere: the fields of `state` in core/state.py, those of `names` in core/names.py, the packed
ids in core/dedup.py, the texts of cells in core/aggregations.py.

Rule: no two addresses share a text. Every part that may hold anything carries its length or
stands last; a metric id holds neither `:` nor `#` (control/records.py checks).
Example: `recount:{default/3.4f}:c:0:20771:acme` holds the cells of the measures that have the
numbers 0 to 3 in partition 3, of one day and one owner.
"""

import re
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from ..core.cell_cache import Layout
from ..core.cells import CELLS, ELEMENTS, CellAddress, CellKey, group_number

SECONDS_PER_DAY: Final = 86_400
SLOTS: Final = 16_384  # of every Redis Cluster
_NULL: Final = "-"
_EPOCH: Final = re.compile(r"[1-9][0-9]{0,14}", re.ASCII)
_WHOLE: Final = re.compile(r"0|-?[1-9][0-9]{0,8}", re.ASCII)


class Keys:
    """The keys of one partition: one hash tag, so one slot and one script."""

    def __init__(
        self,
        deployment: str,
        partition: int,
        base_bucket_s: int,
        suffix: str = "",
        *,
        epoch: int = 0,
        is_beside: bool = False,
    ) -> None:
        """epoch: whose numbers are meant. is_beside: they are being built, nobody reads them."""
        self.home = f"recount:{{{hash_tag(deployment, partition, suffix)}}}:"
        self.epoch = epoch
        self.prefix = f"{self.home}{epoch}:" if epoch else self.home
        self.current = f"{self.home}state"  # of the epoch that readers see
        self.building = f"{self.home}building"  # of the one that a rebuild makes beside it
        self.epochs = f"{self.home}epochs"  # which epochs may have keys, and the last one given
        self.state = self.building if is_beside else self.current
        self.names = f"{self.prefix}names"  # what events are called and carry (core/names.py)
        self.duplicates = f"{self.prefix}dups"  # kept verdicts (core/verdicts.py)
        self.voids = f"{self.prefix}voids"  # kept corrections (core/voids.py)
        self.rights = f"{self.home}rights"  # made and deleted at once: may this user write?
        # What SCAN finds every key of the partition by, and every key of cells and elements.
        self.every = f"{_escape(self.prefix if is_beside else self.home)}*"
        self.every_address = f"{_escape(self.prefix)}[{CELLS}{ELEMENTS}]:*"
        self._per_day = SECONDS_PER_DAY // base_bucket_s

    @property
    def layout(self) -> Layout:
        """What native/ makes the same keys and fields with."""
        return Layout(self.prefix, self._per_day)

    def holds(self, name: bytes) -> bool:
        """Whether a key is one of the partition, of whatever epoch."""
        return name.startswith(self.home.encode())

    def epoch_of(self, name: bytes) -> int | None:
        """The epoch that a key of the partition belongs to; None: to none, it stays."""
        rest = name[len(self.home.encode()) :].decode(errors="replace")
        if f"{self.home}{rest}" in {self.current, self.building, self.epochs, self.rights}:
            return None
        head, colon, _ = rest.partition(":")
        return int(head) if colon and _EPOCH.fullmatch(head) else 0

    def is_of_cells(self, name: bytes) -> bool:
        """Whether a key of an epoch holds cells or elements."""
        parts = name[len(self.home.encode()) :].split(b":", 2)
        kind = parts[1] if self.epoch_of(name) and len(parts) > 1 else parts[0]
        return kind.decode(errors="replace") in {CELLS, ELEMENTS}

    def kind_of(self, key: str) -> tuple[str, str]:
        """Return the kind of a key of the partition (`ids`, `i`, `c`, …), and what follows it."""
        kind, _, rest = key[len(self.prefix) :].partition(":")
        return kind, rest

    def ids(self, generation: int) -> str:
        """The id log of a generation."""
        return f"{self.prefix}ids:{generation}"

    def customers(self, measure: str) -> str:
        """The set of owners that have cells of a measure."""
        return f"{self.prefix}i:{measure}"

    def days(self, measure: str) -> str:
        """The set of days (since 1970, UTC) on which a measure has cells."""
        return f"{self.prefix}d:{measure}"

    def day_of(self, bucket: int) -> int:
        """The day that holds a base bucket."""
        return bucket // self._per_day

    def field(self, number: int, cell: CellKey) -> str:
        """The field of a cell: number of its measure, bucket of the day, then set and values."""
        bucket = cell.bucket % self._per_day
        if not cell.grouping_set:
            return f"{number}.{bucket}"
        values = "".join(_NULL if text is None else f"{len(text)}:{text}" for text in cell.groups)
        return f"{number}.{bucket}:{cell.grouping_set}:{values}"

    def located(
        self, cells: Iterable[CellKey], numbers: Mapping[str, int], kind: str = CELLS
    ) -> Iterator[tuple[str, str]]:
        """The key and the field of each of many cells. numbers: of the measures."""
        per_day, head = self._per_day, f"{self.prefix}{kind}:"
        for cell in cells:
            measure, owner, bucket, grouping_set, _ = cell
            number = numbers[measure]
            day, place = divmod(bucket, per_day)
            text = self.field(number, cell) if grouping_set else f"{number}.{place}"
            yield f"{head}{group_number(number)}:{day}:{owner}", text

    def cell_of(
        self, address: CellAddress, field: str, measure_of: Callable[[int], str | None]
    ) -> CellKey | None:
        """The cell that a field stands for; None: of a measure that is not asked for.

        Args:
            measure_of: number → measure, None where it is not asked for.

        Raises:
            ValueError: the field is not ours: field() makes each in one way alone. KeyError: no
                measure has this number.
        """
        head, _, rest = field.partition(":")
        number_text, _, place = head.partition(".")
        number = int(number_text)
        measure = measure_of(number)
        if group_number(number) != address.group or str(number) != number_text:
            raise ValueError(f"not a field of ours: {field[:80]!r}")
        if measure is None:
            return None
        bucket = address.day * self._per_day + int(place)
        if not rest:
            cell = CellKey(measure, address.owner, bucket, 0, ())
        else:
            set_number, _, values = rest.partition(":")
            cell = CellKey(measure, address.owner, bucket, int(set_number), tuple(_split(values)))
        if self.field(number, cell) != field:
            raise ValueError(f"not a field of ours: {field[:80]!r}")
        return cell

    def element_of(
        self, address: CellAddress, member: str, measure_of: Callable[[int], str | None]
    ) -> tuple[CellKey | None, str]:
        """The cell and the element that a member stands for; raises as cell_of() does."""
        end = _field_end(member)
        if member[end : end + 1] != "=":
            raise ValueError(f"not a member of ours: {member[:80]!r}")
        return self.cell_of(address, member[:end], measure_of), member[end + 1 :]

    def at(self, address: CellAddress) -> str:
        """The key of an address."""
        return f"{self.prefix}{address.kind}:{address.group}:{address.day}:{address.owner}"

    def address_of(self, key: str) -> CellAddress | None:
        """Return the address of a key, or None if it is not one of cells."""
        parts = key[len(self.prefix) :].split(":", 3)
        if len(parts) != 4 or parts[0] not in {CELLS, ELEMENTS}:
            return None
        kind, group, day, owner = parts
        if not _WHOLE.fullmatch(day) or not _WHOLE.fullmatch(group) or group[0] == "-":
            return None
        return CellAddress(kind, int(group), int(day), owner)


def is_index(kind: str) -> bool:
    """Whether a key's kind is that of a set of customers or of days."""
    return kind in {"i", "d"}


def is_day(member: str) -> bool:
    """Whether a member of a set of days is one of ours."""
    return _WHOLE.fullmatch(member) is not None


def _field_end(text: str) -> int:
    """Return where the field ends at the head of a member: netstrings say their own length."""
    at = 0
    while at < len(text) and (text[at].isdigit() or text[at] == "."):
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


def member(field: str, element: str) -> str:
    """The member of an element in the set of its day. field: of its cell."""
    return f"{field}={element}"


def hash_tag(deployment: str, partition: int, suffix: str) -> str:
    """The hash tag of a partition's keys. suffix: see deploy/tags.py; old ones have none."""
    return f"{deployment}/{partition}.{suffix}" if suffix else f"{deployment}/{partition}"


def identity_key(deployment: str) -> str:
    """The copy of the deployment's identity, with its store id."""
    return f"recount:{deployment}:identity"


def control_key(deployment: str) -> str:
    """The copy of the control log, for readers while Kafka is away (control/kept.py)."""
    return f"recount:{deployment}:control"


def asked_key(deployment: str, key_id: str, window_s: int, window: int) -> str:
    """The count of the requests that an API key made in one window of time; it expires."""
    return f"recount:{deployment}:asked:{key_id}:{window_s}:{window}"


def slot_of(key: str) -> int:
    """The slot of a key, or of a hash tag, in a Redis Cluster."""
    _, opened, rest = key.partition("{")
    tag, closed, _ = rest.partition("}")
    return crc_hqx((tag if opened and closed and tag else key).encode(), 0) % SLOTS


def _escape(pattern: str) -> str:
    """A text that a pattern of SCAN finds as it is."""
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in pattern)
