"""A correction → Plan: the flush that takes one earlier record back.

Each correction has a flush of its own: they are seldom, and its plan needs the original, which
the owner looks up first. The plan's cells are what an amend adds; all cells that the original
reached are stale in it, until subtract.py has said which of them can be subtracted from.

Rule 1: a correction is judged in the order decode, keying, duplicate, original.
Rule 2: the original is judged as it was when it came: by the log clock there, and by the kept
verdict whether it was a duplicate.
"""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from definitions.matcher import Matcher
from definitions.times import parse_timestamp

from ..cells import CellKey, Change
from ..clocked import clocked
from ..correction import AMEND, NAMING, VOID, Correction, TakenBack
from ..dedup import home_of, identity_of, seed_of
from ..deployment import Deployment, Keying
from ..event import Decoder, Event, no_time
from ..id_index import IdIndex
from ..mending import Reached
from ..plan import Plan
from ..reasons import Reason, Rejected
from ..records import DeadLetter, LogRecord
from ..state import PartitionState
from .amend import added_by
from .fold import fold
from .judge import Judge
from .spelled import path_of

_DECODE: Final = Decoder(None, context=True).decode


class Original(NamedTuple):
    """What a correction names, as it was found on the log.

    clock_ms: a log clock that it is judged by as by the one at it. is_duplicate: as it was judged.
    by: the offset of an earlier correction that took it back; None: none did. is_applied: whether
    it is a correction that is applied. is_whole: whether the log holds all events of its base
    bucket.
    """

    record: LogRecord
    clock_ms: int
    is_duplicate: bool
    by: int | None
    is_applied: bool
    is_whole: bool


def misnamed(correction: Correction, partition: int, offset: int) -> Rejected | None:
    """Say why a correction can take nothing back, as far as it says so itself.

    Args:
        partition, offset: Where the correction lies.
    """
    place = correction.place
    if correction.original is None or place is None:
        name = NAMING[VOID if correction.replacement is None else AMEND]
        detail = f'{name} must be {{"transaction_id": …, "at": "partition@offset"}}'
    elif place.partition != partition:
        detail = f"the original is said to be in partition {place.partition}, this is {partition}"
    elif place.offset >= offset:
        detail = f"the original must come before it, and {place.text} does not"
    else:
        return None
    return Rejected(Reason.NOTHING_TO_VOID, detail)


def reached_by(
    record: LogRecord,
    clock_ms: int,
    *,
    partition: int,
    state: PartitionState,
    deployment: Deployment,
    matcher: Matcher,
) -> Reached | None:
    """Return the cells that a record reaches by the rules of a matcher; None: it was rejected.

    Of an amend the cells that its event reaches; it was applied.
    """
    bucket_s = deployment.base_bucket_s
    added = added_by(record, clock_ms, partition=partition, bucket_s=bucket_s, matcher=matcher)
    if added is not None:
        return _reached(added.cells, added.elements)
    standing = PartitionState(state.store_id, state.topic_id, 0, record.offset, clock_ms=clock_ms)
    plan = fold(
        [clocked(record, clock_ms)],
        partition=partition,
        state=standing,
        deployment=deployment,
        matcher=matcher,
        index=IdIndex(),
    )
    if not plan.counters["consumed"] or plan.dead_letters:
        return None
    return _reached(plan.cells, plan.elements)


def _reached(
    cells: Mapping[CellKey, Change], elements: Mapping[CellKey, Collection[str]]
) -> Reached:
    return Reached(cells, {cell: frozenset(found) for cell, found in elements.items()})


def correct(
    record: LogRecord,
    correction: Correction,
    original: Original | None,
    *,
    partition: int,
    state: PartitionState,
    deployment: Deployment,
    matcher: Matcher,
    amended: Matcher,
    index: IdIndex,
) -> tuple[Plan, Reached | None]:
    """Return the plan of a correction that comes at state.next or behind a hole there.

    And what the original reaches; None where nothing is taken back.

    Args:
        original: What lies where it says; None: nothing, or it says nothing.
        matcher: Of the versions that have counted the original. amended: of those that count what
            an amend says instead.
        index: See fold().
    """
    judge = Judge(partition, state.clock_ms, deployment, record.timestamp)
    judge.clock_ms = max(state.clock_ms, record.timestamp)
    plan = Plan(state.next, record.offset + 1, judge.clock_ms, state.last, judge.generation)
    plan.oldest = judge.generation - deployment.generations
    plan.last = record.offset, record.timestamp
    if any(living < plan.oldest for living in state.id_counts):
        index.forget_before(plan.oldest, judge.generation)
    counters = dict.fromkeys(
        ("consumed", "counted", "unmatched", "duplicate", "rejected", "misplaced", "corrected"), 0
    )
    counters["consumed"] = 1
    plan.counters = counters
    plan.paths = {path_of("python", "form"): 1}
    rejected: Rejected | None = None
    if parse_timestamp(correction.timestamp) is None:
        rejected = no_time(correction)
    else:
        home = home_of(correction.customer_id, deployment.homes)
        counters["misplaced"] = int(home != partition)
        if home != partition and deployment.keying is Keying.STRICT:
            rejected = Rejected(Reason.MISPLACED, f"the home is partition {home}")
    if rejected is None:
        seed = seed_of(deployment.store_id)
        id_ = identity_of(correction.customer_id, correction.transaction_id, seed)
        if index.seen(id_)[0]:
            counters["duplicate"] = 1
            plan.duplicates = [record.offset]
            return plan, None
        found = _judged(
            record, correction, original, partition, state, deployment=deployment, matcher=matcher
        )
        if isinstance(found, Reached):
            assert original is not None
            counters["corrected"] = 1
            index.record(id_, judge.generation)
            plan.new_ids = id_
            plan.taken_back = TakenBack(original.record.offset, record.offset)
            plan.stale = found.cells
            at, bucket_s = judge.clock_ms, deployment.base_bucket_s
            added = added_by(record, at, partition=partition, bucket_s=bucket_s, matcher=amended)
            if added is not None:
                plan.cells, plan.elements = added.cells, added.elements
            return plan, found
        rejected = found
    counters["rejected"] = 1
    plan.dead_letters = [DeadLetter(record, rejected)]
    plan.rejected = {rejected.reason: 1}
    return plan, None


def _judged(
    record: LogRecord,
    correction: Correction,
    original: Original | None,
    partition: int,
    state: PartitionState,
    *,
    deployment: Deployment,
    matcher: Matcher,
) -> Reached | Rejected:
    """What the original reaches, or why it cannot be taken back."""
    if (why := misnamed(correction, partition, record.offset)) is not None:
        return why
    place = correction.place
    assert place is not None

    def nothing(why: str) -> Rejected:
        return Rejected(Reason.NOTHING_TO_VOID, f"{place.text} {why}")

    if original is None:
        return nothing("is no record of the log")
    event = _DECODE(original.record.value)
    if isinstance(event, Correction) and original.is_applied and event.replacement is not None:
        name = event.original
    elif isinstance(event, Event):
        name = event.transaction_id
    else:
        return nothing("holds no usage event that counts")
    if (event.customer_id, name) != (correction.customer_id, correction.original):
        return nothing("holds another event")
    if correction.replacement is not None and not _at_one_time(event, correction):
        return nothing(f"holds an event of {event.timestamp}: an amend has the same timestamp")
    reached = reached_by(
        original.record,
        original.clock_ms,
        partition=partition,
        state=state,
        deployment=deployment,
        matcher=matcher,
    )
    if reached is None:
        return nothing("was rejected when it came")
    if original.is_duplicate:
        return Rejected(
            Reason.VOIDS_A_DUPLICATE, f"{place.text} was a duplicate: it is in no number"
        )
    if original.by is not None:
        return Rejected(
            Reason.ALREADY_VOIDED, f"{place.text} was taken back by {partition}@{original.by}"
        )
    if reached.cells and not original.is_whole:
        return nothing("cannot be taken back: the log has lost other events of its base bucket")
    return reached


def _at_one_time(event: Event | Correction, correction: Correction) -> bool:
    return parse_timestamp(event.timestamp) == parse_timestamp(correction.timestamp)
