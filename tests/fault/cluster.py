"""A Redis Cluster of one test module: three masters with a replica each, native processes.

certificates: a folder, see tests/hosted.py; then nodes speak TLS alone, among each other as well.
"""

import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import redis

from pipeline.edges.redis_keys import SLOTS, slot_of
from pipeline.stack.processes import free_port

from ..hosted import certify_redis, tls_options, tls_query
from ..waiting import eventually
from .own import OwnRedis

SHARDS: Final = 3
_OPTIONS: Final = (
    *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
    *("--cluster-node-timeout", "1500", "--cluster-require-full-coverage", "no"),
    *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
    *("--repl-timeout", "20"),
)
_OF_TLS: Final = ("--tls-cluster", "yes", "--tls-replication", "yes")
_BUS: Final = 10_000  # above its port a node listens for the others
# So that systems give neither port to outgoing connections (free_port()).
_PORTS: Final = range(20_000, 22_000)


def _port() -> int:
    for port in random.sample(_PORTS, len(_PORTS)):
        if free_port(port) == port and free_port(port + _BUS) == port + _BUS:
            return port
    raise AssertionError("no free port")


@dataclass(frozen=True)
class Seen:
    """What a node says of another one, or of itself."""

    name: str
    port: int
    is_master: bool
    fails: bool
    master: str
    has_slots: bool


@dataclass
class OwnCluster:
    """Its nodes; which of them are masters changes. binary: as of OwnRedis."""

    folder: Path
    binary: str = ""
    certificates: Path | None = None
    nodes: list[OwnRedis] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The address of a deployment; the first node may be down."""
        return self.address_of(*(f"127.0.0.1:{node.port}" for node in self.nodes[:3]))

    def address_of(self, *hosts: str, login: str = "") -> str:
        """The address with these hosts. login: user:password@."""
        tls = self.certificates
        query = f"?{tls_query(tls)}" if tls else ""
        return f"redis{'s' if tls else ''}+cluster://{login}{','.join(hosts)}{query}"

    def start(self) -> None:
        """Start six nodes, make them a cluster, and wait until it is one."""
        for number in range(2 * SHARDS):
            self.nodes.append(self._node(self.folder / f"node-{number}"))
            self.nodes[-1].start()
        bounds = [SLOTS * shard // SHARDS for shard in range(SHARDS + 1)]
        for shard, node in enumerate(self.nodes[:SHARDS]):
            _ask(node, "CLUSTER", "ADDSLOTS", *range(bounds[shard], bounds[shard + 1]))
            _ask(node, "CLUSTER", "SET-CONFIG-EPOCH", shard + 1)
        for node in self.nodes[1:]:
            _ask(node, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        every = 2 * SHARDS
        eventually(
            lambda: all(len(self.seen(node)) == every for node in self.nodes),
            within_s=30,
            because="all nodes have met",
        )
        for shard, node in enumerate(self.nodes[SHARDS:]):
            name = self.name(self.nodes[shard])
            eventually(lambda: _replicates(node, name), within_s=20, because="it replicates")  # noqa: B023
        self.heal()

    def _node(self, folder: Path) -> OwnRedis:
        folder.mkdir(parents=True)
        port, tls = _port(), self.certificates
        options = (*_OPTIONS, *((*tls_options(tls, port), *_OF_TLS) if tls else ()))
        url = f"rediss://127.0.0.1:{port}/0?{tls_query(tls)}" if tls else ""
        return OwnRedis(folder, port=port, options=options, other_url=url, binary=self.binary)

    def seen(self, node: OwnRedis) -> list[Seen]:
        """The cluster as a node sees it."""
        found = []
        for line in _ask(node, "CLUSTER", "NODES").decode().splitlines():
            name, address, flags, master, *_, link = (parts := line.split(" "))[:8]
            assert link in {"connected", "disconnected"}
            kinds = flags.split(",")
            if "handshake" in kinds or "noaddr" in kinds:
                continue
            port = int(address.partition("@")[0].rpartition(":")[2])
            fails = "fail" in kinds or "fail?" in kinds
            found.append(Seen(name, port, "master" in kinds, fails, master, len(parts) > 8))
        return found

    def name(self, node: OwnRedis) -> str:
        """The name that a node has among the others."""
        return str(_ask(node, "CLUSTER", "MYID").decode())

    def at(self, port: int) -> OwnRedis:
        """The node of a port."""
        return next(node for node in self.nodes if node.port == port)

    def alive(self) -> list[OwnRedis]:
        """The nodes that run."""
        return [node for node in self.nodes if node.process and node.process.poll() is None]

    def master_of(self, key: str, *, says: OwnRedis | None = None) -> OwnRedis:
        """The node that has the slot of a key, as a node says, or any."""
        slot = slot_of(key)
        for low, high, master, *_ in _ask(says or self.alive()[0], "CLUSTER", "SLOTS"):
            if low <= slot <= high:
                return self.at(int(master[1]))
        raise AssertionError(f"nobody has slot {slot}")

    def masters(self) -> list[OwnRedis]:
        """The nodes that have slots."""
        found = self.seen(self.alive()[0])
        return [self.at(each.port) for each in found if each.is_master and each.has_slots]

    def replica_of(self, master: OwnRedis) -> OwnRedis:
        """The replica of a master."""
        name = self.name(master)
        return next(self.at(each.port) for each in self.seen(master) if each.master == name)

    def heal(self) -> None:
        """Bring every node back, and wait until each master has its replica."""
        for node in self.nodes:
            if node.process is None or node.process.poll() is not None:
                node.start()
        eventually(self._is_whole, within_s=60, because="the cluster is whole")

    def _is_whole(self) -> bool:
        views = [self.seen(node) for node in self.nodes]
        kinds = {
            frozenset((each.name, each.is_master, each.master) for each in view) for view in views
        }
        return (
            len(kinds) == 1
            and not any(each.fails for view in views for each in view)
            and sum(each.is_master for each in views[0]) == SHARDS
            and all(b"cluster_state:ok" in _ask(node, "CLUSTER", "INFO") for node in self.nodes)
            and all(_is_linked(node) for node in self.nodes)
        )

    @contextmanager
    def moving(self, key: str, target: OwnRedis) -> Iterator[int]:
        """Move the slot of a key to another master, as redis-cli does; half of it is moved within.

        Yields:
            How many keys are moved by then.
        """
        slot, source = slot_of(key), self.master_of(key)
        names = self.name(source), self.name(target)
        _ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[0])
        _ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[1])
        half = (_ask(source, "CLUSTER", "COUNTKEYSINSLOT", slot) + 1) // 2
        migrate = ("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS")
        _ask(source, *migrate, *_ask(source, "CLUSTER", "GETKEYSINSLOT", slot, half))
        yield half
        while keys := _ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 50):
            _ask(source, *migrate, *keys)
        for node in (target, source, *self.masters()):
            _ask(node, "CLUSTER", "SETSLOT", slot, "NODE", names[1])

    def next_of(self, node: OwnRedis, key: str) -> int:
        """The offset in a partition's state, as this very node has it."""
        with node.client as client:
            client.execute_command("READONLY")
            return int(client.hget(key, "next") or -1)

    def stop_replicating(self, master: OwnRedis) -> None:
        """From now on its replica lags: the master refuses to tell it anything, until it ends."""
        _ask(master, "ACL", "SETUSER", "default", "-psync", "-sync")
        _ask(master, "CLIENT", "KILL", "TYPE", "replica")

    def empty(self, master: OwnRedis) -> None:
        """Kill a master, and start it without its data, before its replica takes over."""
        master.kill()
        for path in (master.folder / "redis").iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "nodes.conf":
                path.unlink()
        master.start()

    def end(self) -> None:
        """End every node."""
        for node in self.alive():
            node.kill()


def _ask(node: OwnRedis, *command: Any) -> Any:
    with node.client as client:
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            client.connection_pool.release(connection)


def _replicates(node: OwnRedis, name: str) -> bool:
    try:
        return bool(_ask(node, "CLUSTER", "REPLICATE", name) == b"OK")
    except redis.ResponseError:
        return False


def _is_linked(node: OwnRedis) -> bool:
    """Whether a replica has all that its master has."""
    told = _ask(node, "INFO", "replication").decode()
    return "role:master" in told or "master_link_status:up" in told


@contextmanager
def own_cluster(folder: Path, binary: str = "", *, tls: bool = False) -> Iterator[OwnCluster]:
    """A cluster that ends with the block. tls: it speaks TLS alone, and wants certificates."""
    if tls:
        certify_redis(folder / "certificates")
    made = OwnCluster(folder, binary, folder / "certificates" if tls else None)
    try:
        made.start()
        yield made
    finally:
        made.end()
