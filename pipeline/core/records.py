"""What the log holds: a record, and the dead letter of one that is no usage event."""

from dataclasses import dataclass
from typing import Protocol, Self

from .reasons import Rejected


class Unheld(bytes):
    """A value that was too large to be held: its length and digest, none of its bytes.

    It is longer than any event may be, so whoever judges it by its length rejects it.
    """

    length: int
    sha256: str

    @classmethod
    def of(cls, length: int, sha256: str) -> Self:
        """Return the stand-in of a value."""
        made = cls()
        made.length, made.sha256 = length, sha256
        return made

    def __len__(self) -> int:
        return self.length

    def __bool__(self) -> bool:
        return True

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unheld) and other.sha256 == self.sha256


class LogRecord(Protocol):
    """A record of the events topic, whoever made the object. timestamp: append time, ms."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int:
        """Its append time, milliseconds."""
        ...

    @property
    def timestamp_type(self) -> int | None:
        """1 for append time."""
        ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejected record and why."""

    record: LogRecord
    rejected: Rejected


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets a partition's log holds: [start, end).

    high: where the next record will lie. It is past `end` while a transaction is open: what lies
    between is durable, but nobody can read it until the transaction has ended. -1: not asked for.
    """

    start: int
    end: int
    high: int = -1

    @property
    def durable(self) -> int:
        """The offset below which everything is durable."""
        return max(self.high, self.end)
