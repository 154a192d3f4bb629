"""All metrics of each customer: the same numbers as metric by metric, in every format."""

import csv
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest

from pipeline.errors import ExitCode

from ..services import Recount
from .doors import serving

pytestmark = pytest.mark.timeout(240)  # many commands, each a process of its own
PERIOD = ("--starting-on", "2026-10-01T00:00:00Z", "--ending-before", "2026-11-01T00:00:00Z")
DAILY = (*PERIOD, "--window-size", "day")
GROUPED = {
    "group_keys": [["g"]],
    "event_type_filter": {"in_values": ["use"]},
    "property_filters": [{"name": "v"}, {"name": "g", "exists": True}],
}
ODD = ["=1+1", "-2+3", "@who", "'quoted", "-7", 'a"b,c', "ü\u202ex"]
KINDS = ("COUNT", "SUM", "UNIQUE")
ASKED = {
    "starting_on": "2026-10-01T00:00:00Z",
    "ending_before": "2026-11-01T00:00:00Z",
    "window_size": "day",
}


def event(number: int, customer: str) -> dict[str, Any]:
    """An event of October; some customers have names that a spreadsheet would act on."""
    moment = datetime(2026, 10, 1 + number % 28, number % 24, tzinfo=UTC)
    return {
        "transaction_id": f"t{number}",
        "customer_id": customer,
        "event_type": "use",
        "timestamp": moment.isoformat(),
        "properties": {"v": f"{number}.5", "g": "xyz"[number % 3]},
    }


def customers() -> list[str]:
    """Twenty names, odd ones among them."""
    return [*ODD, *(f"c{n}" for n in range(13))]


def prepared(recount: Recount) -> dict[str, str]:
    """A deployment that has counted, some events away from home; metrics by kind."""
    recount.run("init", "--partitions", "3", "--max-age-days", "0")
    ids = {}
    for kind in KINDS:
        body: dict[str, Any] = {"name": f"m {kind}", "aggregation_type": kind, **GROUPED}
        if kind != "COUNT":
            body["aggregation_key"] = "v"
        ids[kind] = recount.create(body)
    names = customers()
    recount.publish([event(n, names[n % len(names)]) for n in range(300)])
    recount.publish([event(n, names[n % 5]) for n in range(300, 360)], "--key", "none")
    recount.catch_up()
    return ids


def key_of(line: dict[str, Any]) -> tuple[Any, ...]:
    """What a line is about."""
    group = line["group"]
    told = None if group is None else json.dumps(group)
    return line["customer_id"], line["metric_id"], line["starting_on"], told


def one_by_one(client: httpx.Client, ids: dict[str, str]) -> dict[tuple[Any, ...], Any]:
    """The values of windows that have any event, metric by metric."""
    found = {}
    for metric_id in ids.values():
        for more in ({}, {"group_key": ["g"]}):
            page = client.get(f"/recount/v1/usage/{metric_id}", params={**ASKED, **more})
            for line in page.json()["data"]:
                if line["value"] not in {None, "0"}:
                    found[key_of({**line, "metric_id": metric_id})] = line["value"]
    return found


def test_all_metrics_together_say_what_each_says(recount: Recount, tmp_path: Path) -> None:
    """Values, places, files of two formats and pages of HTTP are those of single metrics."""
    ids = prepared(recount)
    together = ("usage", "--all-metrics", "--each-customer", "--groups", *DAILY)

    *lines, last = recount.run(*together)

    assert all(line["complete"] for line in lines)
    assert last["as_of"]["unapplied"] == 0
    ends = {int(name.rpartition("/")[2]): at for name, at in last["as_of"]["offsets"].items()}
    for line in lines:
        several = line.get("offsets") or {f"x/{line['partition']}": line["offset"]}
        assert all(ends[int(name.rpartition("/")[2])] == at for name, at in several.items())
    assert {"offsets" in line for line in lines} == {True, False}
    with serving(recount, tmp_path / "serve.log") as server:
        headers = {"Authorization": f"Bearer {server.keys['read']}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
            assert {key_of(line): line["value"] for line in lines} == one_by_one(client, ids)
            assert pages(client) == lines
            wrong = client.get("/recount/v1/usage", params={**ASKED, "limit": 0})
    assert wrong.status_code == 400
    _files_are_the_same(recount, together, lines, tmp_path)
    (*mine, _) = recount.run("usage", "--all-metrics", "--customer", "=1+1", "--groups", *DAILY)
    assert mine == [line for line in lines if line["customer_id"] == "=1+1"]


def _files_are_the_same(
    recount: Recount, together: tuple[str, ...], lines: list[Any], tmp_path: Path
) -> None:
    names = ["1.csv", "1.parquet", "2.parquet"]
    for name in names:
        output = ("--format", name[2:], "--output", str(tmp_path / name))
        (told,) = recount.run(*together, *output)
        assert told["rows"] == len(lines)
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "2.parquet").read_bytes()
    with (tmp_path / "1.csv").open(newline="") as text:
        cells = list(csv.DictReader(text))
    assert [cell["value"] for cell in cells] == [line["value"] for line in lines]
    customers = {cell["customer_id"] for cell in cells}
    assert {"'=1+1", "'-2+3", "'@who", "''quoted", "-7", 'a"b,c'} <= customers
    with duckdb.connect() as database:
        summed = database.execute(
            f"SELECT metric, sum(CAST(value AS DECIMAL(38, 9))) FROM '{tmp_path}/1.parquet' "
            "WHERE \"group\" IS NULL AND metric IN ('m SUM', 'm COUNT') GROUP BY ALL ORDER BY 1"
        ).fetchall()
    by_metric = {
        name: sum(
            Decimal(line["value"])
            for line in lines
            if line["metric"] == name and line["group"] is None
        )
        for name in ("m COUNT", "m SUM")
    }
    assert dict(summed) == by_metric


def pages(client: httpx.Client) -> list[Any]:
    """Every line of every page, three customers a page."""
    asked: dict[str, Any] = {**ASKED, "groups": True, "limit": 3}
    lines: list[Any] = []
    for _ in range(20):
        page = client.get("/recount/v1/usage", params=asked)
        assert page.status_code == 200, page.text
        lines += page.json()["data"]
        if "after" not in page.json():
            return lines
        asked["after"] = page.json()["after"]
    raise AssertionError("there is no last page")


def test_what_does_not_fit_together_is_refused(recount: Recount) -> None:
    """Options that exclude each other, and formats that a terminal cannot show, exit 2."""
    recount.run("init", "--partitions", "1")
    for arguments in (
        ("usage", "m", "--all-metrics", "--each-customer", *PERIOD),
        ("usage", "--all-metrics", *PERIOD),
        ("usage", "--all-metrics", "--each-customer", "--format", "parquet", *PERIOD),
        ("usage", "m", "--customer", "c", "--format", "csv", *PERIOD),
        ("usage", "--all-metrics", "--each-customer", "--output", "/no/such.csv", *PERIOD),
    ):
        recount.run(*arguments, exits=ExitCode.USAGE)
    (empty,) = recount.run("usage", "--all-metrics", "--each-customer", *PERIOD)
    assert empty["as_of"]["unapplied"] == 0
