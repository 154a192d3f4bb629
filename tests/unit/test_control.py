"""The control log: the first valid record wins, and nothing on it can stop a reader."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from definitions.formats import parse
from definitions.formats.shown import DEPTH_MAX, check_depth
from pipeline.control.members import check_answerable
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


SHARED = {"schema_version": 1, "metric_id": "m"}
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


def replaces(new: str, old: str, *, name: str, gives: str, **changes: Any) -> dict[str, Any]:
    """A record by which a metric takes over a name, and gives its own."""
    record = {"type": "replace", "schema_version": 1, "metric_id": new, "replaces": old}
    return {**record, "name": name, "gives": gives, "at": "2026-03-01T00:00:00Z", **changes}


def test_a_replacement_exchanges_names_and_the_first_of_two_wins() -> None:
    """One record; a second one that was written for the same names changes nothing."""
    three = [metric("a", "n"), metric("b", "n2"), metric("c", "n3")]
    first = replaces("b", "a", name="n", gives="n2")

    state = state_of(*three, first, replaces("c", "a", name="n", gives="n3"), first)

    assert state.names == {"n": "b", "n2": "a", "n3": "c"}
    assert {each.id: each.name for each in state.metrics.values()} == {
        "a": "n2",
        "b": "n",
        "c": "n3",
    }
    assert state.metrics["b"].replaced == "a"
    assert state.metrics["b"].changed_at == "2026-03-01T00:00:00Z"
    assert [item.offset for item in state.ignored] == [5, 6]


def test_replacements_are_chained_and_taken_back() -> None:
    """The name goes on to a third metric; the opposite record gives it back; renames count too."""
    three = [metric("a", "n"), metric("b", "n2"), metric("c", "n3")]
    chain = [replaces("b", "a", name="n", gives="n2"), replaces("c", "b", name="n", gives="n3")]
    back = replaces("b", "c", name="n", gives="n3")

    assert state_of(*three, *chain).names == {"n": "c", "n2": "a", "n3": "b"}
    state = state_of(*three, *chain, back)
    assert state.names == {"n": "b", "n2": "a", "n3": "c"}
    assert [state.metrics[each].replaced for each in "abc"] == [None, "c", None]
    rename = {"type": "rename", "schema_version": 1, "metric_id": "b", "name": "other"}
    assert state_of(*three, chain[0], rename).metrics["b"].replaced is None


FREED = {"type": "free_name", "schema_version": 1, "metric_id": "m"}


@pytest.mark.parametrize(
    ("before", "record"),
    [
        ([], replaces("m", "m", name="n", gives="n")),
        ([], replaces("zz", "m", name="n", gives="x")),
        ([], replaces("b", "m", name="n", gives="other")),
        ([], replaces("b", "m", name="other", gives="n2")),
        ([], replaces("b", "m", name="n", gives="n2", at=7)),
        # What is archived counts nothing any more, so it takes over no name.
        (
            [{**END, "effective_to": "2026-03-01T00:00:00Z"}],
            replaces("m", "b", name="n2", gives="n"),
        ),
        # A deleted metric has no name to exchange.
        (
            [{**END, "effective_to": "2026-03-01T00:00:00Z"}, FREED],
            replaces("b", "m", name="n", gives="n2"),
        ),
    ],
)
def test_a_replacement_that_is_not_valid_changes_nothing(
    before: list[dict[str, Any]], record: dict[str, Any]
) -> None:
    """Each is ignored with its reason, and every name stays whose it was."""
    plain, state = (
        state_of(metric(), metric("b", "n2"), *before, *more) for more in ([], [record])
    )

    assert len(state.ignored) == 1
    assert state.ignored[0].why
    assert (state.names, state.metrics) == (plain.names, plain.metrics)


def test_an_archived_metric_can_be_replaced() -> None:
    """Its last bills are read by its name, so a corrected one may take that over."""
    ended = {**END, "effective_to": "2026-03-01T00:00:00Z"}
    state = state_of(metric(), metric("b", "n2"), ended, replaces("b", "m", name="n", gives="n2"))

    assert state.names == {"n": "b", "n2": "m"}
    assert state.metrics["m"].archived_at == "2026-03-01T00:00:00Z"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["define", "rename", "replace", "replace", "stale", "end", "free", "resume"]
        ),
        st.integers(0, 5),
        st.integers(0, 5),
    ),
    max_size=30,
)


@given(STEPS)
def test_names_are_what_a_plain_model_says(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is written in whatever order: each name is one metric's, and says so both ways."""
    state, model, known, offset = state_of(), dict[str, str](), dict[str, str](), 1
    for does, one, other in steps:
        a, b = f"m{one}", f"m{other}"
        record, held = _step(does, a, b, known), dict(known)
        state.apply(offset, json.dumps(record).encode())
        valid = offset not in {item.offset for item in state.ignored}
        if valid and does == "define" and a not in known:
            known[a] = f"name of {a}"
        elif valid and does == "rename":
            known[a] = record["name"]
        elif valid and does == "replace":
            known[a], known[b] = known[b], known[a]
        elif valid and does == "free":
            del known[a]
        if does == "stale":
            assert not valid
            assert known == held
        model = {name: metric_id for metric_id, name in known.items()}
        assert state.names == model
        assert len(model) == len(known)
        named = {each.id: each.name for each in state.metrics.values() if each.named}
        assert named == known
        offset += 1


def _step(does: str, a: str, b: str, known: dict[str, str]) -> dict[str, Any]:
    """A record of a kind about two metrics."""
    if does == "define":
        return metric(a, f"name of {a}")
    if does == "rename":
        return {"type": "rename", "schema_version": 1, "metric_id": a, "name": f"{a} for {b}"}
    if does == "end":
        return {**END, "metric_id": a, "effective_to": "2026-03-01T00:00:00Z"}
    if does == "free":
        return {**FREED, "metric_id": a}
    if does == "resume":
        return {
            **SHARED,
            "metric_id": a,
            "type": "resume",
            "version": 1,
            "resumed_at": "2026-03-01T01:00:00Z",
        }
    name, gives = known.get(b, "?"), known.get(a, "?")
    if does == "stale":
        name += " before"
    return replaces(a, b, name=name, gives=gives)


def test_a_question_goes_on_by_the_names_it_began_with() -> None:
    """Whatever is renamed, freed or replaced meanwhile: it finds what it would have found."""
    bodies = {"a": "plays", "b": "plays 2"}
    state = state_of(*(_statsig(each, name) for each, name in bodies.items()))
    find = state.find_typed
    before = find("plays", "event_count_custom"), find("plays 2", "event_count_custom")
    assert [each and each.id for each in before] == ["a", "b"]

    record = replaces("b", "a", name="plays", gives="plays 2")
    state.apply(state.next, json.dumps(record).encode())
    rename = {"type": "rename", "schema_version": 1, "metric_id": "a", "name": "plays 4"}
    state.apply(state.next, json.dumps(rename).encode())

    assert not state.ignored
    assert (find("plays", "event_count_custom"), find("plays 2", "event_count_custom")) == before
    later = state.find_typed("plays", "event_count_custom")
    assert later is not None
    assert later.id == "b"
    assert state.find_typed("plays 2", "event_count_custom") is None


def _statsig(metric_id: str, name: str) -> dict[str, Any]:
    """A metric of Statsig."""
    body = {
        "name": name,
        "type": "event_count_custom",
        "unitTypes": ["userID"],
        "metricEvents": [{"name": "use"}],
    }
    return definition_record(metric_id, name, parse("statsig", json.dumps(body))[1])


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


def _refused(check: Any, *given: Any) -> bool:
    try:
        check(*given)
    except (ValueError, RecursionError):
        return True
    return False


def _walked(record: Any) -> None:
    """The whole check, whatever the bytes are."""
    check_depth(record)
    json.dumps(record, ensure_ascii=False, allow_nan=False).encode()


@given(
    inner=st.recursive(
        st.one_of(st.text(st.characters(exclude_categories=())), st.floats(), st.none()),
        lambda each: st.one_of(st.lists(each), st.dictionaries(st.text(), each)),
        max_leaves=5,
    ),
    depth=st.sampled_from([0, 1, DEPTH_MAX - 3, DEPTH_MAX - 2, DEPTH_MAX - 1, DEPTH_MAX]),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-32-be", "utf-8-sig"]),
    ascii_only=st.booleans(),
)
@example(inner="\ud800", depth=0, encoding="utf-16-le", ascii_only=True)
@example(inner=float("nan"), depth=0, encoding="utf-16-be", ascii_only=True)
def test_what_cannot_be_answered_is_seen_by_its_bytes(
    inner: Any, depth: int, encoding: str, *, ascii_only: bool
) -> None:
    """A record that is not looked at as a whole is one that would pass."""
    for _ in range(depth):
        inner = [inner]
    text = json.dumps({"value": inner}, ensure_ascii=ascii_only)
    value = text.encode(encoding, "surrogatepass")
    record = json.loads(value)

    assert _refused(check_answerable, record, value) == _refused(_walked, record)


ENDED = {**END, "effective_to": "2026-03-01T00:00:00Z"}


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
