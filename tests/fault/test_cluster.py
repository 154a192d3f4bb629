"""Redis Cluster: every command on it; slots that move, masters that die or come back empty."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pipeline.edges import redis_listing
from pipeline.edges.redis_epochs import RedisEpochs
from pipeline.edges.redis_keys import identity_key
from pipeline.errors import StoreUnavailable
from pipeline.stack.processes import free_port

from ..roles import AUTHENTICATED, ROLES, every_role, rule_of
from ..servers import KINDS, binary_of
from ..services import Recount, Services
from ..stored import keys_of, store_of
from ..waiting import eventually
from .cluster import SHARDS, OwnCluster, own_cluster
from .harness import Workers
from .stage import Scene
from .watch import Watch

T = TypeVar("T")
LONG = pytest.mark.long
PARTITIONS, CUSTOMERS = 3, 30  # one partition a shard
PLAIN, TLS = "system", "system-tls"  # the system's own server


def kinds(first: str) -> list[Any]:
    """Kinds of clusters: all but the first are for `make faults`."""
    every = [PLAIN, TLS, *KINDS]
    return [first, *(pytest.param(each, marks=LONG) for each in every if each != first)]


@pytest.fixture(scope="module", params=kinds(PLAIN))
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OwnCluster]:
    """The cluster of all tests of this file."""
    binary = binary_of(request.param) if request.param in KINDS else ""
    folder = tmp_path_factory.mktemp("cluster")
    with own_cluster(folder, binary, tls=request.param == TLS) as made:
        yield made


@pytest.fixture
def cluster(shared: OwnCluster) -> Iterator[OwnCluster]:
    """It, whole; whatever a test did to it is mended."""
    shared.heal()
    yield shared
    shared.heal()


@pytest.fixture
def scene(
    cluster: OwnCluster, recount: Recount, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Scene]:
    """A deployment of one partition a shard, nothing applied yet."""
    own = Recount(Services(recount.services.kafka, cluster.url), recount.deployment)
    workers = Workers(own, tmp_path)
    made = Scene(own, workers, Watch(own, PARTITIONS), request.node.name, PARTITIONS, CUSTOMERS)
    try:
        made.prepare()
        yield made
    finally:
        workers.end()
        made.watch.close()
        sys.stderr.write(workers.logs())


@pytest.mark.parametrize("shared", kinds(TLS), indirect=True, scope="module")
def test_every_role_on_a_cluster(cluster: OwnCluster, recount: Recount, tmp_path: Path) -> None:
    """Each command by a user with just its rights, the first address being down: exact."""
    for node in cluster.nodes:
        with node.client as client:
            client.acl_log_reset()
            before_7 = client.info("server")["redis_version"].startswith("6.")
            for role in ROLES:
                rule = rule_of(role, recount.deployment, on_cluster=True, before_7=before_7)
                client.execute_command("ACL", "SETUSER", role, *rule.split(" "))
    hosts = [f"127.0.0.1:{port}" for port in (free_port(), *(each.port for each in cluster.nodes))]

    def by(role: str) -> Recount:
        url = cluster.address_of(*hosts, login=f"{role}:{AUTHENTICATED}@")
        return Recount(Services(recount.services.kafka, url), recount.deployment)

    every_role(by, tmp_path / "serve.log")

    owner = Recount(Services(recount.services.kafka, cluster.url), recount.deployment)
    places = {cluster.master_of(keys_of(owner, number).state).port for number in range(6)}
    assert len(places) == SHARDS
    for node in cluster.nodes:
        with node.client as client:
            assert client.acl_log() == []


async def asked_while_a_slot_moves(scene: Scene, cluster: OwnCluster) -> None:
    """Ask one store before, within and after: half of what is listed is never an answer."""
    store = store_of(scene.recount.services.redis, scene.recount.deployment)
    state = store.keys(0).state
    target = next(node for node in cluster.masters() if node is not cluster.master_of(state))
    try:
        before = await listed(store.addresses(0))
        with cluster.moving(state, target) as half:
            assert half > 1
            await asyncio.to_thread(scene.publish)
            cleared = RedisEpochs(store).clear(0, 1)
            for question in (listed(store.addresses(0)), listed(store.strays(0)), cleared):
                with pytest.raises(StoreUnavailable, match="just being moved"):
                    await question
        assert cluster.master_of(state) is target
        assert before
        assert set(await listed(store.addresses(0))) >= set(before)
        assert await listed(store.strays(0)) == []
        assert await store.state(0) is not None
    finally:
        await store.close()


async def asked_of_a_new_master(scene: Scene, cluster: OwnCluster, move: str) -> None:
    """Ask a store that nobody else uses before and after another node became the master."""
    store = store_of(scene.recount.services.redis, scene.recount.deployment)
    key = store.keys(0).state
    master = cluster.master_of(key)
    try:
        before = await store.state(0)
        if move == "dies":
            master.kill()
            eventually(
                lambda: all(each.port != master.port for each in cluster.masters()),
                within_s=60,
                because="its replica has taken over",
            )
        else:
            other = next(node for node in cluster.masters() if node is not master)
            with cluster.moving(key, other):
                pass
        after = await store.state(0)
    finally:
        await store.close()

    assert before is not None
    assert after == before
    assert cluster.master_of(key) is not master


@pytest.mark.parametrize("move", ["dies", "gives its slot away"])
def test_a_question_follows_its_slot(scene: Scene, cluster: OwnCluster, move: str) -> None:
    """Who knows the old master alone asks the new one with the same question: the map is new."""
    asyncio.run(asked_of_a_new_master(scene, cluster, move))


async def listed(things: AsyncIterator[T]) -> list[T]:
    """All of them."""
    return [each async for each in things]


@pytest.mark.parametrize(
    "most",
    [
        pytest.param(redis_listing.SLOT_KEYS_MAX, id="slot"),
        pytest.param(1, id="walk", marks=LONG),
    ],
)
def test_f23_slots_move_under_traffic(
    scene: Scene, cluster: OwnCluster, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition waits while its slot is on the move; whoever lists it meanwhile is refused.

    Its keys are listed by its slot, and where these are too many by a walk.
    """
    monkeypatch.setattr(redis_listing, "SLOT_KEYS_MAX", most)
    worker = scene.running()
    children = scene.workers.children(worker)

    asyncio.run(asked_while_a_slot_moves(scene, cluster))

    scene.recovers()
    scene.exact()
    assert scene.workers.children(worker) == children


def test_f22_a_replica_that_lags_is_promoted(scene: Scene, cluster: OwnCluster) -> None:
    """A shard goes back, numbers and offsets together, and the log is applied again."""
    worker = scene.running()
    children = scene.workers.children(worker)
    key = keys_of(scene.recount).state
    master = cluster.master_of(key)
    replica = cluster.replica_of(master)
    cluster.stop_replicating(master)
    scene.publish(2_000)
    scene.caught_up()
    lost = cluster.next_of(master, key) - cluster.next_of(replica, key)
    master.kill()
    scene.publish()

    scene.recovers()
    scene.exact()
    assert lost > 0
    assert cluster.master_of(key) is replica
    assert scene.workers.children(worker) == children


@pytest.mark.parametrize("identity", [False, pytest.param(True, marks=LONG)])
def test_f44_a_node_comes_back_empty(scene: Scene, cluster: OwnCluster, *, identity: bool) -> None:
    """Its partition halts, others go on; rebuilding it alone gives the exact numbers again.

    Where the node also held the deployment's identity, the whole worker ends with 5.
    """
    worker = scene.running()
    keys = [keys_of(scene.recount, number).state for number in range(PARTITIONS)]
    held = cluster.master_of(identity_key(scene.recount.deployment))
    lost = next(
        number for number, key in enumerate(keys) if (cluster.master_of(key) is held) == identity
    )
    others = [number for number in range(PARTITIONS) if number != lost]
    cluster.empty(cluster.master_of(keys[lost]))
    scene.publish()
    if identity:
        scene.halted(worker, "recount rebuild")
    else:
        scene.watch.passed(others)
        says = f"recount rebuild --partition {lost}"
        eventually(lambda: says in scene.workers.logs(), within_s=40, because="it says so")
        assert worker.poll() is None
    assert scene.watch.nexts([lost]) == [-1]

    scene.recount.run("rebuild", "--partition", str(lost))
    if identity:
        scene.worker()
    scene.exact()


def away(scene: Scene, cluster: OwnCluster, seconds: float) -> None:
    """Freeze a master and its replica for some seconds, under traffic; the others go on."""
    worker = scene.running()
    children = scene.workers.children(worker)
    keys = [keys_of(scene.recount, number).state for number in range(PARTITIONS)]
    master = cluster.master_of(keys[0])
    others = [number for number, key in enumerate(keys) if cluster.master_of(key) is not master]
    assert 0 < len(others) < PARTITIONS
    frozen = [master, cluster.replica_of(master)]
    for node in frozen:
        node.pause()
    began = time.monotonic()
    try:
        while time.monotonic() - began < seconds:
            scene.publish()
            scene.watch.passed(others)
    finally:
        for node in frozen:
            node.resume()

    scene.recovers()
    scene.exact()
    assert scene.workers.children(worker) == children


def test_f8_a_shard_away(scene: Scene, cluster: OwnCluster) -> None:
    """Workers wait for a shard without master and replica, and apply the others meanwhile."""
    away(scene, cluster, 4)


@LONG
def test_f8_a_shard_away_for_a_minute(scene: Scene, cluster: OwnCluster) -> None:
    """The same for longer than any time limit of a worker."""
    away(scene, cluster, 60)
