"""Content-Encoding undone, within bounds: what a body unpacks to is never larger than a body.

Rule: no more is unpacked than may be, whatever a body says of its own size; so a bomb costs what
an honest body costs, and is told 413.
"""

import zlib
from typing import Final

import zstandard

from .errors import Refused

BODY_BYTES_MAX: Final = 5_242_880  # Klaviyo's largest event; a hundred of Metronome's are less
_MEMBERS_MAX: Final = 100  # of a gzip body, and frames of a zstd body
_PIECE_BYTES: Final = 256  # of a zstd body, unpacked at once
_ZSTD_WINDOW_MAX: Final = 1 << 23  # what RFC 9659 lets senders of HTTP bodies use


def unpacked(raw: bytes, encoding: str) -> bytes:
    """Return a body as its sender had it before it was packed.

    Raises:
        Refused: 400 not of its encoding or cut off, 413 too large, 415 another encoding.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return raw
        case "gzip" | "x-gzip":
            return _unzipped(raw)
        case "zstd":
            return _zstd(raw)
        case _:
            raise Refused(415, "Content-Encoding is gzip, zstd or identity")


def _unzipped(raw: bytes) -> bytes:
    """Undo gzip: every member, one after the other, as RFC 1952 has it.

    Raises:
        Refused: no gzip, cut off, more members or more bytes than are taken.
    """
    text = bytearray()
    for _ in range(_MEMBERS_MAX):
        machine = zlib.decompressobj(wbits=31)
        try:
            text += machine.decompress(raw, BODY_BYTES_MAX + 1 - len(text))
        except zlib.error as error:
            raise Refused(400, f"the body is not gzip: {error}") from error
        if len(text) > BODY_BYTES_MAX:
            raise Refused(413, f"a body has at most {BODY_BYTES_MAX} bytes, unzipped")
        if not machine.eof:
            raise Refused(400, "the gzip body is cut off: its end is missing")
        raw = machine.unused_data
        if not raw.strip(b"\0"):  # writers may fill up with zeros
            return bytes(text)
    raise Refused(400, f"the gzip body has more than {_MEMBERS_MAX} members")


def _zstd(raw: bytes) -> bytes:
    """Undo zstd: every frame, one after the other, as RFC 8878 has it.

    A block has at least 4 bytes and unpacks to at most 128 KiB, so a piece to at most 8 MiB.

    Raises:
        Refused: see _unzipped(); and a window larger than HTTP allows.
    """
    text = bytearray()
    for _ in range(_MEMBERS_MAX):
        machine = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX).decompressobj()
        at = 0
        while at < len(raw) and not machine.eof:
            try:
                text += machine.decompress(raw[at : at + _PIECE_BYTES])
            except zstandard.ZstdError as error:
                raise Refused(400, f"the body is not zstd: {error}") from error
            at += _PIECE_BYTES
            if len(text) > BODY_BYTES_MAX:
                raise Refused(413, f"a body has at most {BODY_BYTES_MAX} bytes, unpacked")
        if not machine.eof:
            raise Refused(400, "the zstd body is cut off: its end is missing")
        raw = machine.unused_data + raw[at:]
        if not raw:
            return bytes(text)
    raise Refused(400, f"the zstd body has more than {_MEMBERS_MAX} frames")
