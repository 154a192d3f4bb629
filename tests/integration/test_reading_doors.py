"""Every read path of every door, against every state that a partition can be in."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from ..services import Recount
from ..stored import keys_of
from ..waiting import eventually
from .doors import Server, serving

pytestmark = pytest.mark.timeout(240)  # many commands, each a process of its own
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251  a test's clock
HOUR = timedelta(hours=1)
STARTS, ENDS = NOW - 6 * HOUR, NOW - 3 * HOUR
PLAYS = {
    "name": "plays",
    "type": "event_count_custom",
    "unitTypes": ["userID"],
    "metricEvents": [{"name": "call", "criteria": []}],
}
CUSTOM = {
    "data": {
        "type": "custom-metric",
        "attributes": {
            "name": "calls",
            "definition": {
                "aggregation_method": "count",
                "metric_groups": [{"metric_id": "call", "metric_filters": []}],
            },
        },
    }
}
Ask = Callable[[], httpx.Response]


def event(number: int) -> dict[str, Any]:
    """An event of a window that is closed."""
    return {
        "transaction_id": f"t{number}",
        "customer_id": f"c{number}",
        "event_type": "call",
        "timestamp": (STARTS + timedelta(minutes=number)).isoformat(),
        "properties": {"n": number},
    }


@contextmanager
def client_of(server: Server) -> Iterator[httpx.Client]:
    """A client that reads at every door."""
    key = server.keys["manage"]
    headers = {"Authorization": f"Bearer {key}", "revision": "2025-04-15"}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
        yield client


def reads(client: httpx.Client, metronome: str, klaviyo: str) -> dict[str, Ask]:
    """Every way to ask for a number or for what the stream taught."""
    period = {"starting_on": STARTS.isoformat(), "ending_before": ENDS.isoformat()}
    usage = {**period, "window_size": "NONE", "billable_metrics": [{"id": metronome}]}
    groups = {
        **period,
        "window_size": "NONE",
        "customer_id": "c1",
        "billable_metric_id": metronome,
        "group_key": [],
    }
    between = [
        f"greater-or-equal(datetime,{STARTS:%Y-%m-%dT%H:%M:%S})",
        f"less-than(datetime,{ENDS:%Y-%m-%dT%H:%M:%S})",
    ]
    attributes = {
        "metric_id": klaviyo,
        "measurements": ["count"],
        "interval": "hour",
        "timezone": "UTC",
        "filter": between,
    }
    aggregates = {"data": {"type": "metric-aggregate", "attributes": attributes}}
    day = {"date": f"{NOW:%Y-%m-%d}"}
    single = {**day, "id": "plays::event_count_custom"}
    found = {"transactionIds": ["t1"]}
    return {
        "usage": lambda: client.post("/v1/usage", json=usage),
        "of customers": lambda: client.post("/v1/usage", json={**usage, "customer_ids": ["c1"]}),
        "groups": lambda: client.post("/v1/usage/groups", json=groups),
        "search": lambda: client.post("/v1/events/search", json=found),
        "aggregates": lambda: client.post("/api/metric-aggregates", json=aggregates),
        "klaviyo metrics": lambda: client.get("/api/metrics"),
        "values": lambda: client.get("/console/v1/metrics/values", params=day),
        "value": lambda: client.get("/console/v1/metrics", params=single),
        "own usage": lambda: client.get("/recount/v1/usage/n", params=period),
        "own explain": lambda: client.get("/recount/v1/explain/t1"),
    }


def prepared(recount: Recount) -> tuple[str, str]:
    """A deployment of one partition that has applied two events; ids of two of its metrics."""
    recount.run("init", "--partitions", "1")
    metronome = recount.create({"name": "n", "aggregation_type": "COUNT"})
    made = []
    for format_, body in (("klaviyo", CUSTOM), ("statsig", PLAYS)):
        text = json.dumps(body).encode()
        made += recount.run("metrics", "create", "--format", format_, "-", stdin=text)
    recount.publish([event(1), event(2)])
    recount.catch_up()
    return metronome, made[0]["id"]


def test_no_door_answers_for_a_partition_that_is_not_open(
    recount: Recount, tmp_path: Path
) -> None:
    """Marked, registered again, lost, of another release: 503 with Retry-After at every read."""
    metronome, klaviyo = prepared(recount)
    key = keys_of(recount).state
    with (
        redis.Redis.from_url(recount.services.redis) as store,
        serving(recount, tmp_path / "serve.log") as server,
        client_of(server) as client,
    ):
        asks = reads(client, metronome, klaviyo)
        whole: dict[bytes, bytes] = store.hgetall(key)
        lost: list[tuple[dict[bytes, bytes], str]] = [
            ({b"rebuilding": b"1"}, "nothing of its log is applied again yet"),
            ({**whole, b"rebuilt_to": b"3"}, "applied up to 2 of 3"),
            ({**whole, b"rules": b"0"}, "rules number"),
            ({**whole, b"format": b"1"}, "format version"),
            ({**whole, b"next": b"x"}, "damaged or foreign"),
            ({}, "has lost its state"),
        ]
        for fields, why in lost:
            store.delete(key)
            if fields:
                store.hset(key, mapping=fields)
            for name, ask in asks.items():
                answer = ask()
                assert answer.status_code == 503, (name, why, answer.text)
                assert int(answer.headers["Retry-After"]) >= 1, name
            told = asks["own usage"]().json()["message"]
            assert "partition 0" in told
            assert why in told
            assert "errors" in asks["aggregates"]().json()
            assert asks["value"]().json()["status"] == 503
        for fields, _ in lost[:2]:
            store.delete(key)
            store.hset(key, mapping=fields)
            shown = client.get("/recount/v1/status").json()["data"][0]
            assert shown["state"] == "rebuilding"
            assert "partition 0 is not open for reading" in shown["reason"]
            listed = client.get("/recount/v1/metrics").json()["data"]
            assert [line["ready"] for line in listed] == [False] * 3
            assert {line["history"] for line in listed} == {None}
            sent = client.post("/v1/ingest", json=[{**event(1), "timestamp": NOW.isoformat()}])
            assert sent.status_code in {200, 403}
        store.delete(key)
        store.hset(key, mapping={**whole, b"rebuilt_to": b"2"})
        for name, ask in asks.items():
            assert ask().status_code == 200, name


def test_every_door_says_that_a_partition_has_halted(recount: Recount, tmp_path: Path) -> None:
    """Numbers stay readable, never complete, each in the door's own terms."""
    metronome, klaviyo = prepared(recount)
    with (
        redis.Redis.from_url(recount.services.redis) as store,
        serving(recount, tmp_path / "serve.log") as server,
        client_of(server) as client,
    ):
        asks = reads(client, metronome, klaviyo)
        assert asks["own usage"]().json()["data"][0]["complete"] is True
        store.hset(keys_of(recount).state, "halted", "2 1700000000000 partition 0: mend it")
        answers = {name: ask() for name, ask in asks.items()}
        told = {name: answer.json() for name, answer in answers.items()}
        status = client.get("/recount/v1/status").json()["data"]

    assert {answer.status_code for answer in answers.values()} == {200}
    assert [line["state"] for line in status[:1]] == ["halted"]
    assert status[0]["reason"] == "partition 0: mend it"
    assert {line["complete"] for line in told["own usage"]["data"]} == {False}
    meta = told["aggregates"]["meta"]
    assert (meta["complete"], meta["as_of"]["halted_partitions"]) == (False, [0])
    for name in ("own usage", "usage", "of customers", "groups", "values"):
        assert told[name]["as_of"]["halted_partitions"] == [0], name


@pytest.mark.parametrize("options", [(), ("--in-place",)])
def test_a_rebuild_shows_no_part_of_a_number(
    recount: Recount, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """Asked all the while, with a worker running: the whole number, or in place also 503."""
    recount.run("init", "--partitions", "2")
    metric = recount.create({"name": "n", "aggregation_type": "COUNT"})
    recount.publish([event(number) for number in range(20_000)])
    period = {"starting_on": (STARTS - HOUR).isoformat(), "ending_before": FAR}
    body = {**period, "window_size": "NONE", "billable_metrics": [{"id": metric}]}
    seen: set[tuple[int, int]] = set()
    over = threading.Event()
    worker = recount.start("worker", more={"RECOUNT_FLUSH_MS": "50"})
    try:
        eventually(lambda: recount.run("status")[-1]["lag"] == 0, within_s=60, because="applied")
        with serving(recount, tmp_path / "serve.log") as server, client_of(server) as client:
            mine = {**body, "customer_ids": ["c7"]}

            def poll() -> None:
                while not over.is_set():
                    answer = client.post("/v1/usage", json=mine)
                    rows = answer.json().get("data") or [{"value": 0}]
                    seen.add((answer.status_code, rows[0]["value"]))

            polling = threading.Thread(target=poll)
            polling.start()
            try:
                recount.run("rebuild", *options)
            finally:
                over.set()
                polling.join()
            assert client.post("/v1/usage", json=mine).json()["data"][0]["value"] == 1
    finally:
        worker.terminate()
        worker.wait(20)

    assert seen <= {(200, 1), (503, 0)}, seen
    assert ((503, 0) in seen) == bool(options)


def test_complete_is_not_said_over_what_nobody_applied(recount: Recount, tmp_path: Path) -> None:
    """No worker, a late event into a closed window: the command line and the doors say so."""
    metronome, klaviyo = prepared(recount)
    mine = ("--customer", "c1", "--starting-on", STARTS.isoformat())
    asked = ("usage", "n", *mine, "--ending-before", ENDS.isoformat())
    with serving(recount, tmp_path / "serve.log") as server, client_of(server) as client:
        asks = reads(client, metronome, klaviyo)

        def told() -> tuple[Any, ...]:
            line, last = recount.run(*asked)
            own, meta = asks["own usage"]().json(), asks["aggregates"]().json()["meta"]
            return (
                (line["value"], line["complete"], last["as_of"]["unapplied"]),
                ({row["complete"] for row in own["data"]}, own["as_of"]["unapplied"]),
                meta["complete"],
            )

        assert told() == (("1", True, 0), ({True}, 0), True)
        recount.publish([{**event(3), "customer_id": "c1"}])
        assert told() == (("1", False, 1), ({False}, 1), False)
        recount.catch_up()
        assert told() == (("2", True, 0), ({True}, 0), True)


def answered(client: httpx.Client, params: dict[str, Any]) -> dict[str, Any]:
    """What our own usage answers to a question that it must answer."""
    answer = client.get("/recount/v1/usage/n", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_one_question_does_not_stop_a_server(recount: Recount, tmp_path: Path) -> None:
    """8,000 years at every door: an answer or a reason, while others are answered at once."""
    metronome, klaviyo = prepared(recount)
    ever = {"starting_on": "0001-01-02T00:00:00Z", "ending_before": "9999-12-31T00:00:00Z"}
    with serving(recount, tmp_path / "serve.log") as server, client_of(server) as client:
        slowest = 0.0
        for size in ("none", "hour", "day", "week", "month"):
            params = {**ever, "window_size": size}
            answer = client.get("/recount/v1/usage/n", params=params)
            expected = 200 if size == "none" else 400
            assert answer.status_code == expected, (size, answer.text[:200])
            slowest = max(slowest, answer.elapsed.total_seconds())
        body = {**ever, "window_size": "NONE", "billable_metrics": [{"id": metronome}]}
        answer = client.post("/v1/usage", json=body)
        assert [row["value"] for row in answer.json()["data"]] == [1, 1]
        slowest = max(slowest, answer.elapsed.total_seconds())
        page = answered(client, {**ever, "limit": 1})
        assert [line["customer_id"] for line in page["data"]] == ["c1"]
        last = answered(client, {**ever, "limit": 1, "after": page["after"]})
        assert [line["customer_id"] for line in last["data"]] == ["c2"]
        assert "after" not in last
        assert klaviyo

    assert slowest < 5


FAR = (NOW + 400 * HOUR).isoformat()
