"""Whatever stands on the control log or among the dead letters is read without failing."""

import asyncio
import base64
import contextlib
import copy
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definitions.formats import parse
from definitions.formats.shown import check_shown
from definitions.metric import Definition
from pipeline.audit import Auditor
from pipeline.cli.rejected import letter_line
from pipeline.control.entities import Metric
from pipeline.control.members import digest_of
from pipeline.control.records import ControlState
from pipeline.control.writer import native_name, status_of
from pipeline.doors.klaviyo import routes as klaviyo
from pipeline.doors.metronome import routes as metronome
from pipeline.doors.statsig import routes as statsig
from pipeline.log.letters import collect
from pipeline.reads.summary import native_of

from ..world import World, definition_record, deployment, event, identity_record
from .test_audit import SHARED

NOW = datetime(2026, 3, 2, tzinfo=UTC)
PLAIN = parse(
    "metronome",
    json.dumps(
        {
            "name": "sum",
            "aggregation_type": "SUM",
            "aggregation_key": "v",
            "property_filters": [{"name": "v", "exists": True}],
            "group_keys": [["v"]],
        }
    ),
)[1]
OF_FORMAT: dict[str, Definition] = {
    "klaviyo": SHARED["all"],
    "statsig": SHARED["users"],
    "metronome": PLAIN,
}
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    10**400,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "\ud800",
    "x\udfffy",
    "²",
    "{}",
    "[1",
    "0001-01-01T00:00:00Z",
    "9999-12-31T00:00:00Z",
    "9999-12-31T23:59:59.999999999-23:59",
    "m",
    "klaviyo",
    [],
    [None],
    {},
    {"number": "NaN"},
    {"number": "1e999999999"},
    {"number": "x"},
]


def _nested(levels: int) -> str:
    return "[" * levels + "]" * levels


def records() -> list[dict[str, Any]]:
    """One valid record of every kind, for the metrics k, s and m."""
    own = {"schema_version": 1, "metric_id": "metronome", "version": 1}
    at = "2026-03-01T00:00:00Z"
    return [
        identity_record(deployment()),
        *(definition_record(name, name, made) for name, made in OF_FORMAT.items()),
        {**own, "type": "rename", "name": "other", "at": at},
        {**own, "type": "annotation", "text": '{"name": "n"}', "at": at},
        {**own, "type": "end", "effective_to": "2026-03-05T00:00:00Z", "archived": True},
        {**own, "type": "resume", "resumed_at": "2026-03-01T01:00:00Z"},
        {**own, "type": "end", "effective_to": "2026-03-05T00:00:00Z", "archived": True},
        {**own, "type": "free_name"},
        {
            "type": "key",
            "schema_version": 1,
            "key_id": "a",
            "name": "n",
            "roles": ["read"],
            "hashed": "0" * 64,
            "created_at": at,
        },
        {"type": "key_end", "schema_version": 1, "key_id": "a"},
    ]


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [
        *([path] if path else []),
        *(each for key, item in inner for each in _places(item, (*path, key))),
    ]


def _mutate(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if new == "gone":
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return changed


def _mutated(draw: st.DrawFn, value: Any) -> Any:
    return _mutate(
        value,
        draw(st.sampled_from(_places(value))),
        draw(st.sampled_from([*ODD, "gone", json.loads(_nested(300))])),
    )


@st.composite
def poisoned(draw: st.DrawFn) -> list[bytes]:
    """The records above, some with a member changed, also inside the native body."""
    made = records()
    numbers = st.lists(st.integers(1, len(made) - 1), min_size=1, max_size=3, unique=True)
    for number in draw(numbers):
        record = made[number]
        if record["type"] == "definition" and draw(st.booleans()):
            origin = record["definition"]["origin"]
            if draw(st.booleans()):
                text = draw(st.sampled_from(["", "x", "[]", "{}", _nested(900), '{"data": 1}']))
            else:
                text = json.dumps(_mutated(draw, json.loads(origin["text"])))
            origin["text"] = text
        if draw(st.booleans()):
            record = made[number] = _mutated(draw, record)
        if record.get("type") == "definition" and draw(st.integers(0, 9)):
            with contextlib.suppress(KeyError, TypeError, ValueError):
                record["digest"] = digest_of(record)
    return [json.dumps(record).encode() for record in made]


def shown(metric: Metric, state: ControlState) -> list[Any]:
    """What every command and door makes of a metric."""
    found: list[Any] = [metric.name, metric.changed_at, status_of(metric, NOW)]
    found += [native_of(metric), str(state.resumable_until(metric)), metric.archived_at]
    if metric.latest.body is not None:
        found.append(native_name(metric.origin, metric.name))
        found.append(metric.latest.body.model_dump_json())
    if metric.format == "klaviyo":
        found.append(klaviyo._metric_ids(metric))
    elif metric.format == "statsig":
        found += [statsig._shown(metric, NOW), statsig.id_of(metric)]
        state.find_typed(metric.name, "sum")
    elif metric.format == "metronome":
        found.append(metronome._shown(metric))
    return found


def read_all(raw: list[bytes]) -> ControlState:
    """Read records as every command, door and worker does."""
    state = ControlState()
    for offset, value in enumerate(raw):
        state.apply(offset, value)
    told: list[Any] = [each.why for each in state.ignored]
    told += [(key.id, key.name, sorted(key.roles), key.created_at) for key in state.keys.values()]
    for metric in state.metrics.values():
        told += shown(metric, state)
    json.dumps(told, default=str, ensure_ascii=False).encode()
    return state


def count(state: ControlState) -> World:
    """Fold events under what the log says, and audit them."""
    world = World(metrics={})
    world.control, world.definitions.state = state, state
    world.append([event(number, context={"user": {"userID": "u"}}) for number in range(2)])
    asyncio.run(world.apply())
    made = Auditor(world.identity, world.heard, world.store, world.log)
    assert asyncio.run(made.run(lambda _: None, lambda _: None)).mismatches == 0
    return world


@settings(max_examples=300, deadline=None)
@given(poisoned())
def test_no_record_of_the_control_log_stops_a_reader_or_a_worker(raw: list[bytes]) -> None:
    """Each is taken, and then every reader can use it, or ignored with its reason."""
    state = read_all(raw)

    assert state.next == len(raw)
    assert all(each.why for each in state.ignored)
    assert state.identity is not None
    count(state)


@pytest.mark.parametrize("format_", sorted(OF_FORMAT))
@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        "null",
        '{"name": 1, "type": "sum"}',
        '{"name": "n", "data": {}}',
        '{"data": {"attributes": {}}}',
        '{"data": {"attributes": {"name": "n"}}}',
        '{"data": {"attributes": {"name": "n", "definition": {"metric_groups": [{}]}}}}',
        '{"type": "sum"}',
        '{"name": "\\ud800", "type": "sum"}',
        '{"name": "n", "type": "sum", "metricEvents": [1]}',
        '{"name": "n", "x": ' + _nested(900) + "}",
    ],
)
def test_a_native_body_that_could_not_be_shown_is_ignored(format_: str, text: str) -> None:
    """Under a right digest too; the log goes on, and the same metric can be made rightly."""
    if format_ == "metronome" and '"n"' in text and "data" not in text[:7] and "[[" not in text:
        text = text.replace('"n"', "7")
    bad = definition_record(format_, format_, OF_FORMAT[format_])
    bad["definition"]["origin"]["text"] = text
    bad["digest"] = digest_of(bad)
    good = definition_record(format_, format_, OF_FORMAT[format_])
    raw = [json.dumps(each).encode() for each in (identity_record(deployment()), bad, good)]

    state = read_all(raw)

    assert [each.offset for each in state.ignored] == [1]
    assert state.metrics[format_].origin == OF_FORMAT[format_].origin


@pytest.mark.parametrize("name", ["\ud800", "a\udfffb", "\udc80" * 3])
def test_a_name_with_a_lone_surrogate_is_ignored(name: str) -> None:
    """As the name of a metric, of a rename and of a key."""
    made = records()
    for number in (3, 4, 10):
        made[number]["name"] = name
    state = read_all([json.dumps(each).encode() for each in made])

    assert {3, 4, 10} <= {each.offset for each in state.ignored}


@pytest.mark.parametrize("format_", sorted(OF_FORMAT))
def test_what_parse_takes_can_be_shown(format_: str) -> None:
    """The check refuses nothing that a door took."""
    check_shown(OF_FORMAT[format_].origin)


@dataclass
class Raw:
    """A record of the topic of dead letters."""

    key: bytes | None = b"usage.events/0@7"
    value: bytes | None = b"x"
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


TIME = [("append_time", b"5"), ("reason", b"not_json"), ("detail", b"bad")]


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b"\xff",
        "usage.events/0@²".encode(),
        "usage.events/²@1".encode(),
        "usage.events/0@٣".encode(),
        b"usage.events/0@" + b"9" * 5_000,
        b"usage.events/" + b"9" * 5_000 + b"@1",
        b"usage.events/-1@1",
        b"usage.events/0@1\n",
        b"/0@1",
    ],
)
def test_a_foreign_dead_letter_is_passed_over(key: bytes | None) -> None:
    """Keys that only look like ours hide no letter and stop no reader."""
    found = collect([Raw(key, headers=[*TIME]), Raw(headers=[*TIME])])

    assert [(each.partition, each.offset, each.append_time_ms) for each in found] == [(0, 7, 5)]


@given(
    st.lists(
        st.builds(
            Raw,
            key=st.one_of(
                st.none(), st.binary(max_size=9), st.from_regex(r"u/\d+@\d+").map(str.encode)
            ),
            value=st.one_of(st.none(), st.binary(max_size=9)),
            headers=st.lists(
                st.tuples(
                    st.sampled_from(["append_time", "reason", "redriven", "key", "omitted", "x"]),
                    st.one_of(
                        st.none(), st.binary(max_size=5), st.text(max_size=5).map(str.encode)
                    ),
                )
            ),
        )
    )
)
def test_no_dead_letter_stops_a_reader(raw: list[Raw]) -> None:
    """Whatever its key, value and headers are, the list can be printed."""
    for letter in collect(raw):
        line = letter_line(letter)
        json.dumps(line, ensure_ascii=False).encode()
        assert base64.b64decode(line.get("original_base64", "")) in {b"", letter.original}
