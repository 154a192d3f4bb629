"""Fixtures of every suite: a clean environment, a zone that is not UTC, and real services."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from .services import Recount, Services, fresh, services

settings.register_profile(
    "default",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("quick", settings.get_profile("default"), max_examples=25)
settings.load_profile("default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """--pictures: the tests of the page keep what they saw, for the documents."""
    parser.addoption("--pictures", action="store_true", help="write docs/page/*.png")


def pytest_configure() -> None:
    """Nothing of this machine's settings reaches a test."""
    for name in [name for name in os.environ if name.startswith("RECOUNT_")]:
        del os.environ[name]
    os.environ["TZ"] = "Asia/Kathmandu"
    time.tzset()


def _slowness() -> float:
    """How many times slower this machine is now than an idle one of two cores, from 1 to 4."""
    began = time.perf_counter()
    for _ in range(_SPIN_TURNS):
        hash(began)
    return min(max((time.perf_counter() - began) / _SPIN_S, 1.0), 4.0)


_SPIN_TURNS = 2_000_000
_SPIN_S = 0.15  # what they take where nothing else runs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by folder, and give each suite its own limit, longer where the machine is busy."""
    slowness = _slowness()
    limits = {"unit": 10, "property": 90, "conformance": 240, "integration": 120, "fault": 180}
    for item in items:
        suite = Path(item.fspath).parent.name
        if suite == "contracts":
            suite = "integration"
        if suite in {"integration", "fault"}:
            item.add_marker(suite)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(limits.get(suite, 60) * slowness))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Kafka and Redis for the whole run. Nobody breaks or empties them."""
    with services(tmp_path_factory.mktemp("stack")) as found:
        yield found


@pytest.fixture
def recount(stack: Services, request: pytest.FixtureRequest) -> Recount:
    """The command, against a deployment of this test's own."""
    name = "".join(char if char.isalnum() else "-" for char in request.node.name)[:40].strip("-")
    return Recount(stack, fresh(name))
