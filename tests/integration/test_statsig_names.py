"""Statsig's names through the console and the command line: steps, components, unit types."""

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
AT = NOW - timedelta(hours=1)
DAY = (AT - timedelta(hours=8)).strftime("%Y-%m-%d")
CONSOLE = "/console/v1/metrics"
SONGS: dict[str, Any] = {
    "name": "songs",
    "type": "event_count_custom",
    "unitTypes": ["userID", "stableID", "deviceID"],
    "metricEvents": [
        {
            "name": "play",
            "criteria": [
                {"type": "metadata", "column": "kind", "condition": "=", "values": ["song"]}
            ],
        }
    ],
}
FUNNEL: dict[str, Any] = {
    "name": "plays to songs",
    "type": "funnel",
    "funnelCountDistinct": "events",
    "funnelEventList": [
        {"name": "play", "type": "event_count"},
        {"name": "songs", "type": "event_count_custom"},
    ],
}
LOST: dict[str, Any] = {
    "name": "both",
    "type": "composite_sum",
    "unitTypes": ["userID"],
    "metricComponentMetrics": [
        {"name": "songs", "type": "event_count_custom"},
        {"name": "sngs", "type": "event_count_custom"},
    ],
}
MISSING = "the component sngs::event_count_custom is no metric here: make it, or correct the name"


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


def test_names_and_units_through_the_doors(server: Server, console: httpx.Client) -> None:
    """A step counts the metric it names; a missing name says so everywhere; a row a unit type."""
    recount = server.recount
    own = {"Authorization": f"Bearer {server.keys['read']}"}
    for body in (SONGS, FUNNEL):
        assert console.post(CONSOLE, json=body).status_code == 201
    made = recount.run("metrics", "create", "--format", "statsig", "-", stdin=as_text(LOST))
    unseen = recount.run("metrics", "show", "plays to songs")[0]
    events = [
        {
            "eventName": "play",
            "time": int((AT + timedelta(seconds=number)).timestamp() * 1000),
            "user": {"userID": "u"} if number else {"customIDs": {"stableID": "s"}},
            "metadata": {"kind": "song" if number % 2 == 0 else "talk"},
        }
        for number in range(5)
    ]
    sent = httpx.post(
        f"{server.url}/v1/log_event",
        json={"events": events},
        headers={"STATSIG-API-KEY": server.keys["ingest"]},
        timeout=30,
    )
    assert sent.status_code == 202
    recount.catch_up()

    assert (made[0]["reasons"], made[0]["unresolved"]) == ([], [MISSING])
    assert unseen["ready"] is False
    assert unseen["reasons"] == ["play::event_count: no event 'play' was seen so far"]
    found = values(console, "plays to songs::funnel")
    assert [(row["value"], row["numerator"], row["denominator"]) for row in found] == [(0.6, 3, 5)]
    # All three songs, two of a user, one of a stable id, none of a device.
    assert [row["value"] for row in values(console, "songs::event_count_custom")] == [3, 2, 1, 0]
    assert [row["value"] for row in values(console, "both::composite_sum")] == [None, None]
    for metric, ready in (("songs", True), ("plays to songs", True), ("both", False)):
        shown = recount.run("metrics", "show", metric)[0]
        assert (metric, shown["ready"]) == (metric, ready)
        assert shown["reasons"] == ([] if ready else [MISSING])
        told = httpx.get(f"{server.url}/recount/v1/metrics/{metric}", headers=own).json()["data"]
        assert (told["ready"], told["reasons"]) == (shown["ready"], shown["reasons"])
    period = ("--starting-on", at(AT), "--ending-before", at(NOW))
    line = recount.run("usage", "both", *period)[0]
    assert (line["value"], line["complete"], line["reasons"]) == (None, False, [MISSING])
    lineage = console.get(path("plays to songs::funnel")).json()["data"]["lineage"]
    assert lineage == {"events": [], "metrics": ["play::event_count", "songs::event_count_custom"]}
    refused = console.delete(path("songs::event_count_custom"))
    assert (refused.status_code, "uses it" in refused.text) == (400, True)
    assert recount.run("audit")[-1]["mismatches"] == 0


def as_text(body: dict[str, Any]) -> bytes:
    """The bytes of a body."""
    return json.dumps(body).encode()


def at(moment: datetime) -> str:
    """RFC 3339."""
    return moment.isoformat().replace("+00:00", "Z")


def path(metric_id: str) -> str:
    """The path of a metric."""
    return f"{CONSOLE}/{quote(metric_id, safe='')}"


def values(console: httpx.Client, metric_id: str) -> list[dict[str, Any]]:
    """The rows of a metric on the day of the events."""
    found = console.get(CONSOLE, params={"id": metric_id, "date": DAY})
    assert found.status_code == 200, found.text
    return found.json()["data"]  # type: ignore[no-any-return]
