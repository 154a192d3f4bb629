"""Parquet, by pyarrow. No other module imports it.

Rule: every setting that changes bytes is given here, none is left to the library; a row group has
ROWS_AT_ONCE rows, in whatever batches they come.
"""

from collections.abc import Iterator, Sequence
from decimal import Context, Decimal
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import UsageError
from .columns import ColumnKind, FileColumn

ROWS_AT_ONCE: Final = 65_536
_WIDE: Final = Context(prec=5_000, traps=[])  # more digits than any value has
_TYPES: Final = {
    ColumnKind.TEXT: pa.string(),
    ColumnKind.NUMBER: pa.string(),
    ColumnKind.WHOLE: pa.int64(),
    ColumnKind.TIME: pa.timestamp("us", tz="UTC"),
    ColumnKind.TRUTH: pa.bool_(),
}


class ParquetWriter:
    """Rows as Parquet."""

    def __init__(self, raw: Any, columns: Sequence[FileColumn]) -> None:
        self._columns = columns
        self._schema = pa.schema([(each.name, _type_of(each)) for each in columns])
        self._writer = pq.ParquetWriter(
            raw,
            self._schema,
            version="2.6",
            data_page_version="1.0",
            compression="zstd",
            compression_level=3,
            use_dictionary=True,
            write_statistics=True,
            store_schema=False,
            data_page_size=1 << 20,
        )
        self._held: list[Sequence[Any]] = []

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Take rows, in order."""
        self._held.extend(rows)
        while len(self._held) >= ROWS_AT_ONCE:
            rows, self._held = self._held[:ROWS_AT_ONCE], self._held[ROWS_AT_ONCE:]
            self._group(rows)

    def end(self) -> None:
        """Write what is still held, and the footer."""
        rows, self._held = self._held, []
        try:
            if rows:
                self._group(rows)
        finally:
            self._writer.close()

    def _group(self, rows: Sequence[Sequence[Any]]) -> None:
        arrays = [
            pa.array(_fitting(column, values), type=kind)
            for column, values, kind in zip(
                self._columns, zip(*rows, strict=True), self._schema.types, strict=True
            )
        ]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        self._writer.write_table(table, row_group_size=ROWS_AT_ONCE)


def _type_of(column: FileColumn) -> Any:
    if column.exact is not None:
        return pa.decimal128(*column.exact)
    return _TYPES[column.kind]


def _fitting(column: FileColumn, values: Sequence[Any]) -> Sequence[Any]:
    """Values as they are; those of a typed decimal exactly, or refused."""
    if column.exact is None:
        return values
    digits, behind = column.exact
    unit = Decimal(1).scaleb(-behind)
    made = []
    for text in values:
        value = None if text is None else Decimal(text)
        if value is not None:
            fits = _WIDE.quantize(value, unit)
            if fits != value or abs(fits) >= Decimal(10) ** (digits - behind):
                raise UsageError(
                    f"--decimal {digits},{behind}: the value {text} does not fit: give a wider "
                    "one, or leave --decimal out: the column `value` has all digits"
                )
            value = fits
        made.append(value)
    return made


def rows_in(path: Path, columns: Sequence[FileColumn]) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a file, the first of its columns in this order."""
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names[: len(columns)]
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=names):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
