"""`recount init` and the checks of a deployment: topics, identity, registered partitions.

Durable order: topics, then the identity on the control log, where it outlives Redis, then its
copies in Redis. A worker never writes any of them (DESIGN 3, Identity).
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from .control.log import ControlLog
from .control.records import ControlState, Identity
from .core.dedup import ID_HASH
from .core.deployment import FORMAT_VERSION, RULES, Deployment, Keying
from .core.state import PartitionState
from .edges.kafka import (
    DEAD_LETTER_BYTES_MAX,
    RECORD_BYTES_MAX,
    Address,
    KafkaAdmin,
    TopicInfo,
    topic_names,
)
from .edges.redis import RedisStore
from .errors import ConflictError, Halt, UsageError

_DAY_MS: Final = 86_400_000
_FOREVER: Final = "-1"
NO_IDENTITY: Final = "this deployment does not exist yet; run `recount init`"
REBUILD: Final = "run `recount rebuild`, which applies the log again from its start"


@dataclass(frozen=True, slots=True)
class Wish:
    """What `init` was asked for; None is not asked, the default where the deployment is new."""

    partitions: int | None = None
    replication_factor: int | None = None
    retention_days: float | None = None
    dedup_window_ms: int | None = None
    max_age_ms: int | None = None
    max_ahead_ms: int | None = None
    base_bucket_s: int | None = None
    keying: str | None = None


_DEFAULTS: Final = Wish(
    partitions=12,
    replication_factor=1,
    dedup_window_ms=35 * _DAY_MS,
    max_age_ms=34 * _DAY_MS,
    max_ahead_ms=_DAY_MS,
    base_bucket_s=3600,
    keying=Keying.TRUST.value,
)


async def init(address: Address, redis_url: str, name: str, wish: Wish) -> Identity:
    """Make the deployment, or check that it is what was asked for; idempotent.

    Raises:
        Halt: other values than the deployment has, or a Redis that lost or holds a foreign one.
        UsageError: values that do not fit each other.
    """
    names, admin = topic_names(name), KafkaAdmin(address)
    known = await admin.describe([names["control"]])
    if names["control"] in known:
        async with ControlLog(address, names["control"]) as log:
            if log.state.identity is not None:
                return await _existing(admin, log, redis_url, name, wish)
    asked = Wish(**{item.name: _asked(wish, item.name) for item in fields(Wish)})
    deployment = _deployment(asked)
    store = RedisStore(redis_url, name)
    try:
        await check_policy(store)
        if await store.identity() is not None:
            raise Halt(
                f"Redis holds a deployment {name!r} that Kafka's control log does not name: wrong "
                "Kafka, wrong Redis, or a lost control topic; choose another RECOUNT_DEPLOYMENT"
            )
        topics = await _make_topics(admin, names, asked)
        async with ControlLog(address, names["control"]) as log:
            await _claim(log, deployment, names, topics, asked)
            identity = identity_of(log.state)
            await _register(store, identity, identity.starts)
            return identity
    finally:
        await store.close()


def _asked(wish: Wish, member: str) -> Any:
    given = getattr(wish, member)
    return getattr(_DEFAULTS, member) if given is None else given


def _deployment(wish: Wish) -> Deployment:
    assert wish.partitions is not None
    try:
        return Deployment(
            store_id=uuid.uuid4().hex,
            homes=wish.partitions,
            dedup_window_ms=wish.dedup_window_ms or 0,
            max_age_ms=wish.max_age_ms or 0,
            max_ahead_ms=wish.max_ahead_ms or 0,
            base_bucket_s=wish.base_bucket_s or 0,
            keying=Keying(wish.keying or Keying.TRUST),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


async def _make_topics(
    admin: KafkaAdmin, names: Mapping[str, str], wish: Wish
) -> dict[str, TopicInfo]:
    retention = _FOREVER
    if wish.retention_days is not None:
        retention = str(int(wish.retention_days * _DAY_MS))
    common = {
        "cleanup.policy": "delete",
        "message.timestamp.type": "LogAppendTime",
        "unclean.leader.election.enable": "false",
    }
    sizes = {
        "events": RECORD_BYTES_MAX,
        "control": RECORD_BYTES_MAX,
        "rejected": DEAD_LETTER_BYTES_MAX,
    }
    for role, topic in names.items():
        await admin.create(
            topic,
            partitions=wish.partitions or 1 if role == "events" else 1,
            replication=wish.replication_factor or 1,
            config={
                **common,
                "retention.ms": retention if role == "events" else _FOREVER,
                "max.message.bytes": str(sizes[role]),
            },
        )
    found = await admin.describe(list(names.values()))
    if found[names["events"]].partitions != wish.partitions:
        raise Halt(
            f"topic {names['events']!r} exists with {found[names['events']].partitions} "
            f"partitions, {wish.partitions} were asked for; give --partitions accordingly"
        )
    stamped = await admin.config(names["events"], "message.timestamp.type")
    if stamped != "LogAppendTime":
        raise Halt(
            f"topic {names['events']!r} has {stamped}; set message.timestamp.type=LogAppendTime"
        )
    return {role: found[topic] for role, topic in names.items()}


async def _claim(
    log: ControlLog,
    deployment: Deployment,
    names: Mapping[str, str],
    topics: Mapping[str, TopicInfo],
    wish: Wish,
) -> None:
    record = {
        "type": "identity",
        "store_id": deployment.store_id,
        "settings": {
            "homes": deployment.homes,
            "dedup_window_ms": deployment.dedup_window_ms,
            "max_age_ms": deployment.max_age_ms,
            "max_ahead_ms": deployment.max_ahead_ms,
            "base_bucket_s": deployment.base_bucket_s,
            "keying": deployment.keying.value,
        },
        "rules": RULES,
        "format_version": FORMAT_VERSION,
        "id_hash": ID_HASH,
        "topics": {role: {"name": names[role], "id": topics[role].id} for role in names},
        "starts": {str(number): 0 for number in range(deployment.homes)},
        "retention_days": wish.retention_days,
        "replication_factor": wish.replication_factor,
    }
    try:
        await log.write(record)
    except ConflictError as error:
        raise Halt(
            "another `recount init` came first; run it again to see its settings"
        ) from error


async def _existing(
    admin: KafkaAdmin, log: ControlLog, redis_url: str, name: str, wish: Wish
) -> Identity:
    identity = identity_of(log.state)
    deployment = identity.deployment
    has = {
        "replication_factor": identity.replication_factor,
        "retention_days": identity.retention_days,
        "dedup_window_ms": deployment.dedup_window_ms,
        "max_age_ms": deployment.max_age_ms,
        "max_ahead_ms": deployment.max_ahead_ms,
        "base_bucket_s": deployment.base_bucket_s,
        "keying": deployment.keying.value,
    }
    wrong = [
        f"{member} is {value}, not {getattr(wish, member)}"
        for member, value in has.items()
        if getattr(wish, member) not in {None, value}
    ]
    if wish.partitions is not None and wish.partitions < len(identity.starts):
        wrong.append(f"partitions is {len(identity.starts)}; they can only grow")
    if wrong:
        raise Halt(f"deployment {name!r} exists with other settings: {'; '.join(wrong)}")
    store = RedisStore(redis_url, name, deployment.base_bucket_s)
    try:
        await check_policy(store)
        await check_store(store, identity)
        topics = await admin.describe([topic for topic, _ in identity.topics.values()])
        check_topics(identity, topics, growing=True)
        if wish.partitions is not None and wish.partitions > len(identity.starts):
            identity = await _grow(admin, log, store, wish.partitions, topics)
        return identity
    finally:
        await store.close()


async def _grow(
    admin: KafkaAdmin,
    log: ControlLog,
    store: RedisStore,
    partitions: int,
    topics: Mapping[str, TopicInfo],
) -> Identity:
    """Register new partitions first, then grow the topic; `homes` stays."""
    identity = identity_of(log.state)
    new = dict.fromkeys(range(len(identity.starts), partitions), 0)
    await log.write(
        {
            "type": "partitions",
            "store_id": identity.deployment.store_id,
            "starts": {str(number): start for number, start in new.items()},
        }
    )
    identity = identity_of(log.state)
    await _register(store, identity, new)
    events, _ = identity.topics["events"]
    if topics[events].partitions < partitions:
        await admin.grow(events, partitions)
    return identity


async def _register(store: RedisStore, identity: Identity, starts: Mapping[int, int]) -> None:
    for number, start in starts.items():
        await store.register(number, first_state(identity, start))
    await store.write_identity(identity.text)


def first_state(identity: Identity, start: int) -> PartitionState:
    """Return the state of a partition that nothing was applied to."""
    return PartitionState(
        store_id=identity.deployment.store_id,
        topic_id=identity.topics["events"][1],
        start=start,
        next=start,
    )


def identity_of(state: ControlState) -> Identity:
    """Return the identity, or raise UsageError where there is none."""
    if state.identity is None:
        raise UsageError(NO_IDENTITY)
    return state.identity


# -- what workers and readers check (DESIGN 3) ---------------------------------------------------


async def check_policy(store: RedisStore) -> None:
    """Halt on an eviction policy that may drop a bill."""
    policy = await store.eviction_policy()
    if policy != "noeviction":
        raise Halt(
            f"Redis has maxmemory-policy {policy}: it may evict a bill; "
            "run `CONFIG SET maxmemory-policy noeviction` and put it into its configuration"
        )


async def check_store(store: RedisStore, identity: Identity) -> None:
    """Halt where Redis is emptied, foreign, or lacks a registered partition."""
    if await store.identity() is None:
        raise Halt(f"Redis lacks this deployment's identity: emptied, or the wrong one; {REBUILD}")
    for number in identity.starts:
        check_state(await store.state(number), identity, number)


def check_state(
    state: PartitionState | None, identity: Identity, partition: int
) -> PartitionState:
    """Return a partition's state, or halt: emptied shard, foreign store, other rules or topic."""
    if state is None:
        raise Halt(f"partition {partition} is registered but Redis has lost its state; {REBUILD}")
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
        raise Halt(f"partition {partition} in Redis is not ours: {'; '.join(wrong)}; {REBUILD}")
    return state


def check_topics(
    identity: Identity, topics: Mapping[str, TopicInfo], *, growing: bool = False
) -> None:
    """Halt where a topic is gone, was made anew, or has partitions nobody registered."""
    for role, (topic, topic_id) in identity.topics.items():
        found = topics.get(topic)
        if found is None:
            raise Halt(f"topic {topic!r} is gone; restore it, or start a new deployment")
        if role != "rejected" and found.id != topic_id:
            raise Halt(
                f"topic {topic!r} has id {found.id}, the deployment was made on {topic_id}: it "
                f"was deleted and made anew; {REBUILD}"
            )
        if role == "events" and found.partitions > len(identity.starts) and not growing:
            raise Halt(
                f"topic {topic!r} has {found.partitions} partitions, {len(identity.starts)} are "
                f"registered; run `recount init --partitions {found.partitions}`"
            )


def check_span(state: PartitionState, partition: int, start: int, end: int) -> None:
    """Halt where the log does not hold what comes next."""
    if not start <= state.next <= end:
        raise Halt(
            f"partition {partition} stands at {state.next}, but the log holds [{start}, {end}): "
            f"retention overtook it, or the log was cut; {REBUILD}"
        )
