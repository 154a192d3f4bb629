"""Somebody else's topic → `usage.events`, each event once, whatever dies (docs/operations.md).

Rule 1: what a batch of records becomes, its dead letters, and how far the source is read, are one
transaction of Kafka. Workers read what is committed, so they see all of it or nothing.
Rule 2: all processes that translate a topic for a deployment have one transactional id. One that
starts ends the transaction that another left, and fences it: the other cannot commit any more.
Only then does it ask how far the source was read.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import TopicPartition

from ..core.dedup import home_of
from ..core.reasons import Reason, Rejected
from ..core.records import DeadLetter
from ..edges.kafka import (
    RECORD_BYTES_MAX,
    PlacedConsumer,
    PlacedProducer,
    consumer,
    producer,
    sending,
    spans_of,
    transaction,
)
from ..edges.kafka_client import KafkaAddress, KafkaAdmin, guard
from ..edges.kafka_names import topic_names
from ..edges.letter_headers import letter_parts
from ..errors import UsageError
from .translating import Translation

_TRANSACTION_MS: Final = 15_000  # of a process that died; a successor ends it at once
_POLL_MS: Final = 500
_RECORDS_MAX: Final = 5_000  # of a transaction
_GROWN_S: Final = 30.0  # between two looks at how many partitions the source has


@dataclass(slots=True)
class Ingested:
    """What came of a topic so far.

    left_out: records that hold no event that counts, as their system has it. lost: offsets that
    were deleted before they were read. lag: records that are left.
    """

    read: int = 0
    sent: int = 0
    rejected: int = 0
    left_out: int = 0
    lost: int = 0
    lag: int = 0


@dataclass(slots=True)
class Ingesting:
    """One process that translates a topic.

    homes: partitions that customers are spread over. tell: takes what came of it, after each
    transaction and each look without one.
    """

    address: KafkaAddress
    deployment: str
    translation: Translation
    homes: int
    tell: Callable[[Ingested], None]
    done: Ingested = field(default_factory=Ingested)
    lost: dict[TopicPartition, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The group that notes how far the source is read, and the transactional id."""
        return f"{self.deployment}.ingest.{self.translation.topic}"

    async def run(self, stop: asyncio.Event, *, until_caught_up: bool) -> None:
        """Translate until told to stop, or to the end that the source has at the start.

        Raises:
            UsageError: there is no such topic. Halt: another process has taken the topic over, or
                our user may not do this. LogUnavailable: nothing of the last batch was done;
                begin again.
        """
        async with self._opened() as (sender, reader):
            partitions, ends = await self._begin(reader)
            loop = asyncio.get_running_loop()
            looked = loop.time()
            while not stop.is_set():
                batches = await self._fetch(reader)
                if batches:
                    await self._transaction(sender, reader, batches)
                await self._look(reader, partitions)
                if until_caught_up and await self._passed(reader, ends):
                    return
                if loop.time() - looked > _GROWN_S:
                    looked = loop.time()
                    partitions = await self._grown(reader, partitions)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[PlacedProducer, PlacedConsumer]]:
        async with AsyncExitStack() as stack:
            sender = await stack.enter_async_context(
                producer(
                    self.address,
                    transactional_id=self.name,
                    transaction_timeout_ms=_TRANSACTION_MS,
                    linger_ms=5,
                    max_batch_size=262_144,
                )
            )
            async with transaction(sender, self.translation.topic):
                pass  # from here on an earlier process is fenced, and its transaction ended
            reader = await stack.enter_async_context(consumer(self.address, group=self.name))
            yield sender, reader

    async def _begin(self, reader: PlacedConsumer) -> tuple[int, dict[int, int]]:
        """Stand where the last transaction ended; return partitions, and where each ends now."""
        topic = self.translation.topic
        found = (await KafkaAdmin(self.address).describe([topic])).get(topic)
        if found is None:
            raise UsageError(f"--from {topic!r}: there is no such topic")
        await self._assign(reader, found.partitions)
        spans = await spans_of(reader, topic, found.partitions)
        return found.partitions, {number: span.end for number, span in spans.items()}

    async def _assign(self, reader: PlacedConsumer, partitions: int) -> None:
        topic = self.translation.topic
        points = [TopicPartition(topic, number) for number in range(partitions)]
        spans = await spans_of(reader, topic, partitions)
        async with guard(reader.place, topic):
            reader.assign(points)
            for point in points:
                at, span = await reader.committed(point), spans[point.partition]
                if at is not None and at < span.start:
                    self.lost[point] = span.start - at
                reader.seek(point, span.start if at is None else max(at, span.start))

    async def _grown(self, reader: PlacedConsumer, before: int) -> int:
        topic = self.translation.topic
        found = (await KafkaAdmin(self.address).describe([topic])).get(topic)
        if found is None or found.partitions == before:
            return before
        await self._assign(reader, found.partitions)
        return found.partitions

    async def _fetch(self, reader: PlacedConsumer) -> dict[TopicPartition, list[Any]]:
        async with guard(reader.place, self.translation.topic):
            found: dict[TopicPartition, list[Any]] = await reader.getmany(
                timeout_ms=_POLL_MS, max_records=_RECORDS_MAX
            )
        return {point: records for point, records in found.items() if records}

    async def _transaction(
        self,
        sender: PlacedProducer,
        reader: PlacedConsumer,
        batches: dict[TopicPartition, list[Any]],
    ) -> None:
        """Send all that a batch becomes, and note how far the source is read: together."""
        made = Ingested()
        async with transaction(sender, self.translation.topic):
            for point, records in batches.items():
                for record in records:
                    await self._record(sender, point.partition, record, made)
            at = {point: await reader.position(point) for point in batches}
            await sender.send_offsets_to_transaction(at, self.name)
        done = self.done
        done.read += made.read
        done.sent += made.sent
        done.rejected += made.rejected
        done.left_out += made.left_out

    async def _record(
        self, sender: PlacedProducer, partition: int, record: Any, made: Ingested
    ) -> None:
        made.read += 1
        found = self.translation.events_of(partition, record)
        if isinstance(found, Rejected):
            await self._reject(sender, partition, DeadLetter(record, found), made)
            return
        made.left_out += not found
        events = topic_names(self.deployment)["events"]
        for customer, line in found:
            key = None if customer is None else customer.encode()
            home = None if customer is None else home_of(customer, self.homes)
            try:
                await sending(sender, events, line, key=key, partition=home)
            except ValueError as error:
                why = Rejected(Reason.TOO_LARGE, str(error))
                await self._reject(sender, partition, DeadLetter(record, why), made)
            else:
                made.sent += 1

    async def _reject(
        self, sender: PlacedProducer, partition: int, letter: DeadLetter, made: Ingested
    ) -> None:
        key, value, headers = letter_parts(
            self.translation.topic, partition, letter, RECORD_BYTES_MAX
        )
        rejected = topic_names(self.deployment)["rejected"]
        async with guard(sender.place, rejected):
            await sender.send(rejected, value, key=key, headers=headers)
        made.rejected += 1

    async def _look(self, reader: PlacedConsumer, partitions: int) -> None:
        """Tell how far it is."""
        spans = await spans_of(reader, self.translation.topic, partitions)
        at = await self._positions(reader, partitions)
        self.done.lag = sum(max(span.end - at[number], 0) for number, span in spans.items())
        self.done.lost = sum(self.lost.values())
        self.tell(self.done)

    async def _passed(self, reader: PlacedConsumer, ends: dict[int, int]) -> bool:
        at = await self._positions(reader, len(ends))
        return all(at[number] >= end for number, end in ends.items())

    async def _positions(self, reader: PlacedConsumer, partitions: int) -> dict[int, int]:
        points = [TopicPartition(self.translation.topic, number) for number in range(partitions)]
        async with guard(reader.place, self.translation.topic):
            return {point.partition: await reader.position(point) for point in points}
