"""What a worker and a server say on stderr while they run, as programs read it."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx

from ..services import Recount
from ..waiting import eventually
from .doors import serving
from .test_cli import event


def said(log: Path) -> list[dict[str, Any]]:
    """Every line of a log in the JSON form."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_worker_says_what_it_does(recount: Recount, tmp_path: Path) -> None:
    """From start to stop, a line an event; a healthy start has no warning, work is silent."""
    recount.run("init", "--partitions", "2")
    recount.create({"name": "n", "aggregation_type": "COUNT"})
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        worker = recount.start("worker", stderr=output, more={"RECOUNT_LOG": "json"})
    try:
        for number in range(3):
            recount.publish([event(number)])
        eventually(
            lambda: recount.run("status")[-1]["counted"] == 3, within_s=40, because="it counts"
        )
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)

    lines = said(log)
    assert [each["level"] for each in lines] == ["info"] * len(lines), lines
    names = [each["event"] for each in lines]
    assert names[:2] == ["start", "assigned"]
    assert sorted(names[2:]) == sorted(["opened", "opened", "stop", "released"])
    start = lines[0]
    assert start["kafka"] == recount.services.kafka
    assert start["process"] == 0
    assert {"recount", "rules", "format", "native", "python"} <= set(start)
    assert lines[1]["partitions"] == [0, 1]
    assert {each["partition"] for each in lines if each["event"] == "opened"} == {0, 1}


def test_a_server_says_where_it_listens_and_what_it_answered(
    recount: Recount, tmp_path: Path
) -> None:
    """Each request by route, status, time and the id of its key; never the key or a body."""
    recount.run("init", "--partitions", "1")
    log = tmp_path / "serve.log"
    with serving(recount, log, more=["RECOUNT_LOG=json"]) as server:
        key = server.keys["ingest"]
        headers = {"Authorization": f"Bearer {key}", "X-Request-Id": "mine"}
        secret = event(1, transaction_id="secret-id")
        answer = httpx.post(f"{server.url}/v1/ingest", json=[secret], headers=headers, timeout=20)
        assert answer.status_code == 200, answer.text
        httpx.get(f"{server.url}/v1/billable-metrics?k={key}", timeout=20)
        ids = {line["name"]: line["id"] for line in recount.run("keys", "list")}

    lines = said(log)
    told = {each["event"]: each for each in lines}
    assert [each["event"] for each in lines][:2] == ["start", "listening"]
    assert told["listening"]["url"] == server.url
    (taken,) = [each for each in lines if each.get("id") == "mine"]
    assert {**taken, "at": 0, "ms": 0} == {
        "at": 0,
        "level": "info",
        "event": "request",
        "id": "mine",
        "method": "POST",
        "route": "/v1/ingest",
        "status": 200,
        "ms": 0,
        "key": ids["ingest"],
    }
    (refused,) = [each for each in lines if each.get("status") == 401]
    assert (refused["route"], refused["key"]) == ("/v1/billable-metrics", None)
    assert key not in log.read_text()
    assert "secret-id" not in log.read_text()
    assert lines[-1]["event"] == "stop"
