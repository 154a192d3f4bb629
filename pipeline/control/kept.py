"""A copy of the control log in Redis: what readers have while Kafka is away.

Rule 1: it is the records, not what they add up to. Whoever reads the copy applies them as those of
the log, seals included: so both say the same by construction, and a writer of Redis alone cannot
make a key where RECOUNT_CONTROL_KEY is set.
Rule 2: workers write it, each of them; nobody else may write Redis at all times. Each element
holds the records of a span of offsets, and is appended only where the copy ends at the start of
the span (edges/lua/control.lua): an older copy never replaces a newer one, and a worker that was
frozen changes nothing.
Rule 3: what the log's readers ignore is left out. The copy is as long as what is obeyed, and its
readers need not judge a record again by what it says of itself (its digest, its depth).
"""

import asyncio
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from ..edges.kafka import consumer, read_span
from ..edges.kafka_client import KafkaAddress
from ..edges.redis import RedisStore
from ..errors import LogUnavailable, StoreUnavailable, Unavailable
from .log import ControlLog
from .records import ControlState
from .seal import HEADER, Seals

_ELEMENT_BYTES: Final = 65_536  # of records, unpacked; a larger record is an element by itself
_UNPACKED_BYTES_MAX: Final = 4 * 1_048_576
_LOOK_S: Final = 5.0
_HEAD: Final = re.compile(rb"([^:]*):([0-9]{1,18}):([0-9]{1,18}):")


Record = tuple[int, bytes, bytes]  # offset, value, seal; an empty one is none
_RECORDS: Final = msgspec.msgpack.Decoder(list[Record])


def element_of(store_id: str, lo: int, hi: int, records: Sequence[Record]) -> bytes:
    """Return what holds the records of [lo, hi)."""
    return f"{store_id}:{lo}:{hi}:".encode() + zlib.compress(msgspec.msgpack.encode(records))


async def replayed(elements: Sequence[bytes], store_id: str, seals: Seals) -> ControlState:
    """Return what a copy says. In steps, so that the event loop turns and it can be broken off.

    Raises:
        StoreUnavailable: it is not whole, or that of another deployment.
    """
    state = ControlState(vouched=True)
    for ends, records in spans_in(elements, store_id):
        for offset, value, seal in records:
            why = seals.refusal(value, [(HEADER, seal)] if seal else [])
            if why is None:
                state.apply(offset, value)
            else:
                state.pass_over(offset, why)
        state.next = ends
        await asyncio.sleep(0)
    return state


def spans_in(elements: Sequence[bytes], store_id: str) -> Iterator[tuple[int, list[Record]]]:
    """Yield the records of each element of a copy, and where they end.

    Raises:
        StoreUnavailable: see replayed().
    """
    at = 0
    for element in elements:
        at, records = _records_in(element, store_id, at)
        yield at, records


def _records_in(element: bytes, store_id: str, at: int) -> tuple[int, list[Record]]:
    head = _HEAD.match(element)
    if head is None or head[1] != store_id.encode() or int(head[2]) != at:
        raise StoreUnavailable("the copy of the control log in Redis is not whole")
    try:
        machine = zlib.decompressobj()
        unpacked = machine.decompress(element[head.end() :], _UNPACKED_BYTES_MAX)
        return int(head[3]), _RECORDS.decode(unpacked)
    except (zlib.error, msgspec.MsgspecError) as error:
        raise StoreUnavailable("the copy of the control log in Redis is not ours") from error


class Copier:
    """Writes what a process has read of the control log to its copy."""

    def __init__(self, address: KafkaAddress, control: ControlLog, store: RedisStore) -> None:
        self._address = address
        self._control = control
        self._store = store

    async def work(self) -> None:
        """Go on for ever; a service that is away only delays it."""
        while True:
            with suppress(Unavailable):
                await self.keep()
            await asyncio.sleep(_LOOK_S)

    async def keep(self) -> None:
        """Bring the copy to where this process has read.

        Raises:
            LogUnavailable, StoreUnavailable: later.
        """
        state = self._control.state
        if state.identity is None:
            return
        store_id, hi = state.identity.deployment.store_id, state.next
        at = await self._store.keep_control(store_id)
        if at >= hi:
            return
        async with consumer(self._address) as client:
            waiting: list[Record] = []
            size, ignored = 0, {each.offset for each in state.ignored}
            async for records in read_span(client, self._control.topic, 0, at, hi):
                for record in records:
                    if record.offset in ignored or record.value is None:
                        continue
                    if size and size + len(record.value) > _ELEMENT_BYTES:
                        at = await self._append(store_id, at, record.offset, waiting)
                        if at != record.offset:
                            return  # somebody else was faster; the next look says where it ends
                        waiting, size = [], 0
                    waiting.append((record.offset, record.value, _seal_of(record)))
                    size += len(record.value)
            await self._append(store_id, at, hi, waiting)

    async def _append(self, store_id: str, lo: int, hi: int, records: Sequence[Record]) -> int:
        return await self._store.keep_control(store_id, lo, element_of(store_id, lo, hi, records))


def _seal_of(record: Any) -> bytes:
    return next((seal for name, seal in record.headers if name == HEADER and seal), b"")


async def copied(store: RedisStore, seals: Seals, store_id: str) -> ControlState:
    """Return what the copy says.

    Raises:
        LogUnavailable: there is none. StoreUnavailable: see replayed(), or Redis is away as well.
    """
    return await replayed(await elements_in(store), store_id, seals)


async def elements_in(store: RedisStore) -> list[bytes]:
    """Return the elements of the copy. Raises LogUnavailable: there are none."""
    elements = await store.control_copy()
    if not elements:
        raise LogUnavailable(
            "Redis holds no copy of the control log: no worker has run since it was emptied, or "
            "since the upgrade"
        )
    return elements
