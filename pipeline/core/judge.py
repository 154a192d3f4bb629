"""Records → accepted events and dead letters: decode, age, keying (DESIGN 2).

Duplicates are judged by fold.py, for a slice of accepted events at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from definitions.times import NS_PER_MS, parse_timestamp

from .dedup import Customer, customer_of, generation_of, identity, seed_of
from .deployment import Deployment, Keying
from .event import Decoder, Event, Rejected, no_time
from .reasons import Reason

# Identity, event, event time in ns, log clock in ms, offset. One is made for every event.
Accepted = tuple[bytes, Event, int, int, int]


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


class Judge:
    """Judges the records of one plan, in order. It stops where another generation begins.

    clock_ms: the log clock after the last record taken. misplaced: events away from home so far.
    ended: whether a record of another generation was met; it was not taken.
    """

    def __init__(
        self,
        partition: int,
        clock_ms: int,
        deployment: Deployment,
        first_ms: int,
        decoder: Decoder,
    ) -> None:
        self.clock_ms = clock_ms
        self.misplaced = 0
        self.ended = False
        self.generation = generation_of(max(clock_ms, first_ms), deployment.dedup_window_ms)
        self._partition = partition
        self._deployment = deployment
        self._seed = seed_of(deployment.store_id)
        self._oldest, self._newest = _in_time(clock_ms, deployment)
        self._decoder = decoder
        self._strict = deployment.keying is Keying.STRICT
        self._customers: dict[str, Customer] = {}  # of this plan

    def take(self, records: Sequence[LogRecord]) -> tuple[list[Accepted], list[DeadLetter]]:
        """Return what the next records are: accepted or rejected."""
        accepted: list[Accepted] = []
        rejected: list[DeadLetter] = []
        partition, seed, customers = self._partition, self._seed, self._customers
        decode, clock_ms = self._decoder.decode, self.clock_ms
        oldest, newest = self._oldest, self._newest
        for record in records:
            stamp_ms = record.timestamp
            if stamp_ms > clock_ms:
                if not self._tick(stamp_ms):
                    break
                clock_ms, oldest, newest = stamp_ms, self._oldest, self._newest
            event = decode(record.value)
            if isinstance(event, Rejected):
                rejected.append(DeadLetter(record, event))
                continue
            at = parse_timestamp(event.timestamp)
            if at is None:
                rejected.append(DeadLetter(record, no_time(event)))
                continue
            if not oldest <= at <= newest:
                rejected.append(DeadLetter(record, self._out_of_time(at)))
                continue
            home, head = customers.get(event.customer_id) or self._customer(event.customer_id)
            if home != partition:
                self.misplaced += 1
                if self._strict:
                    why = Rejected(Reason.MISPLACED, f"the home is partition {home}")
                    rejected.append(DeadLetter(record, why))
                    continue
            id_ = identity(head, event.transaction_id, seed)
            accepted.append((id_, event, at, clock_ms, record.offset))
        return accepted, rejected

    def _customer(self, customer_id: str) -> Customer:
        found = self._customers[customer_id] = customer_of(customer_id, self._deployment.homes)
        return found

    def _tick(self, stamp_ms: int) -> bool:
        """Move the log clock; False where that begins another generation."""
        if generation_of(stamp_ms, self._deployment.dedup_window_ms) != self.generation:
            self.ended = True
            return False
        self.clock_ms = stamp_ms
        self._oldest, self._newest = _in_time(stamp_ms, self._deployment)
        return True

    def _out_of_time(self, at: int) -> Rejected:
        age_s = (self.clock_ms * NS_PER_MS - at) / 1e9
        if age_s > 0:
            return Rejected(Reason.TOO_OLD, f"{age_s:.0f} s behind the log clock")
        return Rejected(Reason.TOO_FAR_AHEAD, f"{-age_s:.0f} s ahead of the log clock")


def _in_time(clock_ms: int, deployment: Deployment) -> tuple[float, int]:
    """The oldest and the newest event time that the log clock admits, both included."""
    newest = (clock_ms + deployment.max_ahead_ms) * NS_PER_MS
    if not deployment.max_age_ms:
        return -inf, newest
    return (clock_ms - deployment.max_age_ms) * NS_PER_MS, newest
