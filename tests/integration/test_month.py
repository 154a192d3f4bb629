"""A month is closed, revised, verified and read as it was invoiced: real services, real files."""

import json
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from pipeline.errors import ExitCode

from ..services import Recount
from ..waiting import eventually
from .doors import serving

pytestmark = pytest.mark.timeout(400)  # many commands, each a process of its own
OCTOBER = ("--starting-on", "2026-10-01T00:00:00Z", "--ending-before", "2026-11-01T00:00:00Z")
BODY: dict[str, Any] = {
    "event_type_filter": {"in_values": ["use"]},
    "property_filters": [{"name": "v"}, {"name": "g", "exists": True}],
    "group_keys": [["g"]],
}


def event(number: int) -> dict[str, Any]:
    """An event of October, of one of 30 customers."""
    return {
        "transaction_id": f"t{number}",
        "customer_id": f"c{number % 30}",
        "event_type": "use",
        "timestamp": f"2026-10-{1 + number % 28:02d}T{number % 24:02d}:00:00Z",
        "properties": {"v": f"{number}.25", "g": "xy"[number % 2]},
    }


def prepared(recount: Recount) -> str:
    """A deployment that has counted October; the id of its sum."""
    recount.run("init", "--partitions", "2", "--max-age-days", "0")
    recount.create({"name": "calls", "aggregation_type": "COUNT", **BODY})
    metric = recount.create(
        {"name": "units", "aggregation_type": "SUM", "aggregation_key": "v", **BODY}
    )
    recount.publish([event(number) for number in range(400)])
    recount.catch_up()
    return metric


def sums(files: Path) -> dict[str, Decimal]:
    """What DuckDB adds up of Parquet files, by metric, totals alone."""
    with duckdb.connect() as database:
        found = database.execute(
            f"SELECT metric, sum(CAST(value AS DECIMAL(38, 9))) FROM '{files}/*.parquet' "
            'WHERE "group" IS NULL GROUP BY ALL'
        ).fetchall()
    return dict(found)


def test_a_month_is_closed_revised_and_proved(recount: Recount, tmp_path: Path) -> None:
    """Late events are a revision; closed numbers stay; files, readers and recount agree."""
    metric = prepared(recount)
    to = ("--to", str(tmp_path))
    recount.run("period", "close", "2026-12", *to, exits=ExitCode.DEFINITION)
    (closed,) = recount.run("period", "close", "2026-10", "--decimal", "38,9", *to)
    (again,) = recount.run("period", "close", "2026-10", "--decimal", "38,9", *to)
    first = tmp_path / "period=2026-10" / "revision=0001"
    (*lines, _) = recount.run("usage", "--all-metrics", "--each-customer", *OCTOBER)

    assert (closed["revision"], again["already"]) == (1, True)
    assert closed["rows"] == 2 * 2 * 30  # metrics, the total and one group, customers
    by_metric = {
        name: sum(Decimal(line["value"]) for line in lines if line["metric"] == name)
        for name in ("calls", "units")
    }
    assert sums(first) == by_metric

    recount.publish([event(number) for number in range(390, 460)])  # ten repeats, sixty late ones
    recount.catch_up()
    (revised,) = recount.run("period", "revise", "2026-10", *to)
    (nothing,) = recount.run("period", "revise", "2026-10", *to)
    (*verified, summary) = recount.run("period", "verify", "2026-10", *to)

    assert revised["revision"] == 2
    assert nothing["changed"] == 0
    assert verified == []
    assert summary["rows"] == closed["rows"] + revised["rows"]
    assert summary["mismatches"] == summary["unverifiable_rows"] == 0
    _reads(recount, metric, tmp_path)
    _listed(recount, tmp_path)


def _reads(recount: Recount, metric: str, root: Path) -> None:
    """Invoiced numbers are those of their revision; live ones say what came since."""
    home = Recount(recount.services, recount.deployment)
    recount.publish([{**event(3), "transaction_id": "later"}])
    recount.catch_up()
    folder = {"RECOUNT_PERIODS_DIR": str(root)}

    def usage(*arguments: str) -> list[Any]:
        process = home.start("usage", *arguments, more=folder, stdout=-1)
        out, _ = process.communicate(timeout=100)
        assert process.returncode == 0
        return [json.loads(line) for line in out.splitlines()]

    of_c3 = [metric, "--customer", "c3"]
    (first, _) = usage(*of_c3, "--as-closed", "2026-10#1")
    (second, last) = usage(*of_c3, "--as-closed", "2026-10")
    (live, _) = usage(*of_c3, *OCTOBER)
    grouped = usage(*of_c3, "--as-closed", "2026-10", "--group-key", "g")

    value = sum(Decimal(number) + Decimal("0.25") for number in range(3, 400, 30))
    assert Decimal(first["value"]) == value
    more = sum(Decimal(number) + Decimal("0.25") for number in range(423, 460, 30))
    assert Decimal(second["value"]) == value + more
    assert (second["revision"], last["as_closed"]["revision"]) == (2, 2)
    assert Decimal(second["previous_value"]) == value
    assert Decimal(live["value"]) == value + more + Decimal("3.25")
    assert (live["closed"], live["closed_value"], live["delta"]) == (2, second["value"], "3.25")
    assert {line["group"] for line in grouped[:-1]} == {'{"g":"y"}'}
    (*events, end) = recount.run("events", metric, "--customer", "c3", *OCTOBER)
    assert sum(Decimal(line["contributes"]) for line in events) == Decimal(live["value"])
    assert (end["events"], end["equal"]) == (len(events), True)
    assert len({(line["partition"], line["offset"]) for line in events}) == len(events)


def _listed(recount: Recount, root: Path) -> None:
    """list, show and HTTP say the same of each revision."""
    listed = recount.run("period", "list")
    (shown,) = recount.run("period", "show", "2026-10#1", "--to", str(root))
    recount.run("period", "show", "2026-09", exits=ExitCode.DEFINITION)
    folder = f"RECOUNT_PERIODS_DIR={root}"
    with serving(recount, root / "serve.log", more=[folder]) as server:
        headers = {"Authorization": f"Bearer {server.keys['read']}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
            every = client.get("/recount/v1/periods").json()["data"]
            mine = client.get("/recount/v1/periods/2026-10").json()["data"]
            other = client.get("/recount/v1/periods/2026-09")
            asked: dict[str, Any] = {"customer": "c3", "limit": 5}
            asked["starting_on"] = "2026-10-01T00:00:00Z"
            asked["ending_before"] = "2026-11-01T00:00:00Z"
            page = client.get("/recount/v1/events/units", params=asked).json()
            asked["after"] = page["after"]
            following = client.get("/recount/v1/events/units", params=asked).json()
            _marked(client, root, asked)

    assert every == mine == listed
    assert other.status_code == 404
    assert len(page["data"]) == len(following["data"]) == 5
    assert page["data"][-1]["offset"] < following["data"][0]["offset"]
    assert shown["digest"] == listed[0]["digest"]
    assert len(shown["manifest"]["files"]) == listed[0]["files"]


def _marked(client: httpx.Client, root: Path, asked: dict[str, Any]) -> None:
    """Live lines say what the closed period does, and by how much they differ."""
    period = {each: asked[each] for each in ("starting_on", "ending_before")}
    names = ("closed", "closed_value", "delta")

    def told(path: str, **more: str) -> dict[str, list[Any]]:
        answer = client.get(f"/recount/v1/usage{path}", params={**period, **more})
        assert answer.status_code == 200, answer.text
        lines = answer.json()["data"]
        return {
            line.get("customer_id", "c3") + line.get("metric", "units"): [
                line.get(name) for name in names
            ]
            for line in lines
            if line["group"] is None
        }

    alone = told("/units", customer="c3")
    listed, together = told("/units"), told("", groups="true")
    days = told("/units", customer="c3", window_size="day")
    for each in root.glob("period=2026-10/revision=0001/part-*"):
        each.write_bytes(each.read_bytes()[:-1])
    damaged = told("/units", customer="c3")

    assert alone["c3units"][::2] == [2, "3.25"]
    assert listed["c3units"] == together["c3units"] == alone["c3units"]
    assert (together["c3calls"][0], together["c3calls"][2]) == (2, "1")
    assert listed["c4units"][::2] == [2, "0"]
    assert {*map(tuple, days.values())} == {(2, None, None)}  # the files have no days
    assert damaged["c3units"] == [2, None, None]


def killed_at(recount: Recount, path: Path, root: Path) -> None:
    """Begin to close, and kill the job as soon as a file is there."""
    close = ("period", "close", "2026-10", "--format", "csv", "--to", str(root))
    process = recount.start(*close)
    eventually(
        lambda: path.exists() or process.poll() is not None, within_s=100, because=path.name
    )
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_job_that_is_killed_is_run_again(recount: Recount, tmp_path: Path) -> None:
    """SIGKILL as soon as a file appears: no manifest before the end, and then one that fits."""
    prepared(recount)
    period = tmp_path / "period=2026-10" / "revision=0001"
    for name in (".plan.json", "part-00000.csv"):
        killed_at(recount, period / name, tmp_path)
        if recount.run("period", "list"):
            break
        assert not (period / "manifest.json").exists()
    (told,) = recount.run("period", "close", "2026-10", "--format", "csv", "--to", str(tmp_path))
    (listed,) = recount.run("period", "list")
    assert told["digest"] == listed["digest"]
    assert [each.name for each in sorted(period.iterdir())] == [
        "manifest.json",
        "part-00000.csv",
        "part-00001.csv",
    ]
    assert recount.run("period", "verify", "2026-10", "--to", str(tmp_path))[-1]["mismatches"] == 0
