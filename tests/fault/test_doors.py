"""Producers behind the HTTP doors, who send a batch again until it is taken: nothing is lost."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..integration.doors import Server, serving
from ..services import Services
from ..waiting import eventually
from .own import OwnKafka
from .stage import Stage

pytestmark = [pytest.mark.fault, pytest.mark.timeout(240)]
BATCH, LANES = 50, 4


@dataclass
class Producers:
    """Threads that post batches, each again until it is taken.

    answers: how often each status came; 0 is none at all.
    """

    url: str
    key: str
    batches: int
    taken: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> Callable[[], None]:
        """Begin; return what waits for the end."""
        threads = [threading.Thread(target=self._run, args=(lane,)) for lane in range(LANES)]
        for each in threads:
            each.start()

        def wait() -> None:
            for each in threads:
                each.join()

        return wait

    def _run(self, lane: int) -> None:
        headers = {"Authorization": f"Bearer {self.key}"}
        with httpx.Client(headers=headers, timeout=40) as client:
            for number in range(lane, self.batches, LANES):
                body = json.dumps([self._event(number, n) for n in range(BATCH)])
                while not self._posted(client, body):
                    pass

    def _posted(self, client: httpx.Client, body: str) -> bool:
        try:
            status = client.post(f"{self.url}/v1/ingest", content=body).status_code
        except httpx.HTTPError:
            status = 0
        with self._lock:
            self.answers[status] = self.answers.get(status, 0) + 1
            self.taken += status == 200
        return status == 200

    @staticmethod
    def _event(number: int, place: int) -> dict[str, Any]:
        return {
            "transaction_id": f"b{number}-{place}",
            "customer_id": f"c{place % 7}",
            "event_type": "use",
            "timestamp": NOW,
            "properties": {"v": place},
        }


NOW = datetime.now(UTC).isoformat()  # noqa: TID251  a test's own clock


def counted(stage: Stage) -> int:
    """What the deployment has counted, duplicates apart."""
    status = stage.recount.run("status")[-1]
    assert status["lag"] == 0
    counted: int = status["counted"]
    return counted


@pytest.mark.parametrize("fault", ["frozen", "killed"])
def test_a_broker_that_goes_and_comes_loses_no_batch(
    fault: str, breakable: Stage, broker: OwnKafka, tmp_path: Path
) -> None:
    """While it is away the door says 503, or not yet; what was posted again counts once."""
    with serving(breakable.recount, tmp_path / "serve.log") as server:
        producers = Producers(server.url, server.keys["ingest"], batches=120)
        wait = producers.start()
        eventually(lambda: producers.taken > 20, within_s=60, because="batches are taken")
        if fault == "frozen":
            broker.pause()
            eventually(lambda: 503 in producers.answers, within_s=60, because="the door says so")
            broker.resume()
        else:
            broker.kill()
            broker.start()
        wait()
    breakable.worker()
    breakable.caught_up()
    assert counted(breakable) == 120 * BATCH
    assert set(producers.answers) <= {200, 503}


def test_a_server_killed_under_way_loses_no_batch(stage: Stage, tmp_path: Path) -> None:
    """Kill -9 in the middle of batches: those without an answer go to another server."""
    with serving(stage.recount, tmp_path / "one.log") as first:
        producers = Producers(first.url, first.keys["ingest"], batches=200)
        wait = producers.start()
        eventually(lambda: producers.taken > 30, within_s=60, because="batches are taken")
        first.kill()
        with serving(stage.recount, tmp_path / "two.log", first.keys) as second:
            producers.url = second.url
            wait()
    assert 0 in producers.answers  # somebody was left without one
    stage.worker()
    stage.caught_up()
    assert counted(stage) == 200 * BATCH


def test_redis_away_does_not_stop_ingest(stage: Stage, tmp_path: Path) -> None:
    """Events need Kafka alone; usage says 503 and comes back with Redis."""
    through = Services(stage.recount.services.kafka, f"redis://127.0.0.1:{stage.proxy.port}/0")
    with serving(replace(stage.recount, services=through), tmp_path / "serve.log") as server:
        stage.redis.kill()
        producers = Producers(server.url, server.keys["ingest"], batches=10)
        producers.start()()
        assert producers.answers == {200: 10}
        assert ask(server) == 503
        stage.redis.start()
        eventually(lambda: ask(server) == 200, within_s=30, because="Redis is back")


def ask(server: Server) -> int:
    """The status of a question for where the partitions stand."""
    headers = {"Authorization": f"Bearer {server.keys['read']}"}
    return httpx.get(f"{server.url}/recount/v1/status", headers=headers, timeout=40).status_code
