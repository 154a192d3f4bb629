"""The rows of a revision: all of them in the first one, in later ones what is not as it was."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from typing import Any

from definitions.values import EXACT, canonical

from ..reads.owners import Places
from ..reads.together import MetricRow, TogetherReading
from .columns import common_of, places_of
from .folder import Folder
from .period import Period
from .reading import ClosedRow, Key, Place, by_customer, rows_in, standing_rows
from .shapes import ClosedAs


@dataclass(slots=True)
class Job:
    """One revision that is being made. old: folders and manifests of the earlier ones.

    causes: the corrections that reached a row since the revision before was read.
    """

    period: Period
    made_as: ClosedAs
    folder: Folder
    plan: dict[str, Any]
    reading: TogetherReading
    old: Sequence[tuple[Folder, dict[str, Any]]] = ()
    causes: Mapping[Key, Sequence[Place]] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """Of the revision."""
        number: int = self.plan["revision"]
        return number

    @property
    def per_home(self) -> int:
        """How many parts the customers of one partition are shared out to."""
        parts: int = self.plan["parts"]
        return parts

    def old_rows(self, name: str) -> Iterator[ClosedRow]:
        """The rows of a part as the earlier revisions left them."""
        paths = [
            (folder.part(told), manifest["format"])
            for folder, manifest in self.old
            for told in manifest["files"]
            if told["name"] == name
        ]
        return standing_rows([rows_in(path, format_) for path, format_ in paths])


def widen(offsets: dict[int, tuple[int, int]], at: int, low: int, high: int) -> None:
    held = offsets.get(at, (low, high))
    offsets[at] = min(low, held[0]), max(high, held[1])


async def written(
    job: Job,
    first: list[ClosedRow],
    rest: AsyncIterator[list[ClosedRow]],
    offsets: dict[int, tuple[int, int]],
) -> AsyncIterator[Sequence[Sequence[Any]]]:
    """Rows with the columns that were asked for; where they stand is put into `offsets`."""
    made_as, window = job.made_as, job.period.window

    def of(rows: list[ClosedRow]) -> list[tuple[Any, ...]]:
        made: list[tuple[Any, ...]] = []
        for row in rows:
            for at, offset in row.lies.items():
                widen(offsets, at, offset, offset)
            more: tuple[Any, ...] = ()
            if made_as.focus:
                more = ("Correction" if row.revision > 1 else None, *window)
            if made_as.decimal is not None:
                more = (*more, row.value)
            made.append((*row, *more))
        return made

    yield of(first)
    async for rows in rest:
        yield of(rows)


def _first(row: MetricRow) -> ClosedRow:
    """A row of a first revision."""
    return ClosedRow._make((*common_of(row), *places_of(row.lies), 1, None, None, None, None))


def _later(
    job: Job, key: Key, row: MetricRow, old: ClosedRow | None, since: Mapping[int, int]
) -> ClosedRow:
    """A row of a later revision, beside the one that it replaces."""
    before, offset = (None, None) if old is None else (old.value, old.offset)
    told = (job.number, before, delta_of(row.value, before), offset)
    causes = _causes(job, key, since if old is None else old.lies, row.lies)
    return ClosedRow._make((*common_of(row), *places_of(row.lies), *told, causes))


def _causes(job: Job, key: Key, since: Mapping[int, int], until: Mapping[int, int]) -> str | None:
    """The corrections that reached a row between two reads, as text; None where there are none."""
    found = [
        f"{number}@{by}"
        for number, by in job.causes.get(key, ())
        if since.get(number, 0) <= by < until.get(number, 0)
    ]
    return json.dumps(found) if found else None


def _read_at(held: Mapping[Key, ClosedRow]) -> dict[int, int]:
    """Where a customer was read last, as far as rows say it: what had no row there was not."""
    read: dict[int, int] = {}
    for row in held.values():
        for number, offset in row.lies.items():
            read[number] = max(offset, read.get(number, 0))
    return read


def delta_of(value: str | None, before: str | None) -> str:
    """Return by how much a value changed; where there is none, 0 is taken for it."""
    return canonical(EXACT.subtract(Decimal(value or 0), Decimal(before or 0)))


async def first_rows(job: Job, names: Mapping[str, Places]) -> AsyncGenerator[list[ClosedRow]]:
    """The rows of a first revision."""
    async for rows in job.reading.rows(names):
        if rows:
            yield [_first(row) for row in rows]


async def changed_rows(
    job: Job, name: str, home: int, names: Mapping[str, Places]
) -> AsyncGenerator[list[ClosedRow]]:
    """The rows that are not what they were: both sides come in the order of customers."""
    old = by_customer(job.old_rows(name))
    waiting = next(old, None)
    async for rows in job.reading.rows(names):
        changed: list[ClosedRow] = []
        for customer, some in groupby(rows, key=lambda row: row.customer):
            while waiting is not None and waiting[0] < customer:
                changed += _gone(job, home, waiting[1])
                waiting = next(old, None)
            held: Mapping[Key, ClosedRow] = {}
            if waiting is not None and waiting[0] == customer:
                held, waiting = waiting[1], next(old, None)
            changed += _changed(job, home, list(some), held)
        if changed:
            yield changed
    while waiting is not None:
        if gone := _gone(job, home, waiting[1]):
            yield gone
        waiting = next(old, None)


def _changed(
    job: Job, home: int, rows: Sequence[MetricRow], held: Mapping[Key, ClosedRow]
) -> list[ClosedRow]:
    """One customer's rows that are not what they were."""
    changed, left, read = [], dict(held), _read_at(held)
    for row in rows:
        key = (row.customer, row.metric.id, *row.window, row.group or "")
        old = left.pop(key, None)
        same = old is not None and (old.value, old.unreadable) == (row.value, row.unreadable)
        if not same:
            changed.append(_later(job, key, row, old, read))
    if left:
        changed += _gone(job, home, left, rows[0].lies)
        changed.sort(key=lambda row: row.key)
    return changed


def _gone(
    job: Job,
    home: int,
    held: Mapping[Key, ClosedRow],
    lies: Mapping[int, int] | None = None,
) -> list[ClosedRow]:
    """Rows that have no cell any more: their metric ended before their window, for example."""
    lies = lies or {home: job.reading.stands.last[home].next}
    return [
        ClosedRow._make((*old[:7], None, 0, *places_of(lies), job.number, old.value, *told))
        for key, old in held.items()
        if old.value is not None or old.unreadable
        for told in ((delta_of(None, old.value), old.offset, _causes(job, key, old.lies, lies)),)
    ]
