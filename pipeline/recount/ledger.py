"""One partition, recounted record by record: fates, cells, identities.

It shares nothing with the pipeline's fold but the parsed definition. It may be run in parts, by
customer, so that the identities of one part at a time are in memory.
"""

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, NamedTuple, Protocol
from zlib import crc32

from .compiled import Active, ActiveMeasure, ActiveMeasures, Closing, Spot, of_everybody
from .corrections import Aside, Corrections
from .events import NotCounted, Plain, Void, customer_in, read_event, read_quickly
from .homes import home_of
from .identity import SEALED_AT, Identities, key_of
from .kept import Kept, Reading
from .matching import ABSENT

__all__ = [
    "Active",
    "Cell",
    "Closing",
    "Ledger",
    "LedgerTerms",
    "Share",
    "home_of",
    "of_everybody",
]
_MS = 1_000_000
_BODY_BITS = 24  # of a body's digest: two bodies of one identity are told apart
_BODY = (1 << _BODY_BITS) - 1
_HOMES_MAX = 100_000  # customers whose homes are remembered


class _Record(Protocol):
    """A record of the log."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def value(self) -> bytes | None: ...


class LedgerTerms(NamedTuple):
    """The settings that decide numbers, milliseconds and seconds."""

    dedup_window_ms: int
    max_age_ms: int
    max_ahead_ms: int
    bucket_s: int
    homes: int
    strict: bool
    generations: int  # of a window: an id repeats one that is at most so many old


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

    def parted(self, parts: int) -> "list[Share]":
        """Return shares of about equal size that make this one up."""
        return [Share(self.number + self.of * part, self.of * parts) for part in range(parts)]


WHOLE = Share(0, 1)


_ALWAYS, _LATER = Closing(inf, inf, inf), 1 << 62  # later than any offset


def _always(_measure: str, _owner: str) -> Closing:
    return _ALWAYS


@dataclass
class Ledger:
    """Fed with every record of a partition, in order, from its start.

    share: whose events are judged and counted; a repeat has the customer of its first, so that
    parts can be recounted one after the other. fates: of the share's records below `until`;
    what is no event belongs to the customer that it seems to name, else to part 0. clock_until:
    the log clock there. closes: (measure, owner) → which events reach the owner's cells. cut: the
    log's beginning is gone, so an id may have been counted before what is fed. verdicts: the
    offsets that the store says were duplicates. The ledger judges for itself, and asks only where
    a verdict hangs on what is gone. otherwise: how many duplicates below `until` the store does
    not have. named: offsets that corrections name; None: none are expected, and met_unnamed says
    whether one came. kept_corrections: see Corrections. settle() comes last. taken_back: original
    → its correction, where all that are applied are known. expected: how many identities there may
    be. Append times are taken not to step back over the cut.
    """

    partition: int
    terms: LedgerTerms
    active: list[Active]
    share: Share = WHOLE
    until: float = inf
    closes: Callable[[str, str], Closing] = _always
    fates: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    ids: Counter[int] = field(default_factory=Counter)
    kept: dict[Cell, Kept] = field(default_factory=dict)
    conflicts: int = 0
    clock_ms: int = -1
    clock_until: int = -1
    cut: bool = False
    verdicts: Container[int] | None = None
    otherwise: int = 0
    named: Container[int] | None = None
    kept_corrections: Container[int] | None = None
    taken_back: Mapping[int, int] | None = None
    expected: int = SEALED_AT
    _first: int = -1  # the generation of the first record
    _open: dict[bytes, frozenset[int]] = field(default_factory=dict)
    _away: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._measures = ActiveMeasures(self.active)
        self._seen = Identities(self.expected)
        self._bucket_ns = self.terms.bucket_s * 10**9
        self._max_age_ns = self.terms.max_age_ms * _MS
        self._max_ahead_ns = self.terms.max_ahead_ms * _MS
        kept = self.kept_corrections if self.cut else None
        if self.taken_back is not None:
            kept = frozenset(self.taken_back.values())
        self._corrections = Corrections(self.partition, self.named or (), kept)

    def feed_all(self, records: Sequence[_Record]) -> None:
        """Take records, in order; events of other shares are not decoded."""
        number, of = self.share
        for record in records:
            value = record.value
            if of > 1:
                customer = customer_in(value)
                if customer is not None and crc32(customer) % of != number:
                    self.note_time(record.offset, record.timestamp)
                    continue
            self.feed(record.offset, record.timestamp, value)

    def note_time(self, offset: int, append_ms: int) -> None:
        """Take only the time of a record: its event is not of those that are judged."""
        self.clock_ms = max(self.clock_ms, append_ms)
        if self._first < 0:
            self._first = self._generation()
        if offset < self.until:
            self.clock_until = self.clock_ms

    def feed(self, offset: int, append_ms: int, value: bytes | None) -> None:
        """Take one record."""
        self.note_time(offset, append_ms)
        number, of = self.share
        customer = customer_in(value) if of > 1 else None
        if customer is not None and crc32(customer) % of != number:
            return
        try:
            event = read_quickly(value) or read_event(value)
        except Void as void:
            if customer is not None or self.share.holds(void.customer_id):
                self._correct(void, value, offset)
            return
        except NotCounted as why:
            if of == 1 or customer is not None or number == 0:
                self._reject(offset, str(why))
            return
        whose = event.customer_id
        if of > 1 and customer is None and not self.share.holds(whose):
            return
        away = self._away.get(whose)
        if away is None:
            away = self._is_away(whose)
        why_not = self._misjudged(event, away=away)
        if why_not is not None:
            self._reject(offset, why_not)
            return
        generation = self._generation()
        repeated = self._is_repeated(event, value, offset, generation)
        if self._corrections.note(event, offset, self.clock_ms, offset, is_duplicate=repeated):
            counted = not repeated and self._matches(event, offset)
        else:
            counted = not repeated and self._counts(event, offset, self.clock_ms, offset)
        if offset >= self.until:
            return
        fates = self.fates
        fates["consumed"] += 1
        if away:
            fates["misplaced"] += 1
        if repeated:
            fates["duplicate"] += 1
            self.otherwise += self.verdicts is not None and offset not in self.verdicts
            return
        self.ids[generation] += 1
        fates["counted" if counted else "unmatched"] += 1

    def _generation(self) -> int:
        return (self.terms.generations * self.clock_ms) // self.terms.dedup_window_ms

    def _is_away(self, customer: str) -> bool:
        if len(self._away) >= _HOMES_MAX:
            self._away.clear()
        away = self._away[customer] = home_of(customer, self.terms.homes) != self.partition
        return away

    def _reject(self, offset: int, why: str) -> None:
        if offset < self.until:
            self.fates["consumed"] += 1
            self.fates["rejected"] += 1
            self.fates["misplaced"] += why == "misplaced"
            self.reasons[why] += 1

    def _misjudged(self, event: Plain, *, away: bool) -> str | None:
        behind = self.clock_ms * _MS - event.at
        if behind > self._max_age_ns and self._max_age_ns:
            return "too_old"
        if behind < -self._max_ahead_ns:
            return "too_far_ahead"
        return "misplaced" if away and self.terms.strict else None

    def _correct(self, void: Void, value: Any, offset: int) -> None:
        """Take a correction: judged by keying, as a duplicate, and by what it names."""
        away = self._is_away(void.customer_id)
        if away and self.terms.strict:
            self._reject(offset, "misplaced")
            return
        generation, why = self._generation(), self._corrections.refusal(void, offset)
        if why is None:
            repeated = self._is_repeated(void, value, offset, generation)
        else:
            repeated = self._has_come(void, offset, generation)
        if why is None and not repeated:
            self._apply(void, offset)
        if offset >= self.until:
            return
        fates = self.fates
        if repeated:
            fates["duplicate"] += 1
            self.otherwise += self.verdicts is not None and offset not in self.verdicts
        elif why is not None:
            fates["rejected"] += 1
            self.reasons[why] += 1
        else:
            self.ids[generation] += 1
            fates["corrected"] += 1
        fates["consumed"] += 1
        fates["misplaced"] += away

    def _apply(self, void: Void, offset: int) -> None:
        """Take an event back, and count what is said instead of it."""
        root, event, clock_ms = self._corrections.apply(void, offset), void.event, self.clock_ms
        if event is None:
            return
        if not self._corrections.note(event, offset, clock_ms, root, is_duplicate=False):
            self._counts(event, offset, clock_ms, root)

    def _has_come(self, void: Void, offset: int, generation: int) -> bool:
        """Whether an identity is remembered; nothing is noted."""
        known = self._seen.get(key_of(void))
        if known is None:
            return self.cut and self.verdicts is not None and offset in self.verdicts
        return generation - self._first - (known >> _BODY_BITS) <= self.terms.generations

    def _is_repeated(self, event: Plain | Void, value: Any, offset: int, generation: int) -> bool:
        """At most a window old, in generations; a repeat renews nothing (docs/design.md 5)."""
        key = key_of(event)
        body = hash(value) & _BODY  # compared within this process only
        known = self._seen.get(key)
        if known is None and self.cut:
            return self._judged_open(key, body, offset, generation)
        since = generation - self._first
        if known is not None and since - (known >> _BODY_BITS) <= self.terms.generations:
            self.conflicts += known & _BODY != body
            return True
        self._seen.put(key, since << _BODY_BITS | body)
        return False

    def _judged_open(self, key: bytes, body: int, offset: int, generation: int) -> bool:
        """Judge an id under every generation at which it may have been counted last.

        Where they differ the store's own verdict decides, and rules out the others: the ways that
        are left must agree with it. Once an event is counted, there is one way only.
        """
        remembered = self.terms.generations
        oldest = self._first - remembered - 1  # stands for everything older, and for never
        ways = self._open.pop(key, None) or frozenset(range(oldest, self._first + 1))
        repeating = frozenset(way for way in ways if generation - way <= remembered)
        if not repeating:
            repeats = False
        elif repeating == ways:
            repeats = True
        else:
            assert self.verdicts is not None
            repeats = offset in self.verdicts
        if repeats:
            self._open[key] = repeating
        else:
            self._seen.put(key, generation - self._first << _BODY_BITS | body)
        return repeats

    def settle(self) -> None:
        """Count the events that corrections named.

        Those that were taken back count only in books that close before that.
        """
        aside, self._corrections.aside = self._corrections.aside, []
        for each in aside:
            self._settle(each)

    def _settle(self, each: Aside) -> None:
        self._counts(*each)

    def _by(self, offset: int) -> float:
        """The offset of what took a record back; infinite where nothing is known to have."""
        return (self.taken_back or self._corrections.by).get(offset, inf)

    @property
    def met_unnamed(self) -> bool:
        """Whether a correction came although none was expected."""
        return self.named is None and self._corrections.met

    def _matches(self, event: Plain, offset: int) -> bool:
        """Whether an event that just came matches a measure."""
        return any(
            measure.start <= offset < measure.end and all(test(event) for test in measure.tests)
            for measure in self._measures[event.event_type]
        )

    def _counts(self, event: Plain, offset: int, clock_ms: int, root: int) -> bool:
        """Add an event to every cell that it reaches; say whether it matches a measure.

        Of the past of a version it is added too, but its fate was decided when it came. root:
        where it was first, before it was amended: there a version counts it or not.
        """
        found, by = False, self._by(offset)
        bucket = event.at // self._bucket_ns
        at_once = Reading(event.at, clock_ms, offset, offset)
        for measure in self._measures[event.event_type]:
            is_past = offset < measure.start
            if not measure.counts(offset, root):
                continue
            for test in measure.tests:
                if not test(event):
                    break
            else:
                found = found or not is_past
                if measure.from_ns is not None and event.at < measure.from_ns:
                    continue  # its cell is dead: nobody writes it, and no key is made for it
                value, owner = measure.value(event), measure.owner(event)
                if value is ABSENT or owner is None:
                    continue
                spot = measure.spots.get(owner)
                if spot is None:
                    spot = measure.spots[owner] = Spot(self.closes(measure.name, owner))
                closes = spot.closes
                if offset >= (closes.past if is_past else closes.live) or by < closes.live:
                    continue
                reading = at_once
                if is_past and offset >= closes.listed:
                    reading = reading._replace(came=_LATER)
                if spot.bucket != bucket or spot.kept is None:
                    spot.bucket = bucket
                    spot.kept = self._kept_of(Cell(measure.name, owner, bucket, 0, ()), measure)
                measure.take(spot.kept, value, reading)
                for number, groups in enumerate(measure.groups, 1):
                    cell = Cell(measure.name, owner, bucket, number, groups(event))
                    measure.take(self._kept_of(cell, measure), value, reading)
        return found

    def _kept_of(self, cell: Cell, measure: ActiveMeasure) -> Kept:
        kept = self.kept.get(cell)
        if kept is None:
            kept = self.kept[cell] = Kept(measure.kind)
        return kept

    def texts(self) -> dict[Cell, tuple[str | None, frozenset[str] | None]]:
        """What every cell must hold: its stored text, and a UNIQUE cell's elements."""
        return {cell: kept.holds(self.partition) for cell, kept in self.kept.items()}
