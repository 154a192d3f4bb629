"""Reading and writing `metrics.control`: without a group, from the beginning, never reset."""

import asyncio
import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import TopicPartition

from ..edges.kafka import (
    RECORD_BYTES_MAX,
    Asking,
    PlacedConsumer,
    Producing,
    consumer,
    durable,
    sending,
    spans_of,
)
from ..edges.kafka_client import KafkaAddress, guard
from ..errors import ConflictError, Halt, LogUnavailable, UsageError
from .members import claim_of
from .records import SCHEMA_VERSION, ControlState
from .seal import Seals

_POLL_MS: Final = 200
_READ_BACK_S_MAX: Final = 30.0
CONTROL_BYTES_MAX: Final = RECORD_BYTES_MAX - 8_192  # room for the key and the batch around it


class ControlLog:
    """A reader of the control topic, and through write() a writer.

    state: what the log says up to state.next. Use as an async context manager.
    """

    def __init__(self, address: KafkaAddress, topic: str, secrets: Sequence[bytes] = ()) -> None:
        self._address = address
        self._seals = Seals(topic, secrets)
        self._point = TopicPartition(topic, 0)
        self._stack = AsyncExitStack()
        self._consumer: PlacedConsumer | None = None
        # Questions go over a connection of their own: on the other one they would wait for the
        # broker's answer to a fetch, which comes with the next record.
        self._asking = Asking(address)
        self._producing = Producing(address)
        self._polling = asyncio.Lock()  # records are applied in the order in which they came
        self.state = ControlState()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            self._consumer = await opening.enter_async_context(consumer(self._address))
            opening.push_async_callback(self._asking.close)
            assert self._consumer is not None
            self._consumer.assign([self._point])
            self._consumer.seek(self._point, self.state.next)
            await self.catch_up()
            self._stack = opening.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._producing.close()
        await self._stack.aclose()

    @property
    def topic(self) -> str:
        """Where it is."""
        return str(self._point.topic)

    async def catch_up(self) -> ControlState:
        """Read to the end that the log has now.

        Raises:
            Halt: the log begins after what we hold, or ends before it: not the log we read.
        """
        assert self._consumer is not None
        async with self._asking.used() as client:
            spans = await spans_of(client, self._point.topic, 1)
        span = spans[0]
        if span.start > self.state.next or span.end < self.state.next:
            raise Halt(
                f"{self._point.topic} holds offsets {span.start} to {span.end}, but this process "
                f"has read up to {self.state.next}: the topic was cut or made anew; restore it, "
                "then start again"
            )
        async with guard(self._address.bootstrap, self._point.topic):
            # A seek drops the fetch that is on its way, which may wait half a second for the next.
            async with self._polling:
                if await self._consumer.position(self._point) != self.state.next:
                    self._consumer.seek(self._point, self.state.next)
            loop = asyncio.get_running_loop()
            deadline = loop.time() + _READ_BACK_S_MAX
            while await self._consumer.position(self._point) < span.end:
                await self.poll()
                if loop.time() > deadline:
                    raise LogUnavailable(f"{self._point.topic}: Kafka did not deliver within 30 s")
        return self.state

    async def poll(self) -> bool:
        """Take what has come since; return whether anything did.

        Raises:
            Halt: our user may not read the topic, or no longer.
        """
        assert self._consumer is not None
        async with self._polling:
            async with guard(self._address.bootstrap, self._point.topic):
                batches = await self._consumer.getmany(self._point, timeout_ms=_POLL_MS)
            records = batches.get(self._point, ())
            for record in records:
                if record.offset >= self.state.next:
                    why = self._seals.refusal(record.value, record.headers)
                    if why is None:
                        self.state.apply(record.offset, record.value)
                    else:
                        self.state.pass_over(record.offset, why)
            return bool(records)

    async def write(self, record: Mapping[str, Any]) -> int:
        """Write one record and read it back; return its offset.

        Raises:
            ConflictError: the record is on the log, but another one came first, or it is not
                valid there. Nothing changed.
            UsageError: the record is larger than the topic takes; it is not on the log.
        """
        body = {"schema_version": SCHEMA_VERSION, "nonce": uuid.uuid4().hex, **record}
        claim = claim_of(body)
        text = json.dumps(body, sort_keys=True).encode()
        if len(text) > CONTROL_BYTES_MAX:
            raise UsageError(
                f"the {record['type']} is too large for {self._point.topic}: {len(text)} bytes, "
                f"at most {CONTROL_BYTES_MAX}. A definition is stored twice, as given and as "
                "read; make it smaller"
            )
        async with self._producing.used() as client:
            sent = await sending(
                client,
                self._point.topic,
                text,
                key=claim.encode(),
                partition=0,
                headers=self._seals.headers(text),
            )
            offset = await durable(client, self._point.topic, sent)
        await self.catch_up()
        if self.state.won.get(claim) != offset:
            why = next((item.why for item in self.state.ignored if item.offset == offset), "")
            raise ConflictError(
                f"nothing was changed: the record at {offset} of {self._point.topic} was ignored "
                f"({why or 'an equal record came first'})"
            )
        return offset
