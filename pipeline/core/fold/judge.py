"""Decoded records → accepted events and dead letters: age, keying (docs/design.md 2).

Column by column for many records at once; what is refused is taken out of all columns between
two steps. Duplicates are judged by fold.py.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from math import inf
from operator import attrgetter
from typing import Any, Final, NamedTuple

from definitions.matcher import Rule
from definitions.times import NS_PER_MS, NS_PER_S, parse_timestamp, parse_timestamps

from ..dedup import Heads, generation_of, identities, last_ms_of, seed_of
from ..deployment import Deployment, Keying
from ..event import Decoded, Event, no_time
from ..reasons import Reason, Rejected
from ..records import DeadLetter, LogRecord

_NEARLY_NS: Final = 3_600 * NS_PER_S  # clocks and doors together are never off by more
_OFFSET: Final = attrgetter("record.offset")


@dataclass(slots=True)
class Accepted:
    """Accepted events, column by column. times: of the events, in ns; clocks: the log's, in ms.

    taken: how many records were judged for it. span: no time is outside of these two.
    """

    taken: int
    records: list[LogRecord]
    clocks: list[int]
    events: list[Any]
    times: list[Any]
    ids: list[bytes]
    span: tuple[int, int] = (0, 0)

    def keep(self, kept: Iterable[object]) -> None:
        """Leave out every row whose mark is false."""
        kept = list(kept)
        self.records = list(compress(self.records, kept))
        self.clocks = list(compress(self.clocks, kept))
        self.events = list(compress(self.events, kept))
        self.times = list(compress(self.times, kept))
        self.ids = list(compress(self.ids, kept))


class PythonShare(NamedTuple):
    """The rules of a new event that native/ has left to Python, of those it can match.

    It was accepted. is_counted: whether another rule matched.
    """

    record: LogRecord
    event_ns: int
    clock_ms: int
    is_counted: bool
    rules: tuple[Rule, ...]


class Judge:
    """Judges the records of one plan, in order. It stops where another generation begins.

    clock_ms: the log clock after the last record taken. misplaced: events away from home so far.
    last_ms: the last log clock of the generation.
    ended: whether a record of another generation was met; it was not taken. dead_letters: of all
    that was taken, in the order of the log.
    """

    def __init__(
        self,
        partition: int,
        clock_ms: int,
        deployment: Deployment,
        first_ms: int,
    ) -> None:
        self.clock_ms = clock_ms
        self.misplaced = 0
        self.ended = False
        self.dead_letters: list[DeadLetter] = []
        window = deployment.dedup_window_ms, deployment.generations
        self.generation = generation_of(max(clock_ms, first_ms), *window)
        self.last_ms = last_ms_of(self.generation, *window)
        self._deployment = deployment
        self._seed = seed_of(deployment.store_id)
        self._heads = Heads(partition, deployment.homes)

    def take(self, records: Sequence[LogRecord], events: Sequence[Decoded]) -> Accepted:
        """Return what is accepted of the next records.

        Args:
            events: What each record holds; no corrections.
        """
        clocks = self._clocks([record.timestamp for record in records])
        taken, before = len(clocks), len(self.dead_letters)
        rows = Accepted(taken, list(records[:taken]), clocks, list(events[:taken]), [], [])
        if Rejected in set(map(type, rows.events)):
            self._refuse(rows, [each if type(each) is Rejected else None for each in rows.events])
        times: list[Any] = parse_timestamps([event.timestamp for event in rows.events])
        rows.times = times
        if None in times:
            pairs = zip(rows.events, times, strict=True)
            self._refuse(rows, [no_time(event) if at is None else None for event, at in pairs])
        if times := rows.times:
            rows.span = min(times), max(times)
        if not self._all_in_time(rows):
            self._refuse(rows, list(map(self._age, rows.times, rows.clocks)))
        rows.ids = identities(rows.events, self._heads, self._seed)
        if self._heads.away:
            self._judge_keying(rows)
        if len(self.dead_letters) > before + 1:
            self.dead_letters[before:] = sorted(self.dead_letters[before:], key=_OFFSET)
        return rows

    def _clocks(self, stamps: list[int]) -> list[int]:
        """The log clock after each record; fewer where one begins another generation."""
        newest = max(stamps)
        if newest <= self.clock_ms:
            return [self.clock_ms] * len(stamps)
        clocks = stamps
        if stamps[0] < self.clock_ms or sorted(stamps) != stamps:
            clocks = list(accumulate(stamps, max, initial=self.clock_ms))[1:]
        if newest > self.last_ms:
            self.ended = True
            del clocks[bisect_right(clocks, self.last_ms) :]
        self.clock_ms = clocks[-1] if clocks else self.clock_ms
        return clocks

    def _refuse(self, rows: Accepted, why: Sequence[Rejected | None]) -> None:
        """Take the rows that have a reason out, as dead letters."""
        self.dead_letters += [
            DeadLetter(record, rejected)
            for record, rejected in zip(rows.records, why, strict=True)
            if rejected is not None
        ]
        rows.keep(rejected is None for rejected in why)

    def _all_in_time(self, rows: Accepted) -> bool:
        """Whether no event is too old or too far ahead at any clock of these rows."""
        if not rows.times:
            return True
        oldest, _ = _in_time(rows.clocks[-1], self._deployment)
        _, newest = _in_time(rows.clocks[0], self._deployment)
        return oldest <= rows.span[0] and rows.span[1] <= newest

    def _age(self, at: int, clock_ms: int) -> Rejected | None:
        oldest, newest = _in_time(clock_ms, self._deployment)
        if oldest <= at <= newest:
            return None
        age_s = (clock_ms * NS_PER_MS - at) / 1e9
        if age_s > 0:
            nearly = oldest - at <= _NEARLY_NS
            return Rejected(Reason.TOO_OLD, f"{age_s:.0f} s behind the log clock", nearly)
        return Rejected(Reason.TOO_FAR_AHEAD, f"{-age_s:.0f} s ahead of the log clock")

    def _judge_keying(self, rows: Accepted) -> None:
        """Count the events that lie away from home; under `strict` they are refused."""
        homes = [self._heads.away.get(event.customer_id) for event in rows.events]
        self.misplaced += len(homes) - homes.count(None)
        if self._deployment.keying is Keying.STRICT:
            self._refuse(
                rows,
                [
                    None
                    if home is None
                    else Rejected(Reason.MISPLACED, f"the home is partition {home}")
                    for home in homes
                ],
            )


def is_in_time(event: Event, clocks: tuple[int, int], deployment: Deployment) -> bool:
    """Whether an event is neither too old nor too far ahead, whatever the log clock was.

    Args:
        clocks: It was no earlier than the first of these and no later than the second.
    """
    at = parse_timestamp(event.timestamp)
    if at is None:
        return False
    oldest, _ = _in_time(clocks[1], deployment)
    _, newest = _in_time(clocks[0], deployment)
    return oldest <= at <= newest


def _in_time(clock_ms: int, deployment: Deployment) -> tuple[float, int]:
    """The oldest and the newest event time that the log clock admits, both included."""
    newest = (clock_ms + deployment.max_ahead_ms) * NS_PER_MS
    if not deployment.max_age_ms:
        return -inf, newest
    return (clock_ms - deployment.max_age_ms) * NS_PER_MS, newest
