"""What an owner needs to take earlier records back: the kept corrections, and looks at originals.

Rule: a correction is judged by one look at the place that it names; nothing is searched for. Only
where append times have stepped back, and the age of the original hangs on it, some records before
it are read for their times.
"""

from collections.abc import Sequence
from dataclasses import replace

from definitions.matcher import Matcher
from definitions.times import parse_timestamp

from ..core.buckets import bucket_of
from ..core.correction import Correction, TakenBack
from ..core.event import Event
from ..core.fold.correct import Original, correct, misnamed, reached_by
from ..core.fold.judge import is_in_time
from ..core.fold.subtract import subtract
from ..core.id_index import IdIndex
from ..core.mending import Reached, counting_at, stale_part
from ..core.plan import Plan
from ..core.reasons import Rejected
from ..core.records import LogRecord
from ..core.state import PartitionState
from ..core.voids import Voids
from ..errors import LogUnavailable, PartitionHalt
from .duplicates import Duplicates
from .opening import Opening
from .originals import DECODE, Originals, named_in


class Correcting:
    """The corrections of one owned partition.

    voids: all that are applied and kept. waiting: those whose cells are not mended yet, in order.
    Whoever asks brings the Opening along, which has the log: nothing here keeps the owner alive.
    """

    def __init__(self) -> None:
        self.duplicates = Duplicates()
        self._originals = Originals()
        self.voids = Voids()
        self.waiting: list[TakenBack] = []
        self._reached: dict[TakenBack, Reached] = {}  # of those that wait, as far as it is known
        # As it was seen last: retention that took more since is met when cells are mended.
        self._log_start: int | None = None

    def open(self, voids: Voids, state: PartitionState) -> None:
        """Begin anew with what the store holds."""
        self.voids, self.waiting, self._reached = voids, voids.since(state.mended), {}
        self.duplicates.clear()
        self._originals.clear()
        self._log_start = None

    async def plan(
        self,
        records: Sequence[LogRecord],
        before: PartitionState,
        state: PartitionState,
        index: IdIndex,
        opening: Opening,
    ) -> tuple[Plan, Reached | None] | None:
        """Return the plan of a correction, and which cells it leaves stale; None: the state moved.

        Args:
            records: The correction, and what was delivered behind it.
            before: What the partition stands at. state: with the activations of this flush.
        """
        record = records[0]
        correction, partition = DECODE(record.value), opening.partition
        assert isinstance(correction, Correction), "nothing else ends a plan before it begins"
        original, versions, place = None, frozenset[str](), correction.place
        amended = versions
        if place is not None and misnamed(correction, partition, record.offset) is None:
            try:
                seen = await self._originals.at(place.offset, opening, lambda: named_in(records))
            except LogUnavailable:
                return None  # the log holds less than was delivered: open() says what is wrong
            original = await original_of(seen, state, opening)
            root = self.voids.root_of(place.offset)
            versions = counting_at(state, place.offset, root)
            then = replace(state, next=record.offset + 1)
            amended = counting_at(then, record.offset, root)
        if original is not None and place is not None:
            found = await self.duplicates.between(place.offset, place.offset + 1, opening)
            if found is None:
                return None
            original = original._replace(
                is_duplicate=bool(found),
                by=self.voids.by_of(place.offset),
                is_applied=self.voids.is_applied(place.offset),
                is_whole=await self._is_whole(original, state, opening),
            )
        plan, reached = correct(
            record,
            correction,
            original,
            partition=partition,
            state=state,
            deployment=opening.definitions.identity.deployment,
            matcher=await matcher_of(state, versions, opening),
            amended=await matcher_of(state, amended, opening),
            index=index,
        )
        if reached is None:
            return plan, None
        stored = await opening.held(list(reached.texts), before)
        return None if stored is None else (plan, subtract(plan, reached, stored, state))

    def applied(self, plan: Plan, reached: Reached | None) -> None:
        """The store has accepted a plan."""
        taken = plan.taken_back
        if taken is None or reached is None:
            return
        self.voids = self.voids.with_(taken)
        if reached.cells:
            self.waiting.append(taken)
            self._reached[taken] = reached

    def mended(self, state: PartitionState) -> None:
        """The store has accepted cells that were counted again."""
        self.waiting = [each for each in self.waiting if each.by >= state.mended]
        left = set(self.waiting)
        self._reached = {each: known for each, known in self._reached.items() if each in left}

    async def reached(
        self, taken: TakenBack, state: PartitionState, opening: Opening
    ) -> Reached | None:
        """Return what was reached by a record that was taken back; None: the log lost it.

        Raises:
            LogUnavailable: the log seems to end before it.
        """
        kept = self._reached  # open() begins another one, which knows nothing of this state
        known = kept.get(taken)  # as its commit left them
        if known is not None:
            return known
        seen = await self._originals.at(
            taken.original,
            opening,
            lambda: (each.original for each in self.waiting if each not in self._reached),
        )
        original = await original_of(seen, state, opening)
        if original is None:
            return None
        found = reached_by(
            original.record,
            original.clock_ms,
            partition=opening.partition,
            state=state,
            deployment=opening.definitions.identity.deployment,
            matcher=await matcher_of(
                state,
                counting_at(state, taken.original, self.voids.root_of(taken.original)),
                opening,
            ),
        )
        if found is None:
            raise PartitionHalt(
                opening.partition,
                f"partition {opening.partition}: the record at {taken.original} was rejected, and "
                "the list of corrections says that it was taken back: somebody else wrote to it; "
                f"run `recount rebuild --partition {opening.partition}`",
            )
        # What is not stale was subtracted, or is not concerned. What has become stale since is
        # counted again, for whatever reason.
        found = kept[taken] = stale_part(found, state)
        return found

    async def low(self, state: PartitionState, bucket: int, opening: Opening) -> int | None:
        """Return from where on events of a base bucket can lie; None: the log lost some.

        An event is at most max_ahead before its time on the log.
        """
        deployment, number = opening.definitions.identity.deployment, opening.partition
        since = bucket * deployment.base_bucket_s * 1000 - deployment.max_ahead_ms
        low = await opening.retry(lambda: opening.log.offset_at(number, since))
        low = state.next if low is None else max(min(low, state.next), state.start)
        return None if await self._starts(opening) > low else low

    async def _starts(self, opening: Opening) -> int:
        """Return where the log starts now."""
        found = (await opening.retry(opening.log.spans))[opening.partition].start
        self._log_start = found
        return found

    async def _is_whole(self, original: Original, state: PartitionState, opening: Opening) -> bool:
        """Whether the log holds all events of an original's base bucket."""
        event = DECODE(original.record.value)
        at = None if isinstance(event, Rejected) else parse_timestamp(event.timestamp)
        known = self._log_start
        start = await self._starts(opening) if known is None else known
        if at is None or start <= state.start:
            return True
        bucket_s = opening.definitions.identity.deployment.base_bucket_s
        return await self.low(state, bucket_of(at, bucket_s), opening) is not None


async def original_of(
    record: LogRecord | None, state: PartitionState, opening: Opening
) -> Original | None:
    """Return a record as it was judged, but for duplicates; None stays None."""
    if record is None:
        return None
    event, clocks = DECODE(record.value), (record.timestamp, state.clock_ms)
    clock_ms = record.timestamp
    deployment = opening.definitions.identity.deployment
    if isinstance(event, Event) and not is_in_time(event, clocks, deployment):
        clock_ms = await clock_at(record, opening)
    return Original(record, clock_ms, is_duplicate=False, by=None, is_applied=False, is_whole=True)


async def clock_at(record: LogRecord, opening: Opening) -> int:
    """Return the greatest append time up to a record.

    That is its own, unless an earlier record was appended later.
    """
    number, log = opening.partition, opening.log
    later = await opening.retry(lambda: log.offset_at(number, record.timestamp + 1))
    if later is None or later > record.offset:
        return record.timestamp

    async def latest() -> int:
        clock_ms = record.timestamp
        async for records in log.read(number, later, record.offset):
            clock_ms = max([clock_ms, *(each.timestamp for each in records)])
        return clock_ms

    return await opening.retry(latest)


async def matcher_of(state: PartitionState, versions: frozenset[str], opening: Opening) -> Matcher:
    """Return the matcher of versions that count in a partition, or have ended there.

    Raises:
        PartitionHalt: this release does not know one of them.
    """
    digests = {key: state.active[key].digest for key in versions}
    unknown, foreign = opening.definitions.missing(versions, digests)
    if lacking := [*unknown, *foreign]:
        raise PartitionHalt(
            opening.partition,
            f"partition {opening.partition}: a correction reaches metric version {lacking[0]}, "
            "which this release cannot compute; run the release that activated it",
        )
    return await opening.definitions.matcher(versions)
