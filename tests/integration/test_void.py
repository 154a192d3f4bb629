"""`recount void`, `recount amend` and their doors; what cannot be taken back is refused."""

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


def test_an_event_is_amended(recount: Recount, tmp_path: Path) -> None:
    """By the command and by the door, again and again; then it is taken back."""
    recount.run("init", "--partitions", "1", "--max-age-days", "0")
    metric = recount.create(BODY)
    recount.publish([_event(number, tokens) for number, tokens in enumerate((5, 900, 40))])
    recount.catch_up()

    def value() -> str:
        recount.catch_up()
        row = recount.run("usage", metric, "--customer", "acme", *PERIOD)[0]
        assert "stale" not in row
        found: str = row["value"]
        return found

    named = ("t1", "--customer", "acme")
    told = recount.run("amend", *named, "--properties", '{"tokens": 7.50}', "--reason", "a test")
    assert told[0]["at"] == "0@1"
    assert told[0]["amend"]["transaction_id"].startswith("amend:0@1:")
    assert value() == "40"
    wrong = recount.run("explain", *named)
    assert [line["fate"] for line in wrong] == ["counted", "corrected"]
    assert wrong[0]["corrected_by"] == f"0@{wrong[1]['offset']}" == told[0]["amend"]["at"]
    assert wrong[1]["properties"] == {"tokens": 7.5}
    assert wrong[1]["amends"] == {"transaction_id": "t1", "at": "0@1"}
    recount.run("void", *named, "--at", "0@1")  # it was taken back: a dead letter
    assert value() == "40"
    assert recount.run("rejected", "list")[-1]["reason"] == "already_voided"
    recount.run("void", *named, "--at", "0@0", exits=3)
    recount.run("amend", *named, exits=2)
    recount.run("amend", *named, "--properties", "[]", exits=2)

    with serving(recount, tmp_path / "serve.log") as server:
        headers = {"Authorization": f"Bearer {server.keys['manage']}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            path = "/recount/v1/events/amend"
            asked = {"transaction_id": "t1", "customer_id": "acme"}
            amended = {**asked, "properties": {"tokens": 1_000}}
            answer = client.post(path, json=amended)
            assert answer.status_code == 200, answer.text
            assert answer.json()["data"]["at"] == wrong[0]["corrected_by"]
            assert client.post(path, json=asked).status_code == 400
            assert client.post(path, json={**amended, "customer_id": "b"}).status_code == 404
    assert value() == "1000"
    events = recount.run("events", metric, "--customer", "acme", *PERIOD)
    assert [line["contributes"] for line in events[:-1]] == ["5", "40", "1000"]
    assert events[1]["transaction_id"] == "t2"
    assert events[2]["transaction_id"] == "t1"
    assert events[-1]["equal"] is True

    recount.run("void", *named)
    assert value() == "40"
    recount.run("void", *named, exits=3)
    assert recount.run("audit")[-1]["mismatches"] == 0
    recount.run("rebuild")
    assert value() == "40"
    assert recount.run("audit")[-1]["mismatches"] == 0


def test_a_closed_period_changes_only_for_whoever_says_so(
    recount: Recount, tmp_path: Path
) -> None:
    """The next revision has the change and its cause; its files are what the log says."""
    recount.run("init", "--partitions", "1", "--max-age-days", "0")
    metric = recount.create(BODY)
    recount.publish([_event(number, tokens) for number, tokens in enumerate((5, 900))])
    recount.catch_up()
    folder, named = ("--to", str(tmp_path / "periods")), ("t1", "--customer", "acme")
    recount.run("period", "close", "2026-03-01", "--grace", "1h", *folder)
    recount.run("void", *named, exits=3)
    recount.run("amend", *named, "--properties", "{}", exits=3)
    with serving(recount, tmp_path / "serve.log") as server:
        headers = {"Authorization": f"Bearer {server.keys['manage']}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as client:
            body = {"transaction_id": "t1", "customer_id": "acme", "reason": "too large"}
            for kind in ("void", "amend"):
                more: dict[str, Any] = {"properties": {}} if kind == "amend" else {}
                answer = client.post(f"/recount/v1/events/{kind}", json={**body, **more})
                assert answer.status_code == 409, answer.text
            answer = client.post("/recount/v1/events/void", json={**body, "revise": True})
            assert answer.status_code == 200, answer.text
    recount.catch_up()

    revised = recount.run("period", "revise", "2026-03-01", *folder)[0]
    assert (revised["revision"], revised["corrections"]) == (2, 1)
    shown = recount.run("period", "show", "2026-03-01", *folder)[0]
    cause = {"customer_id": "acme", "transaction_id": "t1", "reason": "too large"}
    assert shown["manifest"]["corrections"] == [{"at": "0@2", "kind": "void", **cause}]
    assert recount.run("period", "verify", "2026-03-01", *folder)[-1]["mismatches"] == 0
    row = recount.run("usage", metric, "--customer", "acme", *PERIOD)[0]
    assert (row["value"], row["closed"]) == ("5", 2)
