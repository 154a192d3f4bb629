"""The log applied again, in place: under traffic, killed half way, after a loss.

Rebuilds beside what readers see: test_epochs.py.
"""

import re
import subprocess
from typing import Any

import pytest

from ..stored import keys_of
from ..waiting import eventually
from .stage import Stage


def contents(stage: Stage) -> dict[bytes, Any]:
    """Every cell and element in Redis, by key without its epoch."""
    client = stage.redis.client
    found: dict[bytes, Any] = {key: client.hgetall(key) for key in client.keys("*:c:*")}
    found |= {key: client.smembers(key) for key in client.keys("*:u:*")}
    plain = {re.sub(rb"(?<=}:)\d+:", b"", key): held for key, held in found.items()}
    assert len(plain) == len(found), "two epochs have cells"
    return plain


@pytest.mark.parametrize("options", [(), ("--in-place",)])
def test_f30_rebuild_gives_the_live_result(stage: Stage, options: tuple[str, ...]) -> None:
    """The same log applied again gives the same bytes; no worker needs to run for it."""
    stage.running()
    stage.publish(2_000)
    stage.caught_up()
    stage.workers.end()
    before, status = contents(stage), stage.recount.run("status")
    done = stage.recount.run("rebuild", *options)[0]

    assert done["rebuilt"] == [0, 1]
    assert done["in_place"] == ([0, 1] if options else [])
    assert done["dropped_keys"] > 0
    assert contents(stage) == before
    kept = ("next", "consumed", "counted", "duplicate", "rejected")
    after = stage.recount.run("status")
    assert [[line[name] for name in kept] for line in status] == [
        [line[name] for name in kept] for line in after
    ]
    stage.exact()


def test_f30_rebuild_killed_half_way_under_traffic(stage: Stage) -> None:
    """Killed in the middle, run again, with workers and traffic: exact, and workers go on."""
    worker = stage.running()
    children = stage.workers.children(worker)
    stage.publish(2_000)
    first = stage.recount.start("rebuild", "--in-place", stderr=subprocess.DEVNULL)
    key = keys_of(stage.recount).state
    eventually(
        lambda: first.poll() is not None or stage.redis.client.hexists(key, "rebuilding"),
        within_s=20,
        because="the rebuild has begun",
    )
    first.kill()
    first.wait(10)
    stage.publish()
    stage.recount.run("rebuild", "--in-place")
    stage.publish()

    stage.recovers()
    stage.exact()
    assert stage.workers.children(worker) == children


def test_f30_a_rebuild_under_way_makes_readers_wait(stage: Stage) -> None:
    """Between a killed rebuild and the next, readers say what to do, status shows the state."""
    stage.running()
    stage.workers.end()
    key = keys_of(stage.recount).state
    stage.redis.client.delete(key)
    stage.redis.client.hset(key, "rebuilding", "1")

    (metric, *_) = stage.metrics
    period = ("--starting-on", "2026-01-01T00:00:00Z", "--ending-before", "2027-01-01T00:00:00Z")
    for asked in (
        ("usage", metric, "--each-customer", *period),
        ("usage", metric, "--customer", "c1", *period),
        ("explain", "t1"),
        ("audit",),
    ):
        done = stage.recount.ended(*asked)
        assert done.returncode == 4, asked
        assert b"partition 0 is not open for reading" in done.stderr
        assert b"recount rebuild" in done.stderr
        assert not done.stdout
    first, second, _ = stage.recount.run("status")
    assert (first["state"], second["state"]) == ("rebuilding", "open")
    assert (first["counted"], first["rebuilt_to"]) == (0, None)
    assert all(not line["ready"] for line in stage.recount.run("metrics", "list"))
    stage.recount.run("rebuild", "--partition", "0")
    stage.exact()


def test_f21_a_rebuild_after_everything_was_lost(stage: Stage) -> None:
    """FLUSHALL under a worker: HALT; `rebuild` takes everything from Kafka."""
    worker = stage.running()
    before = contents(stage)
    stage.redis.client.flushall()
    stage.halted(worker, "recount rebuild")
    stage.recount.run("rebuild")

    assert contents(stage) == before
    stage.exact()


def test_f44_a_rebuild_of_one_partition(stage: Stage) -> None:
    """One emptied shard halts, naming it; `rebuild --partition` mends it, the others stay."""
    stage.running()
    stage.workers.end()
    client, before = stage.redis.client, contents(stage)
    other = client.hgetall(keys_of(stage.recount).state)
    client.delete(*client.keys(f"{keys_of(stage.recount, 1).prefix}*"))
    stage.halted_alone(stage.worker(), "partition 1", 1)
    stage.recount.run("rebuild", "--partition", "1")

    assert contents(stage) == before
    assert client.hgetall(keys_of(stage.recount).state) == other
    stage.exact()


def test_rules_of_another_release(stage: Stage) -> None:
    """State that another release judged halts; a rebuild mends it."""
    stage.running()
    stage.workers.end()
    for number in range(2):
        key = keys_of(stage.recount, number).state
        stage.redis.client.hset(key, "rules", "0")
    stage.halted_alone(stage.worker(), "rules number", 0, 1)
    stage.recount.run("rebuild")

    stage.exact()
