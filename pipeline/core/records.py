"""What the log holds: a record, why one is no usage event, and the dead letter of it."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

import msgspec

from .reasons import Reason


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """Why a record is no usage event. detail: what was wrong, bounded, for people.

    event_type: empty, which no event's is.
    """

    reason: Reason
    detail: str
    event_type: ClassVar[str] = ""


class LogRecord(Protocol):
    """A record of the events topic, whoever made the object. timestamp: append time, ms."""

    @property
    def offset(self) -> int:
        """Its offset."""
        ...

    @property
    def timestamp(self) -> int:
        """Its append time, milliseconds."""
        ...

    @property
    def timestamp_type(self) -> int | None:
        """1 for append time."""
        ...

    @property
    def key(self) -> bytes | None:
        """Its key."""
        ...

    @property
    def value(self) -> bytes | None:
        """Its bytes."""
        ...


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected record and why."""

    record: LogRecord
    rejected: Rejected
