"""The size of a deployment: its constants were measured, its tables are what is printed."""

import json
import math
import re

import pytest

from pipeline.cli.size import check_above_0, told_of
from pipeline.deploy.sizing import MEASURED, Load, markdown, size_of
from pipeline.errors import UsageError

from ..services import ROOT


def test_constants_are_those_that_benchmarks_wrote() -> None:
    """Bytes are those of the saved result; microseconds those of docs/performance.md."""
    saved = json.loads((ROOT / "benchmarks/results/memory.json").read_text())
    told = (ROOT / "docs/performance.md").read_text()
    rows = {
        name: [float(each) for each in re.findall(r"[\d.]+", rest)]
        for name, rest in re.findall(r"^\| ([^|]*Recount[^|]*) \|(.*)\|$", told, re.MULTILINE)
    }
    values = {name: figure.value for name, figure in MEASURED.items()}
    few, many = rows["1,000 customers: Recount"], rows["100,000 customers, uniform: Recount"]
    process = rows["Recount, one worker process, all on"]

    assert values == {
        "redis_bytes_an_identity": saved["ids"]["redis_bytes_an_id"],
        "worker_bytes_an_identity": saved["ids"]["worker_bytes_an_id"],
        "redis_bytes_a_cell": saved["cells"]["sum"],
        "worker_us_an_event": few[2],
        "redis_us_an_event": few[3],
        "worker_us_a_cell": round((many[2] - few[2]) / 3, 2),
        "redis_us_a_cell": round((many[3] - few[3]) / 3, 2),
        "worker_mib_without_identities": process[-1],
    }


def test_the_page_has_what_the_command_prints() -> None:
    """docs/sizing.md ends with just these lines."""
    page = (ROOT / "docs/sizing.md").read_text().split("<!-- size -->\n")[1]

    assert page == "".join(f"{line}\n" for line in markdown())


def test_a_thousand_events_a_second() -> None:
    """What a reader can check by hand: 39.4 days of identities, 13.2 bytes each."""
    size = size_of(Load(1_000, 1_000, 3))

    assert size.identities == 1_000 * 86_400 * 35 * 9 // 8
    assert size.identities_gib == math.ceil(size.identities * 13.2 / 2**30)
    assert size.cells == 1_000 * 24 * 365 * 3
    assert size.workers * size.worker_gib >= size.identities * 27.5 / 2**30
    assert size.shards * size.shard_gib * 0.7 >= size.identities * 13.2 / 2**30


@pytest.mark.parametrize(
    "more",
    [
        {"events_per_second": 10_000.0},
        {"customers": 1_000_000},
        {"metrics": 100},
        {"dedup_window_days": 70.0},
        {"days": 3_650},
    ],
)
def test_more_of_anything_never_takes_less(more: dict[str, float]) -> None:
    """Every part grows, or stays."""
    least = {"events_per_second": 1_000.0, "customers": 1_000, "metrics": 3}
    before, after = size_of(Load(**least)), size_of(Load(**{**least, **more}))  # type: ignore[arg-type]

    for name in ("partitions", "brokers", "workers", "shards", "identities", "cells"):
        assert getattr(after, name) >= getattr(before, name), name


def test_a_tiny_load_has_a_size() -> None:
    """One event a minute of one customer: the least of everything."""
    size = size_of(Load(1 / 60, 1, 1, 1, 1))

    assert (size.partitions, size.brokers, size.workers, size.shards) == (12, 3, 1, 1)


def test_init_says_what_a_load_takes() -> None:
    """The figures of `recount size` in a sentence; too few partitions are refused with theirs."""
    load = Load(1_000, 1_000, 3, 35)
    size = size_of(load)
    takes = told_of(load, size.partitions)

    assert f"take {size.partitions} partitions, {size.brokers} brokers" in takes
    assert f"{size.workers} worker processes of {size.worker_gib:g} GiB" in takes
    assert f"{size.shards} shards of Redis of {size.shard_gib:g} GiB" in takes
    with pytest.raises(UsageError, match=f"give --partitions {size.partitions}"):
        told_of(load, size.partitions - 1)
    with pytest.raises(UsageError, match="--rate is a number above 0"):
        check_above_0("--rate", float("nan"), 1e9)
