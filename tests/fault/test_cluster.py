"""Redis Cluster: every command on it; slots that move, masters that die or come back empty."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.stack.processes import free_port

from ..roles import AUTHENTICATED, ROLES, every_role, rule_of
from ..services import Recount, Services
from ..stored import keys_of
from .cluster import SHARDS, OwnCluster, own_cluster
from .harness import Workers
from .stage import Scene
from .watch import Watch

PARTITIONS, CUSTOMERS = 6, 60


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnCluster]:
    """The cluster of all tests of this file."""
    with own_cluster(tmp_path_factory.mktemp("cluster")) as made:
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
    """A deployment of two partitions a shard, nothing applied yet."""
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


def keys_by_master(scene: Scene, cluster: OwnCluster) -> dict[int, list[str]]:
    """The state keys of the partitions, by the port of the master that has them."""
    found: dict[int, list[str]] = {}
    for number in range(scene.partitions):
        key = keys_of(scene.recount, number).state
        found.setdefault(cluster.master_of(key).port, []).append(key)
    return found


def test_every_role_on_a_cluster(cluster: OwnCluster, recount: Recount, tmp_path: Path) -> None:
    """Each command by a user with just its rights, the first address being down: exact."""
    for node in cluster.nodes:
        with node.client as client:
            client.acl_log_reset()
            for role in ROLES:
                rule = rule_of(role, recount.deployment, on_cluster=True)
                client.execute_command("ACL", "SETUSER", role, *rule.split(" "))
    hosts = f"127.0.0.1:{free_port()},{cluster.url.partition('://')[2]}"

    def by(role: str) -> Recount:
        url = f"redis+cluster://{role}:{AUTHENTICATED}@{hosts}"
        return Recount(Services(recount.services.kafka, url), recount.deployment)

    every_role(by, tmp_path / "serve.log")

    owner = Recount(Services(recount.services.kafka, cluster.url), recount.deployment)
    places = {cluster.master_of(keys_of(owner, number).state).port for number in range(6)}
    assert len(places) == SHARDS
    for node in cluster.nodes:
        with node.client as client:
            assert client.acl_log() == []
