"""What readers ask: usage and status. Partial rollups of all partitions, merged, with offsets.

Rule 1: every partition is read through check_open(): one that is not open for reading is never a
number (R-1).
Rule 2: the marks of the log are taken before the cells are read, so `complete` is never claimed
where anything that was durable when the question was asked is unapplied (R-2).
Rule 3: work is bounded by what exists, not by what is asked for: days come from the index of days,
customers are read in slices of bounded numbers of keys and lines, large slices are merged in a
thread: the loop turns, and a question can be given up between two of them.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from ..control.entities import DeploymentRecord, Metric, Version
from ..core.dedup import home_of
from ..core.windows import RefusedPeriod, Window, windows
from ..deploy.checks import check_open
from ..errors import UsageError
from ..ports import Book, Clock, RollupStore
from .afterwards import followed, retention_of
from .answers import AsOf, End, Usage, UsageRow, joined
from .asked import HEAVY_WINDOWS, LINES_MAX, Asked, slice_of, too_long, worked
from .history import history_of, joined_histories
from .marks import Ends, Marks, Patience
from .merging import Row, Rows, cells_in, homes_of, merge, rows_of
from .names import Finder, added_up, awaits, components_of, marked, reasons_of, seen_in
from .progress import Progress
from .query import Query, WindowFinder, days_of, definition_of, parts_of, stored_key
from .results import sum_of
from .standing import Standing, Stands, is_complete, status_line, status_total
from .stream import Stream

Status = list[dict[str, Any]]
Batches = AsyncGenerator[list[UsageRow] | End]
Heavy = Callable[[], AbstractAsyncContextManager[Any]]


class Reader:
    """Answers questions about one deployment.

    Args:
        patience: how long to wait for the stream; none: not at all.
        heavy: what a large question holds while it is answered; it may raise TooBusy.
    """

    def __init__(
        self,
        identity: DeploymentRecord,
        store: RollupStore,
        log: Ends,
        clock: Clock,
        lateness: timedelta,
        *,
        patience: Patience | None = None,
        heavy: Heavy = nullcontext,
    ) -> None:
        self.identity = identity
        self._store = store
        self.lateness = lateness
        self.heavy = heavy
        self.bucket_s = identity.deployment.base_bucket_s
        patience = patience or Patience(0, clock)
        self.stream = Stream(identity, store, log, clock, patience)
        self.progress = Progress(store, list(identity.starts), clock)
        self.topic = identity.topics["events"][0]

    # -- where it stands -------------------------------------------------------------------------

    async def status(self, versions: Mapping[str, Version]) -> Status:
        """Return a line for each partition and a total; they show what is rebuilt or halted.

        Args:
            versions: All that the control log knows, by key.
        """
        standings = await self.standings()
        built = self._store.building
        lines = [status_line(at, each, await built(at)) for at, each in standings.items()]
        past = await self.progress.of_all(versions, standings)
        return [*lines, {**status_total(lines), **past}]

    async def standings(self) -> dict[int, Standing]:
        """Return where every partition stands now, those too that are not open for reading."""
        return await self.stream.standings()

    # -- usage -----------------------------------------------------------------------------------

    async def usage(self, query: Query) -> Usage:
        """Return a row for each window and group, and where the answer stands.

        Raises:
            UsageError: a period, zone or group that cannot be answered, with the reason; an
                answer of more than LINES_MAX lines. NotOpen: a partition is being rebuilt.
        """
        return await _whole(query, self.batches(query, lines_max=LINES_MAX))

    async def batches(self, query: Query, *, lines_max: int | None = None) -> Batches:
        """Yield the rows in batches, so that an answer of any length needs little memory.

        The last batch is the End. Raises: see usage().
        """
        asked = await self.asked(query)
        if components_of(query.metric) is not None:
            rows, as_of = await self._added(asked)
            yield marked(rows, await self._reasons(query))
            yield End(as_of)
            return
        if retention_of(query.metric) is not None:
            rows, as_of = await self._followed(asked)
            yield rows
            yield End(as_of)
            return
        async with aclosing(self._measured(asked, lines_max)) as batches:
            async for batch in batches:
                if isinstance(batch, End):
                    yield batch
                else:
                    # Names are read after the cells: what was counted is never called unseen.
                    yield marked(batch, await self._reasons(query))

    async def _reasons(self, query: Query) -> list[str]:
        return (await self.unresolved([query.metric], query.find))[query.metric.id]

    async def unresolved(self, metrics: Sequence[Metric], find: Finder) -> dict[str, list[str]]:
        """Why metrics have no value although a stream can compute them, by their ids.

        Names that they use have no meaning (reads/names.py).
        """
        names = frozenset[str]()
        if awaits(each for metric in metrics for each in added_up(metric, find)[0]):
            parts = [await self._store.names(number) for number in self.identity.starts]
            names = seen_in(parts)
        return {metric.id: reasons_of(metric, find, names) for metric in metrics}

    async def _measured(self, asked: Asked, lines_max: int | None) -> Batches:
        """Yield the rows of a metric's own measures, then where they stand."""
        query = asked.query
        marks = await self.stream.marks()
        owners, days = await self._owners(asked)
        more = query.limit is not None and len(owners) > query.limit
        owners = owners[: query.limit]
        count = len(owners) * len(asked.spread)
        plain = query.group_key is None and query.each_customer
        if lines_max is not None and plain and count > lines_max:
            raise UsageError(too_long(query, f"{count}"))
        at_once = slice_of(asked, days)
        large = len(owners) > at_once or len(asked.spread) > HEAVY_WINDOWS
        async with (
            self.heavy() if large else nullcontext(),
            aclosing(self._sliced(asked, owners, at_once, marks)) as batches,
        ):
            async for batch in batches:
                if more and isinstance(batch, End):
                    yield replace(batch, after=owners[-1])
                else:
                    yield batch

    async def asked(self, query: Query) -> Asked:
        """Return a question with its windows. Raises: see usage()."""
        spread = await self.spread(query)
        names = () if components_of(query.metric) is not None else stored_key(query)
        definitions = await worked(
            len(spread), lambda: [definition_of(query, window) for window in spread]
        )
        return Asked(query, spread, parts_of(query, names), names, definitions)

    async def spread(self, query: Query) -> list[Window]:
        """Return the windows of a question. Raises: see usage()."""
        days = (query.ending_before - query.starting_on).days
        try:
            return await worked(
                days,
                lambda: windows(
                    query.starting_on,
                    query.ending_before,
                    size=query.size,
                    zone=query.zone,
                    bucket_s=self.bucket_s,
                ),
            )
        except RefusedPeriod as error:
            raise UsageError(str(error)) from error

    async def _owners(self, asked: Asked) -> tuple[list[str], int]:
        """Whose cells to read (of one customer, of all, or of units), and of how many days."""
        query, measures = asked.query, [part.measure for part in asked.parts]
        if query.customer is not None:
            return [query.customer], 0
        owners: set[str] = set()
        days: set[int] = set()
        for number in self.identity.starts if measures else ():
            listing = await self._store.listing(number, measures)
            held = None if listing is None else listing.state
            check_open(held, self.identity, number)
            assert listing is not None
            owners |= listing.owners
            days |= listing.days
        period = days_of(asked.spread)
        after = query.after
        found = await worked(
            len(owners), lambda: sorted(each for each in owners if after is None or each > after)
        )
        return found, sum(day in period for day in days)

    async def _sliced(
        self, asked: Asked, owners: Sequence[str], at_once: int, marks: Marks
    ) -> Batches:
        """Read and answer some customers at a time; of several reads the earliest counts."""
        stands: Stands | None = None
        together: Rows = {}
        finder = WindowFinder(asked.spread, self.bucket_s)
        for at in range(0, max(len(owners), 1), at_once):
            names = owners[at : at + at_once]
            books = await self._books(asked, names)
            stands = await self._stands(books, marks, stands)
            work = partial(self._answer, asked, names, books, stands, finder, together)
            size = cells_in(books.values()) + len(names) * len(asked.spread)
            rows = await worked(size, work)
            if rows:
                yield rows
        assert stands is not None
        if not asked.query.is_of_customers:
            work = partial(self._rows, asked, None, together, stands, None)
            yield await worked(len(together) + len(asked.spread), work)
        yield End(stands.as_of(self.topic, asked.query.metric))

    async def _books(self, asked: Asked, customers: Sequence[str]) -> dict[int, Book]:
        """Read every partition: an event counts where it lies, also away from home."""
        measures, numbers = [part.measure for part in asked.parts], list(self.identity.starts)
        days = days_of(asked.spread)
        books = {}
        for number, book in (
            await self._store.read_each(numbers, measures, customers, days)
        ).items():
            check_open(None if book is None else book.state, self.identity, number)
            assert book is not None
            books[number] = book
        return books

    async def _stands(
        self, books: Mapping[int, Book], marks: Marks, before: Stands | None
    ) -> Stands:
        states = {number: book.state for number, book in books.items()}
        return await self.stream.stands(states, marks, before)

    def _answer(
        self,
        asked: Asked,
        names: Sequence[str],
        books: Mapping[int, Book],
        stands: Stands,
        finder: WindowFinder,
        together: Rows,
    ) -> list[UsageRow]:
        """The rows of a slice of customers; of a metric of the deployment none yet."""
        query = asked.query
        merged = merge(query, books, asked.parts, finder, together)
        if not query.is_of_customers:
            return []
        homes = homes_of(books) if query.each_customer else {}
        rows: list[UsageRow] = []
        for name in names:
            lies = self._lies(name, homes, stands) if query.each_customer else None
            rows += self._rows(asked, name, merged.get(name, {}), stands, lies)
        return rows

    def _lies(
        self, customer: str, homes: Mapping[str, set[int]], stands: Stands
    ) -> dict[int, int]:
        """Where a customer's cells lie and stand, for its rows (R-3)."""
        home = home_of(customer, self.identity.deployment.homes)
        return {at: stands.last[at].next for at in sorted(homes.get(customer, {home}))}

    def _rows(
        self,
        asked: Asked,
        customer: str | None,
        merged: Rows,
        stands: Stands,
        lies: Mapping[int, int] | None,
    ) -> list[UsageRow]:
        query = asked.query
        found: Iterable[Row] = rows_of(query, asked.definitions, merged, asked.names, asked.spread)
        body = query.metric.latest.body
        computable = body is not None and body.definition.computable
        history = history_of(query.metric, (each.state for each in stands.first.values()))
        known: dict[Window, tuple[bool, bool]] = {}  # whether it is complete, and stale
        rows = []
        for window, group, answered in found:
            if window not in known:
                known[window] = is_complete(
                    query.metric, window, stands, lateness=self.lateness, bucket_s=self.bucket_s
                )
            value = None if answered.value is None else Decimal(answered.value)
            (complete, stale), whose = known[window], None if lies is None else customer
            row = window, group, value, answered.unreadable, computable and complete, history
            rows.append(UsageRow(*row, whose, lies, answered.more, stale=stale))
        return rows

    async def _followed(self, asked: Asked) -> tuple[list[UsageRow], AsOf]:
        """Every window by itself, with the days in which units may come back."""
        rows: list[UsageRow] = []
        reads: list[AsOf] = []
        for each in followed(asked):
            own = each.cut(await self.asked(each.query))
            found = await _whole(each.query, self._measured(own, LINES_MAX))
            rows += [replace(row, window=each.window) for row in found.rows]
            reads.append(found.as_of)
        return rows, joined(reads)

    async def _added(self, asked: Asked) -> tuple[list[UsageRow], AsOf]:
        """The sum of other metrics, window by window; null where one of them has no value."""
        query = asked.query
        _, endless = added_up(query.metric, query.find)
        named = components_of(query.metric) or ()
        components = [query.find(each.name, each.type) for each in named if endless is None]
        answers = [
            await self.usage(replace(query, metric=metric))
            for metric in components
            if metric is not None
        ]
        if query.metric.latest.body is not None and query.metric.latest.body.definition.measures:
            answers.append(await _whole(query, self._measured(asked, LINES_MAX)))
            components = [*components, query.metric]
        rows = []
        for at, window in enumerate(asked.spread):
            found = [answer.rows[at] for answer in answers]
            values = [row.value for row in found if row.value is not None]
            whole = len(values) == len(found) == len(components)
            rows.append(
                UsageRow(
                    window,
                    None,
                    sum_of(values) if whole else None,
                    sum(row.unreadable for row in found),
                    whole and all(row.complete for row in found),
                    joined_histories(row.history for row in found),
                    stale=any(row.stale for row in found),
                )
            )
        if answers:
            return rows, joined(answer.as_of for answer in answers)
        marks = await self.stream.marks(wait=False)
        stands = await self._stands(await self._books(asked, ()), marks, None)
        return rows, stands.as_of(self.topic, query.metric)


async def _whole(query: Query, batches: Batches) -> Usage:
    rows: list[UsageRow] = []
    async with aclosing(batches):
        async for batch in batches:
            if isinstance(batch, End):
                return Usage(rows, batch.as_of, batch.after)
            rows += batch
            if len(rows) > LINES_MAX:
                raise UsageError(too_long(query, f"more than {LINES_MAX}"))
    raise AssertionError("an answer has an end")
