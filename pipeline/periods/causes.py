"""Which corrections reach into a closed period: the causes of its next revision."""

from typing import Any, Final

from ..control.entities import DeploymentRecord, Revision
from ..core.buckets import moment_of
from ..core.windows import Window
from ..deploy.checks import check_open
from ..ports import EventLog, RollupStore
from ..reads.verdicts import corrections_of
from ..recount.events import NotCounted, Void, read_event

CAUSES_MAX: Final = 10_000  # that a manifest names


class Causes:
    """Finds them on the log, by what the store keeps of corrections."""

    def __init__(self, identity: DeploymentRecord, store: RollupStore, log: EventLog) -> None:
        self._identity = identity
        self._store = store
        self._log = log

    async def since(self, revision: Revision, window: Window) -> dict[str, Any]:
        """Return what a manifest says of those that were applied since a revision was read.

        Nothing where there are none. From the least offset on at which a row of a partition
        stood: so the first of them may be in that revision already.
        """
        found: list[dict[str, Any]] = []
        more = 0
        for number in sorted(self._identity.starts):
            state = check_open(await self._store.state(number), self._identity, number)
            kept = await corrections_of(self._store, self._identity, number)
            low = revision.offsets.get(number, (0, 0))[0]
            for taken in kept.since(low):
                if taken.by >= state.next:
                    break
                if len(found) >= CAUSES_MAX:
                    more += 1
                    continue
                cause = await self._cause(number, taken.original, taken.by, window)
                if cause is not None:
                    found.append(cause)
        told: dict[str, Any] = {"corrections": found} if found else {}
        return told | ({"more_corrections": more} if more else {})

    async def _cause(
        self, number: int, original: int, by: int, window: Window
    ) -> dict[str, Any] | None:
        """What is said of a correction; None: its event is not of the window, or is lost."""
        record = await self._log.probe(number, by)
        if record is None or record.offset != by:
            return None
        void = _void_in(record.value)
        at = None if void is None or void.event is None else void.event.at
        if void is not None and at is None:
            at = await self._time_at(number, original)
        if void is None or at is None:
            return None
        if not window.starting_on <= moment_of(at) < window.ending_before:
            return None
        kind, reason = void.told
        return {
            "at": f"{number}@{by}",
            "kind": kind,
            "customer_id": void.customer_id,
            "transaction_id": void.original,
            **({} if reason is None else {"reason": reason}),
        }

    async def _time_at(self, number: int, offset: int) -> int | None:
        """The time of the event at an offset, or of what the amend there says."""
        record = await self._log.probe(number, offset)
        if record is None or record.offset != offset:
            return None
        try:
            return read_event(record.value).at
        except Void as void:
            return None if void.event is None else void.event.at
        except NotCounted:
            return None


def _void_in(value: bytes | None) -> Void | None:
    try:
        read_event(value)
    except Void as void:
        return void
    except NotCounted:
        return None
    return None
