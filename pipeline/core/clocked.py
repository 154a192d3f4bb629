"""Records of which some are left out, with the log clock as all of them have moved it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate

from .raw import RawRecords
from .records import LogRecord


class VerdictsDiffer(Exception):
    """The kept verdicts do not fit the log."""


@dataclass(frozen=True, slots=True)
class Clocked:
    """A record whose append time was passed by one that is left out before it."""

    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None
    timestamp_type: int | None


def clock_of(clock_ms: int, records: Sequence[LogRecord]) -> int:
    """The log clock after some records."""
    if isinstance(records, RawRecords):
        return max(clock_ms, records.latest() or clock_ms)
    return max([clock_ms, *(record.timestamp for record in records)])


def left_of(
    clock_ms: int, records: Sequence[LogRecord], left_out: Collection[int]
) -> Sequence[LogRecord]:
    """The records that are not left out, with the log clock as all of them have moved it."""
    if isinstance(records, RawRecords):
        return records.without(left_out, clock_ms)
    clocks = accumulate((record.timestamp for record in records), max, initial=clock_ms)
    next(clocks)
    return [
        record if record.timestamp == now_ms else clocked(record, now_ms)
        for record, now_ms in zip(records, clocks, strict=True)
        if record.offset not in left_out
    ]


def clocked(record: LogRecord, clock_ms: int) -> Clocked:
    return Clocked(record.offset, clock_ms, record.value, record.key, record.timestamp_type)
