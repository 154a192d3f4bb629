"""Kafka is away: what is read comes from Redis alone and says so; what writes is refused."""

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.control.kept import Copier, copied, element_of
from pipeline.control.log import ControlLog
from pipeline.control.records import ControlState
from pipeline.control.seal import Seals
from pipeline.edges.kafka import producer
from pipeline.edges.kafka_client import KafkaAddress
from pipeline.edges.kafka_names import topic_names
from pipeline.edges.redis_keys import control_key
from pipeline.errors import StoreUnavailable

from ..fault.own import OwnKafka, own_kafka
from ..services import Recount, Services, fresh
from ..stored import client_of, kept, store_id_of, store_of
from ..waiting import eventually
from .test_control_key import SECRET, Sealed

pytestmark = pytest.mark.timeout(300)
WITHIN_S = 6.0  # two seconds, on a machine that others use as well; Kafka's own limits are longer
CALLS = {"name": "calls", "aggregation_type": "COUNT"}
PERIOD = ("--starting-on", "2020-01-01T00:00:00Z", "--ending-before", "2100-01-01T00:00:00Z")


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnKafka]:
    """A broker to stop."""
    with own_kafka(tmp_path_factory.mktemp("away")) as made:
        yield made


class Hasty(Recount):
    """The command with the wait for Kafka that operators have."""

    @property
    def environment(self) -> dict[str, str]:
        """The usual, less what tests set."""
        given = super().environment
        return {name: text for name, text in given.items() if name != "RECOUNT_KAFKA_WAIT_MS"}


def events(count: int) -> list[dict[str, Any] | bytes]:
    """Events of three customers."""
    now = datetime.now(UTC).isoformat()  # noqa: TID251  events of now
    return [
        {
            "transaction_id": f"{now} {number}",
            "customer_id": f"c{number % 3}",
            "event_type": "call",
            "timestamp": now,
        }
        for number in range(count)
    ]


@contextmanager
def working(recount: Recount, log: Path) -> Iterator[None]:
    """A worker beside the block."""
    with log.open("ab") as output:
        worker = recount.start("worker", stdin=subprocess.DEVNULL, stderr=output)
    try:
        yield
    finally:
        worker.terminate()
        worker.wait(30)


def secrets_of(recount: Recount) -> tuple[bytes, ...]:
    """What seals its control records."""
    return (SECRET.encode(),) if isinstance(recount, Sealed) else ()


async def _copy(recount: Recount, store_id: str) -> ControlState:
    store = store_of(recount.services.redis, recount.deployment)
    topic = topic_names(recount.deployment)["control"]
    try:
        return await copied(store, Seals(topic, secrets_of(recount)), store_id)
    finally:
        await store.close()


async def _log(recount: Recount, *, keep: bool = False) -> ControlState:
    address, store = (
        KafkaAddress(recount.services.kafka, {}),
        store_of(recount.services.redis, recount.deployment),
    )
    topic = topic_names(recount.deployment)["control"]
    async with ControlLog(address, topic, secrets_of(recount)) as control:
        if keep:
            await Copier(address, control, store).keep()
    await store.close()
    return control.state


@contextmanager
def gone(kafka: OwnKafka, how: str) -> Iterator[None]:
    """For a block there is no Kafka."""
    if how == "killed":
        kafka.kill()
    else:
        kafka.pause()
    try:
        yield
    finally:
        if how == "killed":
            kafka.start()
        else:
            kafka.resume()


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_the_command_line(stack: Services, kafka: OwnKafka, tmp_path: Path, how: str) -> None:
    """Numbers and definitions within two seconds, as half an answer; exit 4 for what writes."""
    services, name = Services(kafka.address, stack.redis), fresh("away")
    recount, hasty = Recount(services, name), Hasty(services, name)
    recount.run("init", "--partitions", "2")
    metric = recount.create(CALLS)
    recount.publish(events(30))
    with working(recount, tmp_path / "log"):
        eventually(
            lambda: recount.run("status")[-1]["consumed"] == 30, within_s=60, because="it counts"
        )
        eventually(lambda: kept(recount) == 2, within_s=30, because="the copy is there")
    question = ("usage", "calls", "--each-customer", *PERIOD)
    *rows, end = recount.run(*question)
    assert "kafka" not in end
    before = recount.run("status")[-1]

    with gone(kafka, how):
        began = time.monotonic()
        *found, last = hasty.run(*question)
        assert time.monotonic() - began < WITHIN_S
        assert found == [{**row, "complete": False} for row in rows]
        assert (last["complete"], last["kafka"]) == (False, "unreachable")
        assert last["as_of"]["offsets"] == end["as_of"]["offsets"]
        assert last["as_of"]["unapplied"] is None

        total = hasty.run("status")[-1]
        assert (total["end"], total["lag"], total["kafka"]) == (None, None, "unreachable")
        assert (total["consumed"], total["balanced"]) == (before["consumed"], True)
        for arguments in (["list"], ["show", metric]):
            (line,) = hasty.run("metrics", *arguments)
            assert (line["id"], line["ready"]) == (metric, True)
            assert (line["complete"], line["kafka"]) == (False, "unreachable")
        table = hasty.ended("usage", "calls", "--customer", "c0", "--table", *PERIOD)
        assert b"unreachable" in table.stdout
        assert b"nothing is complete" in table.stderr
        assert b"offset 2 of the control log" in table.stderr

        for refused in (
            ("metrics", "rename", metric, "other"),
            ("keys", "create", "--name", "k", "--role", "read"),
            ("publish", "-"),
            ("explain", "t"),
            ("audit",),
        ):
            began = time.monotonic()
            done = hasty.ended(*refused, stdin=b"")
            assert time.monotonic() - began < WITHIN_S, refused
            assert (done.returncode, len(done.stderr.splitlines())) == (4, 1), refused
            assert f"Kafka at {kafka.address}".encode() in done.stderr

    *back, last = recount.run(*question)
    assert ([row["value"] for row in back], last["as_of"]["unapplied"]) == (
        [row["value"] for row in rows],
        0,
    )
    assert "kafka" not in last
    recount.run("metrics", "rename", metric, "other")
    assert recount.run("status")[-1]["end"] == before["end"]


def test_a_name_that_was_taken_over(stack: Services, kafka: OwnKafka, tmp_path: Path) -> None:
    """While Kafka is away a name reads the metric that took it over; nothing is exchanged."""
    services, name = Services(kafka.address, stack.redis), fresh("away")
    recount, hasty = Recount(services, name), Hasty(services, name)
    recount.run("init", "--partitions", "2")
    old = recount.create({**CALLS, "event_type_filter": {"in_values": ["none"]}})
    recount.publish(events(30))
    recount.catch_up()
    new = recount.create({**CALLS, "name": "calls 2"})
    with working(recount, tmp_path / "log"):
        recount.run("metrics", "replace", "calls", "calls 2", "--wait")
        written = asyncio.run(_log(recount)).next
        eventually(lambda: kept(recount) == written, within_s=30, because="the copy is there")
    question = ("usage", "calls", "--each-customer", *PERIOD)
    *rows, _ = recount.run(*question)
    assert sum(int(row["value"]) for row in rows) == 30

    with gone(kafka, "killed"):
        *found, last = hasty.run(*question)
        assert found == [{**row, "complete": False} for row in rows]
        assert last["kafka"] == "unreachable"
        lines = hasty.run("metrics", "list")
        assert {line["id"]: line["name"] for line in lines} == {old: "calls 2", new: "calls"}
        done = hasty.ended("metrics", "replace", new, old)
        assert done.returncode == 4


def test_without_a_copy(stack: Services, kafka: OwnKafka) -> None:
    """What nobody kept cannot be read: exit 4, with both reasons."""
    recount = Hasty(Services(kafka.address, stack.redis), fresh("away"))
    strange = Hasty(Services(kafka.address, stack.redis), fresh("none"))
    recount.run("init", "--partitions", "1")
    with gone(kafka, "killed"):
        done = recount.ended("status")
        assert done.returncode == 4
        assert b"nothing listens there" in done.stderr
        assert b"Redis holds no copy of the control log" in done.stderr
        done = strange.ended("status")
        assert done.returncode == 4
        assert b"nothing listens there" in done.stderr


@pytest.mark.parametrize("kind", [Recount, Sealed])
def test_the_copy_says_what_the_log_says(stack: Services, kind: type[Recount]) -> None:
    """Metrics, names, keys, the deployment: the same, written in any steps; seals count."""
    recount = kind(Services(stack.kafka, stack.redis), fresh("kept"))
    recount.run("init", "--partitions", "3")
    asyncio.run(_log(recount, keep=True))
    first = recount.create(CALLS)
    key = recount.run("keys", "create", "--name", "k", "--role", "read")[0]
    recount.run("keys", "revoke", key["id"])
    recount.run("keys", "create", "--name", "l", "--role", "ingest")
    recount.run("metrics", "rename", first, "a" * 200)
    asyncio.run(_strangers(recount))
    recount.create({**CALLS, "name": "b"})
    many = {"name": "v", "in_values": [f"{'x' * 200} {number}" for number in range(150)]}
    for number in range(3):  # each fills an element of the copy
        recount.create({**CALLS, "name": f"large {number}", "property_filters": [many]})
    recount.run("metrics", "archive", first)

    said = asyncio.run(_log(recount, keep=True))
    again = asyncio.run(_copy(recount, store_id_of(recount)))

    assert again.next == said.next
    assert again.metrics == said.metrics
    assert (again.names, again.keys) == (said.names, said.keys)
    assert again.identity == said.identity
    assert again.won.items() <= said.won.items()
    assert again.ignored == []
    assert len(said.keys) == (1 if isinstance(recount, Sealed) else 2)


async def _strangers(recount: Recount) -> None:
    """Records that no one obeys, and one in UTF-16 that whoever sets no secret does."""
    key = {
        "type": "key",
        "schema_version": 1,
        "key_id": "other",
        "name": "other",
        "roles": ["read"],
        "hashed": "0" * 64,
        "created_at": "2026-01-01T00:00:00Z",
    }
    topic = topic_names(recount.deployment)["control"]
    async with producer(KafkaAddress(recount.services.kafka, {})) as client:
        for value in (b"", b"\xff", b"{}", json.dumps(key).encode("utf-16"), None):
            await client.send_and_wait(topic, value, key=b"k")


async def test_an_older_copy_never_replaces_a_newer_one(stack: Services) -> None:
    """The fence is where the copy ends; what is foreign there is dropped, and no more."""
    name = fresh("fence")
    store, key = store_of(stack.redis, name), control_key(name)

    async def keep(lo: int, hi: int, store_id: str = "mine") -> int:
        return await store.keep_control(store_id, lo, element_of(store_id, lo, hi, []))

    with client_of(stack.redis) as client:
        assert await store.keep_control("mine") == 0
        assert await keep(0, 3) == 3
        assert await keep(3, 5) == 5
        for lo, hi in ((0, 9), (3, 9), (4, 9), (6, 9)):  # frozen, slow, or ahead of a lost write
            assert await keep(lo, hi) == 5
        assert client.llen(key) == 2
        assert (await copied(store, Seals("t"), "mine")).next == 5
        with pytest.raises(StoreUnavailable, match="not whole"):
            await copied(store, Seals("t"), "other")
        client.lpop(key)
        with pytest.raises(StoreUnavailable, match="not whole"):
            await copied(store, Seals("t"), "mine")
        assert await store.keep_control("other") == 0
        assert await keep(0, 2, "other") == 2
        client.delete(key)
        client.set(key, "foreign")
        assert await keep(0, 1) == 1
        client.rpush(key, b"mine:1:2:no zip")
        with pytest.raises(StoreUnavailable, match="not ours"):
            await copied(store, Seals("t"), "mine")
        client.delete(key)
    await store.close()
