"""Files of usage: CSV, JSON lines, Parquet. The same rows are the same bytes.

Rule 1: a file appears whole or not at all. It is written beside its place, flushed to the disk,
and renamed; the folder is flushed then.
Rule 2: nothing in a file depends on how rows came: in which batches, when, or where.
"""

import csv
import hashlib
import io
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TextIO

from ..errors import UsageError, harmless
from .columns import FileColumn, cell_of, json_of

Row = Sequence[Any]
FORMATS: Final = ("jsonl", "csv", "parquet")
_HASHED_AT_ONCE: Final = 1 << 20


class FileFacts(NamedTuple):
    """What a manifest says of a file."""

    rows: int
    bytes: int
    sha256: str


class RowWriter(Protocol):
    """Writes rows to one file."""

    def write(self, rows: Sequence[Row]) -> None:
        """Take rows, in order."""
        ...

    def end(self) -> None:
        """Write what is still held; nothing follows."""
        ...


class CsvWriter:
    """Rows as CSV (RFC 4180), with a line of names."""

    def __init__(self, out: TextIO, columns: Sequence[FileColumn]) -> None:
        self._kinds = [column.kind for column in columns]
        self._csv = csv.writer(out, lineterminator="\r\n")
        self._csv.writerow([column.name for column in columns])

    def write(self, rows: Sequence[Row]) -> None:
        """Take rows, in order."""
        kinds = self._kinds
        self._csv.writerows([map(cell_of, kinds, row) for row in rows])

    def end(self) -> None:
        """Nothing is held."""


class LineWriter:
    """Rows as lines of JSON."""

    def __init__(self, out: TextIO, columns: Sequence[FileColumn]) -> None:
        self._columns = columns
        self._out = out

    def write(self, rows: Sequence[Row]) -> None:
        """Take rows, in order."""
        self._out.writelines(
            harmless(json.dumps(json_of(self._columns, row), ensure_ascii=False)) + "\n"
            for row in rows
        )

    def end(self) -> None:
        """Nothing is held."""


TEXTS: Final[dict[str, Callable[[TextIO, Sequence[FileColumn]], RowWriter]]] = {
    "csv": CsvWriter,
    "jsonl": LineWriter,
}


async def write_file(
    path: Path, format_: str, columns: Sequence[FileColumn], batches: AsyncIterator[Sequence[Row]]
) -> FileFacts:
    """Write rows to a file that appears once it is whole.

    Raises:
        UsageError: it cannot be written there.
    """
    waiting = path.with_name(f".{path.name}.tmp")
    rows = 0
    try:
        with waiting.open("wb") as raw:
            writer, text = _writer(format_, raw, columns)
            try:
                async for batch in batches:
                    writer.write(batch)
                    rows += len(batch)
            finally:
                writer.end()  # also where it fails: before its file is closed
            if text is not None:
                text.flush()
                text.detach()
            raw.flush()
            os.fsync(raw.fileno())
        facts = facts_of(waiting, rows)
        waiting.replace(path)
        settle(path.parent)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            waiting.unlink()
    return facts


def _writer(format_: str, raw: Any, columns: Sequence[FileColumn]) -> tuple[RowWriter, Any]:
    """What writes a format to a file, and what is to be flushed before the file."""
    if format_ == "parquet":
        # It takes a tenth of a second to load: only who writes such a file waits for it.
        made: RowWriter = import_module(".parquet", __package__).ParquetWriter(raw, columns)
        return made, None
    text = io_text(raw)
    return TEXTS[format_](text, columns), text


def io_text(raw: Any) -> Any:
    """Return UTF-8 text over bytes, whose ends of lines are as they are written."""
    return io.TextIOWrapper(raw, encoding="utf-8", newline="")


def write_whole(path: Path, content: bytes) -> None:
    """Write a small file that appears once it is whole."""
    waiting = path.with_name(f".{path.name}.tmp")
    with waiting.open("wb") as raw:
        raw.write(content)
        raw.flush()
        os.fsync(raw.fileno())
    waiting.replace(path)
    settle(path.parent)


def settle(folder: Path) -> None:
    """Make what was renamed in a folder outlive a loss of power."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def facts_of(path: Path, rows: int) -> FileFacts:
    """Return what a manifest says of a file that is there."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as raw:
        while block := raw.read(_HASHED_AT_ONCE):
            digest.update(block)
            size += len(block)
    return FileFacts(rows, size, digest.hexdigest())
