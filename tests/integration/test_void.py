"""`recount void` and its door: an event is taken back, and what cannot be is refused."""

from pathlib import Path
from typing import Any

import httpx

from ..services import Recount
from ..waiting import eventually
from .doors import serving

BODY = {
    "name": "largest",
    "aggregation_type": "MAX",
    "aggregation_key": "tokens",
    "property_filters": [{"name": "tokens"}],
}
PERIOD = ("--starting-on", "2026-03-01T00:00:00Z", "--ending-before", "2026-03-02T00:00:00Z")


def _event(number: int, tokens: int) -> dict[str, Any]:
    return {
        "transaction_id": f"t{number}",
        "customer_id": "acme",
        "event_type": "use",
        "timestamp": "2026-03-01T10:00:00Z",
        "properties": {"tokens": tokens},
    }


def test_an_event_is_taken_back(recount: Recount, tmp_path: Path) -> None:
    """By the command and by the door; numbers, explain, status and audit say the same."""
    recount.run("init", "--partitions", "1", "--max-age-days", "0")
    metric = recount.create(BODY)
    recount.publish([_event(number, tokens) for number, tokens in enumerate((5, 900, 40))])
    recount.catch_up()

    def value() -> str:
        found: str = recount.run("usage", metric, "--customer", "acme", *PERIOD)[0]["value"]
        return found

    assert value() == "900"
    told = recount.run("void", "t1", "--customer", "acme", "--reason", "a test")[0]
    assert told == {
        "transaction_id": "t1",
        "customer_id": "acme",
        "at": "0@1",
        "void": {"transaction_id": "void:0@1", "at": "0@3"},
    }
    with serving(recount, tmp_path / "serve.log") as server:
        headers = {"Authorization": f"Bearer {server.keys['manage']}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            path = "/recount/v1/events/void"
            asked = {"transaction_id": "t2", "customer_id": "acme"}
            answer = client.post(path, json=asked)
            assert answer.status_code == 200, answer.text
            assert answer.json()["data"]["at"] == "0@2"
            missing = client.post(path, json={**asked, "customer_id": "nobody"})
            assert missing.status_code == 404, missing.text
            assert client.post(path, json={**asked, "at": "2"}).status_code == 400
            worker = recount.start("worker")
            try:
                eventually(lambda: value() == "5", within_s=60, because="cells are counted again")
                assert client.post(path, json=asked).status_code == 409
            finally:
                worker.terminate()
                worker.wait(30)

    status = recount.run("status")[-1]
    assert (status["counted"], status["corrected"], status["balanced"]) == (3, 2, True)
    assert recount.run("explain", "t1", "--customer", "acme")[0]["corrected_by"] == "0@3"
    assert recount.run("explain", "void:0@1")[0]["fate"] == "corrected"
    audit = recount.run("audit")[-1]
    assert (audit["mismatches"], audit["unverifiable_cells"]) == (0, 0)

    for how in ([], ["--in-place"]):  # a new epoch takes the same events back, and mends at once
        recount.run("rebuild", *how)
        row = recount.run("usage", metric, "--customer", "acme", *PERIOD)[0]
        assert (row["value"], row.get("stale", False)) == ("5", False)
        status = recount.run("status")[-1]
        assert (status["counted"], status["corrected"], status["balanced"]) == (3, 2, True)
        assert recount.run("explain", "t1", "--customer", "acme")[0]["corrected_by"] == "0@3"
        assert recount.run("audit")[-1]["mismatches"] == 0
