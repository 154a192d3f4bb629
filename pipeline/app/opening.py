"""Opening a partition: everything it stands on, loaded and checked, before the first batch.

Rule: what is loaded belongs to one state. Ids come in slices, so the state is read before and
after them, and their number must be what it says.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeVar

from definitions.times import NS_PER_MS

from ..core.buckets import ns_of
from ..core.cells import CellKey
from ..core.dedup import ID_BYTES, count_in, ids_in
from ..core.id_index import IdIndex, superfluous
from ..core.past import Past, exact_from, lacking
from ..core.state import PartitionState
from ..core.verdicts import Offsets, add_up, kept_of, offsets_in, trim
from ..core.voids import Voids, trim_voids, voids_add_up, voids_in
from ..deploy.checks import REBUILD, check_span, check_state, rebuild_of, unregistered
from ..errors import Halt, PartitionHalt, Unavailable
from ..ports import Clock, EventLog, RollupStore
from .catalogue import Definitions
from .checks import check_clock, check_kind

T = TypeVar("T")
_TRIES_MAX: Final = 20
_DIFFERS_MAX: Final = 5
_VERSIONS_WAIT_S_MAX = 30.0
_REGISTERED_WAIT_S_MAX: Final = 10.0  # how far a worker may lag behind the control log
_CONTROL_POLL_S = 0.1
_RETRY_S = (0.05, 2.0)
_ELEMENTS_AT_ONCE: Final = 10_000  # of kept verdicts, for the same reason
_IDS_AT_ONCE: Final = 250_000 * ID_BYTES  # heartbeats and the watchdog go on between


class Released(Exception):
    """The partition was taken away while the store or the log did not answer."""


class SeekBack(Exception):
    """The partition must be fetched again from `offset`."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


class Footprint(NamedTuple):
    """What an owner keeps: identities, the bytes of their index, cells, their bytes at most."""

    ids: int
    id_bytes: int
    cells: int
    cell_bytes: int


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
    """Loads what one partition stands on. retry: repeats until the world answers."""

    def __init__(
        self,
        partition: int,
        store: RollupStore,
        log: EventLog,
        definitions: Definitions,
        clock: Clock,
        retry: Retry,
    ) -> None:
        self.partition = partition
        self._store = store
        self.log = log
        self.definitions = definitions
        self._clock = clock
        self.retry = retry

    async def glance(self) -> object:
        """Check the state and the log around it, without the ids; return what was seen of them.

        Raises:
            Damage: the partition is not one that can be gone on with.
        """
        state = await self.stored()
        await self._check_log(state)
        first = await self.retry(lambda: self.log.probe(self.partition, state.next))
        if first is None:
            return state, None
        check_kind(self.partition, [first])
        check_clock(self.partition, first.timestamp, self._clock.now())
        return state, (first.offset, first.timestamp)

    async def load(self) -> tuple[PartitionState, IdIndex, Voids]:
        """Return the state, the index of its living ids, and what was taken back.

        Raises:
            PartitionHalt: it is not one that can be gone on with. Halt: this release cannot.
        """
        differed = 0
        for _ in range(_TRIES_MAX):
            state = await self.stored()
            packed = await self.retry(
                partial(self._store.load_ids, self.partition, state.id_counts)
            )
            verdicts, kept = await self.verdicts(state)
            corrections, voids = await self.corrections(state)
            if await self.stored() != state:
                continue  # somebody else still moves it
            counts = {generation: count_in(elements) for generation, elements in packed.items()}
            whole = kept is not None and add_up(kept, state.trimmed, state.counters["duplicate"])
            if counts != dict(state.id_counts) or kept is None or not whole or voids is None:
                # Redis may have moved on and gone back in between: only what stays is damage.
                differed += 1
                if differed < _DIFFERS_MAX:
                    await asyncio.sleep(_CONTROL_POLL_S)
                elif counts != dict(state.id_counts):
                    # First, for half of a commit leaves both its ids and its verdicts.
                    if not await self._mended(state, packed):
                        raise PartitionHalt(
                            self.partition,
                            f"partition {self.partition}: the id log holds {counts} ids by "
                            f"generation, the state says {dict(state.id_counts)}: a list was "
                            "lost, somebody else wrote to it, or Redis ran half of a commit after "
                            f"a crash (docs/reliability.md); {rebuild_of(self.partition)}",
                        )
                else:
                    what = (state.counters["duplicate"], "judged duplicates")
                    if whole:
                        what = (state.counters["corrected"], "taken back by corrections")
                    raise PartitionHalt(
                        self.partition,
                        f"partition {self.partition}: {what[0]} records were {what[1]}, and the "
                        "list of them does not say the same: it was lost, or somebody else wrote "
                        f"to it; {rebuild_of(self.partition)}",
                    )
                continue
            start = await self._check_log(state)
            await self._await_versions(state)
            trimmed = await self._trim(state, verdicts, kept, start)
            if trimmed is not None:
                trimmed = await self._trim_corrections(trimmed, corrections, voids, start)
            if trimmed is None:
                continue
            state = trimmed
            index = IdIndex(sum(counts.values()))
            for generation, elements in packed.items():
                ids = ids_in(elements)
                for at in range(0, len(ids), _IDS_AT_ONCE):
                    index.record(ids[at : at + _IDS_AT_ONCE], generation)
                    await asyncio.sleep(0)
            return state, index, voids
        raise PartitionHalt(
            self.partition,
            f"partition {self.partition}: another worker changed it at each of {_TRIES_MAX} "
            "attempts to open it; stop the other worker",
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
                await self.retry(
                    partial(self._store.drop_ids, self.partition, state, generation, dropped)
                )
        return True

    async def stored(self) -> PartitionState:
        """Return the state as it is stored; wait, bounded, until the partition is registered."""
        deadline = self._clock.monotonic() + _REGISTERED_WAIT_S_MAX
        while self.partition not in (identity := self.definitions.identity).starts:
            if self._clock.monotonic() > deadline:
                raise Halt(unregistered(identity, self.partition + 1))
            await asyncio.sleep(_CONTROL_POLL_S)
        state = await self.retry(lambda: self._store.state(self.partition))
        return check_state(state, self.definitions.identity, self.partition)

    async def held(
        self, cells: Sequence[CellKey], state: PartitionState
    ) -> Mapping[CellKey, str | None] | None:
        """Return what the store holds for cells; None: the partition stands elsewhere."""
        return await self.retry(lambda: self._store.load(self.partition, cells, state))

    async def verdicts(self, state: PartitionState) -> tuple[list[bytes], Offsets | None]:
        """Load the kept verdicts, and what they say; None: some of it is not ours."""
        elements = await self.retry(partial(self._store.load_duplicates, self.partition))
        parts = []
        try:
            for at in range(0, len(elements), _ELEMENTS_AT_ONCE):
                parts.append(offsets_in(elements[at : at + _ELEMENTS_AT_ONCE]))
                await asyncio.sleep(0)
        except ValueError:
            return elements, None
        return elements, kept_of(parts, state.trimmed)

    async def corrections(self, state: PartitionState) -> tuple[list[bytes], Voids | None]:
        """Load the kept corrections, and what they say; None: that is not what the state says."""
        elements = await self.retry(partial(self._store.load_voids, self.partition))
        try:
            voids = voids_in(elements, state.voids_trimmed)
        except ValueError:
            return elements, None
        whole = voids_add_up(voids, state.voids_trimmed, state.counters["corrected"])
        return elements, voids if whole else None

    async def trim(self, state: PartitionState) -> PartitionState | None:
        """Let go of what is kept of records that the log no longer holds; return the state then.

        None: the partition stands elsewhere, or Redis lost writes.
        """
        spans = await self.retry(self.log.spans)
        verdicts, kept = await self.verdicts(state)
        start = spans[self.partition].start
        trimmed = None if kept is None else await self._trim(state, verdicts, kept, start)
        if trimmed is None or not trimmed.counters["corrected"]:
            return trimmed
        corrections, voids = await self.corrections(trimmed)
        if voids is None:
            return None
        return await self._trim_corrections(trimmed, corrections, voids, start)

    async def pasts(self, state: PartitionState) -> dict[str, Past]:
        """Say where the past of each version begins that has none yet (core/past.py).

        That is where events begin that can reach its first bucket: an event is at most max_ahead
        before its time on the log. A version without effective_from counts all that there is.
        """
        found, wanted = {}, lacking(state.active, state.hist, state.start)
        bodies = self.definitions.bodies(wanted)
        if not bodies:
            return {}
        span = (await self.retry(self.log.spans))[self.partition]
        for version, body in bodies.items():
            activation, starts = wanted[version], body.effective_from
            since = None if starts is None else ns_of(starts) // NS_PER_MS
            if not body.definition.measures:
                found[version] = Past(activation.offset, activation.offset, -1, 0)
                continue
            begins: int | None = max(state.start, span.start)
            if since is not None:
                reaches = since - self.definitions.identity.deployment.max_ahead_ms
                begins = await self.retry(partial(self.log.offset_at, self.partition, reaches))
            begins = activation.offset if begins is None else min(begins, activation.offset)
            begins = max(begins, state.start)
            lost = 0
            if span.start > state.start:
                lost = await self.lost_before(span.start, activation.clock_ms)
            found[version] = Past(begins, begins, -1, 0 if since and lost <= since else lost)
        return found

    async def lost_before(self, start: int, latest_ms: int) -> int:
        """Say from which time on (ms) base buckets lack nothing that lay before the log's start.

        Args:
            latest_ms: No event that is wanted was appended later.
        """
        first = await self.retry(lambda: self.log.probe(self.partition, start))
        clock_ms = latest_ms if first is None else min(first.timestamp, latest_ms)
        return exact_from(clock_ms, self.definitions.identity.deployment)

    async def _trim(
        self, state: PartitionState, verdicts: Sequence[bytes], kept: Offsets, log_start: int
    ) -> PartitionState | None:
        while (found := trim(verdicts, kept, state.trimmed, log_start)) is not None:
            gone, trimmed = found
            elements = verdicts[:gone]
            done = await self.retry(
                partial(self._store.trim_duplicates, self.partition, state, elements, trimmed)
            )
            if not done:
                return None
            state = replace(state, trimmed=trimmed)
            verdicts, kept = verdicts[gone:], kept_of([kept], trimmed)
        return state

    async def _trim_corrections(
        self, state: PartitionState, elements: Sequence[bytes], voids: Voids, log_start: int
    ) -> PartitionState | None:
        below = min(log_start, state.mended)  # what waits is given up first
        while (found := trim_voids(elements, voids, state.voids_trimmed, below)) is not None:
            gone, trimmed = found
            done = await self.retry(
                partial(self._store.trim_voids, self.partition, state, elements[:gone], trimmed)
            )
            if not done:
                return None
            state = replace(state, voids_trimmed=trimmed)
            elements, voids = elements[gone:], voids.above(trimmed.below)
        return state

    async def _check_log(self, state: PartitionState) -> int:
        """Check what comes next on the log, and what came last; return where the log starts."""
        spans = await self.retry(self.log.spans)
        span = spans.get(self.partition)
        if span is None:
            raise PartitionHalt(
                self.partition, f"partition {self.partition} is gone from the topic; {REBUILD}"
            )
        check_span(state, self.partition, span.start, span.end)
        offset, stamp = state.last
        if offset >= span.start:
            record = await self.retry(lambda: self.log.probe(self.partition, offset))
            if record is None or (record.offset, record.timestamp) != (offset, stamp):
                raise PartitionHalt(
                    self.partition,
                    f"partition {self.partition}: the record at {offset} is not the one that was "
                    "applied last: the log was cut and filled again; "
                    f"{rebuild_of(self.partition)}",
                )
        return span.start

    async def _await_versions(self, state: PartitionState) -> None:
        """Wait, bounded, until every version active here is known; halt on one we cannot fold."""
        digests = {key: activation.digest for key, activation in state.active.items()}
        deadline = self._clock.monotonic() + _VERSIONS_WAIT_S_MAX
        while True:
            unknown, foreign = self.definitions.missing(state.folded, digests)
            if foreign:
                raise Halt(
                    f"partition {self.partition} counts metric version {foreign[0]}, which this "
                    "release cannot compute; run the release that activated it"
                )
            if not unknown:
                return
            if self._clock.monotonic() > deadline:
                raise Halt(
                    f"partition {self.partition} counts metric version {unknown[0]}, which is "
                    "not on the control log: the log was cut, or it is another one; restore it, "
                    f"or {REBUILD}"
                )
            await asyncio.sleep(_CONTROL_POLL_S)
