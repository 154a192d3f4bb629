"""Many small sends → few batches: what comes while a batch is on its way goes into the next one.

One batch of a partition is in flight at a time: nothing waits longer than the round trip before
it, and the more there is to send, the larger the batches are.

After a failure the next batch is sent by a new producer (Producing). A record that the broker
refuses for itself fails its own send only: the others that shared its batch are sent again without
it, and what of them was durable already counts once, since its identity is the same.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from ..errors import PipelineError
from .kafka import PlacedProducer, Producing
from .kafka_client import KafkaAddress, RecordRefused, guard

_BATCH_BYTES: Final = 262_144


# A key and a value.
Record = tuple[bytes, bytes]


class _Waiting(NamedTuple):
    records: Sequence[Record]
    done: "asyncio.Future[None]"


class Sender:
    """An idempotent producer of one topic, made anew whenever it has failed.

    failed: whether the last delivery failed, and none has gone well since.
    """

    def __init__(self, address: KafkaAddress, topic: str) -> None:
        self._producing = Producing(address, linger_ms=0, max_batch_size=_BATCH_BYTES)
        self._place = address.bootstrap
        self._topic = topic
        self.failed = False
        # partition → whom to tell → what to send; in the order of asking
        self._waiting: dict[int, dict[asyncio.Future[None], Sequence[Record]]] = {}
        self._lanes: dict[int, asyncio.Task[None]] = {}

    async def send(self, parts: Mapping[int, Sequence[Record]]) -> None:
        """Return once every record, by partition, is on all in-sync replicas.

        Raises:
            LogUnavailable: not every one is; sending all again adds none twice.
            RecordRefused: the broker refuses one of them, now and later.

        Whoever leaves takes along what is not on its way yet: it is never sent. So nothing piles
        up while a partition is silent, and no event reaches the log hours after its refusal.
        """
        loop = asyncio.get_running_loop()
        futures: dict[int, asyncio.Future[None]] = {}
        for partition, part in parts.items():
            done: asyncio.Future[None] = loop.create_future()
            futures[partition] = done
            self._waiting.setdefault(partition, {})[done] = part
            if partition not in self._lanes:
                self._lanes[partition] = asyncio.create_task(self._drain(partition))
        try:
            await asyncio.gather(*futures.values())
        finally:
            for partition, done in futures.items():
                self._waiting.get(partition, {}).pop(done, None)

    async def _drain(self, partition: int) -> None:
        """Send what waits for a partition until nothing does."""
        taken: list[_Waiting] = []
        try:
            while waiting := self._waiting.pop(partition, {}):
                taken = [_Waiting(part, done) for done, part in waiting.items()]
                await self._deliver(partition, taken)
        finally:
            del self._lanes[partition]
            # Ended under way: nobody may wait for ever.
            for done in (*(each.done for each in taken), *self._waiting.pop(partition, {})):
                done.cancel()

    async def _deliver(self, partition: int, taken: list[_Waiting]) -> None:
        error = await self._try(partition, [each for waits in taken for each in waits.records])
        if isinstance(error, RecordRefused) and len(taken) > 1:
            for each in taken:  # one of them is to blame: each by itself
                _end(each, await self._try(partition, each.records))
            return
        for each in taken:
            _end(each, error)

    async def _try(self, partition: int, records: Sequence[Record]) -> PipelineError | None:
        """Send records; return why they are not durable, or None."""
        try:
            async with self._producing.used() as client, guard(self._place, self._topic):
                await self._send(client, partition, records)
        except PipelineError as error:
            self.failed = self.failed or not isinstance(error, RecordRefused)
            return error
        self.failed = False
        return None

    async def ready(self) -> None:
        """See that there is a producer that has not failed. Raises LogUnavailable."""
        await self._producing.ready()

    async def _send(
        self, client: PlacedProducer, partition: int, records: Sequence[Record]
    ) -> None:
        at = 0
        while at < len(records):
            batch = client.create_batch()
            while at < len(records):
                key, value = records[at]
                if batch.append(key=key, value=value, timestamp=None) is None:
                    break
                at += 1
            await (await client.send_batch(batch, self._topic, partition=partition))

    async def close(self) -> None:
        """Wait for what is on its way, then close the producer."""
        await asyncio.gather(*self._lanes.values(), return_exceptions=True)
        await self._producing.close()


def _end(waiting: _Waiting, error: PipelineError | None) -> None:
    """Tell who waits how it ended."""
    if waiting.done.done():
        return  # whoever waited has left
    if error is None:
        waiting.done.set_result(None)
    else:
        waiting.done.set_exception(error)


@asynccontextmanager
async def sender(
    address: KafkaAddress, topic: str, *, at_once: bool = True
) -> AsyncIterator[Sender]:
    """A Sender that ends with the block, after what is on its way.

    at_once: whether Kafka must be there already.
    """
    made = Sender(address, topic)
    try:
        if at_once:
            await made.ready()
        yield made
    finally:
        await made.close()
