"""A record of somebody else's topic → events of ours, or why not. Pure: the record says all.

An event that has no identity of its own gets one from where its record lies, so that whoever
translates the topic again makes the same event, which counts once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import count
from typing import Any, Final, Protocol

from definitions.errors import DefinitionError
from definitions.events import translate
from definitions.events.common import Arrival
from definitions.formats.bodies import parse_json

from ..core.reasons import Reason, Rejected
from .publish import customer_of, line_of

_NO_LIMIT: Final = timedelta(days=4_000_000)  # how far ahead an event is: workers judge that
_DETAIL_CHARS_MAX: Final = 500
_BINARY: Final = "ce_"  # CloudEvents in binary mode: attributes are headers, data is the value


class SourceRecord(Protocol):
    """A record of a topic, as Kafka's client gives it. timestamp: milliseconds."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int:
        """When it was made or appended, milliseconds."""
        ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


@dataclass(frozen=True, slots=True)
class Translation:
    """How a topic is read. environments: of Statsig's events those that count; None is all."""

    topic: str
    system: str
    environments: frozenset[str] | None = None

    def events_of(
        self, partition: int, record: SourceRecord
    ) -> list[tuple[str | None, bytes]] | Rejected:
        """Return the customer and the bytes of each event of a record; or why there is none.

        No event is none that fails: a record may hold only what its system does not count.
        """
        if record.value is None:
            return Rejected(Reason.EMPTY, "a record without a value")
        try:
            text = record.value.decode()
        except UnicodeDecodeError as error:
            return Rejected(Reason.NOT_JSON, f"not UTF-8: {error.reason}")
        try:
            events = translate(
                self.system, self._body(text, record), self._arrival(partition, record)
            )
        except DefinitionError as error:
            is_json = any(problem.rule != "JSON" for problem in error.problems)
            reason = Reason.NOT_AN_EVENT if is_json else Reason.NOT_JSON
            return Rejected(reason, f"{self.system}: {error}"[:_DETAIL_CHARS_MAX])
        lines = map(line_of, events)
        return [(customer_of(line), line) for line in lines]

    def _body(self, text: str, record: SourceRecord) -> Any:
        if self.system == "cloudevents":
            attributes = _attributes(record.headers)
            if attributes:
                return {**attributes, **({"data": parse_json(text)} if text else {})}
        body = parse_json(text)
        if isinstance(body, dict):
            if self.system == "metronome":
                return [body]
            if self.system == "statsig" and "eventName" in body:
                return {"events": [body]}
        return body

    def _arrival(self, partition: int, record: SourceRecord) -> Arrival:
        numbers = count()

        def new_id() -> str:
            place = f"{self.topic}/{partition}@{record.offset}#{next(numbers)}"
            return blake2b(place.encode(), digest_size=16).hexdigest()

        received = datetime.fromtimestamp(max(record.timestamp, 0) / 1000, UTC)
        return Arrival(
            received,
            new_id=new_id,
            oldest=None,
            newest=_NO_LIMIT,
            environments=self.environments,
        )


def _attributes(headers: Sequence[tuple[str, bytes | None]]) -> Mapping[str, str]:
    """The attributes of a CloudEvent in binary mode; nothing of one in structured mode."""
    given = {name.lower(): (text or b"").decode(errors="replace") for name, text in headers}
    found = {
        name.removeprefix(_BINARY): text
        for name, text in given.items()
        if name.startswith(_BINARY)
    }
    return found if "specversion" in found else {}
