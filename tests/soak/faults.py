"""What is done to the system under traffic. Each fault returns when it has ended.

None of them is a HALT of the deployment: after each, the stream has to move again by itself.
"""

import os
import random
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from ..fault.alone import reads_alone
from ..fault.brokers import OwnBrokers, Proxies
from ..fault.cluster import OwnCluster
from ..fault.harness import Workers
from ..fault.own import OwnKafka, OwnRedis
from ..fault.proxy import Proxy, is_commit
from ..services import Recount
from ..stored import kept, keys_of
from ..waiting import eventually

REBUILD_S_MAX: Final = 400  # of one partition, with some hundred metrics, beside all the rest
_CLOCK: Final = """
import sys
if "worker-process" in sys.argv:
    from datetime import timedelta
    from pipeline.edges.clock import SystemClock
    real = SystemClock.now
    SystemClock.now = lambda self: real(self) + timedelta(hours={hours})
"""


class Memory(NamedTuple):
    """MiB of a worker process, resident, and of its index of identities."""

    resident: float
    ids: float


def _memory(port: int) -> Memory | None:
    """What a worker process says; None while it does not run."""
    found = {"process_resident_memory_bytes": 0.0, "recount_id_index_bytes": 0.0}
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = str(answer.read(), "utf-8")
    except OSError:
        return None
    for family in text_string_to_metric_families(text):
        if family.name in found:
            found[family.name] = sum(sample.value for sample in family.samples)
    return Memory(*(each / 2**20 for each in found.values()))


def _free_ports(count: int) -> int:
    """The first of some ports in a row, below those that the system hands out by itself."""
    for port in range(random.SystemRandom().randrange(20_000, 29_000), 31_000, count):
        with ExitStack() as stack, suppress(OSError):
            for number in range(port, port + count):
                stack.enter_context(socket.socket()).bind(("", number))
            return port
    raise AssertionError("no ports are free")


@dataclass
class Ground:
    """What faults work on. recount: straight to the services; workers go through proxies."""

    recount: Recount
    workers: Workers
    kafka: OwnKafka | OwnBrokers
    store: OwnRedis | OwnCluster
    redis_proxy: Proxy | None  # before one Redis; a cluster's nodes are reached directly
    draw: random.Random
    folder: Path
    alive: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    telemetry: dict[int, list[int]] = field(default_factory=dict)  # of supervisors: their ports
    partitions: int = 4
    defined: int = 0
    damages: int = 0  # begun and ended: an audit is right only where it is even, and stays

    @property
    def broker(self) -> OwnKafka:
        """The one broker."""
        assert isinstance(self.kafka, OwnKafka)
        return self.kafka

    @property
    def brokers(self) -> OwnBrokers:
        """The three brokers."""
        assert isinstance(self.kafka, OwnBrokers)
        return self.kafka

    @property
    def redis(self) -> OwnRedis:
        """The one Redis."""
        assert isinstance(self.store, OwnRedis)
        return self.store

    @property
    def cluster(self) -> OwnCluster:
        """The Redis Cluster."""
        assert isinstance(self.store, OwnCluster)
        return self.store

    @property
    def commits(self) -> Proxy:
        """Where commits of workers come by."""
        assert self.redis_proxy is not None
        return self.redis_proxy

    @property
    def proxies(self) -> list[Proxy | Proxies]:
        """All that workers go through."""
        return [self.kafka.proxy, *([self.redis_proxy] if self.redis_proxy else [])]

    def pause(self, seconds: float) -> None:
        """Let a fault last."""
        threading.Event().wait(seconds)

    def start_worker(self, processes: int = 1) -> None:
        """One more supervisor."""
        port = _free_ports(processes)
        started = self.workers.start(
            "--processes", str(processes), RECOUNT_TELEMETRY_PORT=str(port)
        )
        self.alive.append(started)
        self.telemetry[started.pid] = list(range(port, port + processes))

    def memory(self) -> list[Memory]:
        """What every worker process that answers says of its memory."""
        ports = [port for each in self.alive for port in self.telemetry[each.pid]]
        return [told for port in ports if (told := _memory(port)) is not None]

    def child(self) -> int:
        """Any worker process."""
        found = eventually(
            lambda: [pid for each in self.alive for pid in self.workers.children(each)],
            within_s=30,
            because="worker processes run",
        )
        return self.draw.choice(found)


def kill_worker(at: Ground) -> None:
    """Kill -9 of a worker process; its supervisor starts another."""
    os.kill(at.child(), signal.SIGKILL)


def kill_supervisor(at: Ground) -> None:
    """Kill -9 of a supervisor with its processes; another one is started."""
    at.workers.kill(at.alive.pop(at.draw.randrange(len(at.alive))))
    at.start_worker(at.draw.choice([1, 2]))


def freeze_worker(at: Ground) -> None:
    """A worker process frozen beyond its session, a zombie when it wakes."""
    pid = at.child()
    os.kill(pid, signal.SIGSTOP)
    at.pause(at.draw.uniform(1.25, 2.5) * at.workers.session_s)
    os.kill(pid, signal.SIGCONT)


def roll(at: Ground) -> None:
    """A rolling restart: SIGTERM, a clean end, another worker."""
    leaving = at.alive.pop(at.draw.randrange(len(at.alive)))
    leaving.send_signal(signal.SIGTERM)
    at.start_worker(at.draw.choice([1, 2]))
    code = leaving.wait(25)
    assert code in {0, -signal.SIGTERM}, f"a worker left with {code}"


def storm(at: Ground) -> None:
    """Workers that join and leave every second, more processes than partitions."""
    for _ in range(3):
        visitor = at.workers.start("--processes", "3")
        at.pause(at.draw.uniform(0.5, 3))
        visitor.send_signal(signal.SIGTERM)
        # Before it has come as far as to listen for it, the signal ends it at once.
        code = visitor.wait(25)
        assert code in {0, -signal.SIGTERM}, f"a worker left with {code}"


def redis_killed(at: Ground) -> None:
    """Kill -9 of Redis, started on the same files."""
    at.redis.kill()
    at.pause(at.draw.uniform(0, 2))
    at.redis.start()


def redis_torn(at: Ground) -> None:
    """Redis killed, its file cut anywhere in the last writes."""
    at.redis.kill()
    path = at.redis.last_aof()
    size = path.stat().st_size
    os.truncate(path, max(size - at.draw.randrange(1, 200_000), 0))
    at.redis.start()


def redis_frozen(at: Ground) -> None:
    """Redis does not answer for a while."""
    at.redis.pause()
    at.pause(at.draw.uniform(1, 5))
    at.redis.resume()


def redis_full(at: Ground) -> None:
    """Redis out of memory for a while."""
    at.redis.client.config_set("maxmemory", 1)
    at.pause(at.draw.uniform(0.5, 3))
    at.redis.client.config_set("maxmemory", 0)


def redis_busy(at: Ground) -> None:
    """Another client's script keeps Redis busy."""
    at.redis.client.config_set("lua-time-limit", 100)
    script = "local s = redis.call('TIME')[1] while redis.call('TIME')[1] - s < 3 do end"
    at.redis.client.eval(script, 0)


def redis_forgets_scripts(at: Ground) -> None:
    """SCRIPT FLUSH, and every client thrown out."""
    at.redis.client.script_flush()
    at.redis.client.client_kill_filter(_type="normal")


def reply_lost(at: Ground) -> None:
    """Commits are applied and their replies swallowed; then the connection dies."""
    at.commits.swallow(is_commit)
    at.pause(at.draw.uniform(0.5, 2))
    at.commits.release()
    at.commits.reset()


def reply_late(at: Ground) -> None:
    """Commits are held back for a while."""
    at.commits.hold(is_commit)
    at.pause(at.draw.uniform(0.5, 4))
    at.commits.release()


def slow_network(at: Ground) -> None:
    """Half a second more each way, to Redis and to Kafka."""
    with ExitStack() as stack:
        for proxy in at.proxies:
            stack.enter_context(proxy.delaying(0.25))
        at.pause(at.draw.uniform(1, 3))


def connections_reset(at: Ground) -> None:
    """Every connection reset, again and again."""
    for _ in range(5):
        for proxy in at.proxies:
            proxy.reset()
        at.pause(at.draw.uniform(0, 0.3))


def kafka_killed(at: Ground) -> None:
    """Kill -9 of the broker, started on the same data."""
    at.broker.kill()
    at.broker.start()


def kafka_away_under_reads(at: Ground) -> None:
    """Kill -9 of the broker, and reads while it is away."""
    eventually(lambda: kept(at.recount) > 1, within_s=60, because="the copy is there")
    at.broker.kill()
    try:
        reads_alone(at.recount, at.draw.randrange(1, 4))
    finally:
        at.broker.start()


def kafka_restarted(at: Ground) -> None:
    """A clean restart of the broker."""
    at.broker.terminate()
    at.pause(at.draw.uniform(0, 2))
    at.broker.start()


def kafka_frozen(at: Ground) -> None:
    """The broker does not answer for a while."""
    at.broker.pause()
    at.pause(at.draw.uniform(1, 6))
    at.broker.resume()


def kafka_unreachable(at: Ground) -> None:
    """Workers cannot reach the broker; producers can."""
    at.kafka.proxy.refuse()
    at.pause(at.draw.uniform(1, 6))
    at.kafka.proxy.release()


def define(at: Ground) -> None:
    """A definition comes, another one ends."""
    kinds = ("COUNT", "SUM", "MAX", "LATEST", "UNIQUE")
    kind = kinds[at.defined % len(kinds)]
    at.defined += 1
    body = {
        "name": f"extra{at.defined}",
        "aggregation_type": kind,
        "event_type_filter": {"in_values": ["use"]},
        "property_filters": [{"name": "v"}, {"name": "g", "exists": True}],
        "group_keys": [["g"]] if at.defined % 2 else [],
    }
    if kind != "COUNT":
        body["aggregation_key"] = "v"
    at.recount.create(body)
    if at.defined > 1:
        at.recount.run("metrics", "archive", f"extra{at.defined - 1}")


def grow(at: Ground) -> None:
    """Two partitions more, under traffic."""
    at.partitions += 2
    at.recount.run("init", "--partitions", str(at.partitions))


def rebuild(at: Ground) -> None:
    """One partition applied again, beside or in place, under traffic and with workers running."""
    how = at.draw.choice([[], [], ["--in-place"]])
    at.recount.run(
        "rebuild", "--partition", str(at.draw.randrange(4)), *how, within_s=REBUILD_S_MAX
    )


def rebuild_killed(at: Ground) -> None:
    """A rebuild killed half way; the next one finishes it, or it is given up."""
    number = str(at.draw.randrange(4))
    first = at.recount.start("rebuild", "--partition", number, stderr=subprocess.DEVNULL)
    at.pause(at.draw.uniform(0.2, 2))
    first.kill()
    first.wait()
    how = at.draw.choice([[], [], ["--abandon"], ["--in-place"]])
    at.recount.run("rebuild", "--partition", number, *how, within_s=REBUILD_S_MAX)


def partition_halted(at: Ground) -> None:
    """A state that its id log contradicts: one partition halts, the others move; then mended."""
    number, client = at.draw.randrange(4), at.redis.client
    keys = [keys_of(at.recount, each).state for each in range(4)]
    others = [key for each, key in enumerate(keys) if each != number]
    script = (
        "local held = redis.call('HGET', KEYS[1], 'ids') "
        "redis.call('HSET', KEYS[1], 'ids', '1=1') return held"
    )
    at.damages += 1
    right = client.eval(script, 1, keys[number])
    eventually(
        lambda: client.hget(keys[number], "halted"), within_s=60, because=f"{number} has halted"
    )
    stood = [int(client.hget(key, "next")) for key in [keys[number], *others]]
    eventually(
        lambda: all(
            int(client.hget(key, "next")) > before
            for key, before in zip(others, stood[1:], strict=True)
        ),
        within_s=30,
        because=f"the others move while {number} has halted",
    )
    assert int(client.hget(keys[number], "next")) == stood[0], "a halted partition moved"
    client.hset(keys[number], "ids", right)
    at.damages += 1


def skewed(at: Ground, hours: int = 25) -> None:
    """A worker whose clock is a day ahead takes part for a while."""
    folder = at.folder / "skewed"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_CLOCK.format(hours=hours))
    visitor = at.workers.start(PYTHONPATH=str(folder))
    at.pause(at.draw.uniform(3, 6))
    visitor.send_signal(signal.SIGTERM)
    assert visitor.wait(25) == 0, "a worker did not leave within its limit"


# fault → how often it is drawn beside the others
Faults = Mapping[Callable[[Ground], None], int]
ANYWHERE: Final[Faults] = {
    kill_worker: 4,
    kill_supervisor: 2,
    freeze_worker: 3,
    roll: 2,
    storm: 1,
    slow_network: 1,
    connections_reset: 2,
    kafka_unreachable: 1,
    define: 1,
    grow: 1,
    rebuild: 1,
    rebuild_killed: 1,
    skewed: 1,
}
OF_ONE_REDIS: Final[Faults] = {
    redis_killed: 3,
    redis_torn: 3,
    redis_frozen: 2,
    redis_full: 1,
    redis_busy: 1,
    redis_forgets_scripts: 1,
    reply_lost: 3,
    reply_late: 2,
    partition_halted: 2,
}
OF_ONE_BROKER: Final[Faults] = {
    kafka_killed: 2,
    kafka_away_under_reads: 1,
    kafka_restarted: 1,
    kafka_frozen: 1,
}
