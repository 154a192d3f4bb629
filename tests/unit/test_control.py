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


def test_one_copy_is_allowed_and_refused_again() -> None:
    """The latest record says whether one copy may acknowledge; Redis' copy of the identity too."""

    def record(allowed: Any, store_id: str | None = None) -> dict[str, Any]:
        own = identity_record(deployment())["store_id"]
        return {
            "type": "single_copy",
            "schema_version": 1,
            "store_id": store_id or own,
            "allowed": allowed,
        }

    def allows(*records: Any) -> bool:
        identity = state_of(*records).identity
        assert identity is not None
        told = json.loads(identity.text).get("allow_single_copy", False)
        assert told == identity.allow_single_copy
        return identity.allow_single_copy

    assert not allows()
    assert allows(record(allowed=True))
    assert not allows(record(allowed=True), record(allowed=False))
    assert not allows(record(allowed="yes"), record(allowed=True, store_id="another"))


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


ENDED = {**END, "effective_to": "2026-03-01T00:00:00Z"}
SHARED = {"schema_version": 1, "metric_id": "m"}


def resume(at: str) -> dict[str, Any]:
    """A record that takes the end back."""
    return {**SHARED, "type": "resume", "version": 1, "resumed_at": at}


@pytest.mark.parametrize(
    ("max_age_ms", "at", "undone"),
    [
        (34 * 86_400_000, "2026-02-28T12:00:00Z", True),
        (34 * 86_400_000, "2026-03-01T23:59:59Z", True),
        (34 * 86_400_000, "2026-03-02T00:00:00Z", False),
        (0, "2026-03-01T23:59:59Z", True),
        (2 * 3_600_000, "2026-03-01T00:59:59Z", True),  # no worker stops within max_age
        (2 * 3_600_000, "2026-03-01T01:00:00Z", False),
    ],
)
def test_an_archive_is_undone_while_no_worker_can_have_stopped(
    max_age_ms: int, at: str, undone: bool
) -> None:
    """Within 24 hours, or half of max_age: the end never was, and the metric can end again."""
    state = ControlState()
    identity = identity_record(deployment(max_age_ms=max_age_ms))
    for offset, record in enumerate([identity, metric(), ENDED, resume(at), ENDED]):
        state.apply(offset, json.dumps(record).encode())
        if offset == 3:
            assert (state.metrics["m"].archived_at is None) is undone
            assert (state.metrics["m"].latest.effective_to is None) is undone

    assert state.metrics["m"].archived_at == "2026-03-01T00:00:00Z"
    assert [item.offset for item in state.ignored] == ([] if undone else [3, 4])


def test_a_deleted_metric_gives_its_name_away_for_good() -> None:
    """Its id finds it, its name is another's; it is not renamed, resumed or deleted again."""
    free = {**SHARED, "type": "free_name"}
    rename = {**SHARED, "type": "rename", "name": "x"}
    later = [metric("m2", "n"), rename, resume("2026-03-01T01:00:00Z"), free]

    state = state_of(metric(), free, ENDED, free, *later)

    assert [item.offset for item in state.ignored] == [2, 6, 7, 8]
    assert state.names == {"n": "m2"}
    assert state.metrics["m"].name == "n"
    assert state.find("n") is state.metrics["m2"]


def test_an_annotation_shows_another_body_of_what_is_counted_as_before() -> None:
    """It is for the latest version, and a next version ends it; the digest never hears of it."""
    text = '{"name": "n", "description": "x"}'
    annotation = {
        **SHARED,
        "type": "annotation",
        "version": 1,
        "text": text,
        "at": "2026-03-01T00:00:01Z",
    }

    state = state_of(metric(), annotation, {**annotation, "version": 2}, {**annotation, "text": 1})

    assert state.metrics["m"].origin.text == text
    assert state.metrics["m"].changed_at == "2026-03-01T00:00:01Z"
    assert state.versions == state_of(metric()).versions
    assert [item.offset for item in state.ignored] == [3, 4]
