"""The columns of usage in files, and how a row is written as text.

Rule: what is written is read back as it was. A text that a spreadsheet would take for a formula
gets a `'` in front of it in CSV, and so does a text that begins with `'` itself.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from definitions.times import rfc3339

from ..reads.lines import offsets_text
from ..reads.together import MetricRow

_ACTS: Final = re.compile(r"[=+\-@\t\r\n']")
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)


class ColumnKind(StrEnum):
    """What a column holds. NUMBER is decimal text: no digit is lost, whoever reads it."""

    TEXT = "text"
    NUMBER = "number"
    WHOLE = "whole"
    TIME = "time"
    TRUTH = "truth"
    DECIMAL = "decimal"


class FileColumn(NamedTuple):
    """A column. exact: of DECIMAL, how many digits there are in all and behind the point."""

    name: str
    kind: ColumnKind
    exact: tuple[int, int] | None = None


COMMON: Final = (
    FileColumn("customer_id", ColumnKind.TEXT),
    FileColumn("metric_id", ColumnKind.TEXT),
    FileColumn("metric", ColumnKind.TEXT),
    FileColumn("version", ColumnKind.WHOLE),
    FileColumn("group", ColumnKind.TEXT),
    FileColumn("window_start", ColumnKind.TIME),
    FileColumn("window_end", ColumnKind.TIME),
    FileColumn("value", ColumnKind.NUMBER),
    FileColumn("unreadable", ColumnKind.WHOLE),
)
PLACES: Final = (
    FileColumn("partition", ColumnKind.WHOLE),
    FileColumn("offset", ColumnKind.WHOLE),
    FileColumn("offsets", ColumnKind.TEXT),
)
USAGE: Final = (*COMMON, FileColumn("complete", ColumnKind.TRUTH), *PLACES)


def common_of(row: MetricRow) -> tuple[Any, ...]:
    """The values of COMMON."""
    metric, (opens, closes) = row.metric, row.window
    head = (row.customer, metric.id, metric.name, row.version, row.group)
    return (*head, opens, closes, row.value, row.unreadable)


def places_of(lies: Mapping[int, int]) -> tuple[Any, ...]:
    """The values of PLACES: one partition and its offset, or as JSON those of several."""
    if len(lies) == 1:
        ((number, offset),) = lies.items()
        return number, offset, None
    return None, None, offsets_text(lies)


def usage_of(row: MetricRow) -> tuple[Any, ...]:
    """The values of USAGE."""
    return (*common_of(row), row.complete, *places_of(row.lies))


def cell_of(kind: ColumnKind, value: Any) -> str:
    """Return a value as a cell of CSV; nothing is the empty text."""
    if value is None:
        return ""
    if kind is ColumnKind.TIME:
        return rfc3339(value)
    if kind is ColumnKind.TRUTH:
        return "true" if value else "false"
    if kind is ColumnKind.TEXT and _ACTS.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return str(value)


def plain_of(kind: ColumnKind, cell: str) -> Any:
    """Return the value of a cell of CSV."""
    if not cell:
        return None
    if kind is ColumnKind.TEXT:
        return cell.removeprefix("'")
    return from_text(kind, cell)


def from_text(kind: ColumnKind, text: Any) -> Any:
    """Return a value of what JSON or CSV has of it."""
    if text is None:
        return None
    if kind is ColumnKind.TIME:
        return datetime.fromisoformat(text)
    if kind is ColumnKind.WHOLE:
        return int(text)
    return text == "true" if kind is ColumnKind.TRUTH and isinstance(text, str) else text


def json_of(columns: Sequence[FileColumn], row: Sequence[Any]) -> dict[str, Any]:
    """Return a row as a line of JSON."""
    return {
        column.name: rfc3339(value) if column.kind is ColumnKind.TIME and value else value
        for column, value in zip(columns, row, strict=True)
    }


# What FOCUS calls the same; Recount has no prices, so nothing conforms to it (docs/billing.md).
FOCUS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "value": "ConsumedQuantity",
        "window_start": "ChargePeriodStart",
        "window_end": "ChargePeriodEnd",
    }
)
