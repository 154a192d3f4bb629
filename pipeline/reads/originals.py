"""The event that a void or an amend is to take back: where it lies now, and what it says."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from definitions.errors import DefinitionError
from definitions.formats.bodies import parse_json

from ..core.buckets import moment_of
from ..core.correction import RecordPlace
from ..errors import ConflictError, UnknownNameError, UsageError
from ..ports import EventLog
from ..recount.events import NotCounted, Plain, Void, read_event
from .explain import Explainer


class FoundOriginal(NamedTuple):
    """An event on the log. at: its time. value: of its record."""

    place: RecordPlace
    at: datetime
    value: bytes

    def amended(
        self, event_type: str | None, properties: dict[str, Any] | None
    ) -> tuple[str, dict[str, Any]]:
        """Return its timestamp, and what it says but for what is given.

        Args:
            event_type: Another one. properties: All that it has then. None: as it was.

        Raises:
            UsageError: nothing is given, or it cannot be read again with its numbers exact.
        """
        if event_type is None and properties is None:
            raise UsageError("say what counts instead: other properties, or another event type")
        try:
            body = parse_json(self.value.decode())
        except DefinitionError as error:
            raise UsageError(f"the event cannot be amended: {error}") from error
        timestamp: str = body["timestamp"]
        body = body["event"] if body.get("kind") == "amend" else body
        kept = {name: body[name] for name in ("event_type", "properties") if name in body}
        if body.get("context") is not None:
            kept["context"] = body["context"]
        given = {"event_type": event_type, "properties": properties}
        event = kept | {name: value for name, value in given.items() if value is not None}
        return timestamp, event


async def find_original(
    explainer: Explainer,
    log: EventLog,
    transaction_id: str,
    customer: str,
    place: RecordPlace | None,
    *,
    started: Callable[[int], None],
    progress: Callable[[int], None],
) -> FoundOriginal:
    """Return the event, where it is told or as it is looked up.

    Raises:
        UnknownNameError: there is none. ConflictError: it was taken back before.
    """
    if place is None:
        line = await explainer.accepted(transaction_id, customer, started, progress)
        if line is None:
            raise UnknownNameError(
                f"no event of customer {customer!r} with the transaction_id {transaction_id!r} "
                "was accepted: there is nothing to take back; `recount explain` says what lies on "
                "the log"
            )
        place = RecordPlace(line["partition"], line["offset"])
        if "corrected_by" in line:
            raise ConflictError(
                f"the event {transaction_id!r} at {place.text} was taken back already, by the "
                f"void at {line['corrected_by']}"
            )
    record = await log.probe(place.partition, place.offset)
    event = None
    if record is not None and record.offset == place.offset:
        event = _event_in(record.value)
    if event is None or (event.transaction_id, event.customer_id) != (transaction_id, customer):
        raise UnknownNameError(
            f"at {place.text} lies no event of customer {customer!r} with the transaction_id "
            f"{transaction_id!r}: there is nothing to take back"
        )
    assert record is not None
    assert record.value is not None
    return FoundOriginal(place, moment_of(event.at), record.value)


def _event_in(value: bytes | None) -> Plain | None:
    """The event of a record, or the one that an amend says."""
    try:
        return read_event(value)
    except Void as void:
        return void.event
    except NotCounted:
        return None
