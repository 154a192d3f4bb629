"""A partition's numbers built anew, in an epoch beside the one that readers see.

The owner of what is built is an Owner as any other, over another store: so it is folded, committed
and fenced as live events are, and whoever is killed, frozen or second does no harm. Nobody reads
it. Once it has applied as much as the current epoch, one step of the store makes it the current
one: no reader sees a part, and no answer stands before an earlier one (edges/redis_epochs.py).

Rule 1: what is built goes on where it stood, after whatever end; only what cannot be gone on with
is given up, and begun again.
Rule 2: the past of a metric that came meanwhile is counted here too, before the switch, and so are
cells that corrections have reached. What is taken back in the very last moment may still be stale
when it is switched to: then the owner of the partition mends it, and readers are told meanwhile.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, cast

from ..control.records import ControlState
from ..core.commit import Switch
from ..core.limits import is_scarce
from ..core.records import LogRecord, Span
from ..core.state import PartitionState
from ..deploy.checks import first_state
from ..errors import ConflictError, Damage, Unavailable
from ..ports import Clock, EventLog, RollupStore
from .backfill import Backfill
from .catalogue import Definitions
from .dropping import Epochs
from .mending import Mender
from .opening import SeekBack, retrying
from .owner import Owner

_REFUSED_MAX: Final = 3  # commits: more than a failover refuses
_LOOK_S: Final = 1.0  # between two looks at the memory
_TAIL_S: Final = 0.5  # without a record: then the end is looked at
_FOLLOW_S: Final = 5.0
_AFAR: Final = 1 << 62
_RETRY_S: Final = (0.5, 8.0)


class Building:
    """Builds one partition beside. owner, past: of what is built, over epochs.beside.

    refresh: reads the control log to its end. store: what readers see. told: takes the next offset
    to be applied, the end of the log, and what is waited for.
    """

    def __init__(
        self,
        owner: Owner,
        past: Backfill,
        *,
        store: RollupStore,
        epochs: Epochs,
        log: EventLog,
        definitions: Definitions,
        refresh: Callable[[], Awaitable[ControlState]],
        clock: Clock,
        told: Callable[[int, int, str | None], None],
    ) -> None:
        self.owner = owner
        self._past = past
        self._mender = Mender(owner, log=log, definitions=definitions, clock=clock)
        self._partition = owner.partition
        self._store = store
        self._epochs = epochs
        self._log = log
        self._definitions = definitions
        self._refresh = refresh
        self._clock = clock
        self._told = told
        self._looked_s = -_LOOK_S
        self._epoch = 0
        self._is_over = False  # it is the current epoch

    async def build(self) -> None:
        """Apply the log up to its end, or go on with it.

        Raises:
            ConflictError: another rebuild builds the same, or has given it up.
        """
        found = await retrying(self._begin, lambda: False)
        try:
            await self._open()
        except Damage:
            if await self._beside() is None:
                raise self._is_gone from None
            if found is None or found.next == found.start:
                raise
            # What an earlier rebuild left is of another release, or the log has lost what is next.
            await retrying(lambda: self._epochs.give_up(self._partition), lambda: False)
            await retrying(self._begin, lambda: False)
            await self._open()
        await self._go_on(switching=False)

    async def switch(self) -> None:
        """Make what was built the current epoch, as soon as it has applied as much.

        Raises:
            ConflictError: see build().
        """
        await self._go_on(switching=True)

    async def _begin(self) -> PartitionState | None:
        first = first_state(self._definitions.identity, (await self._span()).start)
        return await self._epochs.begin(self._partition, first)

    # -- applying --------------------------------------------------------------------------------

    async def _go_on(self, *, switching: bool) -> None:
        """Go on until the end of the log is reached; switching: until it is the current epoch."""
        delay, longest = _RETRY_S
        while not self._is_over:
            try:
                if await self._reach_end(switching=switching):
                    return
                delay = _RETRY_S[0]
            except SeekBack:
                if self.owner.done["refused"] >= _REFUSED_MAX:
                    raise ConflictError(
                        f"partition {self._partition}: another `recount rebuild` builds it too; "
                        "wait for its end, or end it and run this again"
                    ) from None
            except Damage:
                if await self.is_there():
                    raise
            except Unavailable as error:
                self._told(self._next, self._next, str(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, longest)

    async def _reach_end(self, *, switching: bool) -> bool:
        """Go on to the end that the log has now; return whether nothing is left to do."""
        await self._hear()
        end = (await self._span()).end
        await self._apply(end)
        await self.owner.tick(max(end, self._next))
        while self._mender.is_due or self._past.due is not None:
            if self._mender.is_due:
                await self._mender.step()
                continue
            await self._wait_for_memory(end)
            await self._past.step()
        await self._mender.close()
        await self._past.close()
        return await self._follow() if switching else self._next >= end

    async def _apply(self, end: int) -> None:
        """Take what the log holds below an offset."""
        read = self._log.read(self._partition, self._next, end)
        async with aclosing(cast("AsyncGenerator[Sequence[LogRecord]]", read)) as batches:
            async for records in batches:
                await self._take(records, end)

    async def _follow(self) -> bool:
        """Take what comes until it can be switched to; return whether it was.

        The other owner takes the same at the same time, and who has just committed is ahead. No
        definition is heard of meanwhile, so that no past comes up; and it ends after a while, so
        that definitions are, and that cells which corrections have reached are mended.
        """
        ends = self._clock.monotonic() + _FOLLOW_S
        read = self._log.read(self._partition, self._next, _AFAR)
        async with aclosing(cast("AsyncGenerator[Sequence[LogRecord]]", read)) as batches:
            while not await self._is_switched():
                try:
                    async with asyncio.timeout(_TAIL_S):
                        records = await anext(batches, None)
                except TimeoutError:
                    return False
                if records is None or self._clock.monotonic() > ends:
                    return False
                await self._take(records, self._next)
        return True

    async def _take(self, records: Sequence[LogRecord], end: int) -> None:
        await self._wait_for_memory(end)
        await self.owner.take(records)
        self._told(self._next, max(end, self._next), None)

    @property
    def _next(self) -> int:
        return self.owner.state.next

    async def _span(self) -> Span:
        return (await self._log.spans())[self._partition]

    async def _hear(self) -> None:
        """Take what the control log has said since."""
        before = self._definitions.state.next
        if (await self._refresh()).next != before:
            self._definitions.changes += 1

    async def _wait_for_memory(self, end: int) -> None:
        """Wait while the store has too little memory left for more cells."""
        while self._clock.monotonic() - self._looked_s >= _LOOK_S:
            used, limit = await self._store.memory()
            self._looked_s = self._clock.monotonic()
            if not is_scarce(used, limit):
                return
            why = f"memory: Redis uses {used:,} of {limit:,} bytes (maxmemory)"
            self._told(self._next, max(end, self._next), why)
            await asyncio.sleep(_LOOK_S)

    # -- who else --------------------------------------------------------------------------------

    async def _open(self) -> None:
        state = await self._beside()
        if state is None:
            raise self._is_gone
        self._epoch = state.epoch
        await self.owner.open()

    async def is_there(self) -> bool:
        """Whether it is still built; False: another rebuild has switched to it.

        Raises:
            ConflictError: it was given up.
        """
        if await self._beside() is not None:
            return True
        await retrying(self._ended, lambda: False)
        return False

    async def _beside(self) -> PartitionState | None:
        work = partial(self._epochs.beside.state, self._partition)
        return await retrying(work, lambda: False)

    async def _is_switched(self) -> bool:
        word = await self._epochs.switch(self._partition, self.owner.state)
        if word is Switch.GONE:
            await self._ended()
        self._is_over = word is not Switch.BEHIND
        return self._is_over

    async def _ended(self) -> None:
        """What was built is not there any more: that is the end, if it is the current epoch."""
        current = await self._store.state(self._partition)
        if current is None or current.epoch != self._epoch:
            raise self._is_gone
        self._is_over = True

    @property
    def _is_gone(self) -> ConflictError:
        return ConflictError(
            f"partition {self._partition}: what this rebuild built was given up, or the partition "
            "was rebuilt in place meanwhile; look at `recount status`"
        )
