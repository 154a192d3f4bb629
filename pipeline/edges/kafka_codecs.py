"""What a record batch of Kafka is packed with: gzip, snappy, lz4, zstd, unpacked piece by piece.

Rule 1: a decoder unpacks at most BATCH_BYTES_MAX bytes at once; more is Oversized, and is read
piece by piece with pieces().
Rule 2: what Kafka's own clients read is read. Bytes behind the last gzip member or lz4 frame that
begin no further one are padding, as they are for Java's GZIPInputStream and Lz4BlockInputStream.
"""

import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import cramjam
import lz4.frame
import zstandard
from aiokafka.errors import CorruptRecordException

BATCH_BYTES_MAX: Final = 32 * 1_048_576  # unpacked at once
CODECS: Final = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
_PIECE_BYTES: Final = 1_048_576
_ZSTD_WINDOW_MAX: Final = 1 << 27  # what zstd's own tools take
_SNAPPY_RATIO_MAX: Final = 64  # snappy itself reaches 22
_XERIAL: Final = b"\x82SNAPPY\0"
_XERIAL_HEADER_BYTES: Final = 16
_GZIP: Final = b"\x1f\x8b"
_LZ4: Final = b"\x04\x22\x4d\x18"
_BROKEN: Final = (zlib.error, zstandard.ZstdError, cramjam.DecompressionError, RuntimeError)


class Oversized(Exception):
    """A batch is larger, unpacked, than is unpacked at once."""


def _gzip(packed: bytes) -> Iterator[bytes]:
    while True:
        machine = zlib.decompressobj(wbits=31)
        rest = packed
        while not machine.eof:
            piece = machine.decompress(rest, _PIECE_BYTES)
            rest = machine.unconsumed_tail
            if not piece and not rest and not machine.eof:
                raise CorruptRecordException("its gzip data is cut off")
            yield piece
        packed = machine.unused_data
        if not packed.startswith(_GZIP):
            return


def _zstd(packed: bytes) -> Iterator[bytes]:
    machine = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX)
    with machine.stream_reader(packed, read_across_frames=True) as reader:
        while piece := reader.read(_PIECE_BYTES):
            yield piece


def _lz4(packed: bytes) -> Iterator[bytes]:
    while True:
        machine = lz4.frame.LZ4FrameDecompressor()
        yield machine.decompress(packed, _PIECE_BYTES)
        while not machine.eof:
            if machine.needs_input:
                raise CorruptRecordException("its lz4 data is cut off")
            yield machine.decompress(b"", _PIECE_BYTES)
        packed = machine.unused_data or b""
        if not packed.startswith(_LZ4):
            return


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


def pieces(codec: str, packed: bytes) -> Iterator[bytes]:
    """Yield what a batch's data is, unpacked, in pieces.

    Raises:
        CorruptRecordException: the data is not of this codec, or is cut off.
    """
    try:
        yield from _PIECES[codec](packed)
    except _BROKEN as error:
        raise CorruptRecordException(f"its {codec} data cannot be unpacked: {error}") from error


def decoder(codec: str) -> Callable[[Any], bytes]:
    """What aiokafka calls to unpack a batch."""

    def decode(data: Any) -> bytes:
        packed, whole = bytes(data), bytearray()
        for piece in pieces(codec, packed):
            whole += piece
            if len(whole) > BATCH_BYTES_MAX:
                raise Oversized(codec)
        return bytes(whole)

    return decode
