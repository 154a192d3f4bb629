"""The records that corrections name, looked at on the log: many at a time, each once."""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import islice
from typing import Final, cast

from ..core.correction import NAMING, Correction
from ..core.event import Decoder
from ..core.records import LogRecord
from ..errors import Halt, LogUnavailable
from .opening import Opening

DECODE: Final = Decoder(frozenset()).decode
_AT_ONCE: Final = 500  # offsets
_BYTES_MAX: Final = 8 * 1_048_576  # of the records that are kept; one may be larger
_AHEAD: Final = 5_000  # records of a batch that are searched for corrections
_SIGNS: Final = tuple(f'"{name}"'.encode() for name in NAMING.values())


class Originals:
    """What lay where it was looked at last.

    A record of the log never changes; where retention takes it, it was looked at before.
    """

    def __init__(self) -> None:
        self._seen: dict[int, LogRecord | None] = {}

    async def at(
        self, offset: int, opening: Opening, more: Callable[[], Iterable[int]]
    ) -> LogRecord | None:
        """Return the record at an offset below what was delivered; None: none is there.

        Args:
            more: Offsets that will be asked for next: as many as fit are looked at together.

        Raises:
            LogUnavailable: the log ends before it. A broker that has just taken over may not know
                yet what it holds; a log that was cut is noticed where the partition is opened.
        """
        if offset not in self._seen:
            for wanted in ({offset, *islice(more(), _AT_ONCE)}, {offset}):
                self._seen = await opening.retry(partial(_looked_at, wanted, opening))
                if offset in self._seen:
                    break
        found = self._seen[offset]
        if found is None:
            end = (await opening.retry(opening.log.spans))[opening.partition].end
            if offset >= end:
                self.clear()
                raise LogUnavailable(f"partition {opening.partition} ends at {end}")
        return found

    def clear(self) -> None:
        """Let go of what was seen."""
        self._seen = {}


async def _looked_at(wanted: set[int], opening: Opening) -> dict[int, LogRecord | None]:
    """What lies at these offsets, from the first on, as far as it fits into memory."""
    number, size = opening.partition, 0
    found = dict[int, LogRecord | None]()
    looking = cast("AsyncGenerator[LogRecord]", opening.log.look(number, wanted))
    try:
        async with aclosing(looking) as records:
            async for record in records:
                found[record.offset] = record
                size += len(record.value or b"")
                if size > _BYTES_MAX:
                    return {**dict.fromkeys(at for at in wanted if at <= record.offset), **found}
    except Halt:
        # Retention took one just now. Nothing is asked for that lies behind the end.
        start = (await opening.log.spans())[number].start
        if min(wanted) >= start:
            raise
        return {
            **dict.fromkeys(at for at in wanted if at < start),
            **await _looked_at({at for at in wanted if at >= start}, opening),
        }
    return {**dict.fromkeys(wanted), **found}


def before_correction(records: Sequence[LogRecord]) -> int:
    """How many records lie before one that looks like a correction; 1 if that is the first."""
    signs = (at for at, record in enumerate(records) if _has_sign(record.value or b""))
    return next(signs, len(records)) or 1


def _has_sign(value: bytes) -> bool:
    return any(sign in value for sign in _SIGNS)


def named_in(records: Sequence[LogRecord]) -> Iterable[int]:
    """Yield what corrections among the first records of a batch name.

    One that is spelled with escapes is passed over: it is looked at alone.
    """
    for record in islice(records, _AHEAD):
        value = record.value or b""
        if _has_sign(value):
            correction = DECODE(value)
            place = correction.place if isinstance(correction, Correction) else None
            if place is not None and place.offset < record.offset:
                yield place.offset
