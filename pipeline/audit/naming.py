"""Which records corrections name: read from the log before it is recounted.

The log is read once more for it, and only where a correction is.
"""

from dataclasses import dataclass, field

from ..core.reasons import OF_CORRECTIONS
from ..core.state import PartitionState
from ..ports import EventLog
from ..recount.corrections import named_in


@dataclass(slots=True)
class Naming:
    """Of one partition. is_wanted: whether a correction is known to be on its log."""

    is_wanted: bool = False
    _named: set[int] = field(default_factory=set)
    _scanned: int = 0  # up to here

    def note(self, state: PartitionState) -> None:
        """Take what the counters say of corrections."""
        corrected = state.counters["corrected"] or OF_CORRECTIONS & state.rejected.keys()
        self.is_wanted = self.is_wanted or bool(corrected)

    async def read(
        self, log: EventLog, partition: int, low: int, high: int
    ) -> frozenset[int] | None:
        """Return the offsets that corrections in [low, high) name; None: none is known there."""
        if not self.is_wanted:
            return None
        async for records in log.read(partition, max(low, self._scanned), high):
            found = (named_in(partition, record.value) for record in records)
            self._named.update(offset for offset in found if offset is not None)
        self._scanned = max(high, self._scanned)
        return frozenset(self._named)
