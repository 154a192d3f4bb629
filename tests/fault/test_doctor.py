"""`recount doctor` on deployments that are well, and on broken ones: what is wrong is named."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from pipeline.stack.processes import free_port

from ..services import Recount, Services
from ..waiting import eventually
from .harness import with_redis
from .own import OwnRedis, own_redis
from .test_input import COUNT, good

SLOW_S_MAX = 30.0
CHECKS = {
    "native",
    "kafka",
    "security",
    "control log",
    "topics",
    "copies",
    "rights on kafka",
    "redis",
    "redis memory",
    "redis disk",
    "rights on redis",
    "identity",
    "partitions",
    "lag",
    "workers",
    "clocks",
}


@pytest.fixture
def mine(recount: Recount, tmp_path: Path) -> Iterator[tuple[Recount, OwnRedis]]:
    """A deployment on a Redis of its own, with two events applied."""
    with own_redis(tmp_path) as redis:
        made = with_redis(recount, redis.url)
        made.run("init", "--partitions", "2")
        made.create(COUNT)
        made.publish([good(1), good(2, customer_id="d")])
        made.catch_up()
        yield made, redis


def examined(recount: Recount, exits: int = 1) -> dict[str, tuple[str, str]]:
    """What each check says: its word and what it told; of several the worst."""
    done = recount.ended("doctor", "--json", within_s=60)
    assert done.returncode == exits, (done.stdout.decode(), done.stderr.decode())
    assert done.stderr == b""
    found: dict[str, tuple[str, str]] = {}
    for line in map(json.loads, done.stdout.splitlines()):
        text = f"{line['told']} {line['do'] or ''}"
        if found.get(line["check"], ("well", ""))[0] in {"well", "mind"}:
            found[line["check"]] = line["state"], text
    assert set(found) == CHECKS
    return found


def wrong(found: dict[str, tuple[str, str]]) -> set[str]:
    """The checks that say wrong."""
    return {check for check, (state, _) in found.items() if state == "wrong"}


def test_a_deployment_that_is_well(mine: tuple[Recount, OwnRedis]) -> None:
    """With a worker nothing is wrong and the exit code is 0; for people it is a table."""
    recount, _ = mine
    assert wrong(examined(recount)) == {"workers"}
    worker = recount.start("worker", stderr=-3)
    try:
        eventually(
            lambda: recount.ended("doctor").returncode == 0, within_s=60, because="it owns all"
        )
        found = examined(recount, exits=0)
        table = recount.ended("doctor").stdout.decode()
    finally:
        worker.terminate()
        worker.wait(30)

    assert {found[check][0] for check in CHECKS - {"native", "copies", "redis memory", "lag"}} == {
        "well"
    }
    assert "1 processes have every partition" in found["workers"][1]
    assert all(len(line) < 200 for line in table.splitlines())
    assert "well    kafka            Kafka answers at" in table


def test_no_deployment(recount: Recount) -> None:
    """What cannot be looked at is unknown, and the first step is named."""
    found = examined(recount)

    assert wrong(found) == {"control log"}
    assert "run `recount init`" in found["control log"][1]
    assert found["partitions"][0] == "unknown"
    assert found["redis"][0] == "well"


def test_kafka_and_redis_that_are_away(recount: Recount) -> None:
    """Nothing is waited for long, and both are named with what to do."""
    away = Recount(
        Services(f"127.0.0.1:{free_port()}", f"redis://127.0.0.1:{free_port()}/0"),
        recount.deployment,
    )
    began = time.monotonic()
    found = examined(away)

    assert time.monotonic() - began < SLOW_S_MAX
    assert wrong(found) == {"kafka", "redis"}
    assert "nothing listens there" in found["kafka"][1]
    assert {found[each][0] for each in ("topics", "identity", "lag", "workers", "clocks")} == {
        "unknown"
    }


def test_a_redis_that_loses_numbers(mine: tuple[Recount, OwnRedis]) -> None:
    """An eviction policy is wrong; a Redis that is nearly full, or keeps nothing, is told of."""
    recount, redis = mine
    client = redis.client
    client.config_set("maxmemory", 1 << 30)
    assert examined(recount)["redis memory"][0] == "well"
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.02))
    assert examined(recount)["redis memory"][0] == "wrong"
    client.config_set("maxmemory", 0)
    assert examined(recount)["redis memory"][0] == "mind"
    client.config_set("appendonly", "no")
    assert "appendonly yes" in examined(recount)["redis disk"][1]

    client.config_set("maxmemory-policy", "allkeys-lru")
    found = examined(recount)
    assert "redis" in wrong(found)
    assert "noeviction" in found["redis"][1]
    assert found["rights on redis"][0] == "unknown"


def test_a_redis_that_was_emptied(mine: tuple[Recount, OwnRedis]) -> None:
    """The identity is missing, and each partition's state."""
    recount, redis = mine
    redis.client.flushall()

    found = examined(recount)

    assert {"identity", "partitions"} <= wrong(found)
    assert "recount rebuild" in found["partitions"][1]


def test_a_user_of_redis_with_few_rights(mine: tuple[Recount, OwnRedis]) -> None:
    """A right that is missing is named; what may not be asked is unknown."""
    recount, redis = mine
    rules = ["~*", "+@all", "-sadd", "-info", "-config"]
    redis.client.acl_setuser("few", enabled=True, passwords=["+s3cret"], reset=True)
    redis.client.execute_command("ACL", "SETUSER", "few", *rules)
    few = with_redis(recount, redis.url.replace("redis://", "redis://few:s3cret@"))

    found = examined(few)

    assert "redis" in wrong(found)
    redis.client.execute_command("ACL", "SETUSER", "few", "+config|get")
    found = examined(few)
    assert wrong(found) == {"rights on redis", "workers"}
    assert "lacks a right" in found["rights on redis"][1]
    assert found["redis memory"][0] == "unknown"


def test_topics_that_lose_records(mine: tuple[Recount, OwnRedis]) -> None:
    """Compaction, a retention of the control topic, and other times than of the append."""
    recount, _ = mine
    admin = AdminClient({"bootstrap.servers": recount.services.kafka})

    def set_on(role: str, name: str, value: str) -> None:
        topic = f"{recount.deployment}.{role}"
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        for future in admin.incremental_alter_configs([resource]).values():
            future.result()

    for role, name, bad, good_value, told in (
        ("usage.events", "cleanup.policy", "compact", "delete", "cleanup.policy=delete"),
        ("metrics.control", "retention.ms", "60000000", "-1", "retention.ms=-1"),
        ("usage.events", "message.timestamp.type", "CreateTime", "LogAppendTime", "LogAppendTime"),
    ):
        set_on(role, name, bad)
        eventually(
            lambda told=told: told in examined(recount)["topics"][1],  # type: ignore[misc]
            within_s=30,
            because="Kafka shows it",
        )
        assert "topics" in wrong(examined(recount))
        set_on(role, name, good_value)
