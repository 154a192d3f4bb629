"""Bodies as the OpenAPI page tells of them are taken; wrong ones are told what is wrong."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from ..answers import NOBODY, rows, text_of
from ..services import Recount
from .doors import Server, serving
from .test_hostile_clients import every_key

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def server(recount: Recount, tmp_path: Path) -> Iterator[Server]:
    """A server of a deployment of its own."""
    recount.run("init", "--partitions", "1")
    with serving(recount, tmp_path / "serve.log") as made:
        yield made


def ask_all(server: Server, asked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The status of every row's request, and the message of those that are refused."""
    found = []
    headers = {"Authorization": f"Bearer {every_key(server)}"}
    now = datetime.now(UTC).isoformat()  # noqa: TID251  a test's clock
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        body = {"name": "Calls", "aggregation_type": "COUNT"}
        metric = client.post("/v1/billable-metrics/create", json=body).json()["data"]["id"]
        for row in asked:
            method, path, text = text_of(row, metric, now)
            answer = client.request(method, path, content=text)
            taken = row["call"] == "create" and answer.status_code in {200, 409}
            told: dict[str, Any] = {"status": 200 if taken else answer.status_code}
            if answer.status_code == 400:
                told["message"] = json.loads(answer.content)["message"].replace(metric, "{metric}")
            found.append(told)
    return found


def test_every_wrong_member_is_answered_as_recorded(server: Server) -> None:
    """Each member of each body absent, of every wrong type, and unknown ones: the same answer."""
    table = rows()

    assert ask_all(server, table) == [
        {name: row[name] for name in ("status", "message") if name in row} for row in table
    ]


def test_every_example_of_the_page_is_taken(server: Server) -> None:
    """Each example of each body, sent as it stands but for ids and the day of events: 2xx."""
    headers = {"Authorization": f"Bearer {every_key(server)}", "revision": "2025-04-15"}
    today = datetime.now(UTC).date().isoformat()  # noqa: TID251  a test's clock
    made = {"/console": "plays per day::event_count_custom"}  # door → the id of a metric of it
    sent = 0
    with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
        page = client.get("/openapi.json").json()
        for path, operations in page["paths"].items():
            if path == "/api/v1/meters/{meter}/query":
                continue  # a question to a metric with its group keys: test_openmeter_door
            if path.startswith("/v1/customers/"):
                continue  # of a customer that there is: test_metronome_door
            if path == "/recount/v1/metrics/{metric}/replace":
                continue  # two metrics whose past is counted: test_replace
            if path in {"/recount/v1/events/void", "/recount/v1/events/amend"}:
                continue  # of an event that is there: test_void
            for method, operation in operations.items():
                contents = operation.get("requestBody", {}).get("content", {})
                for kind, body in contents.items():
                    if "$ref" not in body["schema"]:
                        assert path == "/recount/v1/metrics/try"  # of any format: test_trial
                        continue
                    name = body["schema"]["$ref"].rsplit("/", 1)[1]
                    examples = page["components"]["schemas"][name]["examples"]
                    assert body["example"] == examples[0]
                    for example in examples:
                        door = path[: path.index("/", 1)]
                        id_ = made.get(door, NOBODY)
                        text = json.dumps(example).replace(NOBODY, id_)
                        if path == "/v1/ingest":
                            text = text.replace("2026-11-19", today).replace("T01", "T00")
                        to = path.replace("{metric_id}", quote(id_, safe=""))
                        answer = client.request(
                            method, to, content=text, headers={"Content-Type": kind}
                        )
                        taken = {204} if path == "/api/v1/events" else {200, 201, 202}
                        assert answer.status_code in taken, (to, text, answer.text)
                        if door not in made:
                            made[door] = answer.json()["data"]["id"]
                        sent += 1
    assert sent > 17
