"""`recount control export` and `import`: a control topic that was lost comes back as it was."""

import asyncio
import json
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient, NewTopic

from pipeline.control.kept import elements_in, spans_in
from pipeline.edges.kafka import producer
from pipeline.edges.kafka_names import topic_names
from pipeline.edges.redis import RedisStore

from ..services import Recount
from ..waiting import eventually
from .test_control_key import Sealed

COUNT = {"name": "calls", "aggregation_type": "count"}
SUM = {
    "name": "tokens",
    "aggregation_type": "sum",
    "aggregation_key": "n",
    "property_filters": [{"name": "n", "exists": True}],
}


def events(lo: int, hi: int) -> list[dict[str, Any]]:
    """Events that both metrics count."""
    return [
        {
            "transaction_id": f"t{number}",
            "customer_id": f"c{number % 5}",
            "event_type": "llm",
            "timestamp": "2026-11-29T01:00:00Z",
            "properties": {"n": str(number)},
        }
        for number in range(lo, hi)
    ]


def lose(recount: Recount) -> None:
    """Delete the control topic."""
    admin = AdminClient({"bootstrap.servers": recount.services.kafka})
    topic = topic_names(recount.deployment)["control"]
    admin.delete_topics([topic])[topic].result()
    eventually(
        lambda: topic not in admin.list_topics(timeout=5).topics, within_s=20, because="it is gone"
    )


def made_anew(recount: Recount) -> None:
    """Delete the control topic, and make it again, empty."""
    lose(recount)
    admin = AdminClient({"bootstrap.servers": recount.services.kafka})
    topic = topic_names(recount.deployment)["control"]
    new = NewTopic(topic, 1, 1, config={"message.timestamp.type": "LogAppendTime"})
    admin.create_topics([new])[topic].result()
    eventually(
        lambda: topic in admin.list_topics(timeout=5).topics, within_s=20, because="it is back"
    )


def said(recount: Recount) -> list[list[Any]]:
    """What the control log decides: metrics, definitions with their native bodies, keys."""
    listed = recount.run("metrics", "list", "--all")
    shown = [recount.run("metrics", "show", each["id"]) for each in listed]
    return [listed, *shown, recount.run("keys", "list")]


def totals(recount: Recount, metric: str) -> list[Any]:
    """Usage of every customer."""
    period = ("--starting-on", "2026-11-29T00:00:00Z", "--ending-before", "2026-11-30T00:00:00Z")
    return recount.run("usage", metric, "--each-customer", *period)[:-1]


def prepared(recount: Recount) -> None:
    """A deployment with two metrics, one of them renamed, a third archived, and a key: counted."""
    recount.run("init", "--partitions", "2", "--max-age-days", "0")
    renamed, _, ended = (recount.create(each) for each in (COUNT, SUM, {**COUNT, "name": "old"}))
    recount.run("metrics", "rename", renamed, "requests")
    recount.run("metrics", "archive", ended)
    recount.run("keys", "create", "--name", "mine", "--role", "read")
    recount.publish(events(0, 50))
    recount.catch_up()


async def _write(recount: Recount, *records: tuple[bytes | None, bytes | None]) -> None:
    topic = topic_names(recount.deployment)["control"]
    async with producer(recount.services.address) as client:
        for key, value in records:
            batch = client.create_batch()  # which takes records without key and value, too
            batch.append(timestamp=None, key=key, value=value, headers=[("h", b"\xff")])
            await (await client.send_batch(batch, topic, partition=0))


def copy_reaches(recount: Recount, offset: int) -> None:
    """Wait until workers have brought the copy in Redis so far."""

    async def ends() -> bool:
        store = RedisStore(recount.services.redis, recount.deployment)
        try:
            identity = json.loads(await store.identity() or b"")
            elements = await elements_in(store)
            return [at for at, _ in spans_in(elements, identity["store_id"])][-1] >= offset
        finally:
            await store.close()

    eventually(lambda: asyncio.run(ends()), within_s=20, because="the copy is there")


def lines_of(path: Path) -> list[Any]:
    """The lines of a file of JSON lines."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_lost_topic_comes_back(recount: Recount, tmp_path: Path) -> None:
    """Seals, strangers' bytes and all: the same metrics and keys, and workers go on, exactly."""
    sealed, file = Sealed(recount.services, recount.deployment), tmp_path / "control.jsonl"
    prepared(sealed)
    asyncio.run(_write(sealed, (b"\xff\x00", b"\x80 no JSON"), (None, None), (b"k", None)))
    before, number = said(sealed), totals(sealed, "tokens")
    (told,) = sealed.run("control", "export", "--output", str(file))
    lose(sealed)

    lost = sealed.ended("worker", "--until-caught-up")
    unsealed = recount.ended("control", "import", str(file))
    (restored,) = sealed.run("control", "import", str(file))
    assert said(sealed) == before
    assert totals(sealed, "tokens") == number
    sealed.publish(events(40, 90))
    sealed.catch_up()

    assert lost.returncode == 5, lost.stderr
    assert b"recount control import" in lost.stderr
    assert (unsealed.returncode, b"RECOUNT_CONTROL_KEY" in unsealed.stderr) == (2, True)
    assert (restored["records"], restored["next"]) == (told["records"], told["next"] + 1)
    assert (restored["ignored"], restored["metrics"], restored["keys"]) == (3, 3, 1)
    assert restored["rebuild"] is False
    (*_, status) = sealed.run("status")
    assert (status["counted"], status["duplicate"]) == (90, 10)
    assert sealed.run("audit")[-1]["mismatches"] == 0
    assert file.stat().st_mode & 0o077 == 0, "it has hashes of keys"

    # What was restored can be restored again, and is the same up to where it was lost.
    again = tmp_path / "again.jsonl"
    sealed.run("control", "export", "--output", str(again))
    assert again.read_bytes() == sealed.ended("control", "export").stdout
    keep = ("offset", "key", "value", "headers")
    old, new = lines_of(file)[1:-1], lines_of(again)[1:-1]
    assert [[line[name] for name in keep] for line in old] == [
        [line[name] for name in keep] for line in new[: len(old)]
    ]
    lose(sealed)
    assert sealed.run("control", "import", str(again))[0]["rebuild"] is False
    sealed.catch_up()
    assert said(sealed) == before
    assert sealed.run("audit")[-1]["mismatches"] == 0


def test_the_copy_in_redis_stands_for_an_export(recount: Recount, tmp_path: Path) -> None:
    """An export that is older than what workers obeyed is refused; the copy takes its place."""
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    prepared(recount)
    recount.run("control", "export", "--output", str(old))
    recount.run("metrics", "archive", "tokens")
    recount.create({**SUM, "name": "later"})
    recount.publish(events(50, 60))
    recount.catch_up()
    before, end = said(recount), lines_of(old)[-1]["next"] + 2
    copy_reaches(recount, end)
    lose(recount)

    refused = recount.ended("control", "import", str(old))
    gone = recount.ended("control", "export")
    (told,) = recount.run("control", "export", "--from-redis", "--output", str(new))
    (restored,) = recount.run("control", "import", str(new))
    assert said(recount) == before
    recount.publish(events(60, 70))
    recount.catch_up()

    assert refused.returncode == gone.returncode == 2
    assert b"2 records after the end" in refused.stderr
    assert b"--from-redis" in gone.stderr
    assert (told["next"], restored["rebuild"]) == (end, False)
    assert recount.run("audit")[-1]["mismatches"] == 0


def test_what_is_lost_for_good_is_counted_without(recount: Recount, tmp_path: Path) -> None:
    """--lose-later says that a rebuild is needed; after it every number is a recount again."""
    old = tmp_path / "old.jsonl"
    prepared(recount)
    recount.run("control", "export", "--output", str(old))
    recount.create({**SUM, "name": "later"})
    recount.publish(events(50, 60))
    recount.catch_up()
    copy_reaches(recount, lines_of(old)[-1]["next"] + 1)
    lose(recount)

    (restored,) = recount.run("control", "import", str(old), "--lose-later")
    recount.publish(events(60, 70))
    halted = recount.ended("worker", "--until-caught-up", within_s=100)
    recount.run("rebuild")
    recount.catch_up()

    assert restored["rebuild"] is True
    assert halted.returncode == 5, halted.stderr
    assert b"not on the control log" in halted.stderr
    assert [each["name"] for each in recount.run("metrics", "list")] == ["requests", "tokens"]
    assert recount.run("audit")[-1]["mismatches"] == 0
    assert recount.run("status")[-1]["counted"] == 70


def test_what_cannot_be_right_is_refused(recount: Recount, tmp_path: Path) -> None:
    """A topic with other records, another deployment, a file that was changed: nothing is written.

    A topic with the beginning of the file, as a killed import leaves it, is gone on with.
    """
    file, changed = tmp_path / "control.jsonl", tmp_path / "changed.jsonl"
    prepared(recount)
    before = said(recount)
    recount.run("control", "export", "--output", str(file))
    changed.write_bytes(file.read_bytes().replace(b"tokens", b"tokenz"))
    other = Recount(recount.services, f"{recount.deployment}x")

    for who, path, says in (
        (recount, file, "is not empty"),
        (recount, changed, "sha256"),
        (other, file, "under its own name"),
        (recount, tmp_path / "none", "No such file"),
    ):
        done = who.ended("control", "import", str(path))
        assert (done.returncode, says in done.stderr.decode()) == (2, True), done.stderr
    bad = recount.ended("control", "export", "--output", str(tmp_path / "no" / "file"))
    assert (bad.returncode, b"No such file" in bad.stderr) == (2, True)
    assert said(recount) == before

    made_anew(recount)
    first, *_ = lines_of(file)[1:-1]
    asyncio.run(_write(recount, (b"k", b"not ours")))
    foreign = recount.ended("control", "import", str(file))
    assert (foreign.returncode, b"that at offset 0" in foreign.stderr) == (2, True), foreign.stderr
    made_anew(recount)
    asyncio.run(_begin(recount, first))
    recount.run("control", "import", str(file))
    repeated = recount.run("control", "import", str(file))
    assert repeated[0]["records"] == len(lines_of(file)) - 2
    recount.catch_up()
    assert said(recount) == before
    assert recount.run("audit")[-1]["mismatches"] == 0


async def _begin(recount: Recount, line: dict[str, Any]) -> None:
    topic = topic_names(recount.deployment)["control"]
    async with producer(recount.services.address) as client:
        await client.send_and_wait(
            topic, line["value"].encode(), key=line["key"].encode(), partition=0
        )
