"""`metrics.catalogue`: a record for each metric, for programs that have Kafka alone.

Rule 1: it is a copy. The control log decides, and Redis says how much of the past is counted.
Rule 2: whoever keeps it compares each metric with its last record there, and writes what differs.
So nothing has to be remembered, and what a frozen process wrote too late is mended by the next
look: of two records of a metric the one with the greater `control_offset` is right.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final

from definitions.formats.bodies import dump_json
from definitions.times import rfc3339

from ..control.entities import Metric, Version
from ..control.records import ControlState
from ..core.state import PartitionState
from ..edges.kafka import (
    PlacedConsumer,
    Producing,
    consumer,
    durable,
    read_span,
    sending,
    spans_of,
)
from ..edges.kafka_client import KafkaAddress, KafkaAdmin
from ..edges.kafka_names import request_names
from ..edges.redis import RedisStore
from ..errors import Damage, Halt, NotOpen, Unavailable
from ..telemetry.logs import LOG
from .history import BACKFILLING, history_of
from .summary import native_of

_LOOK_S: Final = 2.0
_ABSENT_S: Final = 30.0
_AT_ONCE: Final = 200  # metrics, between two turns of the event loop


def entry_of(metric: Metric, history: str | None) -> dict[str, Any]:
    """Return what the catalogue says of a metric; the native body with its own digits.

    history: None while a partition cannot be read. A body is null where this release cannot read
    the definition.
    """
    body = metric.latest.body
    computable = body is not None and body.definition.computable
    status = "active" if computable else "unsupported"
    neutral = None
    if body is not None:
        neutral = body.definition.model_dump(mode="json", exclude={"origin": {"text"}})
    return {
        "id": metric.id,
        "name": metric.name,
        "named": metric.named,
        "format": metric.format,
        "version": metric.latest.number,
        "status": status if metric.archived_at is None else "archived",
        "archived_at": metric.archived_at,
        "history": history,
        "reasons": [] if body is None else list(body.definition.reasons),
        "changed_at": metric.changed_at,
        "versions": [_version(each) for each in metric.versions],
        "native": native_of(metric),
        "neutral": neutral,
    }


def _version(version: Version) -> dict[str, Any]:
    starts = None if version.body is None else version.body.effective_from
    ends = version.effective_to
    return {
        "version": version.number,
        "created_at": version.created_at,
        "effective_from": None if starts is None else rfc3339(starts),
        "effective_to": None if ends is None else rfc3339(ends),
    }


class Catalogue:
    """Keeps the catalogue of a deployment. work() is a task; cancel it to end it.

    Args:
        seen: What this process knows of the control log; somebody else reads it on.
        keeps: Whether it is this process that keeps the catalogue now.
    """

    def __init__(
        self,
        address: KafkaAddress,
        name: str,
        *,
        store: RedisStore,
        seen: Callable[[], ControlState],
        keeps: Callable[[], bool],
    ) -> None:
        self._address = address
        self._topic = request_names(name)["catalogue"]
        self._store = store
        self._seen = seen
        self._keeps = keeps
        self._producing = Producing(address)

    async def work(self) -> None:
        """Go on for ever; a service that is away only delays it."""
        try:
            while True:
                try:
                    if self._keeps():
                        await self._keep()
                except Unavailable:
                    pass
                except Halt as error:  # a right that is missing: no number depends on it
                    LOG.warning("catalogue_not_kept", why=str(error))
                    await asyncio.sleep(_ABSENT_S)
                await asyncio.sleep(_LOOK_S)
        finally:
            await self._producing.close()

    async def _keep(self) -> None:
        """Write what has changed, for as long as this process keeps the catalogue."""
        if not await KafkaAdmin(self._address).describe([self._topic]):
            await asyncio.sleep(_ABSENT_S)
            return
        held: dict[str, bytes] = {}  # metric id → digest of its last record
        at, looked, unsettled = 0, -1, True
        async with consumer(self._address) as client:
            while self._keeps():
                at, foreign = await self._read(client, at, held)
                state = self._seen()
                if foreign or unsettled or state.next != looked:
                    looked = state.next
                    unsettled = await self._write(state, held)
                await asyncio.sleep(_LOOK_S)

    async def _read(
        self, client: PlacedConsumer, at: int, held: dict[str, bytes]
    ) -> tuple[int, bool]:
        """Take what came since; return where it ends, and whether any of it was not known."""
        span, foreign = (await spans_of(client, self._topic, 1))[0], False
        async for records in read_span(client, self._topic, 0, max(at, span.start), span.end):
            for record in records:
                key, digest = (record.key or b"").decode(), _digest_of(record.value or b"")
                foreign = foreign or held.get(key) != digest
                held[key] = digest
        return span.end, foreign

    async def _write(self, state: ControlState, held: dict[str, bytes]) -> bool:
        """Write every metric that differs; return whether the past of any is being counted."""
        states, unsettled = await self._states(state), False
        for number, metric in enumerate(list(state.metrics.values())):
            history = None if states is None else history_of(metric, states).word
            unsettled = unsettled or history in {None, BACKFILLING}
            entry = dump_json({**entry_of(metric, history), "control_offset": state.next - 1})
            digest = _digest_of(entry.encode())
            if held.get(metric.id) != digest:
                await self._send(metric.id, entry.encode())
                held[metric.id] = digest
            if not number % _AT_ONCE:
                await asyncio.sleep(0)
        return unsettled

    async def _states(self, state: ControlState) -> Sequence[PartitionState] | None:
        """The state of each partition; None while one of them cannot be read."""
        starts = () if state.identity is None else state.identity.starts
        try:
            found = [await self._store.state(number) for number in starts]
        except (NotOpen, Damage):
            return None
        states = [each for each in found if each is not None and each.is_open]
        return states if len(states) == len(starts) else None

    async def _send(self, metric_id: str, value: bytes) -> None:
        async with self._producing.used() as client:
            sent = await sending(client, self._topic, value, key=metric_id.encode(), partition=0)
            await durable(client, self._topic, sent)


def _digest_of(value: bytes) -> bytes:
    """A digest of what a record says, whatever offset it was written at."""
    try:
        entry = json.loads(value)
        entry.pop("control_offset", None)
    except (ValueError, AttributeError):
        return b""  # a stranger's
    told = json.dumps(entry, sort_keys=True).encode()
    return blake2b(told, digest_size=16).digest()
