"""The events that count, of any customer, in a span of event time: in whatever order is asked.

Only those that workers applied are told, and neither duplicates nor rejected ones nor what was
taken back; of an amended event what counts instead. They are read from the log each time, and only
the rows of one page are held.
"""

from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

from ..core.records import LogRecord
from ..core.state import PartitionState
from ..deploy.checks import check_open
from ..errors import Damage
from ..recount.events import Plain, Void
from .explain import _fate, _read
from .search import Search, Sought
from .verdicts import corrections_of

Place = tuple[int, int]  # a partition and an offset
_COUNTS = {"counted", "unmatched"}


class ListedEvent(NamedTuple):
    """An event that counts, and where it lies."""

    place: Place
    event: Plain


class EventListing(Search):
    """Reads events from the log of one deployment."""

    async def events(self, sought: Sought) -> AsyncGenerator[ListedEvent | None]:
        """Yield each event that counts; None for each other one that is sought.

        Raises: see Search.lines().
        """
        async for line in self.lines(sought):
            yield _listed(line)

    async def one(self, place: Place) -> ListedEvent | None:
        """Return the event at a place, if it counts.

        Raises:
            NotOpen: the partition is being rebuilt. LogUnavailable, StoreUnavailable: not now.
        """
        number, offset = place
        if number not in self._identity.starts:
            return None
        state = check_open(await self._store.state(number), self._identity, number)
        spans = await self._log.spans()
        if not max(state.start, spans[number].start) <= offset < state.next:
            return None
        try:
            record = await self._log.probe(number, offset)
        except Damage:  # it was taken by retention meanwhile, or nobody can read it
            return None
        if record is None or record.offset != offset:
            return None
        read = _read(record.value)
        if isinstance(read, Void):
            if read.event is None:
                return None
            return _listed(await self._of_correction(state, record, read, number))
        if read is None:
            return None
        kept = await corrections_of(self._store, self._identity, number)
        if kept.by_of(offset) is not None:
            return None
        fate = _fate(await self._ledger(number, state), record)
        return _listed(self._line(state, record, read, fate, number))

    def _line(
        self,
        state: PartitionState,
        record: LogRecord,
        event: Plain,
        fate: str,
        number: int,
        root: int | None = None,  # noqa: ARG002  of the form of Explainer's
    ) -> dict[str, Any]:
        """What is needed of an event alone: metrics are not asked what they say of it."""
        applied = record.offset < state.next
        return {"at": (number, record.offset), "fate": fate if applied else "", "event": event}


def _listed(line: dict[str, Any]) -> ListedEvent | None:
    counts = {"corrected"} if line.get("kind") == "amend" else _COUNTS
    if "event" not in line or line["fate"] not in counts or "corrected_by" in line:
        return None
    return ListedEvent(line["at"], line["event"])
