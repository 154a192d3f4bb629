"""What makes a process refuse to start or go on: exit 5, with what to do (docs/design.md 3)."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from ..control.entities import DeploymentRecord
from ..control.records import ControlState
from ..core.dedup import ID_HASH
from ..core.deployment import FORMAT_VERSION, RULES
from ..core.state import PartitionState
from ..edges.kafka_client import KafkaAdmin, TopicInfo
from ..edges.redis import RedisStore
from ..errors import Halt, NotOpen, PartitionHalt, UsageError

NO_IDENTITY: Final = "this deployment does not exist yet (RECOUNT_DEPLOYMENT); run `recount init`"
# What a worker does with each topic, as ACLs spell it.
RIGHTS: Final = {"control": "READ", "events": "READ", "rejected": "WRITE"}
COPIES_SAFE: Final = 3  # of each record; so many survive the loss of one with a second left
IN_SYNC: Final = "min.insync.replicas"
IN_SYNC_MIN: Final = 2
RESTORE: Final = "restore it by `recount control import FILE` (docs/operations/backup.md)"
REBUILD: Final = "run `recount rebuild`, which applies the log again from its start"


def rebuild_of(partition: int) -> str:
    """Say how to mend one partition."""
    return f"run `recount rebuild --partition {partition}`, which applies its log again"


def first_state(identity: DeploymentRecord, start: int) -> PartitionState:
    """Return the state of a partition that nothing was applied to."""
    return PartitionState(
        store_id=identity.deployment.store_id,
        topic_id=identity.topics["events"][1],
        start=start,
        next=start,
    )


def identity_of(state: ControlState) -> DeploymentRecord:
    """Return the identity, or raise UsageError where there is none."""
    if state.identity is None:
        raise UsageError(NO_IDENTITY)
    return state.identity


async def known_identity(state: ControlState | None, store: RedisStore) -> DeploymentRecord:
    """Return the identity on the control log; None is a log that is not there.

    Raises:
        Halt: Redis knows the deployment, so it was there once. UsageError: nobody knows it.
    """
    if state is not None and state.identity is not None:
        return state.identity
    if await store.identity() is None:
        raise UsageError(NO_IDENTITY)
    raise Halt(
        "Redis holds this deployment, but Kafka's control log does not name it: the topic was "
        "deleted, made anew or cut, or this is another Kafka; correct RECOUNT_KAFKA, or "
        f"{RESTORE}"
    )


async def check_stamps(admin: KafkaAdmin, topic: str) -> None:
    """Halt on a topic whose records have other times than those of their append."""
    stamped = (await admin.config([topic], "message.timestamp.type"))[topic]
    if stamped != "LogAppendTime":
        raise Halt(f"topic {topic!r} has {stamped}; set message.timestamp.type=LogAppendTime")


async def check_copies(admin: KafkaAdmin, identity: DeploymentRecord) -> None:
    """Halt where one copy of a record could acknowledge it, unless the deployment allows it."""
    if not identity.allow_single_copy:
        names = [name for name, _ in identity.topics.values()]
        await check_in_sync(admin, names, identity.replication_factor)


async def check_in_sync(admin: KafkaAdmin, topics: Sequence[str], copies: int) -> None:
    """Halt on topics of three copies or more, of which one could acknowledge a record alone.

    Such a record is lost with its broker's disk. With fewer than three copies nothing is asked:
    `init` has said what that means.
    """
    if copies < COPIES_SAFE:
        return
    found = await admin.config(topics, IN_SYNC)
    low = [topic for topic in topics if int(found[topic]) < IN_SYNC_MIN]
    if low:
        raise Halt(
            f"{IN_SYNC} is {found[low[0]]} on topic {', '.join(map(repr, low))}: one of "
            f"{copies} copies alone may acknowledge a record, which is lost with that broker. "
            f"Set it to 2 (kafka-configs --alter --entity-type topics --entity-name {low[0]} "
            f"--add-config {IN_SYNC}=2) and start again; if one copy is enough for you, "
            "run `recount init --allow-single-copy`"
        )


async def check_policy(store: RedisStore) -> None:
    """Halt on an eviction policy that may drop a bill."""
    for place, policy in (await store.eviction_policies()).items():
        if policy != "noeviction":
            raise Halt(
                f"Redis at {place} has maxmemory-policy {policy}, which may delete numbers; "
                "run `CONFIG SET maxmemory-policy noeviction` and put it into its configuration"
            )


def check_identity(identity: DeploymentRecord) -> None:
    """Halt on an identity that this release would read otherwise than it was meant."""
    if identity.id_hash != ID_HASH:
        raise Halt(
            f"the deployment's ids are hashed by {identity.id_hash}, this release uses {ID_HASH}; "
            "run the release that created the deployment"
        )


def check_release(identity: DeploymentRecord) -> None:
    """Halt where another release has judged the deployment: no worker of this one may go on."""
    wrong = [
        f"{what} is {found}, not {wanted}"
        for what, found, wanted in (
            ("rules number", identity.rules, RULES),
            ("format version", identity.format_version, FORMAT_VERSION),
        )
        if found != wanted
    ]
    if wrong:
        raise Halt(
            f"another release counted this deployment: {'; '.join(wrong)}; run that release, "
            f"or {REBUILD}"
        )


async def check_store(store: RedisStore, identity: DeploymentRecord) -> None:
    """Halt where Redis is emptied, foreign, or lacks a registered partition."""
    await check_copy(store, identity)
    for number in identity.starts:
        check_state(await store.state(number), identity, number)


async def check_copy(store: RedisStore, identity: DeploymentRecord) -> None:
    """Halt where Redis' copy of the identity is gone, or is that of another deployment."""
    copy = await store.identity()
    if copy is None:
        raise Halt(
            f"Redis has no identity of this deployment: emptied, or the wrong Redis; {REBUILD}"
        )
    found = store_id_in(copy)
    if found != identity.deployment.store_id:
        raise Halt(
            f"Redis holds a deployment of this name with store id {found!r}, Kafka's control log "
            f"says {identity.deployment.store_id!r}: two deployments under one prefix, a wrong "
            "Kafka, or a wrong Redis; choose another RECOUNT_DEPLOYMENT, or correct the address"
        )


def store_id_in(copy: bytes) -> object:
    """Return the store id in Redis' copy of the identity; None where it has none."""
    try:
        return json.loads(copy)["store_id"]
    except (ValueError, LookupError, TypeError):
        return None


def check_state(
    state: PartitionState | None, identity: DeploymentRecord, partition: int
) -> PartitionState:
    """Return a partition's state, or halt: emptied shard, foreign store, other rules or topic."""
    if state is None:
        raise PartitionHalt(
            partition,
            f"partition {partition} is registered but Redis has lost its state; "
            f"{rebuild_of(partition)}",
        )
    wrong = [
        f"{what} is {found!r}, not {wanted!r}"
        for what, found, wanted in (
            ("store id", state.store_id, identity.deployment.store_id),
            ("topic id", state.topic_id, identity.topics["events"][1]),
            ("rules number", state.rules, RULES),
            ("format version", state.format_version, FORMAT_VERSION),
        )
        if found != wanted
    ]
    if wrong:
        text = f"partition {partition} in Redis does not fit: {'; '.join(wrong)}; {REBUILD}"
        raise PartitionHalt(partition, text)
    return state


def check_open(
    state: PartitionState | None, identity: DeploymentRecord, partition: int
) -> PartitionState:
    """Return the state of a partition that may be read: the one place that decides it (R-1).

    Raises:
        PartitionHalt: see check_state(). NotOpen: a rebuild has not applied everything again.
    """
    state = check_state(state, identity, partition)
    if not state.is_open:
        raise NotOpen(
            partition,
            f"it is being rebuilt, and its log is applied up to {state.next} of "
            f"{state.rebuilt_to}; ask again later. Where no worker runs, start one",
        )
    return state


def check_topics(
    identity: DeploymentRecord, topics: Mapping[str, TopicInfo], *, growing: bool = False
) -> None:
    """Halt where a topic is gone, was made anew, or has partitions nobody registered."""
    for role, (topic, topic_id) in identity.topics.items():
        found = topics.get(topic)
        if found is None:
            what = RESTORE if role == "control" else "restore it, or start a new deployment"
            raise Halt(f"topic {topic!r} is gone; {what}")
        if role != "rejected" and found.id != topic_id:
            what = RESTORE if role == "control" else REBUILD
            raise Halt(
                f"topic {topic!r} has the id {found.id}, the deployment was created on "
                f"{topic_id}: the topic was deleted and made anew; {what}"
            )
        if role == "events" and found.partitions > len(identity.starts) and not growing:
            raise Halt(unregistered(identity, found.partitions))


def unregistered(identity: DeploymentRecord, partitions: int) -> str:
    """Say that the events topic has partitions that nobody registered."""
    return (
        f"topic {identity.topics['events'][0]!r} has {partitions} partitions, "
        f"{len(identity.starts)} are registered; run `recount init --partitions {partitions}`"
    )


def check_span(state: PartitionState, partition: int, start: int, end: int) -> None:
    """Halt where the log does not hold what comes next."""
    if not start <= state.next <= end:
        raise PartitionHalt(
            partition,
            f"partition {partition} is applied up to {state.next}, but the log holds offsets "
            f"{start} to {end}: retention overtook the worker, or the log was cut; "
            f"{rebuild_of(partition)}",
        )
