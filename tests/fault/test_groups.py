"""What is asked about a consumer group: who reads what, and nothing that Kafka does ends us."""

import asyncio
import re
import threading
from collections.abc import Callable

import pytest

from pipeline.edges.kafka_client import KafkaAddress
from pipeline.edges.kafka_owners import group_of
from pipeline.errors import LogUnavailable

from ..services import ROOT, fresh
from ..waiting import eventually
from .own import OwnKafka
from .stage import Stage

pytestmark = [pytest.mark.fault, pytest.mark.timeout(300)]
TIMES = 4
# Each is a question of librdkafka to a group's coordinator, which ends the process with SIGABRT
# where the coordinator goes away meanwhile.
DEADLY = re.compile(
    r"\.(describe|delete)_consumer_groups\(|\.(list|alter|delete)_consumer_group_offsets\("
)


def test_the_readers_of_each_partition(stage: Stage) -> None:
    """Those of the group, by host and the end of their id; of another group nobody."""
    stage.worker()
    stage.publish()
    stage.caught_up()
    address, name = stage.recount.services.address, stage.recount.deployment

    found = asyncio.run(group_of(address, f"{name}.recount", "DESCRIBE"))
    other = asyncio.run(group_of(address, fresh("nobody"), "DESCRIBE"))
    read = dict(found.readers(f"{name}.usage.events"))

    assert sorted(read) == [*range(stage.partitions)]
    assert len(set(read.values())) == 1, "one worker reads them all"
    assert all(re.fullmatch(r"127\.0\.0\.1 .{12}", reader) for reader in read.values())
    assert dict(found.readers("another.topic")) == {}
    assert other.members == ()


def test_a_coordinator_that_goes_away_while_it_is_asked(broker: OwnKafka) -> None:
    """Kill -9 of the broker between question and answer is "later", each time; then it answers."""
    address, group = KafkaAddress(broker.address, {}), fresh("group")
    seen, ended = {"answer": 0, "later": 0}, threading.Event()

    async def ask() -> None:
        try:
            await group_of(address, group, "DESCRIBE")
        except LogUnavailable:
            seen["later"] += 1
        else:
            seen["answer"] += 1

    async def asks() -> None:
        while not ended.is_set():
            await asyncio.gather(*(ask() for _ in range(4)))

    thread = threading.Thread(target=lambda: asyncio.run(asks()))
    thread.start()
    try:
        for _ in range(TIMES):
            _grows(seen, "answer")
            broker.kill()
            _grows(seen, "later")
            broker.start()
        _grows(seen, "answer")
    finally:
        ended.set()
        thread.join()


def _grows(seen: dict[str, int], what: str) -> None:
    before = seen[what]
    grown: Callable[[], bool] = lambda: seen[what] > before  # noqa: E731
    eventually(grown, within_s=60, because=f"one more {what}")


def test_nobody_asks_by_librdkafka() -> None:
    """No module uses a question of librdkafka that could end the process."""
    sources = {path: path.read_text() for path in (ROOT / "pipeline").rglob("*.py")}

    assert [str(path) for path, text in sources.items() if DEADLY.search(text)] == []
    assert DEADLY.search("client.describe_consumer_groups([group])")
