"""`recount rebuild --in-place`: what was derived is dropped, and the log is applied again.

Durable order: the partition is marked (every commit refused, every reader waits), emptied, the
control log told of another topic or other rules, and only then given its first state. Killed
anywhere, the next rebuild finishes it. Live workers wait meanwhile and go on with the new state.
The first state holds the end of the log (rebuilt_to): readers wait until it is applied again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ..control.entities import DeploymentRecord
from ..control.log import ControlLog
from ..core.deployment import FORMAT_VERSION, RULES
from ..core.records import Span
from ..edges.kafka import consumer, spans_of
from ..edges.kafka_client import KafkaAddress, KafkaAdmin
from ..edges.redis import RedisStore
from ..edges.redis_epochs import RedisEpochs
from ..errors import ConflictError, Damage, Halt, NotOpen, UsageError
from .checks import (
    REBUILD,
    check_identity,
    check_open,
    check_policy,
    check_stamps,
    first_state,
    identity_of,
)
from .tags import spread

_FIRST_TAGGED: Final = 3  # the first format in which hash tags have suffixes


@dataclass(frozen=True, slots=True)
class Planned:
    """What a rebuild does. in_place, beside: partitions. moved: to another topic.

    renewed: whether the control log has to be told, of another topic or of other rules.
    was_asked: whether all is rebuilt in place because that was asked for.
    """

    topic_id: str
    spans: Mapping[int, Span]
    in_place: list[int]
    beside: list[int]
    moved: bool
    renewed: bool
    was_asked: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """What was dropped."""

    partitions: list[int]
    keys: int


async def planned(
    address: KafkaAddress,
    identity: DeploymentRecord,
    store: RedisStore,
    partition: int | None,
    *,
    in_place: bool,
) -> Planned:
    """Say what a rebuild of a deployment, or of one partition, has to do.

    In place where it was asked for, and where there is nothing that a reader could go on to read:
    of another topic or release, or lost.

    Raises:
        Halt: the log is not one that can be applied. UsageError: no such partition.
    """
    check_identity(identity)
    await check_policy(store)
    topic_id, partitions = await _events_topic(address, identity)
    moved = topic_id != identity.topics["events"][1]
    rules = (identity.rules, identity.format_version)
    renewed = moved or rules != (RULES, FORMAT_VERSION)
    if partition is not None:
        if partition not in identity.starts:
            raise UsageError(f"--partition: {partition} is not registered")
        if renewed:
            raise Halt(
                "the topic was made anew, or another release judged before: every partition has "
                f"to be rebuilt; {REBUILD}, without --partition"
            )
    async with consumer(address) as client:
        spans = await spans_of(client, identity.topics["events"][0], partitions)
    numbers = sorted(spans) if partition is None else [partition]
    what = {"moved": moved, "renewed": renewed, "was_asked": in_place}
    if in_place or renewed:
        return Planned(topic_id, spans, numbers, [], **what)
    beside = [number for number in numbers if await _is_read(store, identity, number)]
    emptied = [number for number in numbers if number not in beside]
    return Planned(topic_id, spans, emptied, beside, **what)


async def _is_read(store: RedisStore, identity: DeploymentRecord, number: int) -> bool:
    """Whether readers may look at a partition now."""
    try:
        check_open(await store.state(number), identity, number)
    except (NotOpen, Damage):
        return False
    return True


async def reset(
    address: KafkaAddress,
    control: ControlLog,
    store: RedisStore,
    plan: Planned,
    progress: Callable[[str], None],
) -> Reset:
    """Drop the derived state of the partitions in place, and register them afresh.

    Raises:
        ConflictError: another rebuild empties one of them.
    """
    identity, epochs = identity_of(control.state), RedisEpochs(store)
    topic_id, spans, numbers = plan.topic_id, plan.spans, plan.in_place
    tags = identity.tags
    if untagged := [number for number in numbers if number not in tags]:
        tags = {**tags, **spread(store.deployment, untagged, tags)}
    keys, given = 0, dict[int, int]()
    if identity.format_version < _FIRST_TAGGED:
        keys += await _drop_untagged(store, epochs, numbers, progress)
    for number in numbers:
        if number in identity.tags:
            progress(f"partition {number}: dropping what was derived")
            given[number] = await epochs.begin_rebuild(number)
            keys += await epochs.clear(number, given[number])
    starts = {number: spans[number].start for number in numbers}
    if plan.renewed or any(identity.starts.get(number) != at for number, at in starts.items()):
        identity = await _tell(control, identity, topic_id, {**identity.starts, **starts}, tags)
    await store.write_identity(identity.text, again=True)
    # Nothing is committed any more, so no reader has seen a number of later offsets than these.
    async with consumer(address) as client:
        topic = identity.topics["events"][0]
        ends = {at: span.end for at, span in (await spans_of(client, topic, len(spans))).items()}
    for number in numbers:
        if number not in given:  # its keys have names that they did not have before
            given[number] = await epochs.begin_rebuild(number)
        empty = replace(first_state(identity, starts[number]), rebuilt_to=ends[number])
        if not await epochs.finish_rebuild(number, given[number], empty):
            raise ConflictError(
                f"partition {number}: another `recount rebuild` empties it; wait for its end"
            )
    return Reset(numbers, keys)


async def tell_starts(control: ControlLog, store: RedisStore, plan: Planned) -> None:
    """Tell the control log where partitions begin that were built beside, where that is new."""
    identity = identity_of(control.state)
    starts = {number: plan.spans[number].start for number in plan.beside}
    if any(identity.starts.get(number) != at for number, at in starts.items()):
        starts = {**identity.starts, **starts}
        identity = await _tell(control, identity, plan.topic_id, starts, identity.tags)
    await store.write_identity(identity.text, again=True)


async def _drop_untagged(
    store: RedisStore, epochs: RedisEpochs, numbers: Sequence[int], progress: Callable[[str], None]
) -> int:
    """Drop what a release wrote whose hash tags had no suffixes: these partitions move."""
    tags, store.tags, keys = store.tags, dict, 0
    try:
        for number in numbers:
            progress(f"partition {number}: dropping what an earlier release derived")
            epoch = await epochs.begin_rebuild(number)
            keys += await epochs.clear(number, epoch)
            await epochs.forget(number)
    finally:
        store.tags = tags
    return keys


def lost_of(identity: DeploymentRecord, plan: Planned) -> dict[int, int]:
    """Return by partition how many offsets were counted before that the log no longer holds."""
    starts = {number: plan.spans[number].start for number in (*plan.in_place, *plan.beside)}
    if plan.moved:
        return {}
    return {
        number: at - identity.starts[number]
        for number, at in sorted(starts.items())
        if at > identity.starts.get(number, at)
    }


async def _events_topic(address: KafkaAddress, identity: DeploymentRecord) -> tuple[str, int]:
    """The events topic as it is now, with at least as many partitions as are registered."""
    admin, (name, _) = KafkaAdmin(address), identity.topics["events"]
    found = (await admin.describe([name])).get(name)
    if found is None:
        raise Halt(f"topic {name!r} is gone; restore it, or start a new deployment")
    await check_stamps(admin, name)
    if found.partitions < len(identity.starts):
        await admin.grow(name, len(identity.starts))
    return found.id, max(found.partitions, len(identity.starts))


async def _tell(
    control: ControlLog,
    identity: DeploymentRecord,
    topic_id: str,
    starts: Mapping[int, int],
    tags: Mapping[int, str],
) -> DeploymentRecord:
    await control.write(
        {
            "type": "rebuild",
            "store_id": identity.deployment.store_id,
            "events_topic_id": topic_id,
            "rules": RULES,
            "format_version": FORMAT_VERSION,
            "starts": {str(number): at for number, at in starts.items()},
            "tags": {str(number): suffix for number, suffix in tags.items()},
        }
    )
    return identity_of(control.state)
