"""Statsig's console and log_event against `recount serve`, over plain HTTP."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from ..services import Recount
from .doors import Server, serving

pytestmark = pytest.mark.timeout(180)  # many commands, each a process of its own
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251  a test's clock
HOUR = timedelta(hours=1)
PACIFIC = timedelta(hours=8)
CONSOLE = "/console/v1/metrics"
PLAYS: dict[str, Any] = {
    "name": "plays",
    "type": "event_count_custom",
    "unitTypes": ["userID"],
    "metricEvents": [{"name": "play", "criteria": []}],
    "tags": ["music"],
}
SECONDS: dict[str, Any] = {
    "name": "plays",
    "type": "sum",
    "unitTypes": ["userID"],
    "metricEvents": [
        {
            "name": "play",
            "type": "metadata",
            "metadataKey": "seconds",
            "criteria": [
                {"type": "metadata", "column": "kind", "condition": "=", "values": ["song"]}
            ],
        }
    ],
}


@pytest.fixture
def server(recount: Recount, tmp_path: Path) -> Iterator[Server]:
    """A server of a deployment of its own."""
    recount.run("init", "--partitions", "2")
    with serving(recount, tmp_path / "serve.log") as made:
        yield made


@pytest.fixture
def console(server: Server) -> Iterator[httpx.Client]:
    """A client with a key that may do everything but ingest."""
    headers = {"STATSIG-API-KEY": server.keys["manage"]}
    with httpx.Client(base_url=server.url, headers=headers, timeout=30) as made:
        yield made


def log(server: Server, events: list[dict[str, Any]], **more: Any) -> httpx.Response:
    """Send events."""
    return httpx.post(
        f"{server.url}/v1/log_event",
        json={"events": events, **more},
        headers={"STATSIG-API-KEY": server.keys["ingest"]},
        timeout=30,
    )


def play(number: int) -> dict[str, Any]:
    """An event of the last hour."""
    return {
        "eventName": "play",
        "time": int((NOW - HOUR + timedelta(seconds=number)).timestamp() * 1000),
        "user": {"userID": f"u{number % 3}"},
        "metadata": {"seconds": f"{number}.25", "kind": "song" if number % 2 else "talk"},
    }


def of(name: str, type_: str) -> str:
    """The path of a metric by its id."""
    return f"{CONSOLE}/{quote(f'{name}::{type_}', safe='')}"


def test_every_call(server: Server, console: httpx.Client) -> None:
    """Create, dry run, read both ways, list: as Statsig answers them."""
    dry = console.post(CONSOLE, json={**PLAYS, "dryRun": True})
    assert dry.status_code == 201
    assert console.get(f"{CONSOLE}/list").json()["data"] == []
    made = console.post(CONSOLE, json=PLAYS)
    assert made.status_code == 201
    assert made.json()["message"] == "Metric created successfully."
    assert made.json()["data"]["id"] == "plays::event_count_custom"
    assert made.json()["data"]["lineage"] == {"events": ["play"], "metrics": []}
    assert console.post(CONSOLE, json=SECONDS).status_code == 201  # the same name, another type
    read = console.get(of("plays", "sum")).json()
    assert read["message"] == "Metric read successfully."
    assert {**SECONDS, **read["data"]} == read["data"]
    reviewed = console.get(of("plays", "sum"), headers={"x-respect-review-settings": "true"})
    assert reviewed.json() == read  # it is of mutations, and there are no review settings here
    nobody = ("lastModifierID", "lastModifierEmail", "lastModifierName", "teamID")
    assert [read["data"][name] for name in nobody] == [None] * 4  # as the page allows
    assert console.get(f"{CONSOLE}/plays/sum").json() == read
    both = {**PLAYS, "name": "both", "type": "composite_sum", "metricEvents": []}
    parts = [{"name": "plays", "type": each} for each in ("event_count_custom", "sum")]
    both = {**both, "metricComponentMetrics": parts}
    assert console.post(CONSOLE, json=both).status_code == 201
    page = console.get(f"{CONSOLE}/list", params={"limit": 2, "page": 2}).json()
    assert [each["name"] for each in page["data"]] == ["both"]
    assert page["pagination"] == {
        "itemsPerPage": 2,
        "pageNumber": 2,
        "totalItems": 3,
        "nextPage": None,
        "previousPage": f"{CONSOLE}/list?page=1&limit=2",
        "all": f"{CONSOLE}/list",
    }
    tagged = console.get(f"{CONSOLE}/list", params={"tags": "music"}).json()["data"]
    assert [each["name"] for each in tagged] == ["plays", "both"]


def test_values_updates_and_deletes(server: Server, console: httpx.Client) -> None:
    """Values equal `recount usage`; what is written beside is no version; deletes (CS20)."""
    both = {**PLAYS, "name": "both", "type": "composite_sum", "metricEvents": []}
    parts = [{"name": "plays", "type": each} for each in ("event_count_custom", "sum")]
    for body in (PLAYS, SECONDS, {**both, "metricComponentMetrics": parts}):
        assert console.post(CONSOLE, json=body).status_code == 201
    answer = log(server, [play(number) for number in range(10)])
    assert (answer.status_code, answer.json()) == (202, {"success": True})
    assert log(server, [{"eventName": "play"}], user={"userID": "u9"}).status_code == 202
    assert log(server, [{"eventName": "a;b"}]).status_code == 202  # dropped, as Statsig does
    server.recount.catch_up()
    day = (NOW - HOUR - PACIFIC).strftime("%Y-%m-%d")
    values = console.get(CONSOLE, params={"id": "plays::sum", "date": day}).json()
    told = server.recount.run("usage", "plays::sum", *_day(day))[0]["value"]
    assert values["data"][0] == {
        "value": float(told),
        "numerator": None,
        "denominator": None,
        "metric_name": "plays",
        "metric_type": "sum",
        "unit_type": "overall",
    }
    assert told == "26.25"
    every = console.get(f"{CONSOLE}/values", params={"date": day}).json()
    found = {(row["metricName"], row["metricType"]): row["value"] for row in every["data"]}
    count = found["plays", "event_count_custom"]
    assert count in {10, 11}  # the last event is of this very moment: maybe of the next day
    assert found["both", "composite_sum"] == count + 26.25
    named: dict[str, Any] = {"date": day, "metricName": "plays", "metricType": "sum", "limit": 1}
    assert len(console.get(f"{CONSOLE}/values", params=named).json()["data"]) == 1

    change = {"description": "new", "tags": ["x"], "owner": {"name": "me"}}
    updated = console.post(of("plays", "sum"), json=change).json()
    assert updated["message"] == "Metric updated successfully."
    assert {**updated["data"], **change} == updated["data"]
    assert server.recount.run("metrics", "show", "plays::sum")[0]["version"] == 1
    assert console.post(of("plays", "sum"), json={"type": "mean"}).status_code == 400
    used = console.delete(of("plays", "sum"))
    assert used.status_code == 400
    assert console.delete(of("both", "composite_sum")).json() == {
        "message": "Metric deleted successfully."
    }
    assert console.delete(of("plays", "sum")).status_code == 200
    assert console.get(of("plays", "sum")).status_code == 404
    assert console.post(CONSOLE, json=SECONDS).status_code == 201  # the name is free


def _day(day: str) -> list[str]:
    start = datetime.fromisoformat(f"{day}T08:00:00+00:00")
    end = start + timedelta(days=1)
    return ["--starting-on", start.isoformat(), "--ending-before", end.isoformat()]


def test_archive_and_its_schedule(server: Server, console: httpx.Client) -> None:
    """A scheduled archive can be cancelled; one that happened taken back; nothing is missing."""
    console.post(CONSOLE, json=PLAYS)
    path = of("plays", "event_count_custom")
    assert console.put(f"{path}/cancel_archive").status_code == 400
    assert console.put(f"{path}/schedule_archive").status_code == 200
    assert console.put(f"{path}/schedule_archive").status_code == 400
    assert console.put(f"{path}/unarchive").status_code == 400
    assert console.get(path).json()["data"]["isHidden"] is False
    assert len(console.get(f"{CONSOLE}/list").json()["data"]) == 1  # until it happens
    assert console.put(f"{path}/cancel_archive").status_code == 200
    server.recount.run("metrics", "archive", "plays", "--at", (NOW - HOUR).isoformat())
    assert console.get(path).json()["data"]["isHidden"] is True
    assert console.get(f"{CONSOLE}/list").json()["data"] == []
    assert len(console.get(f"{CONSOLE}/list?showHiddenMetrics=true").json()["data"]) == 1
    log(server, [play(number) for number in range(5)])
    server.recount.catch_up()
    assert console.put(f"{path}/unarchive").status_code == 200
    told = server.recount.run("usage", "plays", *_hour())
    assert told[0]["value"] == "5"
    assert console.put(f"{path}/schedule_archive").status_code == 200  # it can end again
    assert console.post(f"{path}/reload").status_code == 200
    assert server.recount.run("audit")[-1]["mismatches"] == 0


def _hour() -> list[str]:
    return ["--starting-on", (NOW - HOUR).isoformat(), "--ending-before", NOW.isoformat()]


def test_refusals(server: Server, console: httpx.Client) -> None:
    """Every refusal has Statsig's form, also of a key (C17), and the name of the member."""
    name = "a/b: 100% (x)"
    assert console.post(CONSOLE, json={**PLAYS, "name": name}).status_code == 201
    assert console.get(of(name, "event_count_custom")).json()["data"]["name"] == name
    again = console.post(CONSOLE, json={**PLAYS, "name": name})
    assert again.status_code == 400
    assert again.json()["errors"][0]["property"] == "name"
    wrong = {**PLAYS, "metricEvents": [{"name": "x", "type": "metric", "criteria": []}]}
    answer = console.post(CONSOLE, json=wrong)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["property"] == "metricEvents.0.type"
    assert console.get(of("no", "sum")).json() == {
        "status": 404,
        "message": "Not Found. The requested resource could not be found.",
    }
    assert console.get(CONSOLE, params={"id": "a::sum", "date": "today"}).status_code == 400
    assert console.get(f"{CONSOLE}/values").status_code == 400
    assert console.get(f"{CONSOLE}/list?limit=0").status_code == 400
    stranger = httpx.get(f"{server.url}{CONSOLE}/list", headers={"STATSIG-API-KEY": "console-x"})
    assert stranger.status_code == 401
    assert "console-x" not in stranger.text
    assert log(server, []).status_code == 400
    old = [{"eventName": "play", "time": 946684800000}]
    assert log(server, old).status_code == 400
    assert server.recount.run("status")[-1]["end"] == 0


def test_an_empty_body_is_not_json(console: httpx.Client) -> None:
    """No body, half a body, another root: told, never a 500."""
    for body in ("", "{", "[]", "1", json.dumps("x")):
        assert console.post(CONSOLE, content=body).status_code == 400
