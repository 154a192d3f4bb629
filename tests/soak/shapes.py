"""The shapes of a soak: which Kafka, which Redis, and what is done to them.

plain: one broker and one Redis. secure: three brokers, to which every client logs in by SCRAM over
TLS. cluster: a Redis Cluster of three shards with a replica each. both: the two together.
"""

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..fault.brokers import OwnBrokers, own_brokers
from ..fault.cluster import OwnCluster, own_cluster
from ..fault.harness import SESSION_S
from ..fault.own import OwnKafka, OwnRedis, own_kafka, own_redis
from ..fault.proxy import Proxy
from ..fault.watch import RECOVERY_S_MAX
from ..services import Services
from ..stored import keys_of
from ..waiting import eventually
from .faults import ANYWHERE, OF_ONE_BROKER, OF_ONE_REDIS, Faults, Ground

SHAPES: Final = ("plain", "secure", "cluster", "both")


# -- of three brokers -----------------------------------------------------------------------------


def _topic(at: Ground) -> str:
    return f"{at.recount.deployment}.usage.events"


def leader_killed(at: Ground) -> None:
    """Kill -9 of the leader of a partition; it comes back after a while."""
    node = at.brokers.leader(_topic(at), at.draw.randrange(4))
    node.kill()
    at.pause(at.draw.uniform(0, 15))  # Kafka gives it up after nine seconds
    at.brokers.start()


def controller_killed(at: Ground) -> None:
    """Kill -9 of the broker that leads the quorum of controllers."""
    at.brokers.controller().kill()
    at.pause(at.draw.uniform(0, 5))
    at.brokers.start()


def two_brokers_away(at: Ground) -> None:
    """Two of three killed; nothing is acknowledged until one is back."""
    for node in at.draw.sample(at.brokers.nodes, 2):
        node.kill()
    at.pause(at.draw.uniform(0, 5))
    at.brokers.start()


def rolling_restart(at: Ground) -> None:
    """Each broker in turn ended cleanly and started."""
    for node in at.brokers.nodes:
        node.terminate()
        node.start()
        at.brokers.whole()


def leader_killed_ahead(at: Ground) -> None:
    """Kill -9 of a leader whose followers are frozen behind it."""
    leader = at.brokers.leader(_topic(at), at.draw.randrange(4))
    behind = at.brokers.others(leader)
    for node in behind:
        node.pause()
    at.pause(at.draw.uniform(0.2, 2))
    leader.kill()
    for node in behind:
        node.resume()
    at.pause(at.draw.uniform(0, 5))
    at.brokers.start()


def broker_frozen(at: Ground) -> None:
    """One broker does not answer for a while."""
    node = at.draw.choice(at.brokers.nodes)
    node.pause()
    at.pause(at.draw.uniform(1, 12))
    at.brokers.start()


OF_THREE_BROKERS: Final[Faults] = {
    leader_killed: 3,
    controller_killed: 1,
    two_brokers_away: 1,
    rolling_restart: 1,
    leader_killed_ahead: 2,
    broker_frozen: 2,
}


# -- of a Redis Cluster ---------------------------------------------------------------------------


def _master(at: Ground) -> OwnRedis:
    """The master of a partition."""
    return at.cluster.master_of(_key(at))


def _key(at: Ground) -> str:
    return keys_of(at.recount, at.draw.randrange(4)).state


def _promoted(at: Ground, dead: OwnRedis) -> None:
    """Wait until another node has the slots of one that is gone."""
    eventually(
        lambda: all(node.port != dead.port for node in at.cluster.masters()),
        within_s=60,
        because="its replica has taken over",
    )


def master_killed(at: Ground) -> None:
    """Kill -9 of a master; its replica takes over, without the latest writes maybe."""
    node = _master(at)
    node.kill()
    _promoted(at, node)
    at.cluster.heal()


def master_killed_ahead(at: Ground) -> None:
    """Kill -9 of a master that had not told its replica for a while."""
    node = _master(at)
    at.cluster.stop_replicating(node)
    at.pause(at.draw.uniform(0.5, 3))
    node.kill()
    _promoted(at, node)
    at.cluster.heal()


def node_restarted(at: Ground) -> None:
    """Kill -9 of a master, started on the same files at once."""
    node = _master(at)
    node.kill()
    node.start()
    at.cluster.heal()


def node_frozen(at: Ground) -> None:
    """A master does not answer; after a second and a half its replica takes over."""
    node = _master(at)
    node.pause()
    at.pause(at.draw.uniform(0.5, 6))
    node.resume()
    at.cluster.heal()


def slot_moved(at: Ground) -> None:
    """The slot of a partition moves to another shard."""
    key = _key(at)
    source = at.cluster.master_of(key)
    others = [node for node in at.cluster.masters() if node.port != source.port]
    with at.cluster.moving(key, at.draw.choice(others)):
        at.pause(at.draw.uniform(0, 3))


def scripts_forgotten(at: Ground) -> None:
    """SCRIPT FLUSH, and every client thrown out, on every master."""
    for node in at.cluster.masters():
        with node.client as client:
            client.script_flush()
            client.client_kill_filter(_type="normal", skipme=True)


def node_full(at: Ground) -> None:
    """A master out of memory for a while."""
    with _master(at).client as client:
        client.config_set("maxmemory", 1)
        at.pause(at.draw.uniform(0.5, 3))
        client.config_set("maxmemory", 0)


OF_A_CLUSTER: Final[Faults] = {
    master_killed: 3,
    master_killed_ahead: 3,
    node_restarted: 2,
    node_frozen: 2,
    slot_moved: 3,
    scripts_forgotten: 1,
    node_full: 1,
}


# -- shapes ---------------------------------------------------------------------------------------


@dataclass
class Place:
    """The services of a soak.

    copies: of each record in Kafka. session_s: after which Kafka's group drops a silent worker.
    rate: of traffic, events a second. stall_s_max: how long the stream may stand after a fault.
    """

    kafka: OwnKafka | OwnBrokers
    store: OwnRedis | OwnCluster
    faults: Faults
    copies: int
    session_s: float
    rate: int
    stall_s_max: float

    @property
    def services(self) -> Services:
        """Where they answer."""
        login = self.kafka.login if isinstance(self.kafka, OwnBrokers) else {}
        return Services(self.kafka.address, self.store.url, login)

    def proxy(self) -> Proxy | None:
        """A proxy before Redis. The nodes of a cluster tell their own addresses: none there."""
        return Proxy(self.store.port) if isinstance(self.store, OwnRedis) else None


@contextmanager
def place_of(shape: str, folder: Path, only: Collection[str] = ()) -> Iterator[Place]:
    """The services of a shape, which end with the block. only: the names of its faults, or all."""
    kafka: OwnKafka | OwnBrokers
    store: OwnRedis | OwnCluster
    with ExitStack() as stack:
        if shape in {"secure", "both"}:
            kafka, of_kafka = (
                stack.enter_context(own_brokers(folder, secure=True)),
                OF_THREE_BROKERS,
            )
        else:
            kafka, of_kafka = stack.enter_context(own_kafka(folder)), OF_ONE_BROKER
        if shape in {"cluster", "both"}:
            store, of_redis = stack.enter_context(own_cluster(folder / "redis")), OF_A_CLUSTER
        else:
            store, of_redis = stack.enter_context(own_redis(folder)), OF_ONE_REDIS
        every = {fault.__name__: fault for fault in (*ANYWHERE, *of_redis, *of_kafka)}
        assert set(only) <= set(every), f"the faults of {shape} are {', '.join(sorted(every))}"
        assert set(only) != {"grow"}, "partitions grow once in a run: name another fault beside it"
        weights = {**ANYWHERE, **of_redis, **of_kafka}
        faults = {every[name]: weights[every[name]] for name in only or every}
        # Nine processes more share the machine in the largest shape, and Kafka takes nine seconds
        # to give up a broker.
        many = shape != SHAPES[0]
        yield Place(
            kafka,
            store,
            faults,
            copies=3 if isinstance(kafka, OwnBrokers) else 1,
            session_s=6.0 if many else SESSION_S,
            rate=1_000 if many else 5_000,
            stall_s_max=60.0 if many else RECOVERY_S_MAX,
        )
