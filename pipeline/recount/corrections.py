"""What corrections take back, judged again from the log alone.

An event that some correction names is put aside when it comes, and counted when all is read:
by then it is known who took it back, if anybody did. So nothing is ever subtracted.
"""

from collections.abc import Container
from typing import NamedTuple

from .events import NotCounted, Plain, Void, read_event


class Aside(NamedTuple):
    """An accepted event that a correction names. clock_ms: the log clock at it.

    root: where it was first, before it was amended; the same if it was not.
    """

    event: Plain
    offset: int
    clock_ms: int
    root: int


class Named(NamedTuple):
    """What became of a record that a correction names. at: the time of its event."""

    customer_id: str
    transaction_id: str
    at: int
    is_duplicate: bool


class Corrections:
    """Of one partition, or of a share of its customers.

    named: offsets that corrections name, or more of them. kept: the offsets of those that the
    store says are applied; asked only where the log's beginning is gone. met: whether one came.
    by: original → the correction that took it back.
    """

    def __init__(self, partition: int, named: Container[int], kept: Container[int] | None) -> None:
        self._partition = partition
        self._named = named
        self._kept = kept
        self._known: dict[int, Named] = {}
        self.by: dict[int, int] = {}
        self._roots: dict[int, int] = {}  # of corrections
        self.aside: list[Aside] = []
        self.met = False

    def note(
        self, event: Plain, offset: int, clock_ms: int, root: int, *, is_duplicate: bool
    ) -> bool:
        """Put an event aside if it is named; say whether it is."""
        if offset not in self._named:
            return False
        self._known[offset] = Named(
            event.customer_id, event.transaction_id, event.at, is_duplicate
        )
        if not is_duplicate:
            self.aside.append(Aside(event, offset, clock_ms, root))
        return True

    def refusal(self, void: Void, offset: int) -> str | None:
        """Why a correction takes nothing back; None: it does."""
        self.met = True
        if void.partition != self._partition or void.offset is None or void.offset >= offset:
            return "nothing_to_void"
        if self._kept is not None:
            return None if offset in self._kept else "nothing_to_void"
        known = self._known.get(void.offset)
        if known is None or known[:2] != (void.customer_id, void.original):
            return "nothing_to_void"
        if void.event is not None and void.event.at != known.at:
            return "nothing_to_void"
        if known.is_duplicate:
            return "voids_a_duplicate"
        return "already_voided" if void.offset in self.by else None

    def apply(self, void: Void, offset: int) -> int:
        """Take an event back; return where it was before it was amended."""
        assert void.offset is not None
        self.by[void.offset] = offset
        root = self._roots[offset] = self._roots.get(void.offset, void.offset)
        return root


def named_in(partition: int, value: bytes | None) -> int | None:
    """Return the offset that a record names if it is a correction in a partition."""
    if not value or not any(kind in value for kind in (b"void", b"amend", b"\\u")):
        return None
    try:
        read_event(value)
    except Void as void:
        return void.offset if void.partition == partition else None
    except NotCounted:
        return None
    return None
