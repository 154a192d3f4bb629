"""What readers ask: usage and status. Partial rollups of all partitions, merged, with offsets.

Rule: the log's ends are read before the cells, so `complete` is never claimed for an
event that was durable before the question and not applied before the answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Protocol

from definitions.metric import Definition, ResultKind
from definitions.times import NS_PER_MS, rfc3339

from ..control.entities import DeploymentRecord, Metric, Version
from ..core.aggregations import Partial, decode_partial
from ..core.buckets import ns_of
from ..core.cells import CellKey
from ..core.state import COUNTERS, PartitionState
from ..core.windows import RefusedPeriod, Window, windows
from ..deploy.checks import check_state
from ..errors import UsageError
from ..ports import Book, Clock, RollupStore, Span
from .query import (
    Part,
    Query,
    WindowFinder,
    days_of,
    definition_of,
    grouping_set_of,
    parts_of,
    versions_of,
)
from .results import Answered, Held, add_to, answer, sum_of
from .standing import Standing, standing_of, standings_of, status_line

_CUSTOMERS_AT_ONCE: Final = 500
Group = tuple[str | None, ...]
_Rows = dict[tuple[int, Group], Held]
_Row = tuple[Window, dict[str, str | None] | None, Answered]


class LogEnds(Protocol):
    """What a reader asks of the events topic."""

    async def spans(self) -> dict[int, Span]:
        """Return what the log holds, for every partition."""
        ...


class Reader:
    """Answers questions about one deployment."""

    def __init__(
        self,
        identity: DeploymentRecord,
        store: RollupStore,
        log: LogEnds,
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
        components = _components(query)
        if components is not None:
            return await self._added(query, components)
        grouping_set, order = grouping_set_of(query)
        parts = parts_of(query.metric)
        definitions = [definition_of(query.metric, window) for window in spread]
        spans, read_at = await self._log.spans(), self._clock.now()
        owners = await self._owners(query, parts)
        lines: list[dict[str, Any]] = []
        standings: dict[int, Standing] = {}
        together: _Rows = {}
        for at in range(0, max(len(owners), 1), _CUSTOMERS_AT_ONCE):
            names = owners[at : at + _CUSTOMERS_AT_ONCE]
            books = await self._books(parts, names, spread)
            standings = standings_of(books, spans, read_at, standings)
            merged = self._merge(query, books, parts, grouping_set, spread, together)
            for name in names if query.is_of_customers else ():
                rows = self._rows(query, definitions, merged.get(name, {}), order, spread)
                lines += self._finish(query, name, rows, standings)
        if not query.is_of_customers:
            rows = self._rows(query, definitions, together, order, spread)
            lines = self._finish(query, "", rows, standings)
        return [*lines, {"as_of": self._as_of(standings)}]

    async def _added(self, query: Query, components: list[Metric | None]) -> list[dict[str, Any]]:
        """The sum of other metrics, window by window; null where one of them has no value."""
        answers = [
            await self.usage(replace(query, metric=metric))
            for metric in components
            if metric is not None
        ]
        lines = []
        for at, window in enumerate(self._windows(query)):
            found = [answer[at] for answer in answers]
            values = [line["value"] for line in found]
            whole = len(found) == len(components) and None not in values
            total = sum_of(values) if whole else None
            lines.append(
                {
                    "starting_on": rfc3339(window.starting_on),
                    "ending_before": rfc3339(window.ending_before),
                    "group": None,
                    "value": total,
                    "unreadable": sum(line["unreadable"] for line in found),
                    "complete": whole and all(line["complete"] for line in found),
                    "history": _worst(line["history"] for line in found),
                }
            )
        as_of = answers[0][-1] if answers else {"as_of": self._as_of(await self.standings())}
        return [*lines, as_of]

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

    async def _owners(self, query: Query, parts: list[Part]) -> list[str]:
        """Whose cells to read: the customer's, every customer's, or every unit's."""
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
        measures, numbers = [part.measure for part in parts], list(self._identity.starts)
        found = await self._store.read_each(numbers, measures, customers, days_of(spread))
        books = {}
        for number, book in found.items():
            check_state(None if book is None else book.state, self._identity, number)
            assert book is not None
            books[number] = book
        return books

    # -- merging -------------------------------------------------------------------------------

    def _merge(
        self,
        query: Query,
        books: Mapping[int, Book],
        parts: list[Part],
        grouping_set: int,
        spread: Sequence[Window],
        together: "_Rows",
    ) -> dict[str, "_Rows"]:
        """Merge cells over partitions and buckets: customer → (window, group) → partials.

        together: where all of them go if the metric is the whole deployment's.
        """
        by_measure = {part.measure: part for part in parts}
        finder = WindowFinder(spread, self._bucket_s)
        merged: dict[str, _Rows] = {}

        def add(cell: CellKey, partial: Partial, part: Part) -> None:
            window = finder.window_of(cell.bucket)
            if window is None or cell.grouping_set != grouping_set:
                return
            if not part.covers(cell.bucket, self._bucket_s):
                return
            rows = merged.setdefault(cell.customer, {}) if query.is_of_customers else together
            held = rows.setdefault((window, cell.groups), {})
            add_to(held, part.place_of(cell, self._bucket_s), part.aggregation, partial)

        for book in books.values():
            for cell, text in book.cells.items():
                part = by_measure[cell.measure]
                add(cell, decode_partial(part.aggregation, text), part)
            for cell, members in book.elements.items():
                add(cell, Partial(members, 0), by_measure[cell.measure])
        return merged

    def _rows(
        self,
        query: Query,
        definitions: Sequence[Definition | None],
        merged: "_Rows",
        order: Sequence[int],
        spread: Sequence[Window],
    ) -> list["_Row"]:
        """A row for each window, or for each window and group that has a cell."""

        def answered(at: int, held: Held) -> Answered:
            definition = definitions[at]
            return Answered(None) if definition is None else answer(definition, held)

        if query.group_key is None:
            return [
                (window, None, answered(at, merged.get((at, ()), {})))
                for at, window in enumerate(spread)
            ]
        rows: list[_Row] = []
        for (at, values), held in sorted(merged.items(), key=_row_order):
            group = {query.group_key[n]: values[order[n]] for n in range(len(order))}
            if all(group[name] in wanted for name, wanted in query.group_filters.items()):
                rows.append((spread[at], group, answered(at, held)))
        return rows

    # -- the answer ----------------------------------------------------------------------------

    def _finish(
        self,
        query: Query,
        customer: str,
        rows: Iterable["_Row"],
        standings: Mapping[int, Standing],
    ) -> list[dict[str, Any]]:
        version = query.metric.latest
        computable = version.body is not None and version.body.definition.computable
        history = self.history(query.metric, standings)
        lines = []
        known: dict[Window, dict[str, Any]] = {}
        for window, group, answered in rows:
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
                "value": answered.value,
                "unreadable": answered.unreadable,
                "complete": shared["complete"],
                "history": history,
                **answered.more,
            }
            lines.append({"customer_id": customer, **line} if query.each_customer else line)
        return lines

    def _complete(self, metric: Metric, window: Window, standings: Mapping[int, Standing]) -> bool:
        """Whether nothing can be missing from a window (rule R-1 in docs/semantics.md)."""
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


def _components(query: Query) -> list[Metric | None] | None:
    """The metrics that a metric adds up; None where it has measures of its own."""
    body = query.metric.latest.body
    if body is None or not body.definition.computable or body.definition.result is None:
        return None
    result = body.definition.result
    if result.op is not ResultKind.ADD_METRICS:
        return None
    return [query.find(each.name, each.type) for each in result.components]


def _worst(histories: Iterable[str]) -> str:
    return max(histories, default="complete")  # from_activation is the greater word


def _row_order(item: tuple[tuple[int, Group], Held]) -> tuple[int, list[tuple[bool, str]]]:
    """By window, then by group values; null comes first."""
    (window, values), _ = item
    return window, [(text is not None, text or "") for text in values]
