"""Kafka: records, offsets, dead letters."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition, errors

from ..core.event import EVENT_BYTES_MAX
from ..core.raw import below
from ..core.records import DeadLetter, LogRecord, Span
from ..errors import Halt, LogUnavailable
from . import (
    kafka_batches,  # noqa: F401  it bounds what aiokafka unpacks, in every process
    kafka_metadata,  # noqa: F401  and how often it asks where partitions are
    letter_headers,
)
from .kafka_causes import reached
from .kafka_client import KafkaAddress, KafkaAdmin, RecordRefused, guard
from .renewed import Renewed

T = TypeVar("T")
# A value of the largest event, its key and headers, and the batch around them.
RECORD_BYTES_MAX: Final = EVENT_BYTES_MAX + 16_384
_FRAME_BYTES: Final = 512  # of a batch and of a record, around key, value and headers
DEAD_LETTER_BYTES_MAX: Final = RECORD_BYTES_MAX + 65_536
_FETCH_BYTES: Final = 4 * 1_048_576
_ANSWER_BYTES: Final = 65_536  # of a question about single records; a batch is fetched whole
_NEAR: Final = 100  # offsets: what lies nearer is read through
_POLL_MS: Final = 500
_STALL_S_MAX: Final = 30.0
_FENCED: Final = (errors.ProducerFenced, errors.InvalidProducerEpoch)
_PATIENCE_S: Final = 1.0  # of a question that an answer takes milliseconds for


class PlacedConsumer(AIOKafkaConsumer):  # type: ignore[misc]  # aiokafka has no types
    """aiokafka's consumer. place: its bootstrap servers, which an error names."""

    place = ""


class PlacedProducer(AIOKafkaProducer):  # type: ignore[misc]
    """aiokafka's producer. place: its bootstrap servers, which an error names."""

    place = ""


@asynccontextmanager
async def consumer(
    address: KafkaAddress,
    *,
    committed: bool = True,
    group: str | None = None,
    fetch_bytes: int = _FETCH_BYTES,
) -> AsyncIterator[PlacedConsumer]:
    """A consumer that is assigned by hand, of committed records only, and never resets an offset.

    committed False: it also sees where transactions that are still open have written. group: whose
    offsets it can ask for; nothing commits them but transactions.
    """
    address = await address.nearest()
    client = PlacedConsumer(
        **address.first.aiokafka(),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed" if committed else "read_uncommitted",
        max_partition_fetch_bytes=fetch_bytes,
        fetch_max_wait_ms=_POLL_MS,
    )
    try:
        await _started(client, address)
        yield client
    finally:
        # aiokafka's stop() raises CancelledError if a task of assign() has not begun yet.
        await asyncio.sleep(0)
        try:
            await client.stop()
        except asyncio.CancelledError:
            # Its own tasks were cancelled while the broker was away; we were not.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise


@asynccontextmanager
async def producer(address: KafkaAddress, **extra: Any) -> AsyncIterator[PlacedProducer]:
    """An idempotent producer; every send is durable on all in-sync replicas."""
    address = await address.nearest()
    client = PlacedProducer(
        **address.first.aiokafka(),
        enable_idempotence=True,
        acks="all",
        max_request_size=DEAD_LETTER_BYTES_MAX,
        **extra,
    )
    try:
        await _started(client, address)
        yield client
    finally:
        async with guard(client.place):
            await client.stop()


@asynccontextmanager
async def transaction(client: PlacedProducer, topic: str) -> AsyncIterator[None]:
    """A transaction of a producer that has a transactional id; an error aborts it.

    Raises:
        Halt: another producer has the id by now, so this one can commit nothing any more.
    """
    try:
        async with guard(client.place, topic), client.transaction():
            yield
    except LogUnavailable as error:
        if not isinstance(error.__cause__, _FENCED):
            raise
        raise Halt(
            f"Kafka at {client.place}: another process has taken over (topic {topic!r}), or this "
            "one stood still for too long; let one run, and start it again"
        ) from error


async def _started(client: PlacedConsumer | PlacedProducer, address: KafkaAddress) -> None:
    """Start a client; an error names its cause, as long as that lasts."""
    client.place = address.bootstrap
    try:
        async with guard(client.place):
            await client.start()
    except LogUnavailable:
        await reached(address.bootstrap, address.security)
        raise


class Producing(Renewed[PlacedProducer]):
    """An idempotent producer. extra: settings of aiokafka's."""

    def __init__(self, address: KafkaAddress, **extra: Any) -> None:
        super().__init__(lambda: producer(address, **extra))


class Asking(Renewed[PlacedConsumer]):
    """A connection for questions about offsets. committed: see consumer()."""

    def __init__(self, address: KafkaAddress, *, committed: bool = True) -> None:
        super().__init__(
            lambda: consumer(address, committed=committed, fetch_bytes=_ANSWER_BYTES),
            patience_s=_PATIENCE_S,
        )


async def spans_of(client: PlacedConsumer, topic: str, partitions: int) -> dict[int, Span]:
    """Return the offsets that each partition of a topic holds."""
    points = [TopicPartition(topic, number) for number in range(partitions)]
    async with guard(client.place, topic):
        starts, ends = await asyncio.gather(
            client.beginning_offsets(points), client.end_offsets(points)
        )
    return {point.partition: Span(starts[point], ends[point]) for point in points}


async def read_span(
    client: PlacedConsumer,
    topic: str,
    partition: int,
    lo: int,
    hi: int,
    *,
    most: int | None = None,
) -> AsyncIterator[Sequence[LogRecord]]:
    """Yield the committed records of [lo, hi) in batches; ends where nothing more can come.

    most: records of a batch. What is left of a fetch keeps the client from asking for the next
    one, which a broker without new records would answer half a second later, and nothing else
    before that.

    Raises:
        Halt: the log does not hold lo. LogUnavailable: nothing moved for half a minute.
    """
    if lo >= hi:
        return
    point = TopicPartition(topic, partition)
    loop = asyncio.get_running_loop()
    async with guard(client.place, topic):
        client.assign([point])
        client.seek(point, lo)
        moved, at = loop.time(), lo
        while at < hi:
            batches = await client.getmany(point, timeout_ms=_POLL_MS, max_records=most)
            records = below(batches.get(point, ()), hi)
            if records:
                yield records
            # The position passes control markers, which getmany never shows.
            stands = await client.position(point)
            if stands > at:
                moved, at = loop.time(), stands
            elif loop.time() - moved > _STALL_S_MAX:
                raise LogUnavailable(f"no record of {topic}/{partition} after offset {at} in 30 s")


def runs_of(offsets: Sequence[int], near: int) -> Iterator[tuple[int, int]]:
    """Yield ascending offsets as spans [low, high) that hold those which lie near each other."""
    cuts = [at for at in range(1, len(offsets)) if offsets[at] - offsets[at - 1] > near]
    for first, last in pairwise([0, *cuts, len(offsets)] if offsets else ()):
        yield offsets[first], offsets[last - 1] + 1


async def sending(
    client: PlacedProducer,
    topic: str,
    value: bytes,
    *,
    key: bytes | None,
    partition: int | None,
    headers: Sequence[tuple[str, bytes]] = (),
) -> "asyncio.Future[Any]":
    """Hand a record to the producer; the future is done once it is durable.

    Raises:
        ValueError: the record is larger than the topic takes.
    """
    size = len(value) + len(key or b"")
    size += sum(len(name.encode()) + len(text) for name, text in headers)
    if size > RECORD_BYTES_MAX - _FRAME_BYTES:
        most = RECORD_BYTES_MAX - _FRAME_BYTES
        raise ValueError(
            f"{size} bytes with its key and headers, at most {most} fit into the topic"
        )
    async with guard(client.place, topic):
        future: asyncio.Future[Any] = await client.send(
            topic, value, key=key, partition=partition, headers=list(headers)
        )
        return future


async def durable(client: PlacedProducer, topic: str, sent: "asyncio.Future[Any]") -> int:
    """Wait until a record is on all in-sync replicas; return its offset."""
    async with guard(client.place, topic):
        return int((await sent).offset)


class KafkaLog:
    """The events topic and its dead letters."""

    def __init__(self, address: KafkaAddress, *, events: str, rejected: str) -> None:
        self._address = address
        self._events = events
        self._rejected = rejected
        self._admin = KafkaAdmin(address)
        self._asking = Asking(address)
        self._measuring = Asking(address, committed=False)
        self._producing: Producing = Producing(address)
        self._one_question = asyncio.Lock()  # at a time: a probe moves its consumer

    async def close(self) -> None:
        """Close what was opened."""
        await self._producing.close()
        await self._asking.close()
        await self._measuring.close()

    @asynccontextmanager
    async def _asker(self) -> AsyncIterator[PlacedConsumer]:
        async with self._one_question, self._asking.used() as client:
            yield client

    async def spans(self, *, partitions: int | None = None) -> dict[int, Span]:
        """Return what the log holds, for every partition that exists now.

        partitions: how many there are, where that is known: the topic itself is not asked about.
        """
        if partitions is not None:
            async with self._asker() as client:
                return await spans_of(client, self._events, partitions)
        topic = (await self._admin.describe([self._events])).get(self._events)
        if topic is None:
            raise Halt(f"topic {self._events!r} is gone; restore it, or start a new deployment")
        async with self._asker() as client:
            return await spans_of(client, self._events, topic.partitions)

    async def marks(self, *, partitions: int | None = None) -> dict[int, Span]:
        """Return the same with `high`: an open transaction hides even what others made durable."""
        spans = await self.spans(partitions=partitions)
        async with self._measuring.used() as client:
            highs = await spans_of(client, self._events, len(spans))
        return {at: Span(span.start, span.end, highs[at].end) for at, span in spans.items()}

    async def read(self, partition: int, lo: int, hi: int) -> AsyncIterator[Sequence[LogRecord]]:
        """Yield the committed records of [lo, hi) in order, in batches."""
        async with consumer(self._address) as client:
            async for records in read_span(client, self._events, partition, lo, hi):
                yield records

    async def probe(self, partition: int, offset: int) -> LogRecord | None:
        """Return the first committed record at or after an offset, asked of the log itself."""
        point = TopicPartition(self._events, partition)
        async with self._asker() as client:
            async with guard(client.place, self._events):
                end = (await client.end_offsets([point]))[point]
            async for records in read_span(client, self._events, partition, offset, end, most=1):
                first: LogRecord = records[0]
                return first
            return None

    async def look(self, partition: int, offsets: Collection[int]) -> AsyncIterator[LogRecord]:
        """Yield the committed records at these offsets, ascending, of those where one is."""
        point = TopicPartition(self._events, partition)
        async with self._asker() as client:
            async with guard(client.place, self._events):
                start = (await client.beginning_offsets([point]))[point]
                end = (await client.end_offsets([point]))[point]
            held = sorted(offset for offset in offsets if start <= offset < end)
            for low, high in runs_of(held, _NEAR):
                span = read_span(client, self._events, partition, low, high, most=high - low)
                async for records in span:
                    for record in records:
                        if record.offset in offsets:
                            yield record

    async def offset_at(self, partition: int, append_ms: int) -> int | None:
        """Return the first offset that was appended at a time or later; None where none was."""
        point = TopicPartition(self._events, partition)
        async with self._asker() as client, guard(client.place, self._events):
            found = (await client.offsets_for_times({point: max(append_ms, 0)}))[point]
        return None if found is None else int(found.offset)

    async def reject(self, partition: int, letters: Sequence[DeadLetter]) -> None:
        """Write dead letters; return once all are durable."""
        if not letters:
            return
        try:
            await self._reject(partition, letters)
        except RecordRefused:
            # The topic takes less than it was made for: the originals are left out, not lost
            # silently: each letter says how long its original is, and its digest.
            await self._reject(partition, letters, bytes_max=0)

    async def _reject(
        self, partition: int, letters: Sequence[DeadLetter], bytes_max: int = RECORD_BYTES_MAX
    ) -> None:
        async with self._producing.used() as client:
            sent = [await self._send(client, partition, each, bytes_max) for each in letters]
            async with guard(client.place, self._rejected):
                ended = await asyncio.gather(*sent, return_exceptions=True)
                for error in ended:
                    if isinstance(error, BaseException):
                        raise error

    async def mark_redriven(self, key: str, append_time_ms: int, to: str) -> None:
        """Note beside a dead letter where its event was sent again; return once it is durable."""
        headers = [
            (letter_headers.REDRIVEN, to.encode()),
            (letter_headers.APPEND_TIME, str(append_time_ms).encode()),
        ]
        async with (
            self._producing.used() as client,
            guard(self._address.bootstrap, self._rejected),
        ):
            await client.send_and_wait(self._rejected, None, key=key.encode(), headers=headers)

    async def _send(
        self, client: PlacedProducer, partition: int, letter: DeadLetter, bytes_max: int
    ) -> "asyncio.Future[Any]":
        key, value, headers = letter_headers.letter_parts(
            self._events, partition, letter, bytes_max
        )
        async with guard(client.place, self._rejected):
            future: asyncio.Future[Any] = await client.send(
                self._rejected, value, key=key, headers=headers
            )
            return future


async def all_records(
    address: KafkaAddress, topic: str, partitions: Iterable[int] | None = None
) -> AsyncIterator[ConsumerRecord[Any, Any]]:
    """Yield every record that a topic holds now, partition by partition."""
    described = (await KafkaAdmin(address).describe([topic])).get(topic)
    if described is None:
        return
    async with consumer(address) as client:
        spans = await spans_of(client, topic, described.partitions)
        for number in spans if partitions is None else partitions:
            span = spans[number]
            async for records in read_span(client, topic, number, span.start, span.end):
                for record in records:
                    yield record
