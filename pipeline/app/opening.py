"""Opening a partition: everything it stands on, loaded and checked, before the first batch.

Rule: what is loaded belongs to one state. Ids come in slices, so the state is read before and
after them, and their number must be what it says.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from ..core.dedup import ID_BYTES, IdIndex, superfluous
from ..core.state import PartitionState
from ..deploy.checks import REBUILD, check_span, check_state, unregistered
from ..errors import Halt, Unavailable
from ..ports import Clock, EventLog, RollupStore
from .catalogue import Definitions

T = TypeVar("T")
_TRIES_MAX: Final = 20
_DIFFERS_MAX: Final = 5
_VERSIONS_WAIT_S_MAX = 30.0
_REGISTERED_WAIT_S_MAX: Final = 10.0  # how far a worker may lag behind the control log
_CONTROL_POLL_S = 0.1
_RETRY_S = (0.05, 2.0)
_IDS_AT_ONCE: Final = 250_000 * ID_BYTES  # heartbeats and the watchdog go on between


class Released(Exception):
    """The partition was taken away while the store or the log did not answer."""


class Retry(Protocol):
    """Repeats work until the world answers."""

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T:
        """Return what the work returns at last."""
        ...


async def retrying(work: Callable[[], Awaitable[T]], released: Callable[[], bool]) -> T:
    """Repeat until the world answers; blocking here is how fetching is slowed down.

    Raises:
        Released: the partition was taken away meanwhile.
    """
    delay, longest = _RETRY_S
    while True:
        try:
            return await work()
        except Unavailable:
            if released():
                raise Released from None
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311  jitter
            delay = min(delay * 2, longest)


class Opening:
    """Loads what one partition stands on."""

    def __init__(
        self,
        partition: int,
        store: RollupStore,
        log: EventLog,
        definitions: Definitions,
        clock: Clock,
        retry: Retry,
    ) -> None:
        self._partition = partition
        self._store = store
        self._log = log
        self._definitions = definitions
        self._clock = clock
        self._retry = retry

    async def load(self) -> tuple[PartitionState, IdIndex]:
        """Return the state, and the index of its living ids.

        Raises:
            Halt: the partition is not one that this release, on this log, can go on with.
        """
        differed = 0
        for _ in range(_TRIES_MAX):
            state = await self._checked_state()
            packed = await self._retry(
                partial(self._store.load_ids, self._partition, state.id_counts)
            )
            if await self._checked_state() != state:
                continue  # somebody else still moves it
            counts = {
                generation: sum(map(len, elements)) // ID_BYTES
                for generation, elements in packed.items()
            }
            if counts != dict(state.id_counts):
                # Redis may have moved on and gone back in between: only what stays is damage.
                differed += 1
                if differed < _DIFFERS_MAX:
                    await asyncio.sleep(_CONTROL_POLL_S)
                elif not await self._mended(state, packed):
                    raise Halt(
                        f"partition {self._partition}: the id log holds {counts} ids by "
                        f"generation, the state says {dict(state.id_counts)}: a list was lost, "
                        "somebody else wrote to it, or Redis ran half of a commit after a crash "
                        f"(docs/reliability.md); {REBUILD}"
                    )
                continue
            await self._check_log(state)
            await self._await_versions(state)
            index = IdIndex(sum(counts.values()))
            for generation, elements in packed.items():
                ids = b"".join(elements)
                for at in range(0, len(ids), _IDS_AT_ONCE):
                    index.record(ids[at : at + _IDS_AT_ONCE], generation)
                    await asyncio.sleep(0)
            return state, index
        raise Halt(
            f"partition {self._partition}: another worker changed it at each of {_TRIES_MAX} "
            "attempts to open it; stop the other worker, or start this one again"
        )

    async def _mended(self, state: PartitionState, packed: Mapping[int, Sequence[bytes]]) -> bool:
        """Drop what an id log says twice; False where anything else is wrong with it."""
        twice: dict[int, list[bytes]] = {}
        for generation, elements in packed.items():
            found = superfluous(elements, state.id_counts[generation])
            if found is None:
                return False
            twice[generation] = found
        for generation, dropped in twice.items():
            if dropped:
                await self._retry(
                    partial(self._store.drop_ids, self._partition, state, generation, dropped)
                )
        return True

    async def _checked_state(self) -> PartitionState:
        deadline = self._clock.monotonic() + _REGISTERED_WAIT_S_MAX
        while self._partition not in (identity := self._definitions.identity).starts:
            if self._clock.monotonic() > deadline:
                raise Halt(unregistered(identity, self._partition + 1))
            await asyncio.sleep(_CONTROL_POLL_S)
        state = await self._retry(lambda: self._store.state(self._partition))
        return check_state(state, self._definitions.identity, self._partition)

    async def _check_log(self, state: PartitionState) -> None:
        spans = await self._retry(self._log.spans)
        span = spans.get(self._partition)
        if span is None:
            raise Halt(f"partition {self._partition} is gone from the topic; {REBUILD}")
        check_span(state, self._partition, span.start, span.end)
        offset, stamp = state.last
        if offset >= span.start:
            record = await self._retry(lambda: self._log.probe(self._partition, offset))
            if record is None or (record.offset, record.timestamp) != (offset, stamp):
                raise Halt(
                    f"partition {self._partition}: the record at {offset} is not the one that was "
                    f"applied last: the log was cut and filled again; {REBUILD}"
                )

    async def _await_versions(self, state: PartitionState) -> None:
        """Wait, bounded, until every version active here is known; halt on one we cannot fold."""
        digests = {key: activation.digest for key, activation in state.active.items()}
        deadline = self._clock.monotonic() + _VERSIONS_WAIT_S_MAX
        while True:
            unknown, foreign = self._definitions.missing(state.folded, digests)
            if foreign:
                raise Halt(
                    f"partition {self._partition} counts metric version {foreign[0]}, which this "
                    "release cannot compute; run the release that activated it"
                )
            if not unknown:
                return
            if self._clock.monotonic() > deadline:
                raise Halt(
                    f"partition {self._partition} counts metric version {unknown[0]}, which is "
                    "not on the control log: the log was cut, or it is another one; restore it, "
                    f"or {REBUILD}"
                )
            await asyncio.sleep(_CONTROL_POLL_S)
