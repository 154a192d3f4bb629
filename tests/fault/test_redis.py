"""Redis lost, late, frozen, full, torn, emptied; and the network between it and a worker."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import redis

from ..stored import keys_of
from ..waiting import eventually
from .conftest import Staging
from .own import OwnRedis
from .proxy import is_commit
from .stage import Stage, seeded


def caught(stage: Stage, count: int = 1) -> None:
    """Wait until the proxy caught what it was told to."""
    before = stage.proxy.caught
    eventually(
        lambda: stage.proxy.caught >= before + count, within_s=20, because="the fault strikes"
    )


def test_f1_killed_before_the_flush_is_sent(stage: Stage) -> None:
    """A flush that never left its worker counts once, by the successor."""
    worker = stage.running()
    before = stage.watch.nexts()
    stage.proxy.hold(is_commit)
    stage.publish()
    caught(stage)
    stage.workers.kill(worker)
    stage.proxy.reset()
    stage.proxy.release()
    assert stage.watch.nexts() == before
    stage.worker()

    stage.recovers()
    stage.exact()


def test_f2_killed_between_redis_and_the_reply(stage: Stage) -> None:
    """A flush that was applied, its reply and its worker lost: the successor starts behind it."""
    worker = stage.running()
    before = stage.watch.nexts()
    stage.proxy.swallow(is_commit)
    stage.publish()
    caught(stage)
    eventually(lambda: stage.watch.nexts() != before, within_s=10, because="it was applied")
    stage.workers.kill(worker)
    stage.proxy.release()
    stage.worker()

    stage.recovers()
    stage.exact()


def test_f3_reply_lost_and_the_worker_lives(stage: Stage) -> None:
    """The worker sends the same flush again; that it was applied already is success."""
    worker = stage.running()
    children = stage.workers.children(worker)
    stage.proxy.swallow(is_commit)
    stage.publish()
    caught(stage)
    stage.proxy.release()
    stage.proxy.reset()

    stage.recovers()
    stage.exact()
    assert stage.workers.children(worker) == children


@pytest.mark.long
def test_f4_late_execution(stage: Stage) -> None:
    """Redis freezes with a commit in its socket, the worker tries again: it counts once."""
    worker = stage.running()
    children = stage.workers.children(worker)
    stage.proxy.hold(is_commit)
    stage.publish()
    caught(stage)
    before = stage.proxy.connections
    stage.redis.pause()
    stage.proxy.release()
    eventually(
        lambda: stage.proxy.connections > before,
        within_s=40,
        because="the worker gives up on the commit and tries again",
    )
    stage.redis.resume()

    stage.recovers()
    stage.exact()
    assert stage.workers.children(worker) == children


def test_f6_zombie_without_progress(stage: Stage) -> None:
    """A frozen worker and its successor both have the same flush under way: one of them wins."""
    zombie = stage.running()
    stage.proxy.hold(is_commit)
    stage.publish()
    caught(stage)
    stage.workers.signal_children(zombie, signal.SIGSTOP)
    stage.worker()
    caught(stage)
    stage.workers.signal_children(zombie, signal.SIGCONT)
    stage.proxy.release()

    stage.recovers()
    stage.exact()


def test_f8_redis_away_for_three_sessions(stage: Stage) -> None:
    """A worker that waits for Redis stays a member, and goes on when Redis is back."""
    worker = stage.running()
    children = stage.workers.children(worker)
    stage.redis.pause()
    stage.publish()
    stage.proxy.hold(lambda _: False)
    assert not _moves_within(stage, 6.5)
    stage.redis.resume()

    stage.recovers()
    stage.exact()
    assert stage.workers.children(worker) == children


def _moves_within(stage: Stage, seconds: float) -> bool:
    """Whether anything new is sent to Redis and answered within some seconds."""
    try:
        client: Any = redis.Redis.from_url(stage.redis.url, socket_timeout=seconds)
        return bool(client.ping())
    except redis.RedisError:
        return False


def test_f9_rebalance_without_redis(stage: Stage) -> None:
    """Partitions move with a flush under way, and again while Redis is away: no deadlock."""
    stage.running()
    stage.proxy.hold(is_commit)
    stage.publish()
    caught(stage)
    stage.worker()
    caught(stage)
    stage.redis.pause()
    stage.proxy.release()
    stage.worker()
    assert not _moves_within(stage, 4)
    stage.redis.resume()

    stage.recovers()
    stage.publish()
    stage.exact()


@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_f19_redis_killed_with_an_append_only_file(staging: Staging, fsync: str) -> None:
    """Kill -9 in mid-traffic: Redis comes back with its offsets, the worker goes on from them."""
    with staging("--appendfsync", fsync) as stage:
        stage.prepare()
        stage.running()
        stage.publish(2_000)
        stage.redis.kill()
        stage.redis.start()
        stage.publish()

        stage.recovers(fsync)
        stage.exact()


def test_f19_redis_killed_with_snapshots_only(staging: Staging) -> None:
    """Redis goes back to its snapshot, numbers and offsets together; the log is applied again."""
    with staging("--appendonly", "no") as stage:
        stage.prepare()
        stage.running()
        stage.redis.client.save()
        then = stage.watch.nexts()
        stage.publish(2_000)
        stage.caught_up()
        stage.redis.kill()
        stage.redis.start()
        assert stage.watch.nexts() == then

        stage.recovers()
        stage.exact()


def test_f19_redis_killed_without_persistence(staging: Staging) -> None:
    """A Redis that comes back empty is HALT; the rebuild gives the exact numbers again."""
    with staging("--appendonly", "no") as stage:
        stage.prepare()
        worker = stage.running()
        stage.redis.kill()
        stage.redis.start()
        stage.publish()
        stage.halted(worker, "recount rebuild")

        rebuilt = stage.recount.run("rebuild")[0]
        assert rebuilt["rebuilt"] == [0, 1]
        stage.exact()


def test_f20_torn_in_the_middle_of_the_last_commit(stage: Stage) -> None:
    """An append-only file cut anywhere inside the last commit: all of it is gone, or none."""
    draw = seeded(stage.name)
    stage.running()
    for _ in range(3):
        stage.publish(600)
        stage.caught_up()
        before = stage.watch.nexts()
        stage.redis.kill()
        path = stage.redis.last_aof()
        os.truncate(path, path.stat().st_size - draw.randrange(1, 2_000))
        stage.redis.start()
        assert stage.watch.nexts() != before or stage.watch.at_the_end()

        stage.recovers()
        stage.exact()


def _tear(stage: Stage, count: int = 20) -> None:
    """Kill Redis, and cut its file inside the last commit."""
    stage.redis.kill()
    path = stage.redis.last_aof()
    os.truncate(path, path.stat().st_size - count)
    stage.redis.start()


def _ids(stage: Stage) -> list[tuple[int, int]]:
    """For each partition: ids that the state counts, ids in the lists."""
    found = []
    for number in range(2):
        prefix = keys_of(stage.recount, number).prefix
        client = stage.redis.client
        told = client.hget(f"{prefix}state", "ids").decode()
        counted = sum(int(pair.split("=")[1]) for pair in told.split(",") if pair)
        lists = client.keys(f"{prefix}ids:*")
        held = sum(len(part[8:]) // 12 for key in lists for part in client.lrange(key, 0, -1))
        found.append((counted, held))
    return found


def test_f20_half_of_a_torn_commit_runs_at_the_second_start(stage: Stage) -> None:
    """What Redis leaves of a torn commit runs a start later: ids said again are taken out."""
    stage.running()
    stage.publish(600)
    stage.caught_up()
    _tear(stage)
    stage.recovers()
    stage.workers.end()
    assert all(counted == held for counted, held in _ids(stage))
    stage.redis.kill()
    stage.redis.start()
    assert any(counted < held for counted, held in _ids(stage))
    stage.worker()
    stage.publish()

    stage.recovers("second start")
    stage.exact()
    assert all(counted == held for counted, held in _ids(stage))


def test_f20_half_of_a_torn_commit_that_was_not_applied_again(stage: Stage) -> None:
    """The same before a worker came that far: cells may be ahead of `next`, so it halts."""
    stage.running()
    stage.publish(600)
    stage.caught_up()
    stage.workers.end()
    _tear(stage)
    with stage.redis.client.pipeline(transaction=True) as other:
        other.set("another", "1").set("deployment", "2").execute()
    stage.redis.kill()
    stage.redis.start()
    assert any(counted < held for counted, held in _ids(stage))

    torn = [number for number, (counted, held) in enumerate(_ids(stage)) if counted < held]
    stage.halted_alone(stage.worker(), "half of a commit", *torn)
    stage.recount.run("rebuild")
    stage.exact()


@pytest.mark.parametrize("what", ["full", "busy", "read-only", "thrown out"])
def test_f24_redis_says_no(stage: Stage, what: str) -> None:
    """What Redis refuses for a while is refused whole and applied later, by the same worker."""
    worker = stage.running()
    children = stage.workers.children(worker)
    before, client = stage.watch.nexts(), stage.redis.client
    actions: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "full": (
            lambda: client.config_set("maxmemory", 1),
            lambda: client.config_set("maxmemory", 0),
        ),
        "busy": (lambda: _keep_busy(client), lambda: None),
        "read-only": (
            lambda: client.execute_command("REPLICAOF", "127.0.0.1", 1),
            lambda: client.execute_command("REPLICAOF", "NO", "ONE"),
        ),
        "thrown out": (lambda: _throw_out(client), lambda: None),
    }
    start, end = actions[what]
    start()
    stage.publish()
    if what in {"full", "read-only"}:
        commits = stage.proxy.commits
        eventually(
            lambda: stage.proxy.commits > commits + 2, within_s=20, because="it tries again"
        )
        assert stage.watch.nexts() == before
    end()

    stage.recovers(what)
    stage.exact()
    assert stage.workers.children(worker) == children


def test_f32_disk_full(stage: Stage) -> None:
    """Redis cannot write its file any more: it refuses, and the stream goes on when it can."""
    worker = stage.running()
    children = stage.workers.children(worker)
    stage.redis.limit_files(stage.redis.last_aof().stat().st_size + 100)
    stage.publish()
    client = stage.redis.client
    eventually(lambda: _says_misconf(client), within_s=20, because="the disk is full")
    stage.redis.limit_files(-1)

    stage.recovers()
    stage.exact()
    assert stage.workers.children(worker) == children


def _keep_busy(client: Any) -> None:
    client.config_set("lua-time-limit", 100)
    client.eval("local s = redis.call('TIME')[1] while redis.call('TIME')[1] - s < 3 do end", 0)


def _throw_out(client: Any) -> None:
    client.script_flush()
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def _says_misconf(client: Any) -> bool:
    try:
        client.set("filler", "x" * 1_000)
    except redis.ResponseError as error:
        return "MISCONF" in str(error)
    return False


def test_f24_a_changed_password_is_halt(stage: Stage) -> None:
    """A login that is refused is for people: exit 5, saying which setting."""
    worker = stage.running()
    stage.redis.client.config_set("requirepass", "secret")
    stage.proxy.reset()
    stage.publish()

    stage.halted(worker, "RECOUNT_REDIS")


@pytest.mark.parametrize("command", ["rpush", "unlink"])
def test_rights_are_tried_before_they_are_needed(stage: Stage, command: str) -> None:
    """A user who may not use a command of the commit is refused at start, nothing written."""
    client = stage.redis.client
    client.execute_command("ACL", "SETUSER", "default", f"-{command}")
    stage.publish()

    stage.halted(stage.worker(), "refused a command")
    assert stage.watch.nexts() == [0, 0]


def test_f41_a_foreign_key_under_a_rollups_name(stage: Stage) -> None:
    """A key of the wrong type halts its partition, naming it; neither `next` nor a rollup moved.

    Once it is gone, the same worker goes on.
    """
    stage.running()
    client = stage.redis.client
    planted = min(client.keys("*:c:*"))
    stage.workers.end()
    right = client.dump(planted)
    client.delete(planted)
    client.set(planted, "foreign")
    mine = client.keys(planted.split(b"}:")[0] + b"}:[^s]*")  # all but the state
    before = {key: client.dump(key) for key in mine}
    prefixes = [keys_of(stage.recount, at).prefix for at in range(2)]
    number = prefixes.index(planted.decode().split("}:")[0] + "}:")
    stood = stage.watch.nexts()[number]
    stage.publish()
    worker = stage.worker()

    stage.halted_alone(worker, planted.decode(), number)
    assert {key: client.dump(key) for key in mine} == before
    assert stage.watch.nexts()[number] == stood
    client.delete(planted)
    client.restore(planted, 0, right)
    stage.caught_up(90)
    stage.exact()
    assert worker.poll() is None, stage.workers.logs()


@pytest.mark.long
def test_f22_failover_that_loses_writes(stage: Stage, tmp_path_factory: Any) -> None:
    """A replica that missed the last writes is promoted: numbers and offsets go back together."""
    replica = OwnRedis(tmp_path_factory.mktemp("replica"))
    replica.start()
    try:
        copy = replica.client
        copy.execute_command("REPLICAOF", "127.0.0.1", stage.redis.port)
        stage.running()
        eventually(
            lambda: copy.info("replication")["master_link_status"] == "up",
            within_s=20,
            because="the replica follows",
        )
        then = stage.watch.nexts()
        eventually(
            lambda: copy.hget(keys_of(stage.recount).state, "next") == str(then[0]).encode(),
            within_s=20,
            because="it has everything",
        )
        copy.execute_command("REPLICAOF", "NO", "ONE")
        stage.publish()
        stage.caught_up()
        stage.redis.kill()
        copy.config_set("port", stage.redis.port)  # the address now leads to the replica
        assert stage.watch.nexts() == then

        stage.recovers()
        stage.exact()
    finally:
        replica.kill()
