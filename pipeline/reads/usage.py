"""What readers ask: usage and status. Partial rollups of all partitions, merged, with offsets.

Rule: the log's ends are read before the cells (DESIGN 7), so `complete` is never claimed for an
event that was durable before the question and not applied before the answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from definitions.metric import Aggregation
from definitions.times import NS_PER_MS

from ..control.records import Identity, Metric, Version
from ..core.aggregations import RULES, Partial, decode_partial, empty_partial, merge_partials
from ..core.periods import RefusedPeriod, Window, windows
from ..core.state import COUNTERS, PartitionState
from ..core.tally import CellKey
from ..core.windows import ns_of, rfc3339
from ..deploy.checks import check_state
from ..errors import UsageError
from ..ports import Book, Clock, EventLog, RollupStore, Span
from .query import (
    Part,
    Query,
    WindowFinder,
    aggregation_of,
    days_of,
    grouping_set_of,
    parts_of,
    versions_of,
)
from .standing import Standing, standing_of, standings_of, status_line

_CUSTOMERS_AT_ONCE: Final = 500
Group = tuple[str | None, ...]


class Reader:
    """Answers questions about one deployment."""

    def __init__(
        self,
        identity: Identity,
        store: RollupStore,
        log: EventLog,
        clock: Clock,
        lateness: timedelta,
    ) -> None:
        self._identity = identity
        self._store = store
        self._log = log
        self._clock = clock
        self._lateness = lateness
        self._bucket_s = identity.deployment.base_bucket_s

    async def status(self) -> list[dict[str, Any]]:
        """Return a line for each partition and a total line."""
        spans, read_at = await self._log.spans(), self._clock.now()
        lines = []
        for number in self._identity.starts:
            state = check_state(await self._store.state(number), self._identity, number)
            stands = standing_of(state, spans.get(number, Span(state.next, state.next)), read_at)
            lines.append(status_line(number, stands))
        total = {
            name: sum(line[name] for line in lines) for name in ("next", "end", "lag", *COUNTERS)
        }
        through = min((line["applied_through"] or "" for line in lines), default="")
        balanced = all(line["balanced"] for line in lines)
        return [*lines, {**total, "applied_through": through or None, "balanced": balanced}]

    async def usage(self, query: Query) -> list[dict[str, Any]]:
        """Return a line for each window and group, then the offsets the answer stands at.

        Raises:
            UsageError: a period, zone or group that cannot be answered, with the reason.
        """
        spread = self._windows(query)
        grouping_set, order = grouping_set_of(query)
        parts = parts_of(query.metric)
        spans, read_at = await self._log.spans(), self._clock.now()
        customers = await self._customers(query, parts)
        lines: list[dict[str, Any]] = []
        standings: dict[int, Standing] = {}
        for at in range(0, len(customers), _CUSTOMERS_AT_ONCE):
            names = customers[at : at + _CUSTOMERS_AT_ONCE]
            books = await self._books(parts, names, spread)
            standings = standings_of(books, spans, read_at, standings)
            merged = self._merge(books, parts, grouping_set, spread)
            for name in names:
                rows = self._rows(query, parts, merged.get(name, {}), order, spread)
                lines += self._finish(query, name, rows, standings)
        if not customers:
            books = await self._books(parts, [], spread)
            standings = standings_of(books, spans, read_at, standings)
        return [*lines, {"as_of": self._as_of(standings)}]

    # -- the question --------------------------------------------------------------------------

    def _windows(self, query: Query) -> list[Window]:
        try:
            return windows(
                query.starting_on,
                query.ending_before,
                size=query.size,
                zone=query.zone,
                bucket_s=self._bucket_s,
            )
        except RefusedPeriod as error:
            raise UsageError(str(error)) from error

    async def _customers(self, query: Query, parts: list[Part]) -> list[str]:
        if query.customer is not None:
            return [query.customer]
        measures = [part.measure for part in parts]
        found: set[str] = set()
        for number in self._identity.starts if measures else ():
            found |= await self._store.customers(number, measures)
        return sorted(found)

    async def _books(
        self, parts: list[Part], customers: Sequence[str], spread: Sequence[Window]
    ) -> dict[int, Book]:
        """Read every partition: an event counts where it lies, also away from home."""
        days = days_of(spread)
        books = {}
        for number in self._identity.starts:
            measures = [part.measure for part in parts]
            book = await self._store.read(number, measures, customers, days)
            check_state(None if book is None else book.state, self._identity, number)
            assert book is not None
            books[number] = book
        return books

    # -- merging -------------------------------------------------------------------------------

    def _merge(
        self,
        books: Mapping[int, Book],
        parts: list[Part],
        grouping_set: int,
        spread: Sequence[Window],
    ) -> dict[str, dict[tuple[int, Group], Partial]]:
        """Merge cells over partitions and buckets: customer → (window, group) → partial."""
        by_measure = {part.measure: part for part in parts}
        finder = WindowFinder(spread, self._bucket_s)
        merged: dict[str, dict[tuple[int, Group], Partial]] = {}

        def add(cell: CellKey, partial: Partial, aggregation: Aggregation) -> None:
            window = finder.window_of(cell.bucket)
            if window is None or cell.grouping_set != grouping_set:
                return
            if not by_measure[cell.measure].covers(cell.bucket, self._bucket_s):
                return
            rows = merged.setdefault(cell.customer, {})
            held = rows.get((window, cell.groups))
            if held is not None:
                partial = merge_partials(aggregation, held, partial)
            rows[window, cell.groups] = partial

        for book in books.values():
            for cell, text in book.cells.items():
                aggregation = by_measure[cell.measure].aggregation
                add(cell, decode_partial(aggregation, text), aggregation)
            for cell, members in book.elements.items():
                add(cell, Partial(members, 0), by_measure[cell.measure].aggregation)
        return merged

    def _rows(
        self,
        query: Query,
        parts: list[Part],
        merged: Mapping[tuple[int, Group], Partial],
        order: Sequence[int],
        spread: Sequence[Window],
    ) -> list[tuple[Window, dict[str, str | None] | None, Partial]]:
        aggregation = parts[0].aggregation if parts else Aggregation.COUNT
        if query.group_key is None:
            empty = empty_partial(aggregation)
            return [
                (window, None, merged.get((at, ()), empty)) for at, window in enumerate(spread)
            ]
        rows: list[tuple[Window, dict[str, str | None] | None, Partial]] = []
        for (at, values), partial in sorted(merged.items(), key=_row_order):
            group = {query.group_key[n]: values[order[n]] for n in range(len(order))}
            if all(group[name] in wanted for name, wanted in query.group_filters.items()):
                rows.append((spread[at], group, partial))
        return rows

    # -- the answer ----------------------------------------------------------------------------

    def _finish(
        self,
        query: Query,
        customer: str,
        rows: Iterable[tuple[Window, dict[str, str | None] | None, Partial]],
        standings: Mapping[int, Standing],
    ) -> list[dict[str, Any]]:
        version = query.metric.latest
        computable = version.body is not None and version.body.definition.computable
        aggregation = aggregation_of(version)
        history = self.history(query.metric, standings)
        lines = []
        known: dict[Window, dict[str, Any]] = {}
        for window, group, partial in rows:
            shared = known.get(window)
            if shared is None:
                complete = computable and self._complete(query.metric, window, standings)
                shared = known[window] = {
                    "starting_on": rfc3339(window.starting_on),
                    "ending_before": rfc3339(window.ending_before),
                    "complete": complete,
                }
            line = {
                "starting_on": shared["starting_on"],
                "ending_before": shared["ending_before"],
                "group": group,
                "value": RULES[aggregation].finish(partial.value) if computable else None,
                "unreadable": partial.unreadable,
                "complete": shared["complete"],
                "history": history,
            }
            lines.append(line if query.customer is not None else {"customer_id": customer, **line})
        return lines

    def _complete(self, metric: Metric, window: Window, standings: Mapping[int, Standing]) -> bool:
        """Whether nothing can be missing from a window (INTERFACES, `complete`)."""
        for standing in standings.values():
            through = standing.applied_through
            if through is None or window.ending_before + self._lateness > through:
                return False
            for version in versions_of(metric, window):
                if not self._seen_whole(version, window, standing.state):
                    return False
        return True

    def _seen_whole(self, version: Version, window: Window, state: PartitionState) -> bool:
        """Whether a version saw every event of a window that this partition holds."""
        activation = state.active.get(version.key)
        if activation is None:
            return state.next <= state.start
        if activation.offset <= state.start:
            return True
        clock_ns = activation.clock_ms * NS_PER_MS
        ahead_ns = self._identity.deployment.max_ahead_ms * NS_PER_MS
        return ns_of(window.starting_on) >= clock_ns + ahead_ns

    def history(self, metric: Metric, standings: Mapping[int, Standing]) -> str:
        """`complete` where every version counts from the log's first offset in every partition."""
        for standing in standings.values():
            state = standing.state
            for version in metric.versions:
                activation = state.active.get(version.key)
                counts_from = state.next if activation is None else activation.offset
                if counts_from > state.start:
                    return "from_activation"
        return "complete"

    async def standings(self) -> dict[int, Standing]:
        """Return where every partition stands now."""
        spans, read_at = await self._log.spans(), self._clock.now()
        found = {}
        for number in self._identity.starts:
            state = check_state(await self._store.state(number), self._identity, number)
            found[number] = standing_of(
                state, spans.get(number, Span(state.next, state.next)), read_at
            )
        return found

    def _as_of(self, standings: Mapping[int, Standing]) -> dict[str, Any]:
        topic = self._identity.topics["events"][0]
        through = [standing.applied_through for standing in standings.values()]
        known = [moment for moment in through if moment is not None]
        whole = known and len(known) == len(through)
        return {
            "offsets": {
                f"{topic}/{number}": item.state.next for number, item in standings.items()
            },
            "applied_through": rfc3339(min(known)) if whole else None,
        }


def _row_order(item: tuple[tuple[int, Group], Partial]) -> tuple[int, list[tuple[bool, str]]]:
    """By window, then by group values; null comes first."""
    (window, values), _ = item
    return window, [(text is not None, text or "") for text in values]
