"""All metrics of each customer, in one answer of any length.

Rule 1: what an answer says of a customer is read at one moment: a customer's cells lie in one
partition, and one script reads those of all metrics. So each row names the partition and the
offset at which it stands, and is a recount of the log up to there.
Rule 2: only what exists is told: a window without any event of the metric has no row.
Rule 3: customers are streamed, in the order of their homes and then of their ids. Nothing is held
but the ids of one partition and the cells of one read; Redis is never kept from others for long.
"""

import json
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from itertools import groupby, islice
from typing import Any, Final, NamedTuple

from definitions.metric import Aggregation
from definitions.times import rfc3339

from ..control.entities import Metric
from ..core.windows import Window
from ..deploy.checks import check_open
from ..errors import UsageError
from ..ports import Book, RollupStore
from .answers import End
from .asked import LINES_MAX, Asked, worked
from .history import History, history_of
from .lines import end_line, places_in, told
from .merging import cells_in, merge
from .owners import Owners, Places
from .pieces import in_pieces
from .query import WindowFinder, days_of, versions_of
from .results import Group, Held, answer
from .standing import Stands, is_complete, is_stale
from .together_query import TogetherQuery
from .usage import Reader

DAYS_MAX: Final = 800  # of one question: keys are asked for whether they are there or not
_NAMES_AT_ONCE: Final = 500


class MetricRow(NamedTuple):
    """One window of one metric of a customer, and of one group or (None) of all.

    group: canonical JSON. value: canonical text. lies: partition → the offset at which it stands.
    more: what the value was made of, as texts.
    """

    customer: str
    metric: Metric
    version: int
    window: Window
    group: str | None
    value: str | None
    unreadable: int
    complete: bool
    history: History
    lies: Mapping[int, int]
    more: Mapping[str, Any]


class _Metric:
    """One metric of a question: its total and its groups, and what is the same for all rows."""

    def __init__(self, metric: Metric, stands: Stands, reader: Reader) -> None:
        self.metric = metric
        self.asked: list[Asked] = []
        self.history = history_of(metric, [each.state for each in stands.first.values()])
        self._stands = stands
        self._lateness = reader.lateness
        self._bucket_s = reader.bucket_s
        self._windows: dict[Window, tuple[int, bool]] = {}

    def go_on(self, stands: Stands) -> None:
        """Another read stands here: what an event was taken from meanwhile is not complete."""
        if stands.stale != self._stands.stale:
            self._windows.clear()
        self._stands = stands

    def of_window(self, window: Window) -> tuple[int, bool]:
        """The version that a window is read by at its end, and whether it is complete."""
        known = self._windows.get(window)
        if known is None:
            versions = versions_of(self.metric, window) or [self.metric.latest]
            late, size = self._lateness, self._bucket_s
            whole, _ = is_complete(self.metric, window, self._stands, lateness=late, bucket_s=size)
            known = self._windows[window] = versions[-1].number, whole
        return known


class Together:
    """Answers questions about many metrics of one deployment."""

    def __init__(self, reader: Reader, store: RollupStore, homes: int) -> None:
        self._reader = reader
        self._store = store
        self._homes = homes

    async def batches(self, query: TogetherQuery) -> AsyncGenerator[list[MetricRow] | End]:
        """Yield the rows of customers, some at a time, then the End.

        Raises:
            UsageError: a period or zone that cannot be answered. NotOpen: a partition is being
                rebuilt.
        """
        async with self._reader.heavy():
            reading = await self.opened(query)
            left, last = query.limit, None
            async for names in reading.customers(query):
                some = names
                if left is not None:
                    some = dict(islice(names.items(), left))
                    left -= len(some)
                async for rows in reading.rows(some):
                    yield rows
                last = next(reversed(some), last)
                if len(some) < len(names):
                    break
            else:
                last = None
            yield reading.end(last)

    async def opened(self, query: TogetherQuery) -> "TogetherReading":
        """Begin to answer a question: from here on it stands where the stream stands now."""
        stands = await self._reader.stream.now()
        metrics: dict[str, _Metric] = {}
        spread = await self._reader.spread(query.queries[0]) if query.queries else []
        for each in query.queries:
            made = metrics.setdefault(each.metric.id, _Metric(each.metric, stands, self._reader))
            made.asked.append(await worked(len(spread), partial(in_pieces, each, spread)))
        reading = TogetherReading(
            self._store, self._reader, self._homes, list(metrics.values()), stands, spread
        )
        await reading.look_away()
        return reading


class TogetherReading:
    """One answer that is being read."""

    def __init__(
        self,
        store: RollupStore,
        reader: Reader,
        homes: int,
        metrics: Sequence[_Metric],
        stands: Stands,
        spread: Sequence[Window],
    ) -> None:
        self._store = store
        self._topic = reader.topic
        self._bucket_s = reader.bucket_s
        self._identity = reader.identity
        self.homes = homes
        self._metrics = metrics
        self.stands = stands
        parts = {each.measure: each for metric in metrics for each in metric.asked[0].parts}
        self._of = {
            part.measure: place
            for place, metric in enumerate(metrics)
            for part in metric.asked[0].parts
        }
        self.measures: Collection[str] = self._of.keys()
        unique = Aggregation.UNIQUE
        self._sets = [name for name, part in parts.items() if part.aggregation is unique]
        self._owners = Owners(store, homes, list(self._of))
        self._days = days_of(spread)
        finder = WindowFinder(spread, reader.bucket_s)
        self._finders = [
            [
                finder if each.spread is spread else WindowFinder(each.spread, reader.bucket_s)
                for each in metric.asked
            ]
            for metric in metrics
        ]
        if len(self._days) > DAYS_MAX:
            raise UsageError(
                f"the period has {len(self._days):,} days, and of all metrics together at most "
                f"{DAYS_MAX} are answered at a time: ask for a shorter period"
            )

    async def look_away(self) -> None:
        """Find the customers who have cells away from home."""
        await self._owners.look_away({at: each.state for at, each in self.stands.first.items()})

    def home_of(self, customer: str) -> int:
        """The partition at which a customer is told of."""
        return self._owners.home_of(customer)

    async def at_home(self, home: int) -> dict[str, Places]:
        """Return the customers of a home, in order, and where their cells lie."""
        return await self._owners.at_home(home) if self._of else {}

    async def customers(self, query: TogetherQuery) -> AsyncGenerator[dict[str, Places]]:
        """Yield the customers that a question is about, home by home."""
        if query.customer is not None:
            found = await self.at_home(self._owners.home_of(query.customer))
            yield {name: at for name, at in found.items() if name == query.customer}
            return
        since = 0 if query.after is None else self._owners.home_of(query.after)
        for home in range(since, self.homes):
            found = await self.at_home(home)
            if home == since and query.after is not None:
                found = {name: at for name, at in found.items() if name > query.after}
            yield found

    def is_stale(self, window: Window) -> bool:
        """Whether some cell of a window waited to be counted again at any of the reads."""
        return any(
            is_stale(each.metric, window, self.stands, self._bucket_s) for each in self._metrics
        )

    def end(self, after: str | None = None) -> End:
        """Return what comes behind the last row."""
        metrics = [each.metric for each in self._metrics]
        return End(self.stands.as_of(self._topic, *metrics), after)

    async def rows(self, customers: Mapping[str, Places]) -> AsyncGenerator[list[MetricRow]]:
        """Yield the rows of these customers in their order: of each by metric, window, group."""
        for places, names in groupby(customers, key=customers.__getitem__):
            waiting = list(names)
            while waiting:
                books, count = await self._read(places, waiting[:_NAMES_AT_ONCE])
                some, waiting = waiting[:count], waiting[count:]
                size = cells_in(books.values())
                yield await worked(size, partial(self.rows_in, some, books))

    async def _read(self, places: Places, names: Sequence[str]) -> tuple[dict[int, Book], int]:
        """Read the cells of the first of these customers in each partition where they lie."""
        books: dict[int, Book] = {}
        count = len(names)
        for number in places:
            owned = await self._store.read_owners(
                number, list(self._of), self._sets, names[:count], self._days
            )
            check_open(None if owned is None else owned.book.state, self._identity, number)
            assert owned is not None
            books[number], count = owned.book, min(count, owned.owners)
        self.stands = self.stands.later({at: book.state for at, book in books.items()})
        for metric in self._metrics:
            metric.go_on(self.stands)
        return books, count

    def rows_in(self, names: Sequence[str], books: Mapping[int, Book]) -> list[MetricRow]:
        """The rows of some customers whose cells are in these books. Pure."""
        lies = {number: book.state.next for number, book in books.items()}
        split = self._split(books)
        found: dict[str, list[MetricRow]] = {name: [] for name in names}
        for place, metric in enumerate(self._metrics):
            mine: dict[str, list[MetricRow]] = {}
            for asked, finder in zip(metric.asked, self._finders[place], strict=True):
                merged = merge(asked.query, split[place], asked.parts, finder, {})
                for name in merged.keys() & found.keys():
                    rows = _rows(metric, asked, merged[name])
                    mine.setdefault(name, []).extend(
                        MetricRow._make((name, metric.metric, *row, metric.history, lies, more))
                        for *row, more in rows
                    )
            for name, rows_ in mine.items():
                found[name] += sorted(rows_, key=_order) if len(rows_) > 1 else rows_
        return [row for name in names for row in found[name]]

    def _split(self, books: Mapping[int, Book]) -> list[dict[int, Book]]:
        """The cells of each metric by themselves."""
        split: list[dict[int, Book]] = [{} for _ in self._metrics]
        for number, book in books.items():
            cells: list[dict[Any, Any]] = [{} for _ in split]
            sets: list[dict[Any, Any]] = [{} for _ in split]
            for cell, text in book.cells.items():
                cells[self._of[cell.measure]][cell] = text
            for cell, members in book.elements.items():
                sets[self._of[cell.measure]][cell] = members
            for place, each in enumerate(split):
                each[number] = Book(book.state, cells[place], sets[place])
        return split


def _rows(
    metric: _Metric, asked: Asked, merged: Mapping[tuple[int, Group], Held]
) -> Iterator[tuple[Any, ...]]:
    """What a customer's rows of a metric say, from version to complete, and what made them."""
    names, key = asked.names, asked.query.group_key
    for (at, values), held in merged.items():
        definition, window = asked.definitions[at], asked.spread[at]
        if definition is None:
            continue
        answered = answer(definition, held)
        group = None if key is None else canonical_group(dict(zip(names, values, strict=True)))
        version, whole = metric.of_window(window)
        more = {name: told(number) for name, number in answered.more.items()}
        yield version, window, group, answered.value, answered.unreadable, whole, more


def _order(row: MetricRow) -> tuple[Window, str]:
    return row.window, row.group or ""


def canonical_group(group: Mapping[str, str | None]) -> str:
    """Return a group as JSON of one spelling: names in order, no blanks."""
    return json.dumps(group, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


async def whole_page(together: Together, query: TogetherQuery) -> tuple[list[MetricRow], End]:
    """Return an answer that is held as a whole.

    Raises:
        UsageError: it has more than LINES_MAX lines.
    """
    rows: list[MetricRow] = []
    async with aclosing(together.batches(query)) as batches:
        async for batch in batches:
            if isinstance(batch, End):
                return rows, batch
            rows += batch
            if len(rows) > LINES_MAX:
                raise UsageError(
                    f"the page has more than {LINES_MAX:,} lines: ask for fewer customers "
                    "(`limit`), a shorter period or wider windows"
                )
    raise AssertionError("an answer has an end")


def row_line(topic: str, row: MetricRow) -> dict[str, Any]:
    """Return the line of a row, as the command line and our own door print it."""
    return {
        "customer_id": row.customer,
        "metric_id": row.metric.id,
        "metric": row.metric.name,
        "version": row.version,
        "starting_on": rfc3339(row.window.starting_on),
        "ending_before": rfc3339(row.window.ending_before),
        "group": None if row.group is None else json.loads(row.group),
        "value": row.value,
        "unreadable": row.unreadable,
        "complete": row.complete,
        **row.history.members,
        **row.more,
        **places_in(topic, row.lies),
    }


def last_line(end: End, query: TogetherQuery) -> dict[str, Any]:
    """Return the last line of an answer."""
    left_out = {"left_out": dict(query.left_out)} if query.left_out else {}
    return {**end_line(end), **left_out}
