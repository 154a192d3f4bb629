"""What a backfill costs: counted cells, and the measured bytes of each."""

import math
import re

from definitions.metric import Aggregation
from pipeline.reads.costs import CELL_BYTES, CellCount, Distinct

from ..services import ROOT


def test_bytes_are_those_that_were_measured() -> None:
    """The table of docs/performance.md, rounded up; every aggregation has a figure."""
    text = (ROOT / "docs/performance.md").read_text()
    table = text[text.index("**A cell** (`make bench-memory`") :]
    rows = re.findall(r"^\| ([A-Z, ]+) \| ([0-9.]+)", table, re.MULTILINE)
    told = {name: math.ceil(float(used)) for names, used in rows for name in names.split(", ")}

    assert {kind.name: used for kind, used in CELL_BYTES.items()} == told
    assert set(CELL_BYTES) == set(Aggregation)


def test_many_things_are_counted_within_a_percent_or_two() -> None:
    """Exact up to the bound; beyond it the same things twice are still once, about right."""
    few, many = Distinct(1_000), Distinct(10_000)
    for _ in range(2):
        for number in range(1_000):
            few.add(f"thing {number}")
        for number in range(100_000):
            many.add(f"thing {number}")

    assert (few.count, few.is_exact) == (1_000, True)
    assert not many.is_exact
    assert abs(many.count - 100_000) < 4_000
    few.add("one more")
    assert not few.is_exact


def test_a_sample_stands_for_all() -> None:
    """What one of fifty customers costs is told fifty times, as an estimate."""
    made = CellCount()
    for number in range(3):
        made.add(Aggregation.COUNT, ("m", "c", number, 0, ()))
    made.add(Aggregation.UNIQUE, ("m", "c", 0, 0, (), "x"))

    assert made.cost() == (4, 3 * 15 + 92, False)
    assert made.cost(50) == (200, 50 * (3 * 15 + 92), True)
