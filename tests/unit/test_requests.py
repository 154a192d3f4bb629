"""Requests of definitions: each has one outcome, whole or none, and says what is wrong."""

import asyncio
import json
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.control.records import ControlState
from pipeline.control.requests import (
    OPERATIONS,
    REQUEST_BYTES_MAX,
    Outcome,
    outcome_of,
)
from pipeline.edges.clock import SetClock

from ..world import FIVE, definition_record, deployment, identity_record

NOW = datetime(2026, 3, 1, 12, 20, tzinfo=UTC)
COUNT = {"name": "calls", "aggregation_type": "count"}
CREATE = {"op": "create", "format": "metronome", "body": COUNT, "request_id": "r"}


def a_state(*records: dict[str, Any]) -> ControlState:
    """The state after an identity and these records."""
    state = ControlState()
    for offset, record in enumerate([identity_record(deployment()), *records]):
        state.apply(offset, json.dumps(record).encode())
    assert state.ignored == []
    return state


def asked(state: ControlState, request: Any, *, refusal: str | None = None) -> Outcome:
    """What becomes of a request."""
    raw = request if isinstance(request, bytes | None) else json.dumps(request).encode()
    work = outcome_of(raw, place="0@7", state=state, clock=SetClock(NOW), refusal=refusal)
    return asyncio.run(work)


def written(state: ControlState, outcome: Outcome, offset: int) -> None:
    """Put an outcome on the log behind the state."""
    record = {
        "type": "request",
        "schema_version": 1,
        "topic_id": "T",
        "offset": offset,
        "records": outcome.records,
        "outcome": outcome.told,
    }
    state.apply(state.next, json.dumps(record).encode())


def test_a_life_by_requests_alone() -> None:
    """A metric is created, renamed, changed, superseded, archived and taken back by requests."""
    state = a_state()
    metric: dict[str, Any] = {}
    for offset, request in enumerate(
        [
            CREATE,
            {"op": "rename", "metric": "calls", "name": "all calls"},
            {
                "op": "update",
                "metric": "all calls",
                "body": {**COUNT, "name": "all calls", "event_type_filter": {"in_values": ["c"]}},
            },
            {"op": "archive", "metric": "all calls", "at": None},
            {"op": "resume", "metric": "all calls"},
            {
                "op": "supersede",
                "metric": "all calls",
                "format": "metronome",
                "body": json.dumps({**COUNT, "name": "all calls"}),
            },
        ]
    ):
        outcome = asked(state, request)
        assert outcome.told["status"] == "done", outcome.told
        before, metric = metric, outcome.told["metric"]
        written(state, outcome, offset)
        assert state.ignored == []
    old, new = state.metrics[before["id"]], state.metrics[metric["id"]]

    assert old.id != new.id
    assert state.names == {"all calls": new.id}
    assert [each.number for each in old.versions] == [1, 2]
    assert old.archived_at == metric["effective_from"] == "2026-03-01T13:00:00Z"
    assert not old.named
    assert state.requests == {"T": 6}
    assert state.answered_at == state.next - 1


@pytest.mark.parametrize(
    ("request_", "rule", "pointer"),
    [
        (None, "JSON", ""),
        (b"", "JSON", ""),
        (b"\xff", "JSON", ""),
        (b"[1]", "REQUEST", ""),
        (b"{" + b" " * REQUEST_BYTES_MAX, "LIMIT-BYTES", ""),
        ({}, "REQUEST", "/op"),
        ({"op": []}, "REQUEST", "/op"),
        ({"op": "drop"}, "REQUEST", "/op"),
        ({**CREATE, "more": 1}, "REQUEST", "/more"),
        ({**CREATE, "metric": "m"}, "REQUEST", "/metric"),
        ({**CREATE, "request_id": 5}, "REQUEST", "/request_id"),
        ({**CREATE, "request_id": "x" * 201}, "REQUEST", "/request_id"),
        ({**CREATE, "format": "stripe"}, "REQUEST", "/format"),
        ({**CREATE, "body": [1]}, "REQUEST", "/body"),
        ({"op": "create", "format": "metronome"}, "REQUEST", "/body"),
        ({**CREATE, "body": {**COUNT, "aggregation_type": "avg"}}, "M-AGG", "/body"),
        ({**CREATE, "body": "{"}, "JSON", "/body"),
        ({**CREATE, "body": {**COUNT, "name": "n"}}, "CONFLICT", ""),
        ({**CREATE, "effective_from": "yesterday"}, "TIME", "/effective_from"),
        ({**CREATE, "effective_from": 5}, "REQUEST", "/effective_from"),
        ({"op": "rename", "metric": "zz", "name": "y"}, "UNKNOWN", "/metric"),
        ({"op": "rename", "metric": "m", "name": " "}, "REQUEST", "/name"),
        ({"op": "rename", "metric": "m", "name": "y" * 1_025}, "LIMIT-NAME", "/name"),
        ({"op": "archive", "metric": "m", "at": "2026-03-01T00:00:01Z"}, "TIME", "/at"),
        ({"op": "archive", "metric": "m", "drop_history": 1}, "REQUEST", "/drop_history"),
        ({"op": "resume", "metric": "m"}, "CONFLICT", ""),
        (
            {
                "op": "supersede",
                "metric": "m",
                "format": "metronome",
                "body": COUNT,
                "effective_from": "2026-01-01T00:00:00Z",
            },
            "TIME",
            "/effective_from",
        ),
        ({"op": "update", "metric": "m", "body": {"name": ""}}, "NAME-B", "/body/name"),
    ],
)
def test_a_bad_request_is_refused_with_rule_and_pointer(
    request_: Any, rule: str, pointer: str
) -> None:
    """Whatever a request says, it has an outcome, which names the rule and the place."""
    state = a_state(definition_record("m", "n", FIVE["COUNT"]))
    before = deepcopy((state.metrics, state.names))

    outcome = asked(state, request_)

    assert outcome.told["status"] == "refused"
    problem = outcome.told["problems"][0]
    assert (problem["rule"][: len(rule)], problem["pointer"][: len(pointer)]) == (rule, pointer)
    assert problem["message"]
    assert outcome.records == []
    assert (state.metrics, state.names) == before
    written(state, outcome, 7)
    assert state.ignored == []
    assert state.requests == {"T": 8}


def test_the_first_outcome_of_a_request_wins() -> None:
    """Two that take the same request at once leave one metric, and so does a late one."""
    state = a_state()
    first, second = asked(state, CREATE), asked(state, CREATE)

    written(state, first, 7)
    written(state, second, 7)
    written(state, second, 6)

    assert list(state.metrics) == [first.told["metric"]["id"]]
    assert [each.offset for each in state.ignored] == [2, 3]


def test_an_outcome_is_taken_whole_or_not_at_all() -> None:
    """If the last record of an outcome is not valid any more, nothing of it was done."""
    held = definition_record("m", "n", FIVE["COUNT"])
    state = a_state(held, definition_record("m2", "n2", FIVE["SUM"]))
    request = {"op": "supersede", "metric": "m", "format": "metronome", "body": COUNT}
    outcome = asked(state, request)
    taken = definition_record("m3", "calls", FIVE["MAX"])  # by somebody else, in between
    state.apply(state.next, json.dumps(taken).encode())
    before = deepcopy((state.metrics, state.names, state.won, state.requests, state.answered_at))

    written(state, outcome, 0)

    after = (state.metrics, state.names, state.won, state.requests, state.answered_at)
    assert after == before
    assert [each.offset for each in state.ignored] == [4]
    assert asked(state, request).told["problems"][0]["rule"] == "CONFLICT"


def test_bodies_keep_what_was_given() -> None:
    """A body given as a string is kept byte by byte, one given as an object with its digits."""
    text = '{ "name":"calls",\n "aggregation_type":"count" }'
    for body, kept in ((text, text), (COUNT, json.dumps(COUNT, separators=(",", ":")))):
        outcome = asked(a_state(), {**CREATE, "body": body})
        (record,) = outcome.records
        assert record["definition"]["origin"]["text"] == kept


def test_a_request_without_an_id_is_called_by_its_offset() -> None:
    """A result always has a key: the request's own id, or where it lies."""
    bare = {name: CREATE[name] for name in ("op", "format", "body")}

    assert asked(a_state(), bare).told["request_id"] == "0@7"
    assert asked(a_state(), CREATE).told["request_id"] == "r"
    assert asked(a_state(), b"{").told["request_id"] == "0@7"


def test_a_seal_that_is_wrong_is_a_refusal() -> None:
    """With RECOUNT_CONTROL_KEY a request needs a seal; without a right one nothing is done."""
    outcome = asked(a_state(), CREATE, refusal="it is not sealed")

    assert outcome.told["problems"][0]["rule"] == "SEAL"
    assert outcome.told["request_id"] == "r"


def test_what_is_told_is_bounded() -> None:
    """A request with any number of mistakes has a small result."""
    many = {"op": "create", **{f"m{number}" * 20: 1 for number in range(3_000)}}

    told = asked(a_state(), many).told

    assert len(json.dumps(told)) < 40_000
    assert told["more"] > 2_000


def test_a_dry_run_of_statsig_changes_nothing() -> None:
    """Statsig's dryRun is checked, and nothing is written of it."""
    body = {
        "name": "dry run",
        "type": "event_count_custom",
        "directionality": "increase",
        "unitTypes": ["userID"],
        "metricEvents": [{"name": "e", "type": "count"}],
        "dryRun": True,
    }

    outcome = asked(a_state(), {**CREATE, "format": "statsig", "body": body})

    assert (outcome.told["status"], outcome.records) == ("dry_run", [])


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    st.sampled_from(sorted(OPERATIONS)),
    st.dictionaries(
        st.sampled_from(
            ["op", "metric", "name", "body", "format", "at", "effective_from", "request_id"]
        ),
        st.one_of(JSON_VALUES, st.sampled_from(["m", "metronome", "now", COUNT])),
    ),
)
def test_any_request_has_an_outcome_that_the_log_takes(op: str, members: dict[str, Any]) -> None:
    """Whatever is asked, the outcome is a valid record, and says done or refused."""
    state = a_state(definition_record("m", "n", FIVE["COUNT"]))

    outcome = asked(state, {"op": op, **members})
    written(state, outcome, 0)

    assert outcome.told["status"] in {"done", "refused"}
    assert state.ignored == []


@given(JSON_VALUES, st.sampled_from(["records", "outcome", "offset", "topic_id", "seal"]))
def test_no_outcome_can_stop_a_reader(value: Any, member: str) -> None:
    """Whatever lies on the control log as an outcome, reading goes on."""
    record = {
        "type": "request",
        "schema_version": 1,
        "topic_id": "T",
        "offset": 0,
        "records": [{"type": "definition", "schema_version": 1}],
        "outcome": {},
    }
    state = a_state()

    state.apply(1, json.dumps({**record, member: value}).encode())

    assert state.next == 2
    assert state.metrics == {}
