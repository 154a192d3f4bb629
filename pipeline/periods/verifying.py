"""Every row of a revision against a recount of the log, up to the offset at which the row stands.

The log is read by the recount's own ledger (pipeline/recount), which shares nothing with the fold;
from its cells the rows are made as from those of Redis. Nothing of Redis decides a number here but
the verdicts on duplicates of a part of the log that is gone.

Memory: the cells of one part's customers, and the identities of EVENTS_PER_PASS records.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Final

from definitions.times import rfc3339

from ..control.entities import DeploymentRecord, Revision
from ..control.records import ControlState
from ..core.buckets import ns_of
from ..core.cells import CellKey
from ..core.records import Span
from ..core.state import PartitionState
from ..deploy.checks import check_open
from ..errors import LogUnavailable
from ..ports import Book, EventLog, RollupStore
from ..reads.recounting import active_of, terms_of, verifiable_since
from ..reads.together import MetricRow, TogetherReading
from ..reads.verdicts import corrections_of, read_verdicts
from ..recount.ledger import Closing, Ledger, Share
from .changes import delta_of
from .folder import Folder
from .reading import ClosedRow, Key, by_customer, rows_in, standing_rows

EVENTS_PER_PASS: Final = 8_000_000
_NOWHERE: Final = Closing(0, 0, 0)
Progress = Callable[[int], None]
Whole = tuple[Revision, Folder, dict[str, Any]]  # a revision, its folder, its manifest


@dataclass(slots=True)
class Verdict:
    """What was found. lines: one for each difference."""

    rows: int = 0
    unverifiable_rows: int = 0
    events: int = 0
    lines: list[dict[str, Any]] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The last line."""
        return {
            "rows": self.rows,
            "mismatches": len(self.lines),
            "unverifiable_rows": self.unverifiable_rows,
            "events": self.events,
        }


@dataclass(slots=True)
class _Partition:
    """A partition of the log. since: see verifiable_since()."""

    state: PartitionState
    span: Span
    since: float | None


class Verifier:
    """Verifies the revisions of one closed period. reading: of its metrics and windows."""

    def __init__(
        self,
        identity: DeploymentRecord,
        control: ControlState,
        store: RollupStore,
        log: EventLog,
        reading: TogetherReading,
    ) -> None:
        self._identity = identity
        self._control = control
        self._store = store
        self._log = log
        self._reading = reading
        self._terms = terms_of(identity)
        self._partitions: dict[int, _Partition] = {}
        self.found = Verdict()

    async def look(self) -> None:
        """See what the log still holds."""
        spans = await self._log.spans()
        for number in self._identity.starts:
            held = await self._store.state(number)
            state, span = check_open(held, self._identity, number), spans[number]
            since = await verifiable_since(self._log, number, span, state, self._terms)
            self._partitions[number] = _Partition(state, span, since)

    async def verify(self, whole: Whole, earlier: Sequence[Whole], progress: Progress) -> None:
        """Verify one revision; what is found is added to `found`. earlier: those before it."""
        revision, folder, manifest = whole
        files = {told["name"]: told for told in manifest["files"]}
        per_home = manifest["parts"]
        for number in range(manifest["homes"] * per_home):
            home, sub = divmod(number, per_home)
            name = f"part-{number:05d}.{manifest['format']}"
            told = files.get(name)
            if told is None and revision.number > 1:
                continue
            mine = [] if told is None else [(folder.part(told), revision.format)]
            part = _Part(revision, _rows_of(mine), _rows_of(_earlier(earlier, name)))
            await self._part(part, home, Share(sub, per_home), progress)

    async def _part(self, part: "_Part", home: int, share: Share, progress: Progress) -> None:
        lies = {row.customer_id: row.lies for row in part.rows()}
        size = self._size_of(home) // share.of
        passes = max(-(-size // EVENTS_PER_PASS), 1)
        for each in share.parted(passes):
            lying = {name: at for name, at in lies.items() if each.holds(name)}
            some = _Some(part, home, each, lying)
            for number in sorted({home, *(at for places in lying.values() for at in places)}):
                await self._recount(number, some, progress)
            self._compare(part, each, some.cells)

    def _size_of(self, number: int) -> int:
        held = self._partitions[number]
        return held.state.next - max(held.state.start, held.span.start)

    async def _recount(self, number: int, some: "_Some", progress: Progress) -> None:
        """Recount a partition's cells of some customers, each up to its own offset."""
        part, home, lies, share = some.part, some.home, some.lies, some.share
        held = self._partitions[number]
        # Whoever has no row at all has had no event before the first row was read.
        first = part.revision.offsets.get(number, (0, 0))[0] if part.is_first else 0

        def closes(_measure: str, owner: str) -> Closing:
            places = lies.get(owner)
            if places is None:
                at_home = number == home and self._reading.home_of(owner) == home
                return Closing(first, inf, inf) if at_home and first else _NOWHERE
            at = places.get(number)
            return _NOWHERE if at is None else Closing(at, inf, inf)

        low = max(held.state.start, held.span.start)
        ends = [places[number] for places in lies.values() if number in places]
        high = max([first, *ends])
        is_cut = low > held.state.start
        verdicts = None
        if is_cut:
            verdicts = await read_verdicts(self._store, self._identity, number)
        voids = await corrections_of(self._store, self._identity, number)
        ids = part.revision.metric_ids
        active = active_of(self._control, held.state)
        ledger = Ledger(
            number,
            self._terms,
            [each for each in active if each.version.metric_id in ids],
            share=share,
            until=0,
            closes=closes,
            cut=is_cut,
            verdicts=verdicts,
            taken_back=voids.until(high),
            expected=max(high - low, 1) // share.of + 1,
        )
        if low < high:
            async for records in self._log.read(number, low, high):
                ledger.feed_all(records)
                self.found.events += len(records)
                progress(len(records))
        if (await self._log.spans())[number].start > max(held.span.start, held.state.start):
            raise LogUnavailable("Kafka's retention took records while they were read; again")
        for cell, (text, elements) in ledger.texts().items():
            books = some.cells.setdefault(cell.customer, {})
            book = books.setdefault(number, Book(held.state, {}, {}))
            if text is not None:
                _into(book.cells)[CellKey(*cell)] = text
            if elements is not None:
                _into(book.elements)[CellKey(*cell)] = elements

    # -- comparing -------------------------------------------------------------------------------

    def _compare(
        self, part: "_Part", share: Share, cells: Mapping[str, Mapping[int, Book]]
    ) -> None:
        old, waiting = by_customer(part.old()), None
        seen = set()
        for customer, rows in by_customer(part.rows()):
            if not share.holds(customer):
                continue
            while waiting is None or waiting[0] < customer:
                waiting = next(old, None)
                if waiting is None:
                    break
            before = waiting[1] if waiting is not None and waiting[0] == customer else {}
            books = cells.get(customer, {})
            seen.add(customer)
            wanted = {_key_of(row): row for row in self._reading.rows_in([customer], books)}
            self._customer(part, rows, before, wanted)
        if part.is_first:
            for customer in sorted(cells.keys() - seen):
                for row in self._reading.rows_in([customer], cells[customer]):
                    self._differ(part, _key_of(row), None, row.value, "the row is missing")

    def _customer(
        self,
        part: "_Part",
        rows: Mapping[Key, ClosedRow],
        before: Mapping[Key, ClosedRow],
        wanted: Mapping[Key, MetricRow],
    ) -> None:
        """Compare the rows of a customer, and what the revision leaves as it was."""
        for key in sorted({*rows, *before, *wanted}):
            row, old, recounted = rows.get(key), before.get(key), wanted.get(key)
            stands = row or old
            value, unreadable = (None, 0) if recounted is None else recounted[5:7]
            if row is not None:
                self.found.rows += 1
                if self._is_gone(row):
                    self.found.unverifiable_rows += 1
                    continue
            if stands is None:
                self._differ(part, key, None, value, "the row is missing")
            elif (stands.value, stands.unreadable) != (value, unreadable):
                why = "" if row is not None else "the revision leaves it as it was"
                self._differ(part, key, stands.value, value, why)
            if row is not None and row.revision > 1:
                previous = None if old is None else old.value
                told = (row.previous_value, row.delta)
                if told != (previous, delta_of(row.value, previous)):
                    self._differ(part, key, row.previous_value, previous, "previous_value, delta")

    def _is_gone(self, row: ClosedRow) -> bool:
        """Whether an event of a row may lie in a part of the log that is gone."""
        opens = ns_of(row.window_start)
        return any(
            (since := self._partitions[at].since) is not None and opens < since for at in row.lies
        )

    def _differ(
        self, part: "_Part", key: Key, stored: str | None, recounted: str | None, why: str
    ) -> None:
        customer, metric_id, starts, ends, group = key
        self.found.lines.append(
            {
                "period": part.revision.period,
                "revision": part.revision.number,
                "customer_id": customer,
                "metric_id": metric_id,
                "group": group or None,
                "window_start": rfc3339(starts),
                "window_end": rfc3339(ends),
                "stored": stored,
                "recounted": recounted,
                **({"reason": why} if why else {}),
            }
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a revision. rows: reads it. old: the rows that earlier revisions left."""

    revision: Revision
    rows: Callable[[], Iterator[ClosedRow]]
    old: Callable[[], Iterator[ClosedRow]]

    @property
    def is_first(self) -> bool:
        """Whether it holds every row, not only changes."""
        return self.revision.number == 1


@dataclass(slots=True)
class _Some:
    """A share of the customers of a part. lies: where their rows stand. cells: recounted."""

    part: _Part
    home: int
    share: Share
    lies: Mapping[str, Mapping[int, int]]
    cells: dict[str, dict[int, Book]] = field(default_factory=dict)


def _earlier(earlier: Sequence[Whole], name: str) -> list[tuple[Path, str]]:
    """The files of a part that earlier revisions wrote."""
    return [
        (folder.part(told), revision.format)
        for revision, folder, manifest in earlier
        for told in manifest["files"]
        if told["name"] == name
    ]


def _rows_of(files: Sequence[tuple[Path, str]]) -> Callable[[], Iterator[ClosedRow]]:
    """What reads the rows of some files, as they stand together, each time it is called."""
    return lambda: standing_rows([rows_in(path, format_) for path, format_ in files])


def _key_of(row: MetricRow) -> Key:
    return (row.customer, row.metric.id, *row.window, row.group or "")


def _into(held: Any) -> Any:
    """A mapping of a book that is just being made."""
    return held
