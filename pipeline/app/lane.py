"""The batch lane: every owned partition of this process, opened, fed and kept alive."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ..control.records import Identity
from ..core.fold import LogRecord
from ..deploy.checks import check_topics
from ..edges.kafka import KafkaAdmin
from ..errors import LogUnavailable
from ..ports import Clock, EventLog, RollupStore
from .definitions import Definitions
from .owner import Owner, Released, SeekBack

RELEASE_S_MAX: Final = 2.0
_TICK_S: Final = 0.5
_TOPICS_EVERY_S: Final = 5.0
_OPEN_AT_ONCE: Final = 4

Seek = Callable[[int, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker is wired from."""

    identity: Identity
    store: RollupStore
    log: EventLog
    definitions: Definitions
    clock: Clock
    admin: KafkaAdmin
    flush_s: float


class Lane:
    """The owners of this process. seek and positions come from the transport."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._owners: dict[int, Owner] = {}
        self._waiting: dict[int, int] = {}

    async def open(self, partitions: Sequence[int]) -> dict[int, int]:
        """Own exactly these partitions, afresh; return where to fetch each from."""
        await self.release()
        parts = self._parts
        owners = {
            number: Owner(
                number,
                identity=parts.identity,
                store=parts.store,
                log=parts.log,
                definitions=parts.definitions,
                clock=parts.clock,
                flush_s=parts.flush_s,
            )
            for number in partitions
        }
        gate = asyncio.Semaphore(_OPEN_AT_ONCE)

        async def opened(owner: Owner) -> int:
            async with gate:
                return await owner.open()

        starts = await asyncio.gather(*(opened(owner) for owner in owners.values()))
        self._owners = owners
        self._waiting = dict.fromkeys(owners, 0)
        return dict(zip(owners, starts, strict=True))

    async def release(self) -> None:
        """Let every partition go, within its limit."""
        owners, self._owners = self._owners, {}
        await asyncio.gather(*(owner.release(RELEASE_S_MAX) for owner in owners.values()))

    def queued(self, partition: int) -> None:
        """Note that a batch of a partition was handed over and not yet taken."""
        if partition in self._waiting:
            self._waiting[partition] += 1

    async def take(self, partition: int, records: Sequence[LogRecord], seek: Seek) -> None:
        """Apply a batch; seek where it must be fetched again."""
        owner = self._owners.get(partition)
        if owner is None:
            return
        try:
            await owner.take(records)
        except SeekBack as back:
            await seek(partition, back.offset)
        except Released:
            pass
        finally:
            if self._waiting.get(partition):
                self._waiting[partition] -= 1

    async def tend(self, positions: Callable[[], Mapping[int, int]], seek: Seek) -> None:
        """Tick idle partitions and look at the topics, for ever."""
        last: dict[int, tuple[int, int]] = {}
        looked = self._parts.clock.monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            now = positions()
            for number, owner in list(self._owners.items()):
                # Idle: nothing queued, and neither moved nor took anything since the last tick.
                stands = (now.get(number, -1), owner.taken)
                idle = stands == last.get(number) and not self._waiting.get(number)
                last[number] = stands
                try:
                    await owner.tick(now.get(number) if idle else None)
                except SeekBack as back:
                    await seek(number, back.offset)
                except Released:
                    continue
            if self._parts.clock.monotonic() - looked > _TOPICS_EVERY_S:
                looked = self._parts.clock.monotonic()
                await self._look_at_topics()

    async def _look_at_topics(self) -> None:
        identity = self._parts.identity
        try:
            found = await self._parts.admin.describe(
                [name for name, _ in identity.topics.values()]
            )
        except LogUnavailable:
            return  # fetching waits as well; looked at again in a few seconds
        check_topics(identity, found)
