"""What a worker refuses: a message that says what to do, and nothing written.

What concerns one partition halts this one: exit 5 where a worker is to catch up, once the others
have. What concerns the deployment is exit 5 at once.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from ..services import Recount
from ..stored import keys_of
from ..waiting import eventually
from .harness import Workers, with_redis
from .own import OwnRedis, own_redis
from .test_input import COUNT, good


@pytest.fixture
def mine(recount: Recount, tmp_path: Path) -> Iterator[tuple[Recount, OwnRedis]]:
    """A deployment on a Redis of its own, with three events applied."""
    with own_redis(tmp_path) as redis:
        made = with_redis(recount, redis.url)
        made.run("init", "--partitions", "2")
        made.create(COUNT)
        made.publish([good(1), good(2), good(3, customer_id="d")])
        made.catch_up()
        yield made, redis


def halts(command: Recount, *arguments: str) -> str:
    """Run a command that must end with 5, and return what it said."""
    done = command.ended(*(arguments or ("worker", "--until-caught-up")))
    assert done.returncode == 5, done.stderr.decode()
    return done.stderr.decode()


def test_f21_redis_emptied(mine: tuple[Recount, OwnRedis]) -> None:
    """FLUSHALL: worker and `recount init` end with 5 and point to the rebuild."""
    recount, redis = mine
    redis.client.flushall()

    assert "recount rebuild" in halts(recount, "worker")
    assert "recount rebuild" in halts(recount, "init")
    assert "recount rebuild" in halts(recount)
    assert redis.client.dbsize() == 0


def test_f21_redis_emptied_while_running(mine: tuple[Recount, OwnRedis], tmp_path: Path) -> None:
    """FLUSHALL under a running worker: the next flush finds it out, exit 5."""
    recount, redis = mine
    workers = Workers(recount, tmp_path)
    worker = workers.start()
    try:
        recount.publish([good(4)])
        eventually(
            lambda: recount.run("status")[-1]["lag"] == 0, within_s=40, because="the worker runs"
        )
        redis.client.flushall()
        recount.publish([good(5)])

        assert worker.wait(30) == 5
        assert "recount rebuild" in workers.logs()
    finally:
        workers.end()
    kept = [f"recount:{recount.deployment}:control".encode()]
    assert redis.client.keys("*") in ([], kept)  # the copy of the control log may be there again


def test_f44_one_shard_emptied(mine: tuple[Recount, OwnRedis]) -> None:
    """A registered partition without its keys is HALT, naming the partition."""
    recount, redis = mine
    client = redis.client
    client.delete(*client.keys(f"{keys_of(recount, 1).prefix}*"))

    assert "partition 1" in halts(recount)
    assert b"partition 0" not in recount.ended("worker", "--until-caught-up").stderr


def test_f34_wrong_store(mine: tuple[Recount, OwnRedis]) -> None:
    """A partition of another store under our name is HALT by its store id."""
    recount, redis = mine
    redis.client.hset(keys_of(recount).state, "store_id", "f" * 32)

    assert "store id" in halts(recount)


def test_f24_wrong_eviction_policy(mine: tuple[Recount, OwnRedis]) -> None:
    """Any policy but noeviction is HALT at start, for worker and init."""
    recount, redis = mine
    redis.client.config_set("maxmemory-policy", "allkeys-lru")

    assert "noeviction" in halts(recount, "worker")
    assert "noeviction" in halts(recount, "init")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("rules", "99", "rules number"),
        ("format", "99", "format version"),
        ("next", "9999", "retention overtook the worker, or the log was cut"),
        ("last", "1:77", "cut and filled again"),
        ("ids", "5=4", "id log"),
        ("clock", "x", "damaged"),
    ],
)
def test_a_state_that_cannot_be_ours(
    mine: tuple[Recount, OwnRedis], tmp_path: Path, name: str, value: str, says: str
) -> None:
    """A stored state that this release or this log contradicts halts, and stays as it is."""
    recount, redis = mine
    key = keys_of(recount).state
    redis.client.hset(key, name, value)
    before = redis.client.hgetall(key)

    workers = Workers(recount, tmp_path)
    worker = workers.start()
    try:
        eventually(
            lambda: says in recount.run("status")[0].get("reason", ""),
            within_s=40,
            because="the partition has halted",
        )
        assert worker.poll() is None
    finally:
        workers.end()
    after = redis.client.hgetall(key)
    after.pop(b"halted", None)  # what readers are told, where the state is ours
    assert after == before


def test_f17_retention_overtook_the_worker(recount: Recount) -> None:
    """The log starts after `next`: HALT, nothing is stepped over."""
    recount.run("init", "--partitions", "1")
    recount.publish([good(number) for number in range(10)])
    admin = AdminClient({"bootstrap.servers": recount.services.kafka})
    point = TopicPartition(f"{recount.deployment}.usage.events", 0, 4)
    for future in admin.delete_records([point]).values():
        future.result()

    assert "retention overtook the worker" in halts(recount)


def test_f16_topic_recreated(recount: Recount) -> None:
    """A topic deleted and made anew under the same name is HALT by its id."""
    recount.run("init", "--partitions", "1")
    recount.publish([good(1)])
    recount.catch_up()
    admin, topic = _recreate(recount)

    assert "made anew" in halts(recount, "worker")
    admin.delete_topics([topic])[topic].result()


def _recreate(recount: Recount) -> tuple[Any, str]:
    admin = AdminClient({"bootstrap.servers": recount.services.kafka})
    topic = f"{recount.deployment}.usage.events"
    admin.delete_topics([topic])[topic].result()
    eventually(
        lambda: topic not in admin.list_topics(timeout=5).topics, within_s=20, because="it is gone"
    )
    new = NewTopic(topic, 1, 1, config={"message.timestamp.type": "LogAppendTime"})
    admin.create_topics([new])[topic].result()
    eventually(
        lambda: topic in admin.list_topics(timeout=5).topics, within_s=20, because="it is back"
    )
    return admin, topic


def test_f26_partitions_added_by_hand(recount: Recount) -> None:
    """Partitions nobody registered are HALT until `recount init --partitions` registers them."""
    recount.run("init", "--partitions", "1")
    metric = recount.create(COUNT)
    admin = AdminClient({"bootstrap.servers": recount.services.kafka})
    topic = f"{recount.deployment}.usage.events"
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result()
    eventually(
        lambda: len(admin.list_topics(topic, timeout=5).topics[topic].partitions) == 3,
        within_s=20,
        because="the partitions are there",
    )
    assert "recount init --partitions 3" in halts(recount, "worker")

    grown = recount.run("init", "--partitions", "3")[0]["settings"]
    recount.publish([good(number, customer_id=f"c{number}") for number in range(20)])
    recount.catch_up()

    assert (grown["partitions"], grown["homes"]) == (3, 1)
    assert recount.run("audit")[-1]["mismatches"] == 0
    assert recount.run("metrics", "show", metric)[0]["history"] == "complete"


def test_f20_redis_rolled_back_is_rewound(recount: Recount, tmp_path: Path) -> None:
    """Redis that comes back without its last writes lost the offset with them: applied again."""
    with own_redis(tmp_path) as redis:
        mine = with_redis(recount, redis.url)
        mine.run("init", "--partitions", "1")
        mine.create(COUNT)
        mine.publish([good(number) for number in range(50)])
        mine.catch_up()
        folder = tmp_path / "redis"
        sizes = {path: path.stat().st_size for path in folder.rglob("*.aof")}
        mine.publish([good(number) for number in range(50, 90)])
        mine.catch_up()
        assert any(path.stat().st_size > size for path, size in sizes.items())
        redis.kill()
        for path, size in sizes.items():
            with path.open("r+b") as file:
                file.truncate(size)
        redis.start()
        assert mine.run("status")[-1]["next"] == 50

        mine.catch_up()

        assert mine.run("status")[-1]["counted"] == 90
        assert mine.run("audit")[-1]["mismatches"] == 0


def test_audit_notices(mine: tuple[Recount, OwnRedis]) -> None:
    """A wrong cell, a missing one, an extra one and a wrong counter are each found: exit 1."""
    recount, redis = mine
    client: Any = redis.client  # redis-py types its answers by a setting no type shows
    hashes = sorted(client.keys(f"recount:{{{recount.deployment}/*}}:c:*"))
    (field,) = client.hkeys(hashes[0])
    right = client.hget(hashes[0], field)
    extra = hashes[0] + b"x"
    for spoil, mend in (
        (("HSET", hashes[0], field, "9"), ("HSET", hashes[0], field, right)),
        (("HDEL", hashes[0], field), ("HSET", hashes[0], field, right)),
        (("HSET", hashes[0], "3:1:1:x", "1"), ("HDEL", hashes[0], "3:1:1:x")),
        (("HSET", extra, "3", "1"), ("DEL", extra)),
    ):
        client.execute_command(*spoil)
        assert recount.run("audit", exits=1)[-1]["mismatches"] == 1
        client.execute_command(*mend)
        assert recount.run("audit")[-1]["mismatches"] == 0
    state = hashes[0].split(b"}:")[0] + b"}:state"
    client.hincrby(state, "counted", 1)
    assert recount.run("audit", exits=1)[-1]["mismatches"] == 1
    assert recount.run("status", exits=1)[-1]["balanced"] is False
