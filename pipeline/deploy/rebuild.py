"""`recount rebuild`: what was derived is dropped, and the log is applied again from its start.

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
from ..edges.kafka import consumer, spans_of
from ..edges.kafka_client import KafkaAddress, KafkaAdmin
from ..edges.redis import RedisStore
from ..errors import Halt, UsageError
from .checks import REBUILD, check_identity, check_policy, check_stamps, first_state, identity_of
from .tags import spread

_FIRST_TAGGED: Final = 3  # the first format in which hash tags have suffixes


@dataclass(frozen=True, slots=True)
class Reset:
    """What was dropped. lost: partition → offsets of it that the log no longer holds."""

    partitions: list[int]
    keys: int
    lost: Mapping[int, int]


async def reset(
    address: KafkaAddress,
    control: ControlLog,
    store: RedisStore,
    partition: int | None,
    progress: Callable[[str], None],
) -> Reset:
    """Drop the derived state of a deployment, or of one partition, and register it afresh.

    Raises:
        Halt: the log is not one that can be applied. UsageError: no such partition.
    """
    identity = identity_of(control.state)
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
    topic = identity.topics["events"][0]
    async with consumer(address) as client:
        spans = await spans_of(client, topic, partitions)
    numbers = sorted(spans) if partition is None else [partition]
    tags = identity.tags
    if untagged := [number for number in numbers if number not in tags]:
        tags = {**tags, **spread(store.deployment, untagged, tags)}
    keys = 0
    if identity.format_version < _FIRST_TAGGED:
        keys += await _drop_untagged(store, numbers, progress)
    for number in numbers:
        if number in identity.tags:
            progress(f"partition {number}: dropping what was derived")
            await store.begin_rebuild(number)
            keys += await store.clear(number)
    starts = {number: spans[number].start for number in numbers}
    lost = _lost(identity, starts, moved=moved)
    if renewed or any(identity.starts.get(number) != at for number, at in starts.items()):
        identity = await _tell(control, identity, topic_id, {**identity.starts, **starts}, tags)
    await store.write_identity(identity.text, again=True)
    # Nothing is committed any more, so no reader has seen a number of later offsets than these.
    async with consumer(address) as client:
        ends = {at: span.end for at, span in (await spans_of(client, topic, partitions)).items()}
    for number in numbers:
        empty = first_state(identity, starts[number])
        await store.finish_rebuild(number, replace(empty, rebuilt_to=ends[number]))
    return Reset(numbers, keys, lost)


async def _drop_untagged(
    store: RedisStore, numbers: Sequence[int], progress: Callable[[str], None]
) -> int:
    """Drop what a release wrote whose hash tags had no suffixes: these partitions move."""
    tags, store.tags, keys = store.tags, dict, 0
    try:
        for number in numbers:
            progress(f"partition {number}: dropping what an earlier release derived")
            await store.begin_rebuild(number)
            keys += await store.clear(number)
            await store.forget(number)
    finally:
        store.tags = tags
    return keys


def _lost(identity: DeploymentRecord, starts: Mapping[int, int], *, moved: bool) -> dict[int, int]:
    if moved:
        return {}
    return {
        number: at - identity.starts[number]
        for number, at in starts.items()
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
