"""Record batches of Kafka, unpacked within bounds, whatever their codec and their size unpacked.

aiokafka unpacks a compressed batch whole. The topic's limit is on packed bytes, so a batch of some
KiB may become gigabytes: gzip packs 1,000 to 1, zstd 30,000 to 1. Here a batch of at most
BATCH_BYTES_MAX bytes is unpacked at once, as fast as before. A larger one is unpacked piece by
piece and handed on in parts of about PART_BYTES_MAX. A value in it of more than VALUE_BYTES_MAX
is not kept: an Unheld stands for it, which knows its length and its digest, and is judged
`too_large` like any other.

Rule 1: a batch that cannot be read is Halt with topic, partition, offset and codec, in every
process that reads; nothing at or after it is handed on.
Rule 2: importing this module changes aiokafka for the whole process: its decoders and the classes
that its fetcher makes. tests/integration/test_codecs.py holds both to what is relied on here.
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import cramjam
import lz4.frame
import zstandard
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import FetchResult as OwnFetchResult
from aiokafka.consumer.fetcher import PartitionRecords as OwnPartitionRecords
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record import default_records, legacy_records
from aiokafka.record._crecords import default_records as fast_default_records
from aiokafka.record._crecords import legacy_records as fast_legacy_records

from ..core.records import Unheld
from ..errors import Halt

# aiokafka's own classes, from before they are replaced below, are for the worker's transport too.
__all__ = [
    "HELD_BYTES_MAX",
    "OwnFetchResult",
    "OwnPartitionRecords",
    "next_of",
    "parts_of",
]
BATCH_BYTES_MAX: Final = 32 * 1_048_576  # unpacked at once
VALUE_BYTES_MAX: Final = 2 * 1_048_576  # of a larger one: no topic of ours takes as much
PART_BYTES_MAX: Final = 8 * 1_048_576  # handed on at once of a larger one
HELD_BYTES_MAX: Final = 16 * 1_048_576  # unpacked bytes that one answer to a reader holds
_PART_RECORDS_MAX: Final = 10_000
_PIECE_BYTES: Final = 1_048_576
_ZSTD_WINDOW_MAX: Final = 1 << 27  # what zstd's own tools take
_SNAPPY_RATIO_MAX: Final = 64  # snappy itself reaches 22
_XERIAL: Final = b"\x82SNAPPY\0"
_XERIAL_HEADER_BYTES: Final = 16
_LOG_APPEND_TIME: Final = 1
_BROKEN: Final = (zlib.error, zstandard.ZstdError, cramjam.DecompressionError, RuntimeError)


class _Oversized(Exception):
    """A batch is larger, unpacked, than is unpacked at once."""

    def __init__(self, codec: str, packed: bytes) -> None:
        super().__init__(codec)
        self.codec = codec
        self.packed = packed


# -- codecs ---------------------------------------------------------------------------------


def _gzip(packed: bytes) -> Iterator[bytes]:
    while packed:
        machine = zlib.decompressobj(wbits=31)
        rest = packed
        while not machine.eof:
            piece = machine.decompress(rest, _PIECE_BYTES)
            rest = machine.unconsumed_tail
            if not piece and not rest and not machine.eof:
                raise CorruptRecordException("its gzip data is cut off")
            yield piece
        packed = machine.unused_data


def _zstd(packed: bytes) -> Iterator[bytes]:
    machine = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX)
    with machine.stream_reader(packed, read_across_frames=True) as reader:
        while piece := reader.read(_PIECE_BYTES):
            yield piece


def _lz4(packed: bytes) -> Iterator[bytes]:
    while packed:
        machine = lz4.frame.LZ4FrameDecompressor()
        yield machine.decompress(packed, _PIECE_BYTES)
        while not machine.eof:
            if machine.needs_input:
                raise CorruptRecordException("its lz4 data is cut off")
            yield machine.decompress(b"", _PIECE_BYTES)
        packed = machine.unused_data or b""


def _snappy(packed: bytes) -> Iterator[bytes]:
    if not packed.startswith(_XERIAL):
        yield _snappy_block(packed)
        return
    at = _XERIAL_HEADER_BYTES
    while at < len(packed):
        size = int.from_bytes(packed[at : at + 4])
        at += 4 + size
        if at > len(packed):
            raise CorruptRecordException("its snappy data is cut off")
        yield _snappy_block(packed[at - size : at])


def _snappy_block(packed: bytes) -> bytes:
    """Unpack a block. It begins with its length unpacked, which must be one that can be true."""
    length = shift = 0
    for byte in packed[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if length > len(packed) * _SNAPPY_RATIO_MAX:
        raise CorruptRecordException(f"its snappy data says {length} bytes of {len(packed)}")
    return bytes(cramjam.snappy.decompress_raw(packed))


_PIECES: Final[dict[str, Callable[[bytes], Iterator[bytes]]]] = {
    "gzip": _gzip,
    "snappy": _snappy,
    "lz4": _lz4,
    "zstd": _zstd,
}


def _pieces(codec: str, packed: bytes) -> Iterator[bytes]:
    """Yield what a batch's data is, unpacked, in pieces.

    Raises:
        CorruptRecordException: the data is not of this codec, or is cut off.
    """
    try:
        yield from _PIECES[codec](packed)
    except _BROKEN as error:
        raise CorruptRecordException(f"its {codec} data cannot be unpacked: {error}") from error


def _decoder(codec: str) -> Callable[[Any], bytes]:
    """What aiokafka calls to unpack a batch."""

    def decode(data: Any) -> bytes:
        packed, whole = bytes(data), bytearray()
        for piece in _pieces(codec, packed):
            whole += piece
            if len(whole) > BATCH_BYTES_MAX:
                raise _Oversized(codec, packed)
        return bytes(whole)

    return decode


# -- batches --------------------------------------------------------------------------------


class Part(NamedTuple):
    """Records of a batch, in order. size: of their values, in bytes, where they were packed."""

    records: list[Any]
    size: int


def parts_of(batch: Any) -> Iterator[Part]:
    """Yield the records of a batch: all of them, or in parts where they are too large.

    Raises:
        CorruptRecordException, UnsupportedCodecError: it cannot be read.
    """
    try:
        records = list(batch)
    except _Oversized as error:
        if batch.magic < 2:
            raise CorruptRecordException(
                f"it has more than {BATCH_BYTES_MAX} bytes unpacked, in an old message format"
            ) from error
        yield from _parts(_Unpacked(batch, error))
        return
    size = sum(len(record.value or b"") for record in records) if batch.compression_type else 0
    yield Part(records, size)


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

    def __init__(self, batch: Any, oversized: _Oversized) -> None:
        self._batch = batch
        self._source = _pieces(oversized.codec, oversized.packed)
        self._buffer = b""
        self._at = 0
        self._passed = 0  # bytes of the pieces before the present one
        self._left = batch.last_offset_delta + 1  # no batch holds more

    def __iter__(self) -> "Iterator[Any]":
        return self

    def __next__(self) -> Any:
        if not self._more():
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
        rest = ends - self._passed - self._at
        if rest < 0:
            raise CorruptRecordException("a record in it is longer than it says")
        self._skip(rest, None)  # headers: nobody reads an event's
        batch = self._batch
        at = batch.max_timestamp
        if batch.timestamp_type != _LOG_APPEND_TIME:
            at = batch.first_timestamp + stamped
        return default_records.DefaultRecord(offset, at, batch.timestamp_type, key, value, [])

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
        Halt: a batch of it cannot be read.
    """
    point = source._tp  # noqa: SLF001  aiokafka names it nowhere else
    place = f"{point.topic}/{point.partition}: the record batch at or after offset "
    place += str(source.next_fetch_offset)
    try:
        return next(source, None)
    except CorruptRecordException as error:
        raise Halt(
            f"{place} is corrupt ({error}); nothing past it was applied. Restore the partition "
            "from a replica or a copy, then start again"
        ) from error
    except UnsupportedCodecError as error:
        raise Halt(
            f"{place} has a codec that cannot be read ({error}); nothing past it was applied. "
            "Have its producer use gzip, snappy, lz4, zstd or none, and restore or recreate what "
            "it wrote"
        ) from error


class _Batch:
    """A batch that yields its records within bounds."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)  # a control record, for whoever looks for abort markers

    def __iter__(self) -> Iterator[Any]:
        for part in parts_of(self._batch):
            yield from part.records


class _Batches:
    """The batches of a fetch."""

    def __init__(self, records: Any) -> None:
        self.has_next = records.has_next
        self._next_batch = records.next_batch

    def next_batch(self) -> _Batch:
        """The next one."""
        return _Batch(self._next_batch())


class BoundedRecords(OwnPartitionRecords):
    """What a partition's fetch holds, record by record, for readers."""

    def __init__(self, tp: Any, records: Any, *more: Any) -> None:
        super().__init__(tp, _Batches(records), *more)


class BoundedResult(OwnFetchResult):
    """Hands records on until they are too many bytes; the rest comes with the next answer."""

    def getall(self, max_records: int | None = None) -> list[Any]:
        """Return up to max_records, and move the position past them."""
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        source: OwnPartitionRecords = self._partition_records  # type: ignore[has-type]
        records, size = list[Any](), 0
        while size < HELD_BYTES_MAX and (max_records is None or len(records) < max_records):
            record = next_of(source)
            if record is None:
                self._update_position()
                self._partition_records = None
                return records
            records.append(record)
            size += len(record.value or b"")
        self._update_position()
        return records


for _module in (default_records, legacy_records, fast_default_records, fast_legacy_records):
    for _codec in _PIECES:
        if hasattr(_module, f"{_codec}_decode"):
            setattr(_module, f"{_codec}_decode", _decoder(_codec))
fetcher.PartitionRecords = BoundedRecords
fetcher.FetchResult = BoundedResult
