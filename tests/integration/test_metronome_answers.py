"""What Metronome's door says to bodies with something wrong is what it always said."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..answers import rows, text_of
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
