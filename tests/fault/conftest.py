"""Stages: a deployment on a Redis of its own, and one on a broker of its own as well."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from ..services import Recount, Services
from .brokers import OwnBrokers, own_brokers
from .own import OwnKafka, own_kafka
from .sending import Sending
from .stage import Stage, staged

Staging = Callable[..., AbstractContextManager[Stage]]


@pytest.fixture
def stage(recount: Recount, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A deployment with two metrics on two partitions, nothing applied yet."""
    with staged(recount, tmp_path, request.node.name, redis=()) as made:
        made.prepare()
        yield made


@pytest.fixture
def staging(recount: Recount, tmp_path: Path, request: pytest.FixtureRequest) -> Staging:
    """What makes a stage on a Redis with options of its own; `recount init` is the test's."""

    def made(*redis: str) -> AbstractContextManager[Stage]:
        return staged(recount, tmp_path, request.node.name, redis=redis)

    return made


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnKafka]:
    """A broker that the tests of a module may break, and must start again."""
    with own_kafka(tmp_path_factory.mktemp("broker")) as made:
        yield made


@pytest.fixture
def breakable(
    broker: OwnKafka, recount: Recount, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """A deployment on the broker that may be broken; workers reach it through its proxy."""
    own = replace(recount, services=Services(broker.address, recount.services.redis))
    with staged(own, tmp_path, request.node.name, kafka=broker.proxied, redis=()) as made:
        made.prepare()
        yield made
        broker.proxy.release()


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnBrokers]:
    """Three brokers that the tests of a module may break, and must start again."""
    with own_brokers(tmp_path_factory.mktemp("brokers")) as made:
        yield made


@pytest.fixture
def replicated(
    brokers: OwnBrokers, recount: Recount, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Stage]:
    """A deployment with three copies of each record; workers reach brokers by their proxies."""
    services = Services(brokers.address, recount.services.redis)
    own = replace(recount, services=services)
    with staged(own, tmp_path, request.node.name, kafka=brokers.proxied, redis=()) as made:
        made.prepare("--replication-factor", "3")
        yield made
        brokers.proxy.release()
        brokers.start()


@pytest.fixture
def sending(replicated: Stage) -> Iterator[Sending]:
    """A worker and traffic on three brokers."""
    replicated.worker("--processes", "2")
    made = Sending(replicated)
    made.traffic.start()
    made.moves("start")
    yield made
    made.traffic.end()
