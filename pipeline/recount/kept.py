"""One cell, recounted: every value added one after the other, in plain code of its own."""

import hashlib
from base64 import b64encode
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, NamedTuple

from definitions.metric import Aggregation

from .matching import plain

_WIDE = Context(prec=1_000, rounding=ROUND_HALF_EVEN)


class Reading(NamedTuple):
    """A value with what orders readings: event time, log clock, offset."""

    at: int
    clock_ms: int
    offset: int
    value: Any


class Kept:
    """What a cell must hold.

    first_text, first_element: offsets of the first events that made the cell's text, and its
    UNIQUE set; -1 before. doubtful: whether some event is in it depends on a part of the log that
    is gone.
    """

    __slots__ = (
        "best",
        "count",
        "doubtful",
        "elements",
        "first_element",
        "first_text",
        "kind",
        "total",
        "unreadable",
    )

    def __init__(self, kind: Aggregation) -> None:
        self.kind = kind
        self.count = 0
        self.doubtful = False
        self.unreadable = 0
        self.total = Decimal(0)
        self.best: Reading | None = None
        self.elements: set[str] = set()
        self.first_text = -1
        self.first_element = -1

    def skip(self, offset: int) -> None:
        """Take a value that cannot be read."""
        self.unreadable += 1
        self.first_text = _first(self.first_text, offset)

    def add(self, reading: Reading) -> None:
        """Take a value."""
        if self.kind is Aggregation.UNIQUE:
            self.elements.add(element(reading.value))
            self.first_element = _first(self.first_element, reading.offset)
            return
        self.first_text = _first(self.first_text, reading.offset)
        self.count += 1
        if self.kind in {Aggregation.SUM, Aggregation.MEAN}:
            self.total = _WIDE.add(self.total, reading.value)
        elif self.kind is not Aggregation.COUNT:
            better = _BETTER[self.kind]
            if self.best is None or better(reading, self.best):
                self.best = reading

    def holds(self, partition: int) -> tuple[str | None, frozenset[str] | None]:
        """The stored text (ARCHITECTURE, "Stored texts"), and a UNIQUE cell's elements."""
        skipped = f"|{self.unreadable}" if self.unreadable else ""
        if self.kind is Aggregation.UNIQUE:
            return skipped or None, frozenset(self.elements) or None
        return self._text(partition) + skipped, None

    def _text(self, partition: int) -> str:
        if self.kind is Aggregation.COUNT:
            return str(self.count)
        if self.kind is Aggregation.SUM:
            return plain(self.total)
        if self.kind is Aggregation.MEAN:
            return f"{plain(self.total)}/{self.count}"
        if self.best is None:
            return ""
        value = plain(self.best.value)
        if self.kind in {Aggregation.MAX, Aggregation.MIN}:
            return value
        won = self.best
        stands = (won.at, won.clock_ms - won.at // 1_000_000, partition, won.offset)
        return f"{':'.join(_short(number) for number in stands)}:{value}"


_BETTER: dict[Aggregation, Callable[[Reading, Reading], bool]] = {
    Aggregation.MAX: lambda new, old: bool(new.value > old.value),
    Aggregation.MIN: lambda new, old: bool(new.value < old.value),
    Aggregation.LATEST: lambda new, old: new[:3] > old[:3],
    Aggregation.FIRST: lambda new, old: new[:3] < old[:3],
}


def _first(known: int, offset: int) -> int:
    """The lower offset; parts of a partition are recounted one after the other."""
    return offset if known < 0 else min(known, offset)


def _short(number: int) -> str:
    """A whole number in base 36."""
    if number < 0:
        return "-" + _short(-number)
    head, last = divmod(number, 36)
    return (_short(head) if head else "") + "0123456789abcdefghijklmnopqrstuvwxyz"[last]


def element(text: str) -> str:
    """What a UNIQUE set holds for a value."""
    raw = text.encode()
    if len(raw) < 16:
        return text
    return str(b64encode(hashlib.blake2b(raw, digest_size=16).digest()), "ascii")
