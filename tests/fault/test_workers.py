"""Workers killed, frozen and rebalanced under traffic: every event still counts once."""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from ..services import Recount
from ..waiting import eventually
from .harness import Workers, assert_exact, create_five, lag, nexts

CHUNK = 4_000


@pytest.fixture
def workers(recount: Recount, tmp_path: Path) -> Iterator[Workers]:
    """The workers of a test; none outlives it, and a failure shows what they said."""
    made = Workers(recount, tmp_path)
    yield made
    made.end()
    sys.stderr.write(made.logs())


@pytest.fixture
def metrics(recount: Recount) -> dict[str, dict[str, Any]]:
    """Five metrics on four partitions."""
    recount.run("init", "--partitions", "4")
    return create_five(recount)


class Traffic:
    """Seeded events with retries, unreadable values and malformed lines."""

    def __init__(self, recount: Recount, seed: int) -> None:
        sys.stderr.write(f"seed {seed}\n")
        self.recount = recount
        self.draw = random.Random(seed)
        self.sent = 0
        self.now = datetime.now(UTC).replace(microsecond=0)  # noqa: TID251  a test's own clock

    def line(self) -> dict[str, Any] | bytes:
        """One more event, or a copy, or rubbish."""
        draw = self.draw
        if draw.random() < 0.005:
            return draw.choice([b"rubbish", b"{}", b"", b'{"a":1}'])
        number = self.sent if draw.random() < 0.9 else draw.randrange(self.sent + 1)
        self.sent += number == self.sent
        own = random.Random(number)
        late = timedelta(seconds=own.randrange(7200))
        return {
            "transaction_id": f"t{number}",
            "customer_id": f"c{number % 23}",
            "event_type": own.choice(["use", "use", "other"]),
            "timestamp": (self.now - late).isoformat(),
            "properties": {
                "v": own.choice([own.randrange(1000), f"{own.randrange(10**6)}e-3", "x", None]),
                "g": own.choice(["a", "b"]),
            },
        }

    def publish(self, count: int = CHUNK) -> None:
        """Send a chunk."""
        self.recount.publish([self.line() for _ in range(count)])


def caught_up(recount: Recount) -> None:
    """Wait until nothing is left to apply."""
    eventually(lambda: lag(recount) == 0, within_s=60, because="the end of the log is reached")


def test_f1_killed_several_times(
    recount: Recount, workers: Workers, metrics: dict[str, dict[str, Any]]
) -> None:
    """Workers killed with -9 in the middle of traffic, several times, end exact."""
    seed = int(os.environ.get("SEED", time.time_ns() % 10**6))
    traffic, draw = Traffic(recount, seed), random.Random(seed)
    alive = [workers.start(), workers.start()]
    for _ in range(4):
        before = nexts(recount)
        traffic.publish()
        eventually(
            lambda before=before: nexts(recount) > before,  # type: ignore[misc]
            within_s=40,
            because="the stream moves",
        )
        victim = alive.pop(draw.randrange(len(alive)))
        workers.kill(victim)
        alive.append(workers.start())

    caught_up(recount)
    assert assert_exact(recount, metrics) == 4 * CHUNK


def test_f7_rebalance_under_traffic(
    recount: Recount, workers: Workers, metrics: dict[str, dict[str, Any]]
) -> None:
    """Workers that come and go politely, three processes for four partitions, end exact."""
    traffic = Traffic(recount, 7)
    first = workers.start("--processes", "2")
    traffic.publish()
    second = workers.start()
    traffic.publish()
    eventually(lambda: nexts(recount) > CHUNK, within_s=40, because="the stream moves")
    first.send_signal(signal.SIGTERM)
    traffic.publish()

    assert first.wait(20) == 0
    caught_up(recount)
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    assert assert_exact(recount, metrics) == 3 * CHUNK


def test_f5_zombie_after_progress(
    recount: Recount, workers: Workers, metrics: dict[str, dict[str, Any]]
) -> None:
    """A worker frozen beyond its session wakes up after others moved on: it changes nothing."""
    traffic = Traffic(recount, 5)
    zombie = workers.start()
    traffic.publish()
    eventually(lambda: nexts(recount) > 0, within_s=40, because="the stream moves")
    workers.signal_children(zombie, signal.SIGSTOP)
    frozen_at = nexts(recount)
    traffic.publish()
    workers.start()
    eventually(
        lambda: nexts(recount) > frozen_at + CHUNK // 2,
        within_s=40,
        because="the group drops the frozen member and another one goes on",
    )
    workers.signal_children(zombie, signal.SIGCONT)
    traffic.publish()

    caught_up(recount)
    assert assert_exact(recount, metrics) == 3 * CHUNK


def test_f33_signals_at_bad_moments(recount: Recount, workers: Workers) -> None:
    """SIGTERM during boot, and twice: the worker leaves within its limit, with 0."""
    recount.run("init", "--partitions", "4")
    process = workers.start()
    workers.signal_children(process, 0)  # it has a child: boot has begun
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)

    assert process.wait(25) == 0
    assert workers.children(process) == []


def test_supervisor_killed_takes_its_processes_along(recount: Recount, workers: Workers) -> None:
    """Kill -9 of the supervisor alone leaves no worker process behind."""
    recount.run("init", "--partitions", "4")
    process = workers.start("--processes", "2")
    children = eventually(
        lambda: len(found := workers.children(process)) == 2 and found,
        within_s=10,
        because="both processes start",
    )
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)

    def gone() -> bool:
        return not any(Path(f"/proc/{pid}/cmdline").exists() for pid in children or ())

    eventually(gone, within_s=20, because="the worker processes leave")


def test_f36_a_bug_in_the_handler(
    recount: Recount,
    workers: Workers,
    metrics: dict[str, dict[str, Any]],
    tmp_path: Path,
) -> None:
    """An unexpected exception ends the process with 70 before any write, again and again."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'worker-process' in sys.argv:\n"
        "    from pipeline.core.event import Decoder\n"
        "    real = Decoder.decode\n"
        "    def decode(self, value):\n"
        "        if b'boom' in value: raise RuntimeError('boom')\n"
        "        return real(self, value)\n"
        "    Decoder.decode = decode\n"
    )
    recount.publish([b"x", json.dumps({"customer_id": "c1", "boom": 1}).encode()])
    worker = workers.start(PYTHONPATH=str(tmp_path))
    eventually(
        lambda: workers.logs().count("starts_again") > 1, within_s=40, because="it is restarted"
    )

    assert worker.poll() is None
    assert "boom" in workers.logs()
    workers.kill(worker)
    recount.catch_up()
    assert assert_exact(recount, metrics) == 2


def test_f39_committed_offsets_disagree(
    recount: Recount, metrics: dict[str, dict[str, Any]]
) -> None:
    """Whatever offsets Kafka's group holds, the worker starts where Redis stands."""
    traffic = Traffic(recount, 39)
    for wrong in (0, CHUNK, 3):
        traffic.publish()
        client = Consumer(
            {
                "bootstrap.servers": recount.services.kafka,
                "group.id": f"{recount.deployment}.recount",
            }
        )
        topic = f"{recount.deployment}.usage.events"
        points = [TopicPartition(topic, number, wrong) for number in range(4)]
        client.commit(offsets=points, asynchronous=False)
        assert all(point.offset == wrong for point in client.committed(points))
        client.close()
        recount.catch_up()

    assert assert_exact(recount, metrics) == 3 * CHUNK
