"""What `recount doctor` looks at in Redis."""

from typing import Final

from ..edges.redis import RedisStore
from ..edges.redis_health import RedisHealth, health_of
from .checks import check_copy, check_policy
from .notes import Notes, Word

REDIS_CHECKS: Final = ("redis", "redis memory", "redis disk", "rights on redis", "identity")
_OLDEST: Final = (6, 2)
_FULL: Final = 0.8  # of maxmemory: from there on the history of metrics waits
_TOO_FULL: Final = 0.95
_GIB: Final = 1 << 30


async def examine_redis(notes: Notes, store: RedisStore) -> None:
    """Look at every node, and at what the deployment has there."""
    with notes.check("redis"):
        health = notes.seen.health = await health_of(store.nodes)
        await check_policy(store)
    old = [each for each in health if each.version and _version(each.version) < _OLDEST]
    for each in old:
        told = f"Redis at {each.place} is {each.version}; the oldest that works is 6.2"
        notes.say("redis", Word.WRONG, told, "upgrade it")
    if not old:
        versions = ", ".join(f"{each.version or '?'} at {each.place}" for each in health)
        notes.say_well("redis", f"{versions}; nothing is evicted (noeviction)")
    for each in health:
        _memory(notes, each)
        _disk(notes, each)
    record = notes.seen.deployment
    store.tags = lambda: record.tags
    store.base_bucket_s = record.deployment.base_bucket_s
    with notes.check("rights on redis"):
        await store.check_rights(record.starts)
    notes.say_well("rights on redis", "this user may do what a worker does")
    with notes.check("identity"):
        await check_copy(store, record)
    notes.say_well("identity", "Kafka and Redis hold the same deployment")


def _memory(notes: Notes, each: RedisHealth) -> None:
    if each.used is None or each.limit is None:
        told = f"{each.place}: this user may not ask (INFO)"
        notes.say("redis memory", Word.UNKNOWN, told)
        return
    used = f"{each.place}: {each.used / _GIB:.2f} GiB used"
    if not each.limit:
        do = "set maxmemory below the machine's memory: Redis then refuses before it is killed"
        notes.say("redis memory", Word.MIND, f"{used}, no maxmemory", do)
        return
    share = each.used / each.limit
    told = f"{used}, {share:.0%} of maxmemory"
    if share <= _FULL:
        notes.say_well("redis memory", told)
        return
    do = "raise maxmemory, or add shards (docs/operations.md, Redis)"
    notes.say("redis memory", Word.WRONG if share > _TOO_FULL else Word.MIND, told, do)


def _disk(notes: Notes, each: RedisHealth) -> None:
    if each.failing is not None:
        told = f"{each.place}: Redis cannot write to its disk: {each.failing}"
        notes.say("redis disk", Word.WRONG, told, "look at its log, and for room on its disk")
    elif each.appends is None:
        notes.say("redis disk", Word.UNKNOWN, f"{each.place}: this user may not ask (INFO)")
    elif not each.appends:
        told = f"{each.place}: no append-only file: a restart loses what came since a snapshot"
        do = "set appendonly yes; after a loss, `recount rebuild` (docs/operations.md, Redis)"
        notes.say("redis disk", Word.MIND, told, do)
    else:
        notes.say_well("redis disk", f"{each.place}: it outlives a restart")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
