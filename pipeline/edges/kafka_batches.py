"""Record batches of Kafka, unpacked within bounds, whatever their codec and their size unpacked.

aiokafka unpacks a compressed batch whole. The topic's limit is on packed bytes, so a batch of some
KiB may become gigabytes: gzip packs 1,000 to 1, zstd 30,000 to 1. Here a batch of at most
BATCH_BYTES_MAX bytes is unpacked at once, as fast as before. A larger one is unpacked piece by
piece and handed on in parts of about PART_BYTES_MAX. A value in it of more than VALUE_BYTES_MAX
is not kept: an Unheld stands for it, which knows its length and its digest, and is judged
`too_large` like any other.

Rule 1: a batch that cannot be read is Damage with topic, partition, offset and codec, in every
process that reads; nothing at or after it is handed on.
Rule 2: what Kafka takes is read. A header whose name is no UTF-8 ends aiokafka's reader; such a
batch is read here, and signs stand for the wrong bytes, as Java's clients have it.
Rule 3: importing this module changes aiokafka for the whole process: its decoders and the classes
that its fetcher makes. tests/integration/test_codecs.py holds both to what is relied on here.
"""

import hashlib
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import FetchResult as OwnFetchResult
from aiokafka.consumer.fetcher import PartitionRecords as OwnPartitionRecords
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record import default_records, legacy_records
from aiokafka.record._crecords import default_records as fast_default_records
from aiokafka.record._crecords import legacy_records as fast_legacy_records
from aiokafka.record.memory_records import MemoryRecords

from ..core.raw import Delivered, joined, since
from ..core.records import Unheld
from ..errors import Damage
from .kafka_codecs import BATCH_BYTES_MAX, CODECS, Oversized, decoder, pieces

# aiokafka's own class, from before it is replaced below, is for tests too.
__all__ = [
    "BATCH_BYTES_MAX",
    "BoundedResult",
    "Fetched",
    "OwnPartitionRecords",
    "WholeRecords",
    "next_of",
]
VALUE_BYTES_MAX: Final = 2 * 1_048_576  # of a larger one: no topic of ours takes as much
PART_BYTES_MAX: Final = 8 * 1_048_576  # handed on at once of a larger one
HELD_BYTES_MAX: Final = 16 * 1_048_576  # unpacked bytes that one answer to a reader holds
_PART_RECORDS_MAX: Final = 10_000
_LOG_APPEND_TIME: Final = 1
# Where a batch says its length, what lies before that, how many records it has, where they begin.
_LENGTH_AT: Final = 8
_BEFORE: Final = 12
_COUNT_AT: Final = 57
_RECORDS_AT: Final = 61


# -- batches --------------------------------------------------------------------------------


class Part(NamedTuple):
    """Records of a batch, in order. size: their bytes, where they were packed."""

    records: Delivered
    size: int


class Batch:
    """A batch as aiokafka reads it, and its bytes for what aiokafka cannot read.

    They are begin to end of what was fetched.
    """

    def __init__(self, own: Any, fetched: bytes, begin: int, end: int) -> None:
        self._own = own
        self.fetched = fetched
        self.begin = begin
        self.end = end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def __next__(self) -> Any:
        return next(self._own)  # a control record, for whoever looks for abort markers

    def __iter__(self) -> Iterator[Any]:
        for part in self.parts():
            yield from part.records

    def parts(self, reader: "Reader | None" = None) -> Iterator[Part]:
        """Yield the records: all of them, or in parts where they are too large to be held.

        Args:
            reader: Is asked first.

        Raises:
            CorruptRecordException, UnsupportedCodecError: the batch cannot be read.
        """
        own = self._own
        try:
            part = reader(self) if reader is not None else None
            if part is not None:
                yield part
                return
            records = list(own)
        except Oversized as error:
            if own.magic < 2:
                raise CorruptRecordException(
                    f"it has more than {BATCH_BYTES_MAX} bytes unpacked, in an old message format"
                ) from error
            yield from _parts(_Unpacked(own, self._raw(), headers=False))
            return
        except UnicodeDecodeError:
            # A header's name is no UTF-8. Kafka takes it, and aiokafka ends there.
            records = list(_Unpacked(own, self._raw(), headers=True))
        size = sum(len(record.value or b"") for record in records) if own.compression_type else 0
        yield Part(records, size)

    def _raw(self) -> memoryview:
        return memoryview(self.fetched)[self.begin : self.end]


# Reads the records of a batch as they lie; None where it cannot.
Reader = Callable[[Batch], Part | None]


def _parts(records: Iterator[Any]) -> Iterator[Part]:
    part, size = list[Any](), 0
    for record in records:
        part.append(record)
        size += 0 if isinstance(record.value, Unheld) else len(record.value or b"")
        if size >= PART_BYTES_MAX or len(part) >= _PART_RECORDS_MAX:
            yield Part(part, size)
            part, size = [], 0
    if part:
        yield Part(part, size)


class _Unpacked:
    """The records of a batch of format 2, read while it is unpacked."""

    def __init__(self, batch: Any, raw: memoryview, *, headers: bool) -> None:
        self._batch = batch
        packed = bytes(raw[_RECORDS_AT:])
        codec = batch.compression_type
        self._source = pieces(CODECS[codec], packed) if codec else iter([packed])
        self._headers = headers
        self._buffer = b""
        self._at = 0
        self._passed = 0  # bytes of the pieces before the present one
        self._left = int.from_bytes(raw[_COUNT_AT:_RECORDS_AT], signed=True)

    def __iter__(self) -> "Iterator[Any]":
        return self

    def __next__(self) -> Any:
        if not self._more():
            if self._left > 0:
                raise CorruptRecordException(f"it lacks {self._left} of the records that it says")
            raise StopIteration
        self._left -= 1
        if self._left < 0:
            raise CorruptRecordException("it holds more records than it says")
        length = self._number()
        ends = self._passed + self._at + length
        self._take(1)
        stamped = self._number()
        offset = self._batch.base_offset + self._number()
        key = self._text(self._number())
        value = self._text(self._number())
        headers = self._named() if self._headers else []
        rest = ends - self._passed - self._at
        if rest < 0:
            raise CorruptRecordException("a record in it is longer than it says")
        self._skip(rest, None)  # headers of a large batch: nobody reads an event's
        batch = self._batch
        at = batch.max_timestamp
        if batch.timestamp_type != _LOG_APPEND_TIME:
            at = batch.first_timestamp + stamped
        return default_records.DefaultRecord(offset, at, batch.timestamp_type, key, value, headers)

    def _named(self) -> list[tuple[str, bytes | None]]:
        """The headers of a record; in a name that is no UTF-8 signs stand for the wrong bytes."""
        found = []
        for _ in range(self._number()):
            name = self._take(self._number()).decode(errors="replace")
            length = self._number()
            found.append((name, None if length < 0 else self._take(length)))
        return found

    def _text(self, length: int) -> bytes | None:
        if length < 0:
            return None
        if length <= VALUE_BYTES_MAX:
            return self._take(length)
        digest = hashlib.sha256()
        self._skip(length, digest.update)
        return Unheld.of(length, digest.hexdigest())

    def _more(self) -> bool:
        """Whether there is another byte."""
        while self._at >= len(self._buffer):
            piece = next(self._source, None)
            if piece is None:
                return False
            self._passed += len(self._buffer)
            self._buffer, self._at = piece, 0
        return True

    def _skip(self, length: int, told: Callable[[bytes], object] | None) -> None:
        while length:
            if not self._more():
                raise CorruptRecordException("it ends within a record")
            step = min(length, len(self._buffer) - self._at)
            if told is not None:
                told(self._buffer[self._at : self._at + step])
            self._at += step
            length -= step

    def _take(self, length: int) -> bytes:
        if length < 0:
            raise CorruptRecordException(f"a length in it is {length}")
        if self._at + length <= len(self._buffer):
            self._at += length
            return self._buffer[self._at - length : self._at]
        taken = bytearray()
        self._skip(length, taken.extend)
        return bytes(taken)

    def _number(self) -> int:
        """A signed number of at most ten bytes, zigzag."""
        number = shift = 0
        for _ in range(10):
            byte = self._take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (number >> 1) ^ -(number & 1)
            shift += 7
        raise CorruptRecordException("a number in it has more than ten bytes")


# -- aiokafka's classes ---------------------------------------------------------------------


def next_of(source: OwnPartitionRecords) -> Any:
    """Return the next of what a partition's fetch holds; None at its end.

    Raises:
        Damage: a batch of it cannot be read.
    """
    point = source._tp  # noqa: SLF001  aiokafka names it nowhere else
    place = f"{point.topic}/{point.partition}: the record batch at or after offset "
    place += str(source.next_fetch_offset)
    try:
        return next(source, None)
    except CorruptRecordException as error:
        raise Damage(
            f"{place} is corrupt ({error}); nothing past it was applied. Restore the partition "
            "from a replica or a copy"
        ) from error
    except UnsupportedCodecError as error:
        raise Damage(
            f"{place} has a codec that cannot be read ({error}); nothing past it was applied. "
            "Have its producer use gzip, snappy, lz4, zstd or none, and restore or recreate what "
            "it wrote"
        ) from error


class Fetched:
    """The batches of a fetch, in the place of aiokafka's own MemoryRecords."""

    def __init__(self, raw: bytes) -> None:
        self._own = MemoryRecords(raw)
        self._raw = raw
        self._at = 0
        self.kind: Callable[..., Batch] = Batch
        self.has_next = self._own.has_next
        self.size_in_bytes = self._own.size_in_bytes

    def next_batch(self) -> Batch:
        """The next one."""
        begins = self._at
        length = int.from_bytes(self._raw[begins + _LENGTH_AT : begins + _BEFORE])
        self._at += _BEFORE + length
        return self.kind(self._own.next_batch(), self._raw, begins, self._at)


class _WholeBatch(Batch):
    """A record batch that iterates as one thing: all of its records."""

    def __init__(self, reader: Reader | None, *batch: Any) -> None:
        super().__init__(*batch)
        self._reader = reader

    def __iter__(self) -> Iterator["_Chunk"]:
        for records, size in self.parts(self._reader):
            if records:
                yield _Chunk(records, records[-1].offset, size)


class _Chunk(NamedTuple):
    """The records of a batch, or a part of them. offset: the last one's. size: unpacked bytes."""

    records: Delivered
    offset: int
    size: int


class WholeRecords(OwnPartitionRecords):
    """Hands out batches of aiokafka's own C-level records, for whoever reads.

    A ConsumerRecord each costs a microsecond, a turn of its loop for each a third of one. What it
    decides about transactions, control batches and checksums, it decides by batch: all of that
    stays its own.

    rest: records of a batch that were too many for the last caller. unpacked: how many bytes the
    packed batches had that were taken since it was set to 0.
    """

    def __init__(self, tp: Any, records: Fetched, *more: Any) -> None:
        records.kind = partial(_WholeBatch, self._reader(tp.topic))
        super().__init__(tp, records, *more)
        self.rest: Delivered = []
        self.unpacked = 0

    def _reader(self, topic: str) -> Reader | None:  # noqa: ARG002  a worker's looks at it
        """What reads the records of a topic's batches as they lie."""
        return None

    def _unpack_records(self) -> Any:
        # A generator that held this object would keep a fetch that is dropped half read, at a
        # seek or a rebalance, until the collector comes by: after hours.
        return OwnPartitionRecords._unpack_records(weakref.proxy(self))  # noqa: SLF001  ours

    def _consumer_record(self, tp: Any, chunk: _Chunk) -> Delivered:  # noqa: ARG002  aiokafka's signature
        self.unpacked += chunk.size
        # A fetch begins with the whole batch that holds its offset.
        return since(chunk.records, self.next_fetch_offset)


class BoundedResult(OwnFetchResult):
    """Gives the records of a partition as one thing, made without a loop for each.

    Records that were packed are handed on until they are too many bytes; the rest comes with the
    next answer. Others are as many as a fetch asks for. All of an answer lie in their batches, or
    none does.
    """

    def getall(self, max_records: int | None = None) -> Delivered:
        """Return up to max_records, and move the position past them."""
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        source: WholeRecords = self._partition_records  # type: ignore[has-type]
        parts, source.rest, source.unpacked = [source.rest] if source.rest else [], [], 0
        count = sum(map(len, parts))
        while source.unpacked < HELD_BYTES_MAX and (max_records is None or count < max_records):
            try:
                part = self._next_part(source)
            except Damage:
                if not parts:
                    raise
                break  # what lies before it comes first; the next call meets it again
            if part is None:
                self._update_position()
                self._partition_records = None
                return joined(parts)
            if parts and type(part) is not type(parts[0]):
                source.rest = part
                break
            parts.append(part)
            count += len(part)
        records = joined(parts)
        if max_records is not None and count > max_records:
            records, source.rest = records[:max_records], records[max_records:]
        source.next_fetch_offset = records[-1].offset + 1
        self._update_position()
        return records

    def _next_part(self, source: WholeRecords) -> Delivered | None:
        """The records of the next batch, or of a part of it; None at the end."""
        part: Delivered | None = next_of(source)
        return part


for _module in (default_records, legacy_records, fast_default_records, fast_legacy_records):
    for _codec in CODECS.values():
        if hasattr(_module, f"{_codec}_decode"):
            setattr(_module, f"{_codec}_decode", decoder(_codec))
# aiokafka offers no way to choose the classes. tests/integration/test_transport.py holds the
# records to what their readers use of them.
fetcher.MemoryRecords = Fetched
fetcher.PartitionRecords = WholeRecords
fetcher.FetchResult = BoundedResult
