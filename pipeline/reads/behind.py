"""The events behind a number: every event that it counts, where it lies, and what it contributed.

Rule 1: the cells and the offset at which they stand are read first, at one moment; then the log up
to there. So a recount of the events that are told equals the number, and both are told.
Rule 2: only the part of the log is read that can hold such events: an event is appended at most
max_ahead before its time, and accepted at most max_age after it. Which of them repeat an earlier
one that is not read, the store's kept verdicts say.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import inf
from typing import Any, Final

from definitions.metric import Aggregation
from definitions.times import NS_PER_MS, rfc3339
from definitions.values import canonical

from ..control.entities import DeploymentRecord
from ..control.records import ControlState
from ..core.buckets import moment_of, ns_of
from ..core.cells import CellKey, group_name
from ..core.records import Span
from ..deploy.checks import check_open
from ..errors import LogUnavailable, StoreUnavailable, UsageError
from ..ports import Book, EventLog, RollupStore
from ..recount.compiled import ActiveMeasure
from ..recount.events import Plain
from ..recount.ledger import Ledger, home_of
from ..recount.matching import ABSENT
from .asked import Asked
from .lines import named_offsets
from .merging import merge, rows_of
from .names import components_of
from .query import Part, Query, WindowFinder, days_of
from .recounting import active_of, terms_of
from .trial_ledger import whose
from .usage import Reader
from .verdicts import WentBack, corrections_of, read_verdicts

_AT_ONCE: Final = 500  # records that are looked at before others have their turn
Place = tuple[int, int]  # a partition and an offset
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Recounted:
    """What comes behind the events. usage: the number as the cells have it; value: recounted.

    after: the last event of a page that others may follow; then there is no value. lost: the log
    no longer holds all that may belong here.
    """

    events: int
    usage: str | None
    value: str | None
    offsets: Mapping[int, int]
    after: Place | None = None
    lost: bool = False

    def line(self, topic: str) -> dict[str, Any]:
        """The last line of an answer."""
        told: dict[str, Any] = {"events": self.events, "usage": self.usage}
        if self.after is None:
            told |= {"recounted": self.value, "equal": self.value == self.usage}
        else:
            told["after"] = "{}@{}".format(*self.after)
        lost = {"log_is_cut": True} if self.lost else {}
        return {**told, **lost, "as_of": {"offsets": named_offsets(topic, self.offsets)}}


@dataclass(slots=True)
class _Work:
    """What a question is busy with. parts: by measure. cells: recounted, by partition."""

    asked: Asked
    finder: WindowFinder
    parts: Mapping[str, Part]
    books: dict[int, Book] = field(default_factory=dict)
    cells: dict[int, Book] = field(default_factory=dict)
    events: int = 0
    lost: bool = False

    @property
    def customer(self) -> str:
        """Whose number it is."""
        assert self.asked.query.customer is not None
        return self.asked.query.customer

    def value(self, books: Mapping[int, Book]) -> str | None:
        """The number that these cells make."""
        asked, query = self.asked, self.asked.query
        merged = merge(query, books, asked.parts, self.finder, {}).get(self.customer, {})
        rows = rows_of(query, asked.definitions, merged, asked.names, asked.spread)
        return rows[0][2].value if rows else None


class Behind:
    """Finds the events behind the numbers of one deployment."""

    def __init__(
        self,
        identity: DeploymentRecord,
        control: ControlState,
        store: RollupStore,
        log: EventLog,
        reader: Reader,
    ) -> None:
        self._identity = identity
        self._control = control
        self._store = store
        self._log = log
        self._reader = reader
        self._terms = terms_of(identity)

    async def events(
        self,
        query: Query,
        started: Progress,
        progress: Progress,
        *,
        after: Place | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[list[dict[str, Any]] | Recounted]:
        """Yield the lines of events, in the order of partitions and offsets, then the end.

        Args:
            query: Of one customer, one window, and at most one group.
            started: Told once how many offsets will be read. progress: told offsets as they go.
            after: Only events behind this one. limit: so many of them.

        Raises:
            UsageError: the metric has no cells of a customer that events could be told of.
        """
        work = await self._work(query)
        spans = await self._log.spans()
        ranges = {at: await self._range(work, at, spans[at], after) for at in self._places(work)}
        started(sum(high - low for low, high in ranges.values()))
        offsets = {at: book.state.next for at, book in work.books.items()}
        last: Place | None = None
        for number, (low, high) in ranges.items():
            async for lines in self._read(work, number, low, high, progress, after):
                some = lines if limit is None else lines[: limit - work.events]
                work.events += len(some)
                if some:
                    last = number, some[-1]["offset"]
                    yield some
                if limit is not None and work.events >= limit:
                    usage = work.value(work.books)
                    yield Recounted(work.events, usage, None, offsets, last)
                    return
        usage, value = work.value(work.books), work.value(work.cells)
        yield Recounted(work.events, usage, value, offsets, None, work.lost)

    async def _work(self, query: Query) -> _Work:
        name = query.metric.name
        if not query.is_of_customers:
            raise UsageError(f"{name!r} counts the whole deployment, not single customers")
        if components_of(query.metric) is not None:
            raise UsageError(f"{name!r} adds up other metrics: ask for one of them")
        asked = await self._reader.asked(query)
        if len(asked.spread) != 1 or asked.definitions[0] is None:
            raise UsageError(f"{name!r} has no value in this period that a stream can compute")
        finder = WindowFinder(asked.spread, self._reader.bucket_s)
        work = _Work(asked, finder, {part.measure: part for part in asked.parts})
        unique = Aggregation.UNIQUE
        sets = [part.measure for part in asked.parts if part.aggregation is unique]
        for number in self._identity.starts:
            owned = await self._store.read_owners(
                number, [*work.parts], sets, [work.customer], days_of(asked.spread)
            )
            check_open(None if owned is None else owned.book.state, self._identity, number)
            assert owned is not None
            work.books[number] = owned.book
        return work

    def _places(self, work: _Work) -> list[int]:
        """Where the customer's events may lie: at home, and wherever cells are."""
        home = home_of(work.customer, self._identity.deployment.homes)
        lies = {at for at, book in work.books.items() if book.cells or book.elements}
        return sorted({home, *lies})

    async def _range(
        self, work: _Work, number: int, span: Span, after: Place | None
    ) -> tuple[int, int]:
        """The offsets that may hold events of the window."""
        state, (window,) = work.books[number].state, work.asked.spread
        first_ms = ns_of(window.starting_on) // NS_PER_MS - self._terms.max_ahead_ms
        start = max(state.start, span.start)
        found = await self._log.offset_at(number, max(first_ms, 0))
        low, high = max(start, state.next if found is None else found), state.next
        if self._terms.max_age_ms:
            last_ms = -(-ns_of(window.ending_before) // NS_PER_MS) + self._terms.max_age_ms
            end = await self._log.offset_at(number, max(last_ms, 0) + 1)
            high = high if end is None else min(high, end)
        work.lost = work.lost or (low == span.start > state.start)
        if after is not None:
            low = state.next if number < after[0] else low
            low = max(low, after[1] + 1) if number == after[0] else low
        return min(low, high), high

    async def _read(
        self,
        work: _Work,
        number: int,
        low: int,
        high: int,
        progress: Progress,
        after: Place | None,
    ) -> AsyncGenerator[list[dict[str, Any]]]:
        """Read a part of a partition, and yield the lines of what it holds.

        And of what was amended later.
        """
        state = work.books[number].state
        try:
            verdicts = await read_verdicts(self._store, self._identity, number)
        except WentBack as error:
            raise StoreUnavailable("Redis changed whenever it was read; ask again") from error
        voids = await corrections_of(self._store, self._identity, number)
        metric_id = work.asked.query.metric.id
        active = active_of(self._control, state)
        ledger = _Watching(
            work,
            number,
            self._terms,
            [each for each in active if each.version.metric_id == metric_id],
            cut=low > state.start,
            verdicts=verdicts,
            taken_back=voids.until(state.next),
        )
        if low < high:
            async for records in self._log.read(number, low, high):
                for at, record in enumerate(records):
                    if not at % _AT_ONCE:
                        await asyncio.sleep(0)  # a server answers others meanwhile
                    if whose(record.value) != work.customer:
                        ledger.note_time(record.offset, record.timestamp)
                    else:
                        ledger.feed_at(record)
                progress(len(records))
                yield ledger.taken()
        for offset in voids.living(high, state.next):
            if voids.root_of(offset) >= high or (after is not None and (number, offset) <= after):
                continue
            amend = await self._log.probe(number, offset)
            if amend is not None and amend.offset == offset:
                if whose(amend.value) == work.customer:
                    ledger.feed_at(amend)
                yield ledger.taken()
        if (await self._log.spans())[number].start > low:
            raise LogUnavailable("Kafka's retention took records while they were read; ask again")
        cells: dict[CellKey, str] = {}
        elements: dict[CellKey, frozenset[str]] = {}
        for cell, (text, members) in ledger.texts().items():
            if text is not None:
                cells[CellKey(*cell)] = text
            if members is not None:
                elements[CellKey(*cell)] = members
        work.cells[number] = Book(state, cells, elements)


class _Watching(Ledger):
    """A recount that tells of each event that a question's number counts."""

    def __init__(self, work: _Work, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.work = work
        self._lines: list[dict[str, Any]] = []
        self._record: Any = None

    def feed_at(self, record: Any) -> None:
        """Take a record whose event may be told of."""
        self._record = record
        self.feed(record.offset, record.timestamp, record.value)

    def taken(self) -> list[dict[str, Any]]:
        """The lines since this was asked last."""
        lines, self._lines = self._lines, []
        return lines

    def _counts(self, event: Plain, offset: int, clock_ms: int, root: int) -> bool:
        counted = super()._counts(event, offset, clock_ms, root)
        if self._by(offset) < inf:
            return counted  # it was taken back: no number holds it
        told = {
            measure.name: text
            for measure in self._measures[event.event_type]
            if measure.counts(offset, root)
            and (text := self._contributed(measure, event)) is not None
        }
        if told:
            self._lines.append(self._line(event, told))
        return counted

    def _contributed(self, measure: ActiveMeasure, event: Plain) -> dict[str, Any] | None:
        """What an event adds to the number by one measure that counts it; None: nothing."""
        part = self.work.parts.get(measure.name)
        bucket, bucket_s = event.at // self._bucket_ns, self.work.finder.bucket_s
        if part is None or part.grouping is None:
            return None
        if self.work.finder.window_of(bucket) is None or not part.covers(bucket, bucket_s):
            return None
        if not all(test(event) for test in measure.tests):
            return None
        value = measure.value(event)
        number = part.grouping.number
        groups = part.grouping.of(measure.groups[number - 1](event) if number else ())
        if value is ABSENT or not self._is_asked(groups):
            return None
        return {"value": _text(measure.kind, value), "unreadable": value is None}

    def _is_asked(self, groups: Sequence[str | None]) -> bool:
        """Whether an event is of the group that was asked for."""
        asked = self.work.asked
        for name, value in zip(asked.names, groups, strict=False):
            wanted = asked.query.group_filters.get(name)
            if wanted is not None and value not in {*wanted, *map(group_name, wanted)}:
                return False
        return True

    def _line(self, event: Plain, told: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        first = next(iter(told.values()))
        several = {name: each["value"] for name, each in told.items()} if len(told) > 1 else None
        return {
            "partition": self.partition,
            "offset": self._record.offset,
            "append_time": rfc3339(moment_of(self._record.timestamp * NS_PER_MS)),
            "transaction_id": event.transaction_id,
            "timestamp": rfc3339(moment_of(event.at)),
            "event_type": event.event_type,
            "contributes": first["value"] if several is None else several,
            **({"unreadable": True} if first["unreadable"] else {}),
            "properties": event.properties,
        }


def _text(kind: Aggregation, value: Any) -> str | None:
    """What a value adds, as text; None where it could not be read."""
    if value is None:
        return None
    if kind is Aggregation.COUNT:
        return "1"
    return value if isinstance(value, str) else canonical(Decimal(value))
