"""`sql_filter` criteria against another engine, and what of a metric is kept without a number."""

import json
from collections.abc import Sequence
from typing import Any, Final

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definitions.formats import native_body, parse
from definitions.formats.statsig_warehouse import only_kept
from pipeline.reads.summary import summary_of

from ..world import NOW
from .test_statsig_units import FUNNEL, TERMS, Seen, applied, ask, metric, number_in, seen

FILTERS: Final = (
    "v > 1",
    "v > 1 OR plan = 'paid'",
    "NOT (v > 1 OR plan = 'paid')",
    "plan IS NULL AND (v >= 0 OR s IN ('s1', 's2'))",
    "(plan = 'free' AND v BETWEEN 1 AND 7) OR s LIKE 's%'",
    "plan <> 'paid'",
    "CAST(v AS DECIMAL(38, 10)) < 2.5 OR v = 7",
)


def filtered(*texts: str) -> list[dict[str, Any]]:
    """Criteria of these filters."""
    return [{"type": "metadata", "condition": "sql_filter", "values": [text]} for text in texts]


def passing(events: Sequence[Seen], texts: Sequence[str]) -> list[Seen]:
    """What DuckDB lets through."""
    db = duckdb.connect()
    db.execute("CREATE TABLE held (nr INT, v DECIMAL(18, 3), s VARCHAR, plan VARCHAR)")
    for at, one in enumerate(events):
        row = [at, number_in(one.value), one.session, one.plan]
        db.execute("INSERT INTO held VALUES (?, ?, ?, ?)", row)
    where = " AND ".join(f"({text})" for text in texts)
    return [events[at] for (at,) in db.execute(f"SELECT nr FROM held WHERE {where}").fetchall()]


@settings(max_examples=100, deadline=None)
@given(
    seen(),
    st.lists(st.sampled_from(FILTERS), min_size=1, max_size=2),
    st.sampled_from(["count", "sum", "max", "count_distinct", "daily_participation"]),
)
def test_a_sql_filter_is_the_engines(events: list[Seen], texts: list[str], kind: str) -> None:
    """A metric with filters is the metric without them over the rows that DuckDB lets through."""
    own = {"aggregation": kind, "metricSourceName": "visits", "valueColumn": "v"}

    (line,) = ask(applied(metric(own, criteria=filtered(*texts)), events))

    (plain,) = ask(applied(metric(own), passing(events, texts)))
    assert line["value"] == plain["value"], texts


def test_a_funnel_step_has_a_sql_filter() -> None:
    """A step whose filter makes two parts of the events passes in either."""
    steps: list[dict[str, Any]] = [dict(each) for each in FUNNEL["funnelEvents"]]  # type: ignore[call-overload]
    steps[1]["criteria"] = filtered("plan = 'paid' OR v > 5")
    events = [
        Seen("visit", "u1", 0, None, None, None),
        Seen("visit", "u1", 10, 7, None, "free"),
        Seen("order", "u1", 20, None, None, None),
        Seen("visit", "u2", 0, None, None, None),
        Seen("visit", "u2", 10, 1, None, "free"),
        Seen("order", "u2", 20, None, None, None),
    ]
    definition = metric(FUNNEL, funnelEvents=steps, funnelStrictOrdering=True)

    (line,) = ask(applied(definition, events))

    assert line["steps"] == ["2", "1", "1"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("c = ", "is no SQL condition"),
        ("c = 5) OR (1 = 1", "is no SQL condition"),
        ("weight / pow(height, 2) > 25", "is not translated"),
        ("c IN (SELECT c FROM other)", "is not translated"),
        ("other.c = 5", "a column is named without a table"),
        ("c['x'] = 5", "is not translated"),
        ("c", "is not translated"),
    ],
)
def test_a_filter_that_is_not_translated_says_why(text: str, why: str) -> None:
    """It is kept as it is, with a reason; nothing is counted by half of it."""
    body = {
        "name": "metric",
        "type": "event_count_custom",
        "unitTypes": ["userID"],
        "metricEvents": [{"name": "e", "criteria": filtered(text)}],
    }
    name, definition = parse("statsig", json.dumps(body))

    assert native_body(definition.origin, name) == body
    assert len(definition.reasons) == 1
    assert why in definition.reasons[0], definition.reasons


def test_the_value_column_of_a_filter_is_the_events_value() -> None:
    """CS15 holds in filters: `value` is what the event came with, not a metadata key."""
    criteria = filtered("value > 3 AND kind = 'a'")
    definition = metric({"aggregation": "count", "metricSourceName": "visits"}, criteria=criteria)

    found = {(each.field.source, each.field.key) for each in definition.measures[0].where}

    assert found == {("value", None), ("property", "kind")}


WITHOUT: Final = [
    ("winsorizationHigh", {"aggregation": "mean", "valueColumn": "v", "winsorizationHigh": 0.9}),
    ("percentile", {"aggregation": "percentile", "valueColumn": "v"}),
    ("percentile", {"aggregation": "percentile", "valueColumn": "v", "percentile": 101}),
    ("name one", {**FUNNEL, "funnelEvents": [{"sessionIdentifierField": "s"}, {}]}),
    ("needs a session", {**FUNNEL, "funnelCountDistinct": "sessions"}),
    ("exposure", {**FUNNEL, "funnelStartCriteria": "exposure"}),
    ("at least two", {**FUNNEL, "funnelEvents": [{}]}),
]


@pytest.mark.parametrize(("why", "own"), WITHOUT)
def test_what_is_not_documented_is_not_computed(why: str, own: dict[str, Any]) -> None:
    """It is kept, has no value, and its reason names the member."""
    native = {"metricSourceName": "visits", **own}
    body = {
        "name": "metric",
        "type": "user_warehouse",
        "unitTypes": ["userID"],
        "warehouseNative": native,
    }

    definition = parse("statsig", json.dumps(body), TERMS)[1]

    assert not definition.computable
    assert why in definition.reasons[0]


def test_members_that_change_nothing_are_named() -> None:
    """What CUPED, baking and cohorts say is of experiments: the number is the same without."""
    own = {"aggregation": "max", "metricSourceName": "visits", "valueColumn": "v"}
    members = {
        "cupedAttributionWindow": 7,
        "metricBakeDays": 3,
        "waitForCohortWindow": True,
        "onlyIncludeUsersWithConversionEvent": True,
    }
    events = [Seen("visit", "u1", 0, 5, None, None), Seen("order", "u2", 1, None, None, None)]
    (plain,) = ask(applied(metric(own), events))
    with_members = metric(own, **members)

    world = applied(with_members, events)

    (line,) = ask(world)
    made = world.control.metrics["m"]
    shown = summary_of(made, None, {}, NOW)
    assert (line["value"], line["denominator"]) == (plain["value"], plain["denominator"])
    assert line["denominator"] == "1"  # u2 has no conversion event, so it is no unit of the mean
    assert shown["only_kept"] == list(members)
    assert native_body(made.origin, made.name)["warehouseNative"] == {**own, **members}
    assert only_kept({"warehouseNative": {**FUNNEL, "metricDimensionColumns": ["plan"]}}) == [
        "metricDimensionColumns"
    ]
