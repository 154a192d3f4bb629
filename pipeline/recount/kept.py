"""One cell, recounted: every value added one after the other, in plain code of its own."""

import hashlib
from base64 import b64encode
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, NamedTuple

from definitions.metric import Aggregation

from .matching import plain, short

_WIDE = Context(prec=1_000, rounding=ROUND_HALF_EVEN)
_ZERO = Decimal(0)


class Reading(NamedTuple):
    """What orders the values of a cell: event time, log clock, offset.

    came: the offset too, but greater than any where the event may have come after the keys of the
    cells were listed, for it is of the past of a version.
    """

    at: int
    clock_ms: int
    offset: int
    came: int


class Kept:
    """What a cell must hold. ADDERS has how a value is added, by aggregation.

    whole, total: the sum of the values without a fraction, and of the others. best, won: the value
    that stands and its reading. first_text, first_element: offsets of the first events that made
    the cell's text, and its UNIQUE set; -1 before.
    """

    __slots__ = (
        "best",
        "count",
        "elements",
        "first_element",
        "first_text",
        "kind",
        "total",
        "unreadable",
        "whole",
        "won",
    )

    def __init__(self, kind: Aggregation) -> None:
        self.kind = kind
        self.count = 0
        self.unreadable = 0
        self.whole = 0
        self.total = _ZERO
        self.best: Any = None
        self.won: Reading | None = None
        self.elements: set[str] | None = None
        self.first_text = -1
        self.first_element = -1

    def skip(self, came: int) -> None:
        """Take a value that cannot be read. came: see Reading."""
        self.unreadable += 1
        self.first_text = _first(self.first_text, came)

    def holds(self, partition: int) -> tuple[str | None, frozenset[str] | None]:
        """The stored text (ARCHITECTURE, "Stored texts"), and a UNIQUE cell's elements."""
        skipped = f"|{self.unreadable}" if self.unreadable else ""
        if self.kind is Aggregation.UNIQUE:
            return skipped or None, frozenset(self.elements or ()) or None
        return self._text(partition) + skipped, None

    def _text(self, partition: int) -> str:
        if self.kind is Aggregation.COUNT:
            return str(self.count)
        if self.kind in {Aggregation.SUM, Aggregation.MEAN}:
            total = plain(_WIDE.add(self.total, self.whole))
            return total if self.kind is Aggregation.SUM else f"{total}/{self.count}"
        if self.won is None:
            return ""
        value = plain(self.best)
        if self.kind in {Aggregation.MAX, Aggregation.MIN}:
            return value
        won = self.won
        stands = (won.at, won.clock_ms - won.at // 1_000_000, partition, won.offset)
        return f"{':'.join(short(number) for number in stands)}:{value}"


def _count(kept: Kept, _value: Any, reading: Reading) -> None:
    kept.count += 1
    if kept.first_text < 0 or reading.came < kept.first_text:
        kept.first_text = reading.came


def _add(kept: Kept, value: Any, reading: Reading) -> None:
    if type(value) is int:
        kept.whole += value
    else:
        kept.total = _WIDE.add(kept.total, value)
    _count(kept, value, reading)


def _unite(kept: Kept, value: Any, reading: Reading) -> None:
    if kept.elements is None:
        kept.elements = set()
    kept.elements.add(element(value))
    kept.first_element = _first(kept.first_element, reading.came)


def _choose(
    better: Callable[[Any, Any, Reading, Reading], bool],
) -> Callable[[Kept, Any, Reading], None]:
    """What keeps the best value. better: told new value, best value, and the readings of both."""

    def choose(kept: Kept, value: Any, reading: Reading) -> None:
        if kept.won is None or better(value, kept.best, reading, kept.won):
            kept.best, kept.won = value, reading
        _count(kept, value, reading)

    return choose


# How a cell takes a value, by aggregation.
ADDERS: dict[Aggregation, Callable[[Kept, Any, Reading], None]] = {
    Aggregation.COUNT: _count,
    Aggregation.SUM: _add,
    Aggregation.MEAN: _add,
    Aggregation.UNIQUE: _unite,
    Aggregation.MAX: _choose(lambda new, old, _at, _was: bool(new > old)),
    Aggregation.MIN: _choose(lambda new, old, _at, _was: bool(new < old)),
    Aggregation.LATEST: _choose(lambda _new, _old, at, was: at > was),
    Aggregation.FIRST: _choose(lambda _new, _old, at, was: at < was),
}


def _first(known: int, offset: int) -> int:
    """The lower offset; parts of a partition are recounted one after the other."""
    return offset if known < 0 else min(known, offset)


def element(text: str) -> str:
    """What a UNIQUE set holds for a value."""
    raw = text.encode()
    if len(raw) < 16:
        return text
    return str(b64encode(hashlib.blake2b(raw, digest_size=16).digest()), "ascii")
