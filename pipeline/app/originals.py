"""The records that corrections name, looked at on the log: many at a time, each once."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from ..core.correction import Correction
from ..core.event import Decoder
from ..core.records import LogRecord
from ..errors import Halt
from .opening import Opening

DECODE: Final = Decoder(frozenset()).decode
_AT_ONCE: Final = 50  # records, each of a MiB at most
_AHEAD: Final = 5_000  # records of a batch that are searched for corrections
_SIGNS: Final = (b'"voids"', b'"amends"')


class Originals:
    """What lay where it was looked at last.

    A record of the log never changes; where retention takes it, it was looked at before.
    """

    def __init__(self) -> None:
        self._seen: dict[int, LogRecord | None] = {}

    async def at(
        self, offset: int, opening: Opening, more: Callable[[], Iterable[int]]
    ) -> LogRecord | None:
        """Return the record at an offset below the end of the log; None: none is there.

        Args:
            more: Offsets that will be asked for next: some of them are looked at together.
        """
        if offset not in self._seen:
            number = opening.partition
            wanted = {offset, *islice(more(), _AT_ONCE)}
            try:
                found = await opening.retry(lambda: opening.log.look(number, wanted))
            except Halt:
                # Retention took some of them just now: then those that are left are found.
                if min(wanted) >= (await opening.retry(opening.log.spans))[number].start:
                    raise
                found = await opening.retry(lambda: opening.log.look(number, wanted))
            self._seen = {each: found.get(each) for each in wanted}
        return self._seen[offset]

    def clear(self) -> None:
        """Let go of what was seen."""
        self._seen = {}


def named_in(records: Sequence[LogRecord]) -> Iterable[int]:
    """Yield what corrections among the first records of a batch name.

    One that is spelled with escapes is passed over: it is looked at alone.
    """
    for record in islice(records, _AHEAD):
        value = record.value or b""
        if any(sign in value for sign in _SIGNS):
            correction = DECODE(value)
            place = correction.place if isinstance(correction, Correction) else None
            if place is not None and place.offset < record.offset:
                yield place.offset
