"""Rows of files, back: of one file, and of all revisions of a period as they stand together."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from heapq import merge
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

from .columns import COMMON, PLACES, ColumnKind, FileColumn, from_text, plain_of

CHANGES: Final = (
    FileColumn("revision", ColumnKind.WHOLE),
    FileColumn("previous_value", ColumnKind.NUMBER),
    FileColumn("delta", ColumnKind.NUMBER),
    FileColumn("since_offset", ColumnKind.WHOLE),
    FileColumn("corrections", ColumnKind.TEXT),
)
CLOSED: Final = (*COMMON, *PLACES, *CHANGES)
Key = tuple[str, str, datetime, datetime, str]
Place = tuple[int, int]  # partition and offset of a correction


class ClosedRow(NamedTuple):
    """A row of a closed period; the members are CLOSED, in its order.

    revision: that wrote it. previous_value, since_offset: of the row that it replaces, where there
    is one. delta: value less previous_value, each taken for 0 where there is none. corrections:
    JSON, the places of those that reached the row since it was read before.
    """

    customer_id: str
    metric_id: str
    metric: str
    version: int
    group: str | None
    window_start: datetime
    window_end: datetime
    value: str | None
    unreadable: int
    partition: int | None
    offset: int | None
    offsets: str | None
    revision: int
    previous_value: str | None
    delta: str | None
    since_offset: int | None
    corrections: str | None = None

    @property
    def key(self) -> Key:
        """What it is about; files are in this order."""
        return (
            self.customer_id,
            self.metric_id,
            self.window_start,
            self.window_end,
            self.group or "",
        )

    @property
    def lies(self) -> dict[int, int]:
        """Partition → the offset at which it stands."""
        if self.partition is not None and self.offset is not None:
            return {self.partition: self.offset}
        return {int(at): offset for at, offset in json.loads(self.offsets or "{}").items()}


def rows_in(path: Path, format_: str) -> Iterator[ClosedRow]:
    """Yield the rows of a part."""
    return map(ClosedRow._make, _READ[format_](path, CLOSED))


def _csv_rows(path: Path, columns: Sequence[FileColumn]) -> Iterator[list[Any]]:
    kinds = [column.kind for column in columns]
    with path.open(encoding="utf-8", newline="") as text:
        lines = csv.reader(text)
        next(lines)
        for line in lines:
            yield [plain_of(kind, cell) for kind, cell in zip(kinds, line, strict=False)]


def _json_rows(path: Path, columns: Sequence[FileColumn]) -> Iterator[list[Any]]:
    kinds = [column.kind for column in columns]
    with path.open(encoding="utf-8") as text:
        for line in text:
            values = json.loads(line).values()
            yield [from_text(kind, value) for kind, value in zip(kinds, values, strict=False)]


def _parquet_rows(path: Path, columns: Sequence[FileColumn]) -> Iterator[tuple[Any, ...]]:
    rows: Iterator[tuple[Any, ...]] = import_module(".parquet", __package__).rows_in(path, columns)
    return rows


_READ: Final = {"csv": _csv_rows, "jsonl": _json_rows, "parquet": _parquet_rows}


def standing_rows(sources: Iterable[Iterable[ClosedRow]]) -> Iterator[ClosedRow]:
    """Yield the rows of several files as they stand: of one key that of the latest revision."""
    for _, rows in groupby(merge(*sources, key=_order), key=lambda row: row.key):
        *_, last = rows
        yield last


def _order(row: ClosedRow) -> tuple[Key, int]:
    return row.key, row.revision


def by_customer(
    rows: Iterable[ClosedRow],
) -> Iterator[tuple[str, Mapping[Key, ClosedRow]]]:
    """Yield the rows of each customer, by their keys."""
    for customer, some in groupby(rows, key=lambda row: row.customer_id):
        yield customer, {row.key: row for row in some}
