"""The shared cases, payloads and flights; and every runner can fail."""

import copy
import json
from pathlib import Path
from typing import Any

from ..services import Recount
from . import cases, flights, payloads, semantics

DATA = Path(__file__).parents[1] / "data" / "cases"
FORMATS = DATA.parent / "formats"
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


def test_all_payloads_pass() -> None:
    """Every native body is taken or refused as the index says, and comes back unchanged."""
    passed, failures = payloads.run(FORMATS / "payloads")

    assert failures == []
    assert passed == 244


def test_the_payload_runner_notices() -> None:
    """Another verdict, rule, pointer or class, and an answer that is not ours, all fail."""
    index = json.loads((FORMATS / "payloads" / "index.json").read_text())

    def verdict(name: str, **changed: Any) -> str | None:
        text = (FORMATS / "payloads" / f"{name}.json").read_text()
        return payloads.check_entry({**index[name], **changed}, text)

    refused = "klaviyo_variant_reject_in_empty"
    assert verdict(refused) is None
    assert verdict(refused, rule="K-OPERAND") is not None
    assert verdict(refused, pointer="/data") is not None
    assert verdict(refused, expect="accept") is not None
    taken = "statsig_create_mean_value"
    assert verdict(taken) is None
    assert verdict(taken, **{"class": "incremental"}) is not None
    assert verdict(taken, expect="reject", rule="S-NAME", pointer="/name") is not None
    mapped = "statsig_create_warehouse_sum"
    assert verdict(mapped) is None
    assert verdict(mapped, class_if_source_mapped="incremental") is not None
    assert payloads.check_entry(index["statsig_error_401"], '{"status": "x"}') is not None


def test_all_semantics_pass() -> None:
    """Every case of one definition and one event contributes what is expected."""
    passed, failures = semantics.run(FORMATS / "semantics.json")

    assert failures == []
    assert passed == 60


def test_the_semantics_runner_notices() -> None:
    """An altered match, value, text or side fails."""
    listed = json.loads((FORMATS / "semantics.json").read_text())["cases"]
    cases_ = {case["id"]: case for case in listed}

    for name, altered in (
        ("D-K01", {"match": False}),
        ("D-K27", {"value": "7.06"}),
        ("D-M13", {"distinct": "x"}),
        ("D-S18", {"measure": "numerator"}),
    ):
        case = cases_[name]
        assert semantics.check_case(case) is None
        changed = {**case, "expected": {**case["expected"], **altered}}
        assert semantics.check_case(changed) is not None
