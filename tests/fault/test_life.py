"""A worker's own life: signals, stuck loops, clocks, releases, definitions at bad moments."""

import json
import os
import signal
import urllib.request
from pathlib import Path

import pytest
from confluent_kafka import Producer

from pipeline.core.activation import next_number
from pipeline.core.state import decode_state
from pipeline.stack.processes import free_port

from ..stored import keys_of
from ..waiting import eventually
from .own import OwnKafka
from .proxy import is_commit
from .stage import Stage

_PATCH = "import sys\nif 'worker-process' in sys.argv:\n"


def patch(folder: Path, *lines: str) -> dict[str, str]:
    """Have worker processes run these lines before anything else."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_PATCH + "".join(f"    {line}\n" for line in lines))
    return {"PYTHONPATH": str(folder)}


def test_f33_told_to_leave_in_the_middle_of_a_flush(stage: Stage) -> None:
    """SIGTERM with a commit under way: it leaves within its limit, and nothing is lost."""
    worker = stage.running()
    stage.proxy.hold(is_commit)
    stage.publish()
    eventually(lambda: stage.proxy.caught > 0, within_s=20, because="a commit is under way")
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(15) == 0
    stage.proxy.reset()
    stage.proxy.release()
    stage.worker()
    stage.exact()


def test_f33_killed_while_it_leaves(stage: Stage) -> None:
    """SIGTERM, then SIGKILL during the shutdown: correctness never needs a clean end."""
    worker = stage.running()
    stage.publish(2_000)
    worker.send_signal(signal.SIGTERM)
    stage.workers.kill(worker)
    stage.worker()

    stage.recovers()
    stage.exact()


def test_f38_a_main_loop_that_does_not_turn(stage: Stage, tmp_path: Path) -> None:
    """A blocked loop leaves heartbeats alone: the watchdog ends the worker, another goes on."""
    once = tmp_path / "blocked"
    environment = patch(
        tmp_path / "patch",
        "import pathlib, threading",
        "import pipeline.app.watchdog as watchdog",
        "watchdog.LOOP_S_MAX = 4.0",
        "from pipeline.core.event import Decoder",
        "real = Decoder.decode",
        f"once = pathlib.Path({str(once)!r})",
        "def decode(self, value):",
        "    if value and b'block' in value and not once.exists():",
        "        once.touch()",
        "        threading.Event().wait(1e6)",
        "    return real(self, value)",
        "Decoder.decode = decode",
    )
    worker = stage.running(**environment)
    (event,) = stage.events(1)
    stage.send([json.dumps({**event, "transaction_id": "block"}).encode()])
    eventually(once.exists, within_s=20, because="the loop is blocked")

    stage.recovers()
    stage.exact()
    assert "the main loop has not turned" in stage.workers.logs()
    assert worker.poll() is None


@pytest.mark.parametrize("hours", [25, -25])
def test_f25_a_clock_that_is_a_day_off(stage: Stage, tmp_path: Path, hours: int) -> None:
    """Ahead: the same numbers. More than an hour behind the log: HALT, and nothing written."""
    environment = patch(
        tmp_path / "patch",
        "from datetime import timedelta",
        "from pipeline.edges.clock import SystemClock",
        "real = SystemClock.now",
        f"SystemClock.now = lambda self: real(self) + timedelta(hours={hours})",
    )
    stage.publish()
    worker = stage.worker(**environment)
    if hours < 0:
        stage.halted_alone(worker, "correct the clock", 0, 1)
        assert stage.watch.nexts() == [0, 0]
        stage.workers.end()
        stage.worker()

    stage.exact()


def test_f28_an_older_release_does_not_consume(stage: Stage) -> None:
    """A version of a later release that is active in a partition: exit 5, naming it."""
    stage.running()
    stage.workers.end()
    record = {
        "type": "definition",
        "schema_version": 99,
        "metric_id": "later",
        "version": 1,
        "name": "of a later release",
    }
    producer = Producer({"bootstrap.servers": stage.recount.services.kafka})
    producer.produce(f"{stage.recount.deployment}.metrics.control", json.dumps(record))
    assert producer.flush(20) == 0
    stage.worker()
    stage.publish()
    stage.caught_up()  # known, and active nowhere: it holds its name and harms nobody
    stage.workers.end()
    key = keys_of(stage.recount).state
    held = {name.decode(): text.decode() for name, text in stage.redis.client.hgetall(key).items()}
    number = next_number(decode_state(held).active)
    stage.redis.client.hset(key, "act:later#1", f"5:5:{'0' * 32}:{number}:1")
    before = stage.watch.nexts()
    stage.publish()

    stage.halted(
        stage.worker(), "counts metric version later#1, which this release cannot compute"
    )
    assert stage.watch.nexts()[0] == before[0]


def test_f29_definitions_at_bad_moments(breakable: Stage, broker: OwnKafka) -> None:
    """Rubbish and tombstones on the control log change nothing; boot waits for the control log."""
    stage = breakable
    stage.running()
    producer = Producer({"bootstrap.servers": stage.recount.services.kafka})
    topic = f"{stage.recount.deployment}.metrics.control"
    first = next(iter(stage.metrics))
    second = {"type": "definition", "schema_version": 1, "metric_id": first, "version": 1}
    for value in (b"rubbish", None, json.dumps(second).encode(), b"[" * 5_000):
        producer.produce(topic, value, key=first)
    assert producer.flush(20) == 0
    stage.publish()
    stage.exact()
    stage.workers.end()

    broker.proxy.hold()
    worker = stage.worker()
    stage.publish()
    eventually(lambda: broker.proxy.caught > 0, within_s=20, because="boot is held up")
    before = stage.watch.nexts()
    body = {"name": "later", "aggregation_type": "COUNT"}
    stage.metrics[stage.recount.create(body)] = body
    assert stage.watch.nexts() == before
    broker.proxy.release()
    stage.caught_up()
    stage.recount.run("audit")

    assert worker.poll() is None


@pytest.mark.long
def test_f42_a_worker_behind_the_control_log(stage: Stage, tmp_path: Path) -> None:
    """It waits, bounded, for the versions that are active in its partitions, then exits 5."""
    environment = patch(
        tmp_path / "patch",
        "import asyncio",
        "from pipeline.app import opening",
        "from pipeline.control.log import ControlLog",
        "opening._VERSIONS_WAIT_S_MAX = 3.0",
        "async def poll(self):",
        "    if getattr(self, 'deaf', False): await asyncio.sleep(0.2); return False",
        "    return await real(self)",
        "real, ControlLog.poll = ControlLog.poll, poll",
        "follow = __import__('pipeline.app.catalogue', fromlist=['x']).Definitions.follow",
        "async def deaf(self, log):",
        "    log.deaf = True",
        "    await follow(self, log)",
        "__import__('pipeline.app.catalogue', fromlist=['x']).Definitions.follow = deaf",
    )
    behind = stage.running(**environment)
    stage.recount.create({"name": "new", "aggregation_type": "COUNT"})
    ahead = stage.worker()
    eventually(
        lambda: (
            stage.redis.client.hget(keys_of(stage.recount).state, "acts") and _active(stage) >= 5
        ),
        within_s=40,
        because="the new version is active where the other worker writes",
    )
    os.killpg(ahead.pid, signal.SIGKILL)
    stage.publish()

    stage.halted(behind, "which is not on the control log")


def _active(stage: Stage) -> int:
    """How many activations all partitions have."""
    return sum(
        name.startswith(b"act:")
        for number in range(2)
        for name in stage.redis.client.hkeys(keys_of(stage.recount, number).state)
    )


def test_f34_two_deployments_under_one_prefix(stage: Stage) -> None:
    """Another deployment's identity under our name is HALT, for a worker that runs as well."""
    worker = stage.running()
    key = f"recount:{stage.recount.deployment}:identity"
    foreign = json.dumps({"store_id": "f" * 32})
    stage.redis.client.set(key, foreign)

    stage.halted(worker, "two deployments under one prefix")
    assert stage.recount.ended("init").returncode == 5


def test_f24_an_eviction_policy_set_while_it_runs(stage: Stage) -> None:
    """A policy that may evict a bill is found by the timer, not only at start."""
    worker = stage.running()
    stage.redis.client.config_set("maxmemory-policy", "allkeys-lru")

    stage.halted(worker, "noeviction")


def test_telemetry_tells_what_redis_holds(stage: Stage) -> None:
    """/healthz, /readyz and /metrics answer; the counts are those of `recount status`."""
    port = free_port()
    stage.running(RECOUNT_TELEMETRY_PORT=str(port))
    stage.send([b"rubbish"])
    stage.caught_up()

    def ask(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read(), "utf-8")

    assert ask("/healthz") == "alive\n"
    assert ask("/readyz") == "ready\n"
    status = stage.recount.run("status")[-1]
    lines = dict(
        line.rsplit(" ", 1) for line in ask("/metrics").splitlines() if not line.startswith("#")
    )
    for fate in ("counted", "unmatched", "duplicate", "rejected"):
        told = sum(
            float(lines[f'recount_events_total{{fate="{fate}",partition="{number}"}}'])
            for number in range(2)
        )
        assert told == status[fate]
    rejected = [name for name in lines if name.startswith("recount_rejected_events_total")]
    assert [name.split('reason="')[1] for name in rejected] == ['not_json"}']
    assert float(lines["recount_commits_total"]) > 0
    assert float(lines["recount_assigned_partitions"]) == 2
    ids = sum(
        float(lines[f'recount_remembered_ids{{partition="{number}"}}']) for number in range(2)
    )
    assert ids == status["counted"] + status["unmatched"]
    assert float(lines['recount_id_index_bytes{partition="0"}']) > 13 * ids
    assert float(lines["process_resident_memory_bytes"]) > 2**20


@pytest.mark.long
def test_f27_hot_and_wide(stage: Stage) -> None:
    """Far more cells than a flush may touch: cut by offset, no script holds Redis for long."""
    events = stage.events(30_000)
    lines = [
        json.dumps({**event, "transaction_id": f"w{number}", "customer_id": f"w{number}"})
        for number, event in enumerate(events)
    ]
    stage.redis.client.config_set("slowlog-log-slower-than", 100_000)
    stage.send([line.encode() for line in lines])
    stage.worker()
    stage.exact()

    assert stage.proxy.commits > 4
    assert stage.redis.client.slowlog_len() == 0
