"""Many small sends → few batches: what comes while a batch is on its way goes into the next one.

One batch of a partition is in flight at a time: nothing waits longer than the round trip before
it, and the more there is to send, the larger the batches are.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from aiokafka import AIOKafkaProducer

from ..errors import PipelineError
from .kafka import producer
from .kafka_client import KafkaAddress, guard

_BATCH_BYTES: Final = 262_144


# A key and a value.
Record = tuple[bytes, bytes]


class _Waiting(NamedTuple):
    records: Sequence[Record]
    done: "asyncio.Future[None]"


class Sender:
    """An idempotent producer of one topic."""

    def __init__(self, client: AIOKafkaProducer, topic: str) -> None:
        self._client = client
        self._topic = topic
        self._waiting: dict[int, list[_Waiting]] = {}
        self._lanes: dict[int, asyncio.Task[None]] = {}

    async def send(self, parts: Mapping[int, Sequence[Record]]) -> None:
        """Return once every record, by partition, is on all in-sync replicas.

        Raises:
            LogUnavailable: not every one is; sending all again adds none twice.
        """
        loop = asyncio.get_running_loop()
        futures = []
        for partition, part in parts.items():
            done: asyncio.Future[None] = loop.create_future()
            futures.append(done)
            self._waiting.setdefault(partition, []).append(_Waiting(part, done))
            if partition not in self._lanes:
                self._lanes[partition] = asyncio.create_task(self._drain(partition))
        await asyncio.gather(*futures)

    async def _drain(self, partition: int) -> None:
        """Send what waits for a partition until nothing does."""
        taken: list[_Waiting] = []
        try:
            while taken := self._waiting.pop(partition, []):
                await self._deliver(partition, taken)
        finally:
            del self._lanes[partition]
            # Ended under way: nobody may wait for ever.
            for each in (*taken, *self._waiting.pop(partition, [])):
                each.done.cancel()

    async def _deliver(self, partition: int, taken: list[_Waiting]) -> None:
        error: PipelineError | None = None
        try:
            async with guard():
                await self._send(partition, [each for waits in taken for each in waits.records])
        except PipelineError as why:
            error = why
        for each in taken:
            if each.done.done():
                continue  # whoever waited has left
            if error is None:
                each.done.set_result(None)
            else:
                each.done.set_exception(error)

    async def _send(self, partition: int, records: Sequence[Record]) -> None:
        at = 0
        while at < len(records):
            batch = self._client.create_batch()
            while at < len(records):
                key, value = records[at]
                if batch.append(key=key, value=value, timestamp=None) is None:
                    break
                at += 1
            await (await self._client.send_batch(batch, self._topic, partition=partition))

    async def close(self) -> None:
        """Wait for what is on its way."""
        await asyncio.gather(*self._lanes.values(), return_exceptions=True)


@asynccontextmanager
async def sender(address: KafkaAddress, topic: str) -> AsyncIterator[Sender]:
    """A Sender that ends with the block, after what is on its way."""
    async with producer(address, linger_ms=0, max_batch_size=_BATCH_BYTES) as client:
        made = Sender(client, topic)
        try:
            yield made
        finally:
            await made.close()
