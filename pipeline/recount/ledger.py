"""One partition, recounted record by record: fates, cells, identities.

A Ledger keeps whole histories where the pipeline keeps increments: every value of a cell is
collected and the aggregate is taken at the end.
"""

import hashlib
from base64 import b64encode
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any, NamedTuple

from definitions.metric import Aggregation, Measure, MetricVersion, Scope

from .events import NotCounted, Plain, read_event
from .matching import ABSENT, look_up, matches, plain, text_of, value_of

_WIDE = Context(prec=1_000, rounding=ROUND_HALF_EVEN)
_MS = 1_000_000


class Terms(NamedTuple):
    """The settings that decide numbers, milliseconds and seconds."""

    dedup_window_ms: int
    max_age_ms: int
    max_ahead_ms: int
    bucket_s: int
    homes: int
    strict: bool


class Active(NamedTuple):
    """A version and the offsets [start, end) at which it counts in this partition."""

    version: MetricVersion
    start: int
    end: int | None


class Cell(NamedTuple):
    """Which cell; the same parts as the pipeline's."""

    measure: str
    customer: str
    bucket: int
    grouping_set: int
    groups: tuple[str | None, ...]


class Reading(NamedTuple):
    """A value with what orders readings: event time, log clock, offset."""

    at: int
    clock_ms: int
    offset: int
    value: Any


@dataclass
class Ledger:
    """Fed with every record of a partition, in order, from its start to one offset."""

    partition: int
    terms: Terms
    active: list[Active]
    fates: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    readings: dict[Cell, list[Reading]] = field(default_factory=lambda: defaultdict(list))
    unreadable: Counter[Cell] = field(default_factory=Counter)
    conflicts: int = 0
    clock_ms: int = -1
    _seen: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)

    def feed(self, offset: int, append_ms: int, value: bytes | None) -> None:
        """Take one record."""
        self.clock_ms = max(self.clock_ms, append_ms)
        self.fates["consumed"] += 1
        try:
            event = read_event(value)
            self._judge_age(event)
        except NotCounted as why:
            self.fates["rejected"] += 1
            self.reasons[str(why)] += 1
            if str(why) == "misplaced":
                self.fates["misplaced"] += 1
            return
        if home_of(event.customer_id, self.terms.homes) != self.partition:
            self.fates["misplaced"] += 1
        if self._is_repeated(event, value or b""):
            self.fates["duplicate"] += 1
            return
        counted = False
        for item in self.active:
            if item.start <= offset and (item.end is None or offset < item.end):
                counted = self._count(item.version, event, offset) or counted
        self.fates["counted" if counted else "unmatched"] += 1

    def _judge_age(self, event: Plain) -> None:
        behind = self.clock_ms * _MS - event.at
        if self.terms.max_age_ms and behind > self.terms.max_age_ms * _MS:
            raise NotCounted("too_old")
        if behind < -self.terms.max_ahead_ms * _MS:
            raise NotCounted("too_far_ahead")
        away = home_of(event.customer_id, self.terms.homes) != self.partition
        if away and self.terms.strict:
            raise NotCounted("misplaced")

    def _is_repeated(self, event: Plain, value: bytes) -> bool:
        """At most four generations old; a repeat does not renew the memory (DESIGN 5)."""
        pair = (event.customer_id, event.transaction_id)
        generation = (4 * self.clock_ms) // self.terms.dedup_window_ms
        body = hashlib.sha256(value).digest()
        if pair in self._seen:
            first, first_body = self._seen[pair]
            if generation - first <= 4:
                self.conflicts += body != first_body
                return True
        self._seen[pair] = (generation, body)
        return False

    def _count(self, version: MetricVersion, event: Plain, offset: int) -> bool:
        found = False
        for number, measure in enumerate(version.definition.measures):
            if not version.definition.computable or not matches(measure, event):
                continue
            found = True
            bucket = event.at // (self.terms.bucket_s * 10**9)
            owner = _owner_of(version, measure, event)
            value = value_of(measure, event)
            if value is ABSENT or owner is None:
                continue
            sets: list[tuple[str | None, ...]] = [()]
            sets += [
                tuple(text_of(event.properties.get(name)) for name in names)
                for names in version.definition.dimensions
            ]
            for grouping_set, groups in enumerate(sets):
                name = f"{version.metric_id}#{version.version}.{number}"
                cell = Cell(name, owner, bucket, grouping_set, groups)
                if value is None:
                    self.unreadable[cell] += 1
                else:
                    self.readings[cell].append(Reading(event.at, self.clock_ms, offset, value))
        return found

    def texts(self) -> dict[Cell, tuple[str | None, frozenset[str] | None]]:
        """What every cell must hold: its stored text, and a UNIQUE cell's elements."""
        kinds = {
            f"{item.version.key}.{number}": measure.aggregation
            for item in self.active
            for number, measure in enumerate(item.version.definition.measures)
        }
        found: dict[Cell, tuple[str | None, frozenset[str] | None]] = {}
        for cell in self.readings.keys() | self.unreadable.keys():
            readings, skipped = self.readings.get(cell, []), self.unreadable[cell]
            kind = kinds[cell.measure]
            if kind is Aggregation.UNIQUE:
                elements = frozenset(element(reading.value) for reading in readings)
                found[cell] = (f"|{skipped}" if skipped else None, elements or None)
                continue
            text = aggregate_text(kind, readings, self.partition)
            found[cell] = (f"{text}|{skipped}" if skipped else text, None)
        return found


def _owner_of(version: MetricVersion, measure: Measure, event: Plain) -> str | None:
    """Whose cells: the unit's, the customer's, or everybody's; None where the unit is missing."""
    if measure.unit is not None:
        return text_of(look_up(measure.unit, event))
    return event.customer_id if version.definition.scope is Scope.CUSTOMER else ""


def element(text: str) -> str:
    """What a UNIQUE set holds for a value."""
    raw = text.encode()
    if len(raw) < 16:
        return text
    return str(b64encode(hashlib.blake2b(raw, digest_size=16).digest()), "ascii")


def aggregate_text(kind: Aggregation, readings: Iterable[Reading], partition: int) -> str:
    """The stored text of a cell with these readings (ARCHITECTURE, "Stored texts")."""
    found = list(readings)
    values = [reading.value for reading in found]
    if kind is Aggregation.COUNT:
        return str(len(found))
    if kind is Aggregation.SUM:
        return plain(_total(values))
    if kind is Aggregation.MEAN:
        return f"{plain(_total(values))}/{len(values)}"
    if not found:
        return ""
    if kind is Aggregation.MAX:
        return plain(max(values))
    if kind is Aggregation.MIN:
        return plain(min(values))
    choose = max if kind is Aggregation.LATEST else min
    won = choose(found, key=lambda reading: (reading.at, reading.clock_ms, reading.offset))
    return f"{won.at}:{won.clock_ms}:{partition}:{won.offset}:{plain(won.value)}"


def _total(values: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = _WIDE.add(total, value)
    return total


_HOMES: dict[tuple[str, int], int] = {}


def home_of(customer: str, homes: int) -> int:
    """The partition of Kafka's default partitioner: murmur2 of the key, modulo homes."""
    known = _HOMES.get((customer, homes))
    if known is None:
        if len(_HOMES) > 100_000:
            _HOMES.clear()
        known = _HOMES[customer, homes] = (_murmur2(customer.encode()) % 2**31) % homes
    return known


def _murmur2(data: bytes) -> int:
    """MurmurHash2 with Kafka's seed, written from its reference description."""
    factor, word = 0x5BD1E995, 2**32
    value = 0x9747B28C ^ len(data)
    body, tail = data[: len(data) // 4 * 4], data[len(data) // 4 * 4 :]
    for at in range(0, len(body), 4):
        part = int.from_bytes(body[at : at + 4], "little") * factor % word
        part = (part ^ part >> 24) * factor % word
        value = value * factor % word ^ part
    if tail:
        value = (value ^ int.from_bytes(tail, "little")) * factor % word
    value = (value ^ value >> 13) * factor % word
    return value ^ value >> 15
