"""What a server asks of Kafka for a question, and what it does while Kafka is away.

Rule 1: a question gets a look that began after it was asked; questions that come together share
it.
Rule 2: a question waits for Kafka at most wait_s. Where a look gets no answer within that, Kafka
is away, and from then on nobody waits: reads are answered from Redis, writes are refused at once.
Rule 3: a look is never broken off. It goes on by itself, and is repeated until Kafka answers: then
questions ask again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from ...core.records import LogRecord, Span
from ...edges.clock import SystemClock
from ...edges.kafka import KafkaLog
from ...errors import Halt, LogUnavailable, PipelineError, Unavailable
from ...telemetry.logs import LOG

T = TypeVar("T")
_AGAIN_S: Final = 0.3


class Contact:
    """Whether Kafka answers a server.

    away: it does not. look: what is repeated until it does.
    """

    def __init__(self, wait_s: float, look: Callable[[], Awaitable[Any]]) -> None:
        self._wait_s = wait_s
        self._look = look
        self._refused: Halt | None = None  # what Kafka was when it was back
        self._tasks: set[asyncio.Future[Any]] = set()
        self.away = False

    def check(self) -> None:
        """Refuse what cannot be done without Kafka.

        Raises:
            LogUnavailable: it is away. Halt: it is another one, or was cut.
        """
        if self._refused is not None:
            raise self._refused
        if self.away:
            raise LogUnavailable("Kafka does not answer; try again")

    async def within(self, look: Callable[[], Awaitable[T]]) -> T:
        """Return what a look says.

        Raises:
            LogUnavailable: it does not say anything within the time. Halt: see check().
        """
        self.check()
        task = asyncio.ensure_future(look())
        self._keep(task)
        await asyncio.wait({task}, timeout=self._wait_s)
        if not task.done():
            self.lose()
            self.check()
        try:
            return await task
        except LogUnavailable:
            self.lose()
            raise

    def lose(self) -> None:
        """Note that Kafka is away, and look for it until it is back."""
        if not self.away:
            self.away = True
            LOG.warning("away", service="kafka", why="reads are answered from Redis alone")
            self._keep(asyncio.ensure_future(self._find()))

    async def _find(self) -> None:
        while True:
            try:
                await self._look()
            except Halt as error:
                if self._refused is None:
                    LOG.error("nothing_served", why=str(error))
                self._refused = error
            except Unavailable:
                pass
            else:
                break
            await asyncio.sleep(_AGAIN_S)
        self.away, self._refused = False, None
        LOG.info("back", service="kafka")

    def _keep(self, task: "asyncio.Future[Any]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Future[Any]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, PipelineError):
            LOG.error("look_failed", service="kafka", exc_info=error)

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Shared(Generic[T]):
    """A look at something outside that questions share.

    Rule: a question gets a look that began after it was asked, never an older one.
    """

    def __init__(self, look: Callable[[], Awaitable[T]], clock: SystemClock) -> None:
        self._look = look
        self._clock = clock
        self._lock = asyncio.Lock()
        self._began_at = -1.0
        self._seen: T | None = None

    async def get(self) -> T:
        """Return what a look says that is as fresh as this question."""
        asked_at = self._clock.monotonic()
        async with self._lock:
            if self._seen is None or self._began_at <= asked_at:
                began = self._clock.monotonic()
                self._seen, self._began_at = await self._look(), began
            return self._seen


class Ends:
    """What a reader asks of the log, shared by questions: the offsets that it holds now."""

    def __init__(
        self, log: KafkaLog, partitions: Callable[[], int], clock: SystemClock, contact: Contact
    ) -> None:
        self._log = log
        self._contact = contact
        self._partitions = partitions
        self._gone: Halt | None = None
        self._there = 0  # partitions of the topic at the last check, registered or not
        self._spans = Shared(self._look, clock)

    async def marks(self) -> dict[int, Span]:
        """Return what the log holds, for every registered partition and those seen by check().

        Raises:
            Halt: check() found the topic gone. LogUnavailable: Kafka is away.
        """
        if self._gone is not None:
            raise self._gone
        return await self._contact.within(self._spans.get)

    async def _look(self) -> dict[int, Span]:
        return await self._log.marks(partitions=max(self._partitions(), self._there))

    def read(self, partition: int, lo: int, hi: int) -> AsyncIterator[Sequence[LogRecord]]:
        """Yield the committed records of [lo, hi) in order, over a connection of its own."""
        return self._log.read(partition, lo, hi)

    async def check(self) -> None:
        """See whether the topic is there. That takes long, so no question waits for it."""
        try:
            self._there = len(await self._log.spans())
        except Halt as error:
            self._gone = error
        else:
            self._gone = None
