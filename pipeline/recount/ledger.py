"""One partition, recounted record by record: fates, cells, identities.

It shares nothing with the pipeline's fold but the parsed definition. It may be run in parts, by
customer, so that the identities of one part at a time are in memory.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple
from zlib import crc32

from definitions.metric import Measure, MetricVersion, Scope

from .events import NotCounted, Plain, read_event
from .kept import Kept, Reading
from .matching import ABSENT, group_of, look_up, matches, value_of

_MS = 1_000_000
_BODY = (1 << 64) - 1


class LedgerTerms(NamedTuple):
    """The settings that decide numbers, milliseconds and seconds."""

    dedup_window_ms: int
    max_age_ms: int
    max_ahead_ms: int
    bucket_s: int
    homes: int
    strict: bool
    generations: int  # of a window: an id repeats one that is at most so many old


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


class Share(NamedTuple):
    """A part of the customers (or of other owners of cells), told by a hash of the name."""

    number: int
    of: int

    def holds(self, name: str) -> bool:
        """Whether a name belongs to this part."""
        return self.of == 1 or crc32(name.encode()) % self.of == self.number


WHOLE = Share(0, 1)


def of_everybody(version: MetricVersion, measure: Measure) -> bool:
    """Whether events of many customers meet in one cell of a measure."""
    return measure.unit is not None or version.definition.scope is not Scope.CUSTOMER


def _always(_measure: str, _owner: str) -> float:
    return inf


@dataclass
class Ledger:
    """Fed with every record of a partition, in order, from its start.

    share: whose events are judged and counted; a repeat has the customer of its first, so that
    parts can be recounted one after the other. fates: of the share's records below `until`;
    what has no customer belongs to part 0. clock_until: the log clock there. closes: (measure,
    owner) → the offset below which events reach the owner's cells; 0 for none. cut: the log's
    beginning is gone, so an id may have been counted before what is fed; a cell that an event
    reaches whose verdict depends on that is doubtful (Kept). Append times are taken not to step
    back over the cut.
    """

    partition: int
    terms: LedgerTerms
    active: list[Active]
    share: Share = WHOLE
    until: float = inf
    closes: Callable[[str, str], float] = _always
    fates: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    ids: Counter[int] = field(default_factory=Counter)
    kept: dict[Cell, Kept] = field(default_factory=dict)
    conflicts: int = 0
    clock_ms: int = -1
    clock_until: int = -1
    cut: bool = False
    _cut_at: int | None = None
    _seen: dict[bytes, int] = field(default_factory=dict)
    _open: dict[bytes, frozenset[int]] = field(default_factory=dict)

    def feed(self, offset: int, append_ms: int, value: bytes | None) -> None:
        """Take one record."""
        self.clock_ms = max(self.clock_ms, append_ms)
        if self._cut_at is None:
            self._cut_at = self._generation()
        if offset < self.until:
            self.clock_until = self.clock_ms
        try:
            event = read_event(value)
        except NotCounted as why:
            if self.share.number == 0:
                self._reject(offset, str(why))
            return
        if not self.share.holds(event.customer_id):
            return
        away = home_of(event.customer_id, self.terms.homes) != self.partition
        why_not = self._misjudged(event, away=away)
        if why_not is not None:
            self._reject(offset, why_not)
            return
        self._note(offset, "consumed")
        if away:
            self._note(offset, "misplaced")
        generation = self._generation()
        repeated = self._is_repeated(event, value or b"", generation)
        if repeated:
            self._note(offset, "duplicate")
            return
        if offset < self.until:
            self.ids[generation] += 1
        counted = False
        for item in self.active:
            if item.start <= offset and (item.end is None or offset < item.end):
                found = self._count(item.version, event, offset, doubtful=repeated is None)
                counted = found or counted
        self._note(offset, "counted" if counted else "unmatched")

    def _generation(self) -> int:
        return (self.terms.generations * self.clock_ms) // self.terms.dedup_window_ms

    def _note(self, offset: int, fate: str) -> None:
        if offset < self.until:
            self.fates[fate] += 1

    def _reject(self, offset: int, why: str) -> None:
        if offset < self.until:
            self.fates["consumed"] += 1
            self.fates["rejected"] += 1
            self.fates["misplaced"] += why == "misplaced"
            self.reasons[why] += 1

    def _misjudged(self, event: Plain, *, away: bool) -> str | None:
        behind = self.clock_ms * _MS - event.at
        if self.terms.max_age_ms and behind > self.terms.max_age_ms * _MS:
            return "too_old"
        if behind < -self.terms.max_ahead_ms * _MS:
            return "too_far_ahead"
        return "misplaced" if away and self.terms.strict else None

    def _is_repeated(self, event: Plain, value: bytes, generation: int) -> bool | None:
        """At most a window old, in generations; a repeat renews nothing (docs/design.md 5).

        None: it depends on what the log no longer holds.
        """
        customer, body = event.customer_id.encode(), hashlib.sha256(value).digest()[:8]
        pair = hashlib.sha256(b"%d:%s" % (len(customer), customer))
        pair.update(event.transaction_id.encode())
        key = pair.digest()[:16]
        if self.cut and key not in self._seen:
            verdict = self._judged_open(key, generation)
            if verdict is None:
                return None
            if key in self._open:
                return verdict
        known = self._seen.get(key)
        if known is not None and generation - (known >> 64) <= self.terms.generations:
            self.conflicts += known & _BODY != int.from_bytes(body, "big")
            return True
        self._seen[key] = generation << 64 | int.from_bytes(body, "big")
        return False

    def _judged_open(self, key: bytes, generation: int) -> bool | None:
        """Judge an id under every generation at which it may have been counted last.

        None where they differ. Ways meet again, for instance once an id pauses for longer than
        the window; from then on the id is known as if it had been seen from the start.
        """
        assert self._cut_at is not None
        remembered = self.terms.generations
        oldest = self._cut_at - remembered - 1  # stands for everything older, and for never
        ways = self._open.pop(key, None) or frozenset(range(oldest, self._cut_at + 1))
        verdicts = {way: generation - way <= remembered for way in ways}
        after = frozenset(way if repeats else generation for way, repeats in verdicts.items())
        agreed = set(verdicts.values())
        if len(after) > 1:
            self._open[key] = after
        elif len(agreed) > 1:
            self._seen[key] = generation << 64  # counted in this generation on every way
        return agreed.pop() if len(agreed) == 1 else None

    def _count(self, version: MetricVersion, event: Plain, offset: int, *, doubtful: bool) -> bool:
        found = False
        for number, measure in enumerate(version.definition.measures):
            if not version.definition.computable or not matches(measure, event):
                continue
            found = True
            bucket = event.at // (self.terms.bucket_s * 10**9)
            owner = _owner_of(version, measure, event)
            value = value_of(measure, event)
            name = f"{version.metric_id}#{version.version}.{number}"
            if value is ABSENT or owner is None or offset >= self.closes(name, owner):
                continue
            sets: list[tuple[str | None, ...]] = [()]
            sets += [
                tuple(group_of(_group_value(version, name, event)) for name in names)
                for names in version.definition.dimensions
            ]
            for grouping_set, groups in enumerate(sets):
                cell = Cell(name, owner, bucket, grouping_set, groups)
                kept = self.kept.get(cell)
                if kept is None:
                    kept = self.kept[cell] = Kept(measure.aggregation)
                if doubtful:
                    kept.doubtful = True
                elif value is None:
                    kept.skip(offset)
                else:
                    kept.add(Reading(event.at, self.clock_ms, offset, value))
        return found

    def texts(self) -> dict[Cell, tuple[str | None, frozenset[str] | None]]:
        """What every cell must hold: its stored text, and a UNIQUE cell's elements."""
        return {cell: kept.holds(self.partition) for cell, kept in self.kept.items()}


def _group_value(version: MetricVersion, name: str, event: Plain) -> Any:
    """What an event is grouped by; `$value` of Klaviyo is first the event's own value (CK12)."""
    own = event.context.get("value")
    if name == "$value" and version.definition.origin.format == "klaviyo" and own is not None:
        return own
    return event.properties.get(name)


def _owner_of(version: MetricVersion, measure: Measure, event: Plain) -> str | None:
    """Whose cells: the unit's, the customer's, or everybody's; None where the unit is missing."""
    if measure.unit is not None:
        return group_of(look_up(measure.unit, event))
    return event.customer_id if version.definition.scope is Scope.CUSTOMER else ""


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
