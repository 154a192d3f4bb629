"""`recount init`: topics, identity, registered partitions.

Durable order: topics, then the identity on the control log, where it outlives Redis, then its
copies in Redis. A worker never writes any of them (docs/design.md 3, DeploymentRecord).
"""

import asyncio
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, Final

from ..control.entities import DeploymentRecord
from ..control.log import ControlLog
from ..core.dedup import ID_HASH
from ..core.deployment import FORMAT_VERSION, RULES, Deployment, Keying
from ..edges.kafka import DEAD_LETTER_BYTES_MAX, RECORD_BYTES_MAX, consumer, spans_of
from ..edges.kafka_client import KafkaAddress, KafkaAdmin, TopicInfo
from ..edges.kafka_names import request_names, topic_names
from ..edges.redis import RedisStore
from ..errors import ConflictError, Halt, UsageError
from .checks import (
    RESTORE,
    check_copies,
    check_in_sync,
    check_policy,
    check_stamps,
    check_store,
    check_topics,
    first_state,
    identity_of,
)
from .place import Place
from .request_topics import FOREVER, make_request_topics, safe_config
from .tags import spread
from .wish import DAY_MS, Wish, refuse_other

DEFAULTS: Final = Wish(
    partitions=12,
    replication_factor=1,
    dedup_window_ms=35 * DAY_MS,
    max_age_ms=34 * DAY_MS,
    max_ahead_ms=DAY_MS,
    base_bucket_s=3600,
    keying=Keying.TRUST.value,
    allow_single_copy=False,
)
# What is told once, when the deployment is made.
_COPIES_TOLD: Final = {
    1: "Kafka keeps one copy of each record (replication factor 1). While its broker is away, its "
    "partitions stand still; with the broker's disk, events and definitions are lost",
    2: "Kafka keeps two copies of each record (replication factor 2), and one alone may "
    "acknowledge it. Where that one is lost before the other has it, the record is lost",
}


def _say_nothing(_: str) -> None: ...


async def init(
    place: Place, wish: Wish, tell: Callable[[str], None] = _say_nothing
) -> DeploymentRecord:
    """Make the deployment, or check that it is what was asked for; idempotent.

    Args:
        tell: Takes a sentence about how safe a new deployment is, where it could be safer.

    Raises:
        Halt: other values than the deployment has, or a Redis that lost or holds a foreign one.
        UsageError: values that do not fit each other, or a name too near to another's.
    """
    address, redis_url, name = place.kafka, place.redis, place.name
    names, admin = topic_names(name), KafkaAdmin(address)
    known = await admin.describe([names["control"]])
    if names["control"] in known:
        async with ControlLog(address, names["control"], place.control_secrets) as log:
            if log.state.identity is not None:
                found = await _existing(address, log, redis_url, name, wish)
                await make_request_topics(
                    admin,
                    name,
                    copies=found.replication_factor,
                    allow_single_copy=found.allow_single_copy,
                )
                return found
    asked = Wish(**{item.name: _asked(wish, item.name) for item in fields(Wish)})
    there = await admin.describe([*names.values()])
    if there and wish.replication_factor is None:
        copies = max(topic.copies for topic in there.values())
        asked = replace(asked, replication_factor=copies)
    deployment = _deployment(asked)
    store = RedisStore(redis_url, name)
    try:
        await check_policy(store)
        if await store.identity() is not None:
            raise Halt(
                f"Redis holds a deployment {name!r} that Kafka's control log does not name: wrong "
                "Kafka or wrong Redis; choose another RECOUNT_DEPLOYMENT. Or the topic was lost; "
                f"{RESTORE}"
            )
        _refuse_collision(name, {**names, **request_names(name)}, await admin.names())
        await _check_there(admin, there, asked)
        topics, _ = await asyncio.gather(
            _make_topics(admin, names, asked),
            make_request_topics(
                admin,
                name,
                copies=asked.replication_factor or 1,
                allow_single_copy=bool(asked.allow_single_copy),
            ),
        )
        async with ControlLog(address, names["control"], place.control_secrets) as log:
            tags = spread(name, range(deployment.homes), {})
            await _claim(log, deployment, names, topics, tags, asked)
            identity = identity_of(log.state)
            store.tags = lambda: identity.tags
            await _register(store, identity, identity.starts)
            _tell_copies(identity, tell)
            return identity
    finally:
        await store.close()


async def _check_there(admin: KafkaAdmin, there: Mapping[str, TopicInfo], asked: Wish) -> None:
    """Halt on topics that are there before us, and are not as safe as they are to be."""
    for name, topic in there.items():
        if topic.copies != asked.replication_factor:
            raise Halt(
                f"topic {name!r} exists with {topic.copies} copies, not with "
                f"{asked.replication_factor}; give --replication-factor accordingly, or change "
                "the topic (kafka-reassign-partitions)"
            )
    if there and not asked.allow_single_copy:
        await check_in_sync(admin, [*there], asked.replication_factor or 1)


def _tell_copies(identity: DeploymentRecord, tell: Callable[[str], None]) -> None:
    copies = identity.replication_factor
    if copies in _COPIES_TOLD:
        tell(
            f"{_COPIES_TOLD[copies]}. Where that matters, make the deployment on three brokers, "
            "with --replication-factor 3"
        )


def _refuse_collision(name: str, ours: Mapping[str, str], there: Iterable[str]) -> None:
    """Refuse topics whose names differ from others' only by `.` and `_`.

    Kafka writes `.` as `_` in the names of its own metrics, where both would be one.

    Raises:
        UsageError: names the topic that is there.
    """
    taken = {topic.replace(".", "_"): topic for topic in there}
    for topic in ours.values():
        other = taken.get(topic.replace(".", "_"), topic)
        if other != topic:
            raise UsageError(
                f"RECOUNT_DEPLOYMENT: {name!r} would make topic {topic!r} beside {other!r}; Kafka "
                "writes both names alike in its own metrics (`.` as `_`). Choose a name that "
                "differs by more than `.` and `_`"
            )


def _asked(wish: Wish, member: str) -> Any:
    given = getattr(wish, member)
    return getattr(DEFAULTS, member) if given is None else given


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


def topic_config(role: str, copies: int, *, allow_single_copy: bool) -> dict[str, str]:
    """Return the configuration of a topic that a deployment stands on."""
    size = DEAD_LETTER_BYTES_MAX if role == "rejected" else RECORD_BYTES_MAX
    config = safe_config(copies, allow_single_copy=allow_single_copy)
    return {**config, "cleanup.policy": "delete", "max.message.bytes": str(size)}


async def _make_topics(
    admin: KafkaAdmin, names: Mapping[str, str], wish: Wish
) -> dict[str, TopicInfo]:
    retention = FOREVER
    if wish.retention_days is not None:
        retention = str(int(wish.retention_days * DAY_MS))
    copies = wish.replication_factor or 1

    async def make(role: str, topic: str) -> None:
        config = topic_config(role, copies, allow_single_copy=bool(wish.allow_single_copy))
        await admin.create(
            topic,
            partitions=wish.partitions or 1 if role == "events" else 1,
            replication=copies,
            config={**config, "retention.ms": retention} if role == "events" else config,
        )

    await asyncio.gather(*(make(role, topic) for role, topic in names.items()))
    found = await admin.describe(list(names.values()))
    if found[names["events"]].partitions != wish.partitions:
        raise Halt(
            f"topic {names['events']!r} exists with {found[names['events']].partitions} "
            f"partitions, {wish.partitions} were asked for; give --partitions accordingly"
        )
    await check_stamps(admin, names["events"])
    return {role: found[topic] for role, topic in names.items()}


async def _claim(
    log: ControlLog,
    deployment: Deployment,
    names: Mapping[str, str],
    topics: Mapping[str, TopicInfo],
    tags: Mapping[int, str],
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
            "generations": deployment.generations,
        },
        "rules": RULES,
        "format_version": FORMAT_VERSION,
        "id_hash": ID_HASH,
        "topics": {role: {"name": names[role], "id": topics[role].id} for role in names},
        "starts": {str(number): 0 for number in range(deployment.homes)},
        "tags": {str(number): suffix for number, suffix in tags.items()},
        "retention_days": wish.retention_days,
        "replication_factor": wish.replication_factor,
        "allow_single_copy": wish.allow_single_copy,
        "formats": dict(wish.formats or {}),
    }
    try:
        await log.write(record)
    except ConflictError as error:
        raise Halt(
            "another `recount init` was faster; run it again to see its settings"
        ) from error


async def _existing(
    address: KafkaAddress, log: ControlLog, redis_url: str, name: str, wish: Wish
) -> DeploymentRecord:
    admin = KafkaAdmin(address)
    identity = identity_of(log.state)
    deployment = identity.deployment
    refuse_other(name, identity, wish)
    store = RedisStore(redis_url, name, deployment.base_bucket_s)
    store.tags = lambda: identity.tags
    try:
        await check_policy(store)
        topics = await admin.describe([topic for topic, _ in identity.topics.values()])
        check_topics(identity, topics, growing=True)
        await _resume(admin, store, address, identity, topics)
        await check_store(store, identity)
        if wish.allow_single_copy not in (None, identity.allow_single_copy):
            identity = await _allow(log, store, allowed=bool(wish.allow_single_copy))
        await check_copies(admin, identity)
        if wish.partitions is not None and wish.partitions > len(identity.starts):
            identity = await _grow(admin, log, store, name, wish.partitions)
        return identity
    finally:
        await store.close()


async def _resume(
    admin: KafkaAdmin,
    store: RedisStore,
    address: KafkaAddress,
    identity: DeploymentRecord,
    topics: Mapping[str, TopicInfo],
) -> None:
    """Finish an `init` that was cut short after its record: topic partitions and registrations.

    Only a partition whose log never held a record may be registered late: there is nothing that
    a lost state could have known. Any other one without its state was emptied.
    """
    name = identity.topics["events"][0]
    if topics[name].partitions < len(identity.starts):
        await admin.grow(name, len(identity.starts))
    async with consumer(address) as client:
        spans = await spans_of(client, name, len(identity.starts))
    unused = {
        number: start for number, start in identity.starts.items() if spans[number].end <= start
    }
    for number, start in unused.items():
        await store.register(number, first_state(identity, start))
    if len(unused) == len(identity.starts):
        await store.write_identity(identity.text)


async def _allow(log: ControlLog, store: RedisStore, *, allowed: bool) -> DeploymentRecord:
    """Say on the control log, where every process reads it, whether one copy may acknowledge."""
    await log.write(
        {
            "type": "single_copy",
            "store_id": identity_of(log.state).deployment.store_id,
            "allowed": allowed,
        }
    )
    identity = identity_of(log.state)
    await store.write_identity(identity.text, again=True)
    return identity


async def _grow(
    admin: KafkaAdmin, log: ControlLog, store: RedisStore, name: str, partitions: int
) -> DeploymentRecord:
    """Register new partitions first, then grow the topic; `homes` stays."""
    identity = identity_of(log.state)
    new = dict.fromkeys(range(len(identity.starts), partitions), 0)
    await log.write(
        {
            "type": "partitions",
            "store_id": identity.deployment.store_id,
            "starts": {str(number): start for number, start in new.items()},
            "tags": {str(at): tag for at, tag in spread(name, new, identity.tags).items()},
        }
    )
    identity = identity_of(log.state)
    store.tags = lambda: identity.tags
    await _register(store, identity, new)
    events, _ = identity.topics["events"]
    if (await admin.describe([events]))[events].partitions < partitions:
        await admin.grow(events, partitions)
    return identity


async def _register(
    store: RedisStore, identity: DeploymentRecord, starts: Mapping[int, int]
) -> None:
    for number, start in starts.items():
        await store.register(number, first_state(identity, start))
    await store.write_identity(identity.text, again=True)
