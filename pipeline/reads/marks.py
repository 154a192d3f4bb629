"""What was durable when a question was asked, and waiting until it is applied.

Rule 1: the marks are taken before the cells are read, and the moment of the question before the
marks: an answer never calls itself complete over an event that was durable when it was asked.
Rule 2: a reader waits for its marks at most `wait_s`, and never again for a partition that did not
move while somebody waited: where no worker runs, only the first question is slow.
Rule 3: where Kafka does not say what is durable, nobody waits, and no answer is complete.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Protocol, cast

from ..core.records import LogRecord, Span
from ..core.state import PartitionState
from ..errors import Damage, LogUnavailable
from ..ports import Clock, RollupStore

_POLL_S: Final = 0.02
_HOLE_OFFSETS_MAX: Final = 100  # offsets that are looked through for a record, where nothing moves


class Ends(Protocol):
    """What a reader asks of the events topic."""

    async def marks(self) -> dict[int, Span]:
        """Return what the log holds, for every partition, and where it is durable to."""
        ...

    def read(self, partition: int, lo: int, hi: int) -> AsyncIterator[Sequence[LogRecord]]:
        """Yield the committed records of [lo, hi) in order, in batches."""
        ...


@dataclass(frozen=True, slots=True)
class Marks:
    """The log when a question was asked. strangers: offsets in partitions nobody registered.

    away: Kafka did not say; there are no spans then.
    """

    spans: Mapping[int, Span]
    asked_at: datetime
    strangers: int = 0
    away: bool = False


class Away:
    """The events topic while Kafka is away."""

    def __init__(self, why: str) -> None:
        self._why = why

    async def marks(self) -> dict[int, Span]:
        """Raise LogUnavailable."""
        raise LogUnavailable(self._why)

    async def read(self, partition: int, lo: int, hi: int) -> AsyncIterator[Sequence[LogRecord]]:  # noqa: ARG002  as all ends
        """Raise LogUnavailable."""
        raise LogUnavailable(self._why)
        yield ()


class Patience:
    """Waiting for the stream, shared by all readers of a process."""

    def __init__(self, wait_s: float, clock: Clock) -> None:
        self._wait_s = wait_s
        self._clock = clock
        self._stuck: dict[int, int] = {}  # partition → `next` at which waiting for it was in vain
        self._holes: dict[int, tuple[int, int]] = {}  # partition → [lo, hi) without any record

    async def wait(self, store: RollupStore, spans: Mapping[int, Span]) -> None:
        """Wait until these partitions have passed their marks, as far as that makes sense."""
        if not self._wait_s or not spans:
            return
        deadline, first = self._clock.monotonic() + self._wait_s, None
        while True:
            found = await store.nexts(list(spans))
            behind = {
                number: at
                for number, at in found.items()
                if at is not None
                and at < spans[number].durable
                and self._stuck.get(number) != at
                and not self._is_hole(number, at, spans[number])
            }
            first = behind if first is None else first
            if not behind:
                return
            if self._clock.monotonic() >= deadline:
                self._stuck |= {
                    number: at for number, at in behind.items() if first.get(number) == at
                }
                return
            await asyncio.sleep(_POLL_S)

    def _is_hole(self, partition: int, at: int, span: Span) -> bool:
        lo, hi = self._holes.get(partition, (0, 0))
        return lo == at and span.durable <= hi

    async def passed(
        self, log: Ends, partition: int, state: PartitionState, span: Span
    ) -> PartitionState:
        """Return a state, past what lies behind it if there is no record: markers, aborted ones.

        A worker passes them by itself soon; where none runs, the log is looked at.
        """
        behind = span.durable - state.next
        readable = span.start <= state.next and span.durable == span.end
        if not readable or not 0 < behind <= _HOLE_OFFSETS_MAX:
            return state
        if not self._is_hole(partition, state.next, span):
            if self._holes.get(partition) == (state.next, -1):
                return state  # there is a record; it was seen before
            if await _has_record(log, partition, state.next, span.end):
                self._holes[partition] = (state.next, -1)
                return state
            self._holes[partition] = (state.next, span.end)
        return replace(state, next=span.end)


async def _has_record(log: Ends, partition: int, lo: int, hi: int) -> bool:
    """Whether [lo, hi) holds anything; what cannot be read is something."""
    batches = log.read(partition, lo, hi)
    try:
        async with aclosing(cast("AsyncGenerator[Sequence[LogRecord]]", batches)):
            async for records in batches:
                if records:
                    return True
    except Damage:
        return True
    return False


async def marks_of(log: Ends, clock: Clock, registered: Mapping[int, int]) -> Marks:
    """Take the marks of a question that is asked now."""
    asked_at = clock.now()
    try:
        spans = await log.marks()
    except LogUnavailable:
        return Marks({}, asked_at, away=True)
    strangers = sum(
        span.durable - span.start for number, span in spans.items() if number not in registered
    )
    known = {number: span for number, span in spans.items() if number in registered}
    return Marks(known, asked_at, strangers)
