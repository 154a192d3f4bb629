"""A trial over the log that is there says what usage says of the same definition, and no more."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.edges.clock import SetClock
from pipeline.errors import BadParameter, StoreUnavailable, UsageError
from pipeline.reads import trial, trial_ledger
from pipeline.reads.query import Query
from pipeline.reads.trial import Trial, TrialAnswer, TrialQuery
from pipeline.reads.trial_lines import clause_lines, end_lines, row_lines
from pipeline.reads.usage import Reader

from ..world import DAY_MS, FIVE, NOW, NOW_MS, World, deployment, event, parse
from .test_audit import METRICS, ShortLog, lines, world_of

PERIOD = {"starting_on": "2026-03-01T00:00:00Z", "ending_before": "2026-03-02T00:00:00Z"}
LONG = {**PERIOD, "ending_before": "2026-04-01T00:00:00Z"}
Rows = dict[tuple[str | None, str], tuple[str | None, int]]


def reader_of(world: World) -> Reader:
    """A reader of a world."""
    return Reader(world.identity, world.store, world.log, SetClock(NOW), timedelta(hours=1))


def tried(world: World, name: str, against: str | None = None, **given: Any) -> TrialAnswer:
    """What a trial of a metric's own definition finds."""
    body = world.control.metrics[name].latest.body
    assert body is not None
    other = None if against is None else world.control.metrics[against]
    asked = TrialQuery.of(
        "new", body.definition, other, **{"sample": None, **PERIOD, "window_size": "hour", **given}
    )
    made = Trial(world.identity, world.control, world.store, world.log, reader_of(world))
    return asyncio.run(made.run(asked, lambda _: None, lambda _: None))


def used(world: World, name: str, **given: Any) -> Rows:
    """What usage says of a metric."""
    metric = world.control.metrics[name]
    query = Query.of(metric, **{**PERIOD, "window_size": "hour", **given})
    rows = asyncio.run(reader_of(world).usage(query)).rows
    return {
        (row.customer, row.window.starting_on.isoformat()): (
            None if row.value is None else str(row.value),
            row.unreadable,
        )
        for row in rows
    }


def rows_of(answer: TrialAnswer) -> Rows:
    """The same of a trial."""
    return {
        (row.customer, row.window.starting_on.isoformat()): (
            None if row.value is None else str(row.value),
            row.unreadable,
        )
        for row in answer.rows
    }


@contextmanager
def passes(events: int) -> Iterator[None]:
    """Small passes, as a large log would need them."""
    with patch.object(trial, "EVENTS_PER_PASS", events):
        yield


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(1, 40), st.sampled_from(sorted(METRICS)))
def test_a_trial_answers_as_usage_does(count: int, events: int, name: str) -> None:
    """Value by value, in one pass or many; what has no line has no value; cells are counted."""
    world = world_of(lines(count))
    before = (world.state, [item.offset for item in world.log.records[0]], world.control.next)
    with passes(events):
        answer = tried(world, name, against=name)
    found, due = rows_of(answer), used(world, name)

    whose = {customer for customer, _ in found}
    assert found == {at: told for at, told in due.items() if at[0] in whose}
    assert {told for at, told in due.items() if at[0] not in whose} <= {(None, 0), ("0", 0)}
    assert found or not [told for told in due.values() if told[0] not in {None, "0"}]
    assert all(row.value == row.against and row.exact for row in answer.rows)
    book = asyncio.run(world.book())
    cells = {cell for cell in book.cells if cell.measure.startswith(f"{name}#")}
    elements = [
        member
        for cell, members in book.elements.items()
        if cell.measure.startswith(f"{name}#")
        for member in members
    ]
    assert answer.cost.cells == len(cells) + len(elements)
    assert not answer.cost.estimated
    counters = world.state.counters
    assert answer.fates["duplicate"] == counters["duplicate"]
    assert answer.fates["rejected"] == counters["rejected"]
    after = (world.state, [item.offset for item in world.log.records[0]], world.control.next)
    assert after == before


OF_CUSTOMERS = [
    name
    for name, made in sorted(METRICS.items())
    if made.scope == "customer" and not any(measure.unit for measure in made.measures)
]


@settings(max_examples=20)
@given(st.integers(1, 60), st.integers(1, 5), st.sampled_from(OF_CUSTOMERS))
def test_shares_and_single_customers_make_up_the_whole(count: int, of: int, name: str) -> None:
    """A sample holds the rows of its customers; one customer's trial holds his."""
    world = world_of(lines(count))
    whole = rows_of(tried(world, name))
    parts: Rows = {}
    for number in range(of):
        part = rows_of(tried(world, name, sample=f"{number + 1}/{of}"))
        assert not parts.keys() & part.keys()
        parts |= part

    assert parts == whole
    for whose in sorted({str(customer) for customer, _ in whole}):
        alone = rows_of(tried(world, name, customer=whose))
        assert {(whose, at): told for (_, at), told in alone.items()} == {
            at: told for at, told in whole.items() if at[0] == whose
        }


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 24), st.integers(0, 3)), min_size=2, max_size=40),
    st.integers(1, 40),
)
def test_after_retention_exact_rows_are_exact(sent: list[tuple[int, int]], at: int) -> None:
    """Where the log lost its beginning, every row that is called exact is what usage says."""
    limits = deployment(dedup_window_ms=4 * DAY_MS, max_age_ms=2 * DAY_MS, max_ahead_ms=2 * DAY_MS)
    log = ShortLog(1)
    world = World(metrics=METRICS, log=log, settings=limits)
    for number, (day, name) in enumerate(sorted(sent)):
        stamp = f"2026-03-{1 + day:02}T12:00:00Z"
        value = {"v": number, "g": "x"}
        world.append([event(name, timestamp=stamp, properties=value)], NOW_MS + day * DAY_MS)
    asyncio.run(world.apply())
    log.begins = min(at, len(sent) - 1)
    kind = OF_CUSTOMERS[0]
    answer = tried(world, kind, customer="c", **LONG)
    due = used(world, kind, customer="c", **LONG)

    assert answer.exact_from is not None
    assert end_lines(answer)["as_of"]["log_begins"] == {"events/0": log.begins}
    for row in answer.rows:
        told = due[None, row.window.starting_on.isoformat()]
        if row.exact:
            assert (None if row.value is None else str(row.value), row.unreadable) == told


@pytest.mark.parametrize("between", [0, DAY_MS, 3 * DAY_MS])
def test_other_customers_move_the_clock_of_a_trial_of_one(between: int) -> None:
    """Whether his event is too old, and which is latest, follows from all records before it."""
    limits = deployment(dedup_window_ms=4 * DAY_MS, max_age_ms=2 * DAY_MS, max_ahead_ms=2 * DAY_MS)
    world = World(metrics=FIVE, settings=limits)
    world.append([event(1)], NOW_MS)
    ahead = (NOW + timedelta(milliseconds=between)).isoformat()
    world.append([event(2, customer_id="other", timestamp=ahead)], NOW_MS + between)
    world.append([event(3)], NOW_MS)  # the append time steps back; the log clock does not
    asyncio.run(world.apply())

    for kind in FIVE:
        alone = tried(world, kind, customer="c")
        assert rows_of(alone) == used(world, kind, customer="c"), kind
        assert alone.fates["rejected"] == int(between > 2 * DAY_MS)
        assert world.state.counters["rejected"] == int(between > 2 * DAY_MS)


def test_what_would_not_fit_is_refused() -> None:
    """Customers by windows, and numbers, are bounded; the refusal says what to do."""
    world = world_of(lines(60))
    for holder, name, most in (
        (trial_ledger, "LINES_MAX", 24 * 3),
        (trial_ledger, "NUMBERS_MAX", 3),
        (trial, "LINES_MAX", 23),
    ):
        with (
            patch.object(holder, name, most),
            pytest.raises(UsageError, match="wider windows, or for a sample"),
        ):
            tried(world, OF_CUSTOMERS[0])
    with patch.object(trial_ledger, "LINES_MAX", 24):
        assert rows_of(tried(world, OF_CUSTOMERS[0], customer="c1"))


def test_questions_that_have_no_answer_are_refused() -> None:
    """A sample of what is no list of customers, another scope, what is no share."""
    world = world_of(lines(10))
    name = OF_CUSTOMERS[0]
    others = sorted(set(METRICS) - set(OF_CUSTOMERS))
    for given_ in (
        {"sample": "1/2", "customer": "c1"},
        {"sample": "0/2"},
        {"against": others[0]},
    ):
        with pytest.raises(BadParameter):
            tried(world, name, **given_)
    with pytest.raises(BadParameter):
        tried(world, others[0], sample="1/2")


def test_clauses_tell_what_they_keep_out() -> None:
    """Each clause with how many events of the period it keeps out, alone and with others."""
    narrow = parse(
        {
            "name": "narrow",
            "aggregation_type": "COUNT",
            "event_type_filter": {"in_values": ["use"]},
            "property_filters": [
                {"name": "g", "in_values": ["x"]},
                {"name": "m", "in_values": ["large"]},
            ],
        }
    )
    world = World(metrics={"narrow": narrow})
    world.append(
        [
            event(1, properties={"g": "x", "m": "large"}),
            event(1, properties={"g": "x", "m": "large"}),
            event(2, properties={"g": "y", "m": "large"}),
            event(3, properties={"g": "y"}),
            event(4, properties={"g": "x", "m": "small"}),
            event(5, properties={"g": "x"}),
            event(6, event_type="other"),
            event(7, properties={"g": "y"}, timestamp="2026-02-27T11:30:00Z"),
        ]
    )
    asyncio.run(world.apply())
    answer = tried(world, "narrow", against="narrow", window_size="none")

    told = {
        (line["field"], line["excluded"], line["alone"], line["missing"], *line["seen"])
        for line in clause_lines(answer)
    }
    assert told == {
        ("property m", 3, 2, 2, "small"),
        ("property g", 2, 1, 0, "y"),
        ("event_type", 1, None, 0, "other"),
    }
    assert next(line["field"] for line in clause_lines(answer)) == "property m"
    end = end_lines(answer)
    assert end["events"] == {
        "read": 8,
        "duplicate": 1,
        "rejected": 0,
        "accepted": 7,
        "in_period": 6,
        "matched": 1,
    }
    assert end["totals"] == {
        "rows": 1,
        "customers": 1,
        "value": "1",
        "against": "1",
        "difference": "0",
        "differing_rows": 0,
    }
    assert json.loads(json.dumps(row_lines(answer))) == [
        {
            "customer_id": "c",
            "starting_on": "2026-03-01T00:00:00Z",
            "ending_before": "2026-03-02T00:00:00Z",
            "value": "1",
            "unreadable": 0,
            "against": "1",
            "difference": "0",
            "exact": True,
        }
    ]


def test_a_store_that_goes_back_is_noticed() -> None:
    """Verdicts of a cut log that are older than the state of the trial are not used."""
    world = world_of(lines(20), log=ShortLog(1))
    assert isinstance(world.log, ShortLog)
    world.log.begins = 3
    held = asyncio.run(world.store.state(0))
    assert held is not None
    state, calls = type(world.store).state, []

    async def back(self: Any, partition: int) -> Any:
        calls.append(partition)
        found = await state(self, partition)
        assert found is not None
        # The first reading is the one that a trial stands on.
        if len(calls) == 1:
            return found
        return replace(found, next=held.next - 1)

    with (
        patch.object(type(world.store), "state", back),
        pytest.raises(StoreUnavailable, match="went back"),
    ):
        tried(world, OF_CUSTOMERS[0])
