"""Records where they lie in Kafka's batches: an object is made of those that somebody looks at.

native/ finds where each record lies and folds from there. Python asks for few of them: the first
and the last, those that are not plain, some whose names are learned. What native/ does not read
comes as a list of records, as everything does without it.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, Self, overload

from .compiled import MODULE
from .records import LogRecord

_AT_ONCE: Final = 512  # records of which objects are made together


class RawRecord(NamedTuple):
    """A record that somebody looked at (core/records.py, LogRecord)."""

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None


class RawRecords(Sequence[LogRecord]):
    """Records with append times, each further in the log than the one before; never changed.

    native: where they lie (native/src/records.rs, Records). These are begin to end of them.
    """

    __slots__ = ("begin", "end", "native")

    def __init__(self, native: Any, begin: int, end: int) -> None:
        self.native = native
        self.begin = begin
        self.end = end

    @classmethod
    def read(
        cls, data: bytes, begin: int, end: int, *, base_offset: int, stamp: int, count: int
    ) -> Self | None:
        """Return the records of a batch; None where they have to be read in another way.

        Args:
            data: Holds the records, unpacked, from begin to end. base_offset, stamp, count: the
                first offset, the append time and the number of records that the batch says.
        """
        if MODULE is None:
            return None
        native = MODULE.Records.read(data, begin, end, base_offset, stamp, count)
        return None if native is None else cls(native, 0, count)

    @classmethod
    def joined(cls, parts: Sequence["RawRecords"]) -> "RawRecords":
        """One after the other: each begins behind the end of the one before."""
        if len(parts) == 1:
            return parts[0]
        assert MODULE is not None
        native = MODULE.Records.joined([(part.native, part.begin, part.end) for part in parts])
        return cls(native, 0, len(native))

    def __len__(self) -> int:
        return self.end - self.begin

    @overload
    def __getitem__(self, at: int) -> LogRecord: ...
    @overload
    def __getitem__(self, at: slice) -> "RawRecords": ...
    def __getitem__(self, at: int | slice) -> "LogRecord | RawRecords":
        if isinstance(at, slice):
            begin, end, step = at.indices(len(self))
            assert step == 1
            return RawRecords(self.native, self.begin + begin, self.begin + max(begin, end))
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        row = (self.end if at < 0 else self.begin) + at
        return RawRecord._make(self.native.fields(row, row + 1)[0])

    def __iter__(self) -> Iterator[LogRecord]:
        for begin in range(self.begin, self.end, _AT_ONCE):
            found = self.native.fields(begin, min(begin + _AT_ONCE, self.end))
            yield from map(RawRecord._make, found)

    def offset(self, at: int) -> int:
        """The offset of a record, without the record."""
        offset: int = self.native.offset((self.end if at < 0 else self.begin) + at)
        return offset

    def offsets(self) -> list[int]:
        """The offset of each."""
        offsets: list[int] = self.native.offsets(self.begin, self.end)
        return offsets

    def since(self, offset: int) -> "RawRecords":
        """Those at and after an offset."""
        begin = min(max(self.native.find(offset), self.begin), self.end)
        return RawRecords(self.native, begin, self.end)

    def below(self, offset: int) -> "RawRecords":
        """Those before an offset."""
        end = min(max(self.native.find(offset), self.begin), self.end)
        return RawRecords(self.native, self.begin, end)

    def without(self, offsets: Collection[int], clock_ms: int) -> "RawRecords":
        """Those at other offsets, appended at the latest append time that was before each.

        clock_ms: the one before them all.
        """
        native = self.native.without(self.begin, self.end, clock_ms, sorted(offsets))
        return RawRecords(native, 0, len(native))

    def latest(self) -> int | None:
        """The latest append time; None where there is no record."""
        latest: int | None = self.native.latest(self.begin, self.end)
        return latest

    def clear(self) -> None:
        """Let go of them, whoever keeps this."""
        self.native, self.begin, self.end = None, 0, 0


Delivered = list[LogRecord] | RawRecords


def offsets_of(records: Sequence[LogRecord]) -> list[int]:
    if isinstance(records, RawRecords):
        return records.offsets()
    return [record.offset for record in records]


@overload
def since(records: Delivered, offset: int) -> Delivered: ...
@overload
def since(records: Sequence[LogRecord], offset: int) -> Sequence[LogRecord]: ...
def since(records: Sequence[LogRecord], offset: int) -> Sequence[LogRecord]:
    """Return the records at and after an offset."""
    if isinstance(records, RawRecords):
        return records.since(offset)
    if not records or records[0].offset >= offset:
        return records
    return [record for record in records if record.offset >= offset]


def below(records: Sequence[LogRecord], offset: int) -> Sequence[LogRecord]:
    """Return the records before an offset."""
    if isinstance(records, RawRecords):
        return records.below(offset)
    return [record for record in records if record.offset < offset]


def joined(parts: Sequence[Delivered]) -> Delivered:
    """Return records of one kind, one after the other."""
    if not parts:
        return []
    raw = [part for part in parts if isinstance(part, RawRecords)]
    if raw:
        assert len(raw) == len(parts)
        return RawRecords.joined(raw)
    return parts[0] if len(parts) == 1 else list(chain.from_iterable(parts))
