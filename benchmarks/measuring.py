"""What a run costs: time, CPU of the process, of Redis and of the broker, and peak memory."""

import json
import os
import platform
import re
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis

from tests.services import Recount, Services, fresh
from tests.stored import client_of

from .jobs import METRONOME, Job
from .traffic import PARTITIONS

_CLOCK = os.sysconf("SC_CLK_TCK")
_POLL_S = 0.05
_PARTITION = re.compile(rb"/(\d+)")  # in a key of a deployment's partition


@dataclass(frozen=True)
class Measured:
    """One run. half: of its second half. half_events: 0 where those are just a half.

    exact: whether its numbers are those of the recount: with duplicates once, or counting each.
    """

    events: int
    seconds: float
    cpu: float
    half_seconds: float
    half_cpu: float
    redis_cpu: float
    broker_cpu: float
    memory_mib: float
    exact: str
    half_events: float = 0.0

    @property
    def rate(self) -> float:
        """Thousand events a second."""
        return self.events / self.seconds / 1000

    @property
    def half_rate(self) -> float:
        """The same of the second half."""
        return (self.half_events or self.events / 2) / self.half_seconds / 1000

    @property
    def cost(self) -> float:
        """CPU microseconds an event."""
        return self.cpu / self.events * 1e6

    @property
    def redis_cost(self) -> float:
        """CPU microseconds of Redis an event."""
        return self.redis_cpu / self.events * 1e6


def deployed(found: Services, name: str, job: Job = METRONOME) -> Recount:
    """A fresh deployment that counts a job's metrics."""
    recount = Recount(found, fresh(name))
    set_up(recount, job)
    return recount


def set_up(recount: Recount, job: Job, *options: str) -> None:
    """Make a deployment and the metrics of a job in it. options: of `recount init`."""
    recount.run("init", "--partitions", str(PARTITIONS), *options)
    for metric in job.metrics:
        text = json.dumps(metric).encode()
        recount.run("metrics", "create", "--format", job.system, "-", stdin=text)


def kept(recount: Recount) -> dict[bytes, bytes]:
    """Return all that Redis holds of a deployment's partitions, whatever format that has."""
    with redis.Redis.from_url(recount.services.redis) as client:
        pattern = f"recount:{{{recount.deployment}/*"
        return {key: client.dump(key) for key in client.scan_iter(pattern, count=10_000)}


def put_back(recount: Recount, held: Mapping[bytes, bytes]) -> None:
    """Bring a deployment's partitions back to what kept() returned; {} drops them."""
    with redis.Redis.from_url(recount.services.redis) as client:
        for key in client.scan_iter(f"recount:{{{recount.deployment}/*", count=10_000):
            client.unlink(key)
        for key, text in held.items():
            client.restore(key, 0, text)


class Standing:
    """How far the workers of a deployment are, whatever format its state has.

    keys: of the state of each partition, in the order of their numbers.
    """

    def __init__(self, recount: Recount) -> None:
        self._redis = client_of(recount.services.redis)
        pattern = f"recount:{{{recount.deployment}/*:state"
        found = self._redis.scan_iter(pattern, count=10_000)
        self.keys = sorted(found, key=lambda key: int(_PARTITION.findall(key)[0]))
        assert len(self.keys) == PARTITIONS, self.keys

    def nexts(self) -> list[int]:
        """The next offset of each partition."""
        pipe = self._redis.pipeline(transaction=False)
        for key in self.keys:
            pipe.hget(key, "next")
        return [int(text or 0) for text in pipe.execute()]

    def done(self) -> int:
        """How many events are applied."""
        return sum(self.nexts())


class Around:
    """What Redis and the broker use while something runs, and the memory of a process."""

    def __init__(self, redis: Any, broker: int | None) -> None:
        self._redis = redis
        self._broker = broker
        self._before = self._now()
        self.memory_mib = 0.0

    def _now(self) -> tuple[float, float]:
        info = self._redis.info("cpu")
        used = float(info["used_cpu_sys"]) + float(info["used_cpu_user"])
        return used, cpu_of(self._broker) if self._broker else 0.0

    def begin(self) -> None:
        """Begin here: what was used before does not count."""
        self._before = self._now()

    def used(self) -> tuple[float, float]:
        """CPU seconds of Redis and of the broker since the beginning."""
        now = self._now()
        return now[0] - self._before[0], now[1] - self._before[1]

    def watch(self, pid: int) -> threading.Thread:
        """Follow the peak memory of a process until it ends."""

        def follow() -> None:
            while (peak := peak_mib(pid)) is not None:
                self.memory_mib = max(self.memory_mib, peak)
                time.sleep(_POLL_S)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        return thread


def run_peer(
    command: Sequence[str], path: Path, around: Around, *, cwd: Path, within_s: float
) -> dict[str, float]:
    """Run a peer to its end; return what it told (peers/common.py)."""
    told = Path(f"{path}.json")
    told.unlink(missing_ok=True)
    with Path(f"{path}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log)
        watching = around.watch(process.pid)
        try:
            process.wait(within_s)
        finally:
            process.kill()
            process.wait()
    watching.join(1)
    if not told.exists():
        raise RuntimeError(f"{command}: told nothing\n{Path(f'{path}.log').read_text()[-3000:]}")
    found: dict[str, float] = json.loads(told.read_text())
    return found


def run_worker(
    recount: Recount,
    events: int,
    around: Around,
    *processes: str,
    more: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Let workers apply the topic; the same as run_peer(). more: for their environment."""
    worker = recount.start("worker", *processes, more=more or {})
    try:
        return _follow(Standing(recount), worker.pid, events, around)
    finally:
        worker.terminate()
        worker.wait(30)


def _follow(standing: Standing, supervisor: int, events: int, around: Around) -> dict[str, float]:
    began = half = (0.0, 0.0)
    first = at_half = 0
    deadline = time.perf_counter() + 60 + events / 4_000
    while True:
        done = standing.done()
        now = time.perf_counter(), sum(cpu_of(child) for child in children(supervisor))
        if done and not first:
            # The first commit begins the clock: what was done before it does not count.
            began, first = now, done
            around.begin()
            around.watch(children(supervisor)[0])
        if done >= events / 2 and not half[0]:
            half, at_half = now, done
        if done >= events:
            return {
                "events": done - first,
                "seconds": now[0] - began[0],
                "cpu": now[1] - began[1],
                "half_seconds": now[0] - half[0],
                "half_cpu": now[1] - half[1],
                "half_events": done - at_half,
            }
        if now[0] > deadline:
            raise TimeoutError(f"the worker stands at {done} of {events}; see its log above")
        time.sleep(_POLL_S)


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def broker_pid(folder: Path) -> int | None:
    """The process of the broker whose files lie in a folder."""
    found = subprocess.run(
        ["pgrep", "-f", f"kafka.Kafka {folder}"], capture_output=True, text=True, check=False
    )
    pids = found.stdout.split()
    return int(pids[0]) if pids else None


def cpu_of(pid: int) -> float:
    """CPU seconds of a process so far; 0 where it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK


def peak_mib(pid: int) -> float | None:
    """The greatest resident memory of a process so far; None where it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return None


def machine() -> str:
    """Say where a figure comes from: processor, cores, versions."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
    names = ("aiokafka", "faust-streaming", "msgspec", "numpy", "redis")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}, {versions}"
