"""The control log: the first valid record wins, and nothing on it can stop a reader."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.control.records import ControlState

from ..world import FIVE, definition_record, deployment, identity_record


def state_of(*records: Any) -> ControlState:
    """The state after an identity and these records."""
    state = ControlState()
    for offset, record in enumerate([identity_record(deployment()), *records]):
        raw = record if isinstance(record, bytes | None) else json.dumps(record).encode()
        state.apply(offset, raw)
    return state


def metric(metric_id: str = "m", name: str = "n", **changes: Any) -> dict[str, Any]:
    """A definition record."""
    return {**definition_record(metric_id, name, FIVE["COUNT"]), **changes}


END = {"type": "end", "schema_version": 1, "metric_id": "m", "version": 1, "archived": True}


@pytest.mark.parametrize(
    "second",
    [
        metric(),
        metric("m2"),
        metric("m", "other"),
        metric("bad id", "b"),
        metric("m3", ""),
        metric("m4", "d", digest="0"),
        metric("m5", "e", effective_from="2026-03-01T00:30:00Z"),
        metric("m6", "f", definition={}),
        metric("m7", "g", version=2),
        {**END, "effective_to": "2026-03-01T00:00:01Z"},
        {**END, "effective_to": "2026-03-01T00:00:00"},
        {**END, "version": 9, "effective_to": "2026-03-01T00:00:00Z"},
        {"type": "rename", "schema_version": 1, "metric_id": "zz", "name": "y"},
        {"type": "what", "schema_version": 1},
        identity_record(deployment(max_age_ms=0)),
        b"",
        None,
        b"\xff",
        b"[]",
        b"[" * 100_000,
    ],
)
def test_an_invalid_record_changes_nothing_and_is_reported(second: Any) -> None:
    """A record that is not valid at its place is ignored with its offset and why."""
    before, after = state_of(metric()), state_of(metric(), second)

    assert [item.offset for item in after.ignored] == [2]
    assert after.ignored[0].why
    assert (after.names, after.identity) == (before.names, before.identity)
    assert after.versions == before.versions


def test_names_move_with_renames() -> None:
    """A rename frees the old name; an archived metric keeps its own; no two share one (CS16)."""
    rename = {"type": "rename", "schema_version": 1, "metric_id": "m", "name": "new"}
    end = {**END, "effective_to": "2026-03-01T00:00:00Z"}

    state = state_of(metric(), rename, metric("m2", "n"), end, metric("m3", "new"))

    assert state.names == {"new": "m", "n": "m2"}
    assert state.metrics["m"].archived_at == "2026-03-01T00:00:00Z"
    assert [item.offset for item in state.ignored] == [5]


def test_an_unknown_schema_version_holds_its_place() -> None:
    """A record of another release holds version and name, cannot be folded, is never replaced."""
    state = state_of(metric(schema_version=2), metric(), metric("m2", "n"))

    assert state.versions["m#1"].body is None
    assert not state.versions["m#1"].foldable
    assert [item.offset for item in state.ignored] == [2, 3]


@given(
    st.dictionaries(
        st.sampled_from([*sorted(metric()), "archived", "effective_to", "starts"]),
        st.recursive(
            st.one_of(
                st.none(), st.integers(), st.text(max_size=4), st.sampled_from(["end", "m"])
            ),
            lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(max_size=3), inner)),
            max_leaves=5,
        ),
    )
)
def test_nothing_can_stop_a_reader(changes: dict[str, Any]) -> None:
    """Whatever lies on the log, reading goes on."""
    state = state_of(metric(**changes), metric("after", "after"))

    assert state.next == 3
    assert "after" in state.metrics
