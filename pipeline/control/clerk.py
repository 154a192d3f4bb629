"""The clerk of a process: it takes requests, and tells what became of them.

Each worker process and each server has one. One is first: that of the worker which owns partition
0. The others only do what it has left undone for some seconds. So requests are taken while any
process runs, and the control log usually holds one outcome of each and no second one to ignore.

Rule: a clerk remembers nothing that matters. What was taken is on the control log, what was told
is on the topic of results; one that is killed leaves work for the next, never a half of it.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from aiokafka import TopicPartition

from ..edges.kafka import (
    PlacedConsumer,
    Producing,
    consumer,
    durable,
    read_span,
    sending,
    spans_of,
)
from ..edges.kafka_client import KafkaAddress, KafkaAdmin, guard
from ..edges.kafka_names import request_names
from ..errors import ConflictError, Halt, LogUnavailable, Unavailable, UsageError
from ..ports import Clock
from ..telemetry.logs import LOG
from .log import ControlLog
from .records import ControlState
from .requests import Outcome, outcome_of, refused
from .seal import HEADER, Seals

_POLL_MS: Final = 500
_LOOK_S: Final = 0.1
_RETRY_S: Final = 1.0
_ABSENT_S: Final = 30.0  # between two looks for topics that are not there, or not ours to read
_TRIES_MAX: Final = 20  # of one request, while others change definitions at the same time
_PATIENCE_S: Final = 2.0
_TAIL: Final = 16  # offsets of the results that are read first, to see what was told last


class Clerk:
    """Takes the requests of a deployment. work() is a task; cancel it to end it.

    Args:
        name: Of the deployment.
        control: The control log that this process follows; None while it was not opened yet.
        secrets: RECOUNT_CONTROL_KEY: with it, a request needs a seal as control records do.
        patience: For how many seconds a request is left to others; 0 is not at all.
    """

    def __init__(
        self,
        address: KafkaAddress,
        name: str,
        *,
        control: Callable[[], ControlLog | None],
        secrets: Sequence[bytes],
        clock: Clock,
        patience: Callable[[], float],
    ) -> None:
        self._address = address
        self._requests = request_names(name)["requests"]
        self._results = request_names(name)["results"]
        self._opened = control
        self._secrets = secrets
        self._clock = clock
        self._patience = patience
        self._producing = Producing(address)
        self._told = -1  # the last outcome that lies on the topic of results
        self._behind_at: float | None = None

    @property
    def _control(self) -> ControlLog:
        found = self._opened()
        if found is None:
            raise LogUnavailable("the control log was not read yet")
        return found

    @property
    def _seen(self) -> ControlState:
        return self._control.state

    async def work(self) -> None:
        """Go on for ever; a service that is away only delays it."""
        try:
            while True:
                try:
                    await self._follow()
                except Unavailable:
                    await asyncio.sleep(_RETRY_S)
                except Halt as error:  # a right that is missing: no number depends on requests
                    LOG.warning("no_request_taken", why=str(error))
                    await asyncio.sleep(_ABSENT_S)
        finally:
            await self._producing.close()

    async def _follow(self) -> None:
        """Take requests as they come; return where their topics are not there."""
        topics = await KafkaAdmin(self._address).describe([self._requests, self._results])
        if len(topics) < 2:
            await asyncio.sleep(_ABSENT_S)  # made before there were any: `recount init` adds them
            return
        topic_id, point = topics[self._requests].id, TopicPartition(self._requests, 0)
        async with consumer(self._address) as client:
            span = (await spans_of(client, self._requests, 1))[0]
            taken = self._seen.requests.get(topic_id, 0)
            client.assign([point])
            client.seek(point, min(max(span.start, taken), span.end))
            while True:
                async with guard(self._address.bootstrap, self._requests):
                    batches = await client.getmany(point, timeout_ms=_POLL_MS)
                for record in batches.get(point, ()):
                    await self._take(topic_id, record)
                await self._tell_in_turn()

    async def _take(self, topic_id: str, record: Any) -> None:
        """See that a request gets its outcome: at once, or once others did not give it one."""
        until = self._clock.monotonic() + self._patience()
        while self._seen.requests.get(topic_id, 0) <= record.offset:
            if self._clock.monotonic() >= until:
                await self._answer(topic_id, record)
                await self._tell()
                return
            await asyncio.sleep(_LOOK_S)

    async def _answer(self, topic_id: str, record: Any) -> None:
        control = self._control
        for _ in range(_TRIES_MAX):
            state = await control.catch_up()
            if state.requests.get(topic_id, 0) > record.offset:
                return
            outcome = await outcome_of(
                record.value,
                place=f"0@{record.offset}",
                state=state,
                clock=self._clock,
                refusal=self._refusal(state, record),
            )
            # ConflictError: somebody else gave it one, or changed definitions meanwhile.
            with suppress(ConflictError):
                await self._write(control, topic_id, record, outcome)
                return
        raise LogUnavailable("definitions change faster than a request is taken; later")

    async def _write(
        self, control: ControlLog, topic_id: str, record: Any, outcome: Outcome
    ) -> None:
        about = {"type": "request", "topic_id": topic_id, "offset": record.offset}
        seal = {"seal": _seal_of(record)} if self._secrets and outcome.records else {}
        try:
            whole = {"records": outcome.records, "outcome": outcome.told}
            await control.write({**about, **seal, **whole})
        except UsageError as error:  # larger than the topic takes
            told = refused(outcome, "LIMIT-RECORD", str(error)).told
            await control.write({**about, "records": [], "outcome": told})

    def _refusal(self, state: ControlState, record: Any) -> str | None:
        """Say why the seal of a request is wrong, or None."""
        why = Seals(self._requests, self._secrets).refusal(record.value, record.headers)
        if why is None and _seal_of(record) in state.request_seals:
            return "it was there before: a seal counts once"
        return why

    # -- results ------------------------------------------------------------------------------

    async def _tell_in_turn(self) -> None:
        """Tell what others have left untold."""
        now = self._clock.monotonic()
        if self._told >= self._seen.answered_at:
            self._behind_at = None
        elif self._behind_at is None:
            self._behind_at = now
        if self._behind_at is not None and now - self._behind_at >= self._patience():
            await self._tell()
            self._behind_at = None

    async def _tell(self) -> None:
        """Send the result of each outcome behind the last one that has its result."""
        async with consumer(self._address) as client:
            self._told = await self._last_told(client)
            if self._told >= self._seen.answered_at:
                return
            control = self._control
            state = await control.catch_up()
            ignored = {each.offset for each in state.ignored}
            async for records in read_span(client, control.topic, 0, self._told + 1, state.next):
                for record in records:
                    if record.offset not in ignored:
                        await self._send(record)
            self._told = state.answered_at

    async def _last_told(self, client: PlacedConsumer) -> int:
        """Return the control offset of the last result; -1 where there is none."""
        span, back = (await spans_of(client, self._results, 1))[0], _TAIL
        while True:
            told, lo = -1, max(span.start, span.end - back)
            async for records in read_span(client, self._results, 0, lo, span.end):
                told = json.loads(records[-1].value or b"")["control_offset"]
            if told >= 0 or lo == span.start:
                return told
            back *= 8  # it is compacted: offsets have holes

    async def _send(self, record: Any) -> None:
        body = json.loads(record.value)
        if body["type"] != "request":
            return
        outcome = {**body["outcome"], "control_offset": record.offset}
        key = outcome["request_id"].encode()
        value = json.dumps(outcome, ensure_ascii=False).encode()
        async with self._producing.used() as client:
            sent = await sending(client, self._results, value, key=key, partition=0)
            await durable(client, self._results, sent)


def patience_of(process_id: int) -> float:
    """Return for how many seconds a clerk that is not first leaves requests to others: 2 to 4.

    They differ, so that of those who wait one comes first and the others see it.
    """
    return _PATIENCE_S + process_id % 20 / 10


def _seal_of(record: Any) -> str:
    return next((seal.decode("latin-1") for name, seal in record.headers if name == HEADER), "")
