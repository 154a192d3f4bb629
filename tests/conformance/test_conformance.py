"""The shared cases and the flights, through the real pipeline; and the runners can fail."""

import copy
from pathlib import Path

from ..services import Recount
from . import cases, flights

DATA = Path(__file__).parents[1] / "data" / "cases"
ROWS = 20_000


def test_all_cases_pass(recount: Recount) -> None:
    """Every case gives its expected answer; an open one gives a listed alternative."""
    verdicts = cases.run(recount, cases.load(DATA))

    assert len(verdicts) == 138
    assert {verdict.case: verdict.failures for verdict in verdicts if verdict.failures} == {}


def test_the_case_runner_notices(recount: Recount) -> None:
    """An altered value, a missing row, a foreign alternative and a wrong count all fail."""
    picked = {case["id"]: case for case in cases.load(DATA)}
    value = copy.deepcopy(picked["decimals-money"])
    value["queries"][0]["expected"][0]["value"] = "1"
    row = copy.deepcopy(picked["groups-simple"])
    row["queries"][0]["expected"][0]["group"] = {"r": "nowhere"}
    other = copy.deepcopy(picked["unique-booleans"])
    other["alternatives"] = other["alternatives"][1:]
    count = copy.deepcopy(picked["values-dates"])
    count["unreadable"] = count["unreadable"][1:]
    right = picked["decimals-money"]

    verdicts = cases.run(recount, [value, row, other, count, right])

    assert [bool(verdict.failures) for verdict in verdicts] == [True, True, True, True, False]


def test_flights_equal_duckdb(recount: Recount) -> None:
    """The first 20,000 flights of 2013: no cell differs from DuckDB's; an altered one would."""
    compared, differing = flights.run(recount, ROWS)

    assert compared > 50_000
    assert differing == []
    assert flights.differences({("UA", 1): (1, 0)}, {("UA", 1): (2, 0)})
    assert flights.differences({("UA", 1): (1, 0)}, {})
    assert flights.differences({}, {("UA", 1): (1, 0)})
