"""native/ beside Python: it may leave anything to Python, but never says anything else."""

import json
import random
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from definitions.conditions import compile_condition
from definitions.matcher import Matcher, compile_version
from definitions.metric import (
    Aggregation,
    Class,
    Comparison,
    Condition,
    Definition,
    EventSelector,
    Field,
    Measure,
    MetricVersion,
    Operator,
    Origin,
    Result,
    Scope,
)
from definitions.times import parse_timestamp
from definitions.values import ABSENT, canonical, decimal_of_text
from pipeline.core import id_index
from pipeline.core.aggregations import encode_partial
from pipeline.core.cell_cache import Layout, RustCells
from pipeline.core.cells import CellKey
from pipeline.core.commit import advance
from pipeline.core.compiled import MODULE
from pipeline.core.dedup import ID_BYTES, home_of
from pipeline.core.event import Decoder, Event
from pipeline.core.fold import fold as core_fold
from pipeline.core.fold.fold import fold
from pipeline.core.fold.rust import RustFold
from pipeline.core.id_index import IdIndex
from pipeline.core.plan import Plan
from pipeline.core.state import PartitionState
from pipeline.edges.memory import MemoryRecord

from ..world import DAY_MS, FIVE, NOW_MS, body, deployment, event, parse, versions
from .test_event import BYTES, STAMPS
from .test_laws import LINES, VALUES

SETTINGS: Final = deployment(homes=2, dedup_window_ms=8 * DAY_MS, max_age_ms=6 * DAY_MS)
KEYS: Final = ["v", "g", "h"]
_WIDE: Final = Decoder(None).decode
_OPERANDS: Final[list[Any]] = [
    *("x", "y", "", "1:", "true", "FALSE", "7", "7.50", "é", "-3", '"', "\n", "1" * 19),
    *(7, -3, 0, 10**18, Decimal("7.5"), Decimal("1E-10"), True, False, None),
]
_LISTS: Final[list[tuple[Any, ...]]] = [
    (),
    *((one,) for one in _OPERANDS),
    *zip(_OPERANDS, _OPERANDS[3:] + _OPERANDS[:3], strict=True),
]


def test_it_is_there_where_it_can_be() -> None:
    """Where there is cargo, `make env` has built it: nothing below passes for want of it."""
    assert MODULE is not None or shutil.which("cargo") is None


def conditions(condition: Condition) -> bool:
    """Whether a condition can be evaluated at all."""
    try:
        compile_condition(condition)
    except ValueError:
        return False
    return True


# A name that needs escapes in JSON, and one that can be spelled with them.
NAMES: Final = ["id", 'a"b\\', "é"]
FIELDS: Final = st.sampled_from(
    [
        *[Field(source="property", key=key) for key in [*KEYS * 3, *NAMES]],
        *[Field(source="user", key=key) for key in NAMES],
        *[Field(source="user_custom", key=key) for key in NAMES],
        *[Field(source="custom_id", key=key) for key in NAMES],
        *[Field(source="value", key=key) for key in [None, "v", "$value"]],
        Field(source="customer_id"),
    ]
)
_TESTED: Final = Field(source="property", key="v")
# Operator and comparison → operands that can be evaluated, with `strict`
EVALUATED: Final = {
    (operator, comparison): found
    for operator in Operator
    for comparison in Comparison
    if (
        found := [
            (operands, strict)
            for operands in _LISTS
            for strict in (False, True)
            if conditions(
                Condition(
                    field=_TESTED,
                    operator=operator,
                    operands=operands,
                    comparison=comparison,
                    if_unknown=False,
                    strict=strict,
                )
            )
        ]
    )
    and {operands for operands, _ in found} != {(None,)}  # which is unknown under any comparison
}


@st.composite
def condition(draw: st.DrawFn) -> Condition:
    """A condition that can be evaluated: every operator under every comparison is as likely."""
    operator, comparison = draw(st.sampled_from(list(EVALUATED)))
    operands, strict = draw(st.sampled_from(EVALUATED[operator, comparison]))
    return Condition(
        field=draw(FIELDS),
        operator=operator,
        operands=operands,
        comparison=comparison,
        if_unknown=draw(st.booleans()),
        strict=strict,
    )


CONDITIONS: Final = condition()


@st.composite
def metric(draw: st.DrawFn, name: str) -> MetricVersion:
    """A version with one measure of any kind."""
    kind = draw(st.sampled_from(list(Aggregation)))
    usual = st.just(Field(source="property", key="v"))
    field = None if kind is Aggregation.COUNT else draw(usual | FIELDS)
    measure = Measure(
        name="m",
        events=EventSelector(
            include=draw(st.sampled_from([("use",), ("use", "other"), None])),
            exclude=draw(st.sampled_from([None, ("other",)])),
        ),
        where=tuple(draw(st.lists(CONDITIONS, max_size=2))),
        aggregation=kind,
        field=field,
        numeric_text=draw(st.booleans()),
        unit=draw(st.none() | FIELDS),
    )
    return version_of(
        name,
        measure,
        origin=Origin(format=draw(st.sampled_from(["metronome", "klaviyo"])), text=name),
        effective_from=draw(st.sampled_from([None, datetime(2026, 3, 1, 11, tzinfo=UTC)])),
        scope=draw(st.sampled_from(list(Scope))),
        dimensions=draw(
            st.sampled_from([(), (("g",),), (("g", "h"), ("h",)), (("$value", "g"),)])
        ),
    )


def version_of(
    name: str, measure: Measure, effective_from: datetime | None = None, **members: Any
) -> MetricVersion:
    """A version with one measure."""
    definition = Definition(
        measures=(measure,),
        result=Result(args=(measure.name,)),
        execution=Class.INCREMENTAL,
        **{
            "scope": Scope.CUSTOMER,
            "origin": Origin(format="metronome", text=name),
            **members,
        },
    )
    return MetricVersion(
        metric_id=name,
        version=1,
        effective_from=effective_from,
        definition=definition,
        digest="d",
    )


# All but one at home in partition 0.
CUSTOMERS: Final = [
    *[
        name
        for name in ("a", "b", "c", "d", "ü:1", "ü:2", "a long name", "a longer name")
        if not home_of(name, 2)
    ],
    next(name for name in "abcdefg" if home_of(name, 2)),
]
METRICS: Final = st.integers(1, 3).flatmap(
    lambda count: st.tuples(*(metric(f"m{number}") for number in range(count)))
)
PLAIN: Final = st.one_of(
    st.integers(-999, 999),
    st.decimals(-99, 99, places=3).map(str),
    st.decimals(-99, 99, places=2).map(float),
    st.sampled_from(["x", "y", "é", True, '"', "a\\b\n", "\U0001f600x", "x" * 257]),
)
# What a door makes of a user, and what nobody should send.
HOLDERS: Final[st.SearchStrategy[Any]] = st.one_of(
    st.dictionaries(st.sampled_from(NAMES), PLAIN | VALUES, max_size=3),
    st.dictionaries(st.sampled_from(NAMES), PLAIN | VALUES, max_size=3),
    st.sampled_from([None, {}, [], "x", 7, {"id": [1, {"a": "b"}]}]),
)
LISTS: Final = st.lists(PLAIN | VALUES, max_size=4)
CONTEXTS: Final = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "value": PLAIN | VALUES | LISTS,
        "user": HOLDERS,
        "custom": HOLDERS,
        "custom_ids": HOLDERS,
        "more": VALUES,
    },
)
SHAPED: Final = st.fixed_dictionaries(
    {
        "transaction_id": st.integers(0, 30).map("t{}".format),
        "customer_id": st.sampled_from(CUSTOMERS),
        "event_type": st.sampled_from(["use", "use", "use", "other", "éa"]),
        "timestamp": st.sampled_from([-9, -2, -1, -1, 0, 0, 0, 3]).map(
            lambda days: (datetime(2026, 3, 1, 11, 30, tzinfo=UTC) + timedelta(days)).isoformat()
        ),
    },
    optional={
        "properties": st.dictionaries(
            st.sampled_from([*KEYS, *NAMES, "z"]), PLAIN | PLAIN | VALUES | LISTS, max_size=4
        ),
        "context": CONTEXTS,
        "kind": st.sampled_from(["usage"] * 9 + ["correction"]),
    },
)
# A character of a text that JSON may also spell with an escape, every seventh of them.
ESCAPABLE: Final = re.compile(r"(?<![\\\w])([a-zé:])(?=\w)")


def _escaped(found: re.Match[str]) -> str:
    return (
        f"\\u{ord(found[1]):04{'xX'[ord(found[1]) % 2]}}" if found.start() % 3 == 0 else found[0]
    )


STREAM_LINES: Final = st.one_of(
    SHAPED.map(lambda made: json.dumps(made, ensure_ascii=False).encode()),
    SHAPED.map(lambda made: json.dumps(made, ensure_ascii=False).encode()),
    SHAPED.map(lambda made: json.dumps(made, ensure_ascii=False).encode()),
    LINES,
    SHAPED.map(lambda made: json.dumps(made, ensure_ascii=False).encode()),
    SHAPED.map(lambda made: json.dumps(made, separators=(",", ":")).encode()),
    SHAPED.map(lambda made: json.dumps(made, indent=1).encode() + b"\n"),
    SHAPED.map(lambda made: ESCAPABLE.sub(_escaped, json.dumps(made)).encode()),
    SHAPED.map(lambda made: json.dumps(made).encode().replace(b'"v"', b'"g"')),  # twice, often
    BYTES,
)
STREAMS: Final = st.lists(
    st.tuples(STREAM_LINES, st.sampled_from([0, 0, 0, 1, -5_000, DAY_MS])),
    min_size=4,
    max_size=60,
)


def records_of(stream: Sequence[tuple[bytes | None, int]]) -> list[MemoryRecord]:
    """A log of these values, each so much later than the one before."""
    records, at_ms = [], NOW_MS
    for offset, (value, later_ms) in enumerate(stream):
        at_ms += later_ms
        records.append(MemoryRecord(offset, at_ms, value))
    return records


@pytest.fixture(autouse=True)
def _little() -> Iterator[None]:
    """One record at a time, so that both take turns; buckets of the index that overflow."""
    with patch.object(core_fold, "SLICE", 1), patch.object(id_index, "_BUCKETS_MIN", 2):
        yield


def changed(plan: Plan) -> tuple[dict[CellKey, str], dict[CellKey, set[str]]]:
    """The texts and the elements of what a plan changes, by whoever folded it."""
    if plan.plain is None:
        changes = plan.cells.items()
        return {key: encode_partial(*change) for key, change in changes}, plan.elements
    assert MODULE is not None
    cells = RustCells(MODULE, 0, Layout("", 24), 0)
    measures = {key.measure for key in (*plan.cells, *plan.elements)} | plan.plain.kinds.keys()
    cells.begin(plan, {measure: number for number, measure in enumerate(measures)})
    cells.settle([None] * len(cells.missing()))
    elements: dict[CellKey, set[str]] = {}
    for key, element, _ in cells.elements():
        elements.setdefault(key, set()).add(element)
    return {key: text for key, text, _ in cells.cells()}, elements


def plans(
    records: Sequence[MemoryRecord],
    metrics: Sequence[MetricVersion],
    *,
    native: bool,
    batch: int = 1 << 20,
) -> list[Any]:
    """What every plan of a log changes."""
    matcher = Matcher([rule for version in metrics for rule in compile_version(version)])
    helper = RustFold(MODULE, 0, SETTINGS, matcher) if native and MODULE is not None else None
    state, index, found = PartitionState("s", "t", 0, 0), IdIndex(), []
    while rest := records[state.next : state.next + batch]:
        plan = fold(
            rest,
            partition=0,
            state=state,
            deployment=SETTINGS,
            matcher=matcher,
            index=index,
            native=helper,
        )
        state = advance(state, plan)
        ids = plan.new_ids
        found.append(
            (
                state,
                *changed(plan),
                {ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)},
                [(each.record.offset, each.rejected) for each in plan.dead_letters],
                plan.first,
                len(index),
            )
        )
    return found


@given(STREAMS, METRICS)
def test_plans_are_those_of_python(
    stream: list[tuple[bytes | None, int]], metrics: tuple[MetricVersion, ...]
) -> None:
    """With it and without it, every plan of any stream under any metrics is the same."""
    records = records_of(stream)

    assert plans(records, metrics, native=True) == plans(records, metrics, native=False)


ODD: Final = [
    b'"properties": {"v": 1, "v": 2}',
    b'"properties": {"v": 01}',
    b'"properties": {"v": -01}',
    b'"properties": {"z": 1.}',
    b'"properties": {"z": .5}',
    b'"properties": {"z": 1e}',
    b'"properties": {"z": 1e+}',
    b'"properties": {"z": +1}',
    b'"properties": {"z": -}',
    b'"properties": {"z": nul1}',
    b'"properties": {"z": "a\tb"}',
    b'"properties": {"v": "\\u0031"}',
    b'"properties": {"z": "\xff\xff\xff\xff\xff\xff\xff\xff\xff"}',
    b'"properties": {"z\xc3": 1}',
    b'"properties": {"z": "\xed\xa0\x80"}',
    b'"properties": {"v": 1,}',
    b'"properties": {"v": 1 "g": 2}',
    b'"properties": {"v" 1}',
    b'"properties": {"z": [1, {"a": [2]}, "b"], "v": 3}',
    b'"properties": {"z": [1, ]}',
    b'"properties": {"z": %s}' % (b"[" * 30 + b"]" * 30),
    b'"properties": {"z": %s}' % (b"[" * 31 + b"]" * 31),
    b'"properties": {"v": "\\ud83d\\ude00"}',
    b'"properties": {"v": "\\uD83D\\uDE00 \\u00E9 \\/ \\b\\f\\n\\r\\t \\" \\\\"}',
    b'"properties": {"\\u0076": 1, "g": "\\u0000"}',
    b'"properties": {"\\u0067": "a\\"b", "v": "1"}',
    b'"properties": {"z": "\\ud83d"}',
    b'"properties": {"z": "\\ud83d\\u0041"}',
    b'"properties": {"z": "\\ud83dx"}',
    b'"properties": {"z": "\\ude00\\ud83d"}',
    b'"properties": {"z": "\\ud83d\\\\ude00"}',
    b'"properties": {"z": "\\ud83d\\"}',
    b'"properties": {"z": "\\u12"}',
    b'"properties": {"z": "\\u12g4"}',
    b'"properties": {"z": "\\u+123"}',
    b'"properties": {"z": "\\u 123"}',
    b'"properties": {"z": "\\U0041"}',
    b'"properties": {"z": "\\x41"}',
    b'"properties": {"z": "\\\'"}',
    b'"properties": {"z": "\\',
    b'"properties": {"z": "\\\\"}',
    b'"properties": {"z\\ud83d": 1}',
    b'"properties": {"z": "a\\nb\tc"}',
    b'"properties": {"z": "a\\nb\xc3"}',
    b'"properties": {"v": [1, "\\u00e9", "\\"]", {"]": "]"}]}',
    b'"properties": {"v": "%s"}' % (b"\\u00e9" * 64),
    b'"properties": {"g": "%s", "v": 1}' % (b"\\u00e9" * 128),
    b'"properties": {"g": "%s", "v": 1}' % (b"\\u00e9" * 129),
    b'"\\u0070roperties": {"v": 1, "g": "x"}',
    b'"properties": {"v": 1}, "\\u0070roperties": {"v": 2}',
    b'"kind": "us\\u0061ge"',
    b'"event_type": "\\u0075se", "properties": {"v": 1, "g": "x"}',
    b'"customer_id": "\\u0061"',
    b'"customer_id": "%s"' % (b"\\u0078" * 256),
    b'"customer_id": "%s"' % (b"\\u0078" * 257),
    b'"transaction_id": "%s"' % (b"\\ud83d\\ude00" * 128),
    b'"transaction_id": "%s"' % (b"\\ud83d\\ude00" * 129),
    b'"timestamp": "2026-03-01T11:00:00\\u005a"',
    b'"timestamp": "2026-03-01T11:00:00\\u005b"',
    b'"properties": null',
    b'"properties": []',
    b'"properties": {"v": 1}, "properties": {}',
    b'"context": {"a": {"b": [1]}}',
    b'"context": null',
    b'"context": []',
    b'"context": 7',
    b'"kind": null',
    b'"kind": "usage"',
    b'"kind": "usage", "kind": "usage"',
    b'"more": 1',
    b'"customer_id": "a"',
    b'"customer_id": ""',
    b'"event_type": ""',
    b'"transaction_id": "%s"' % (b"x" * 128),
    b'"transaction_id": "%s"' % (b"x" * 129),
    b'"transaction_id": "%s"' % ("é" * 128).encode(),
    b'"transaction_id": "%s"' % ("é" * 129).encode(),
    b'"customer_id": "%s"' % (b"x" * 256),
    b'"customer_id": "%s"' % (b"x" * 257),
    b'"customer_id": "%s"' % ("é" * 256).encode(),
    b'"event_type": "%s"' % (b"x" * 257),
    b'"event_type": "%s"' % ("é" * 257).encode(),
    b'"timestamp": "2026-03-01T11:30:60Z"',
    b'"timestamp": "9999-03-01T11:30:00Z"',
    b'"timestamp": "0000-03-01T11:30:00Z"',
    b'"properties": {"z": "%s"}' % (b"x" * 1_048_576),
    b'"properties": {"v": 999999999999999999.5}',
    b'"properties": {"v": 1234567890.123456789}',
    b'"properties": {"v": 0.1234567891}',
]


def line_of(members: bytes) -> bytes:
    """An event with these members; what they name is not in it twice."""
    known = {
        b"transaction_id": b'"t"',
        b"customer_id": b'"a"',
        b"event_type": b'"use"',
        b"timestamp": b'"2026-03-01T11:00:00Z"',
    }
    others = [b'"%s": %s' % item for item in known.items() if item[0] not in members]
    return b"{" + b", ".join([*others, members]) + b"}"


ESCAPES: Final = [
    *(
        r"\"",
        r"\\",
        r"\/",
        r"\b\f\n\r\t",
        r"\u00e9\u00E9",
        r"\u0000",
        r"\ud83d\ude00",
        r"\uD83D\uDE00x",
    ),
    *(r"a\"b", r"a\\\"", r"\\\\", r"\\n", r"\u005cn", r"é\u00e9", r"\uffff", r"\udbff\udfff"),
]


@pytest.mark.parametrize("text", ESCAPES)
def test_texts_with_escapes_are_read(text: str) -> None:
    """They are not left to Python for nothing, and they say what they say to everybody."""
    line = line_of(
        f'"properties": {{"v": "{text}", "{text}": 1}}, "customer_id": "a{text}"'.encode()
    )
    said = json.loads(f'"{text}"').encode()
    if MODULE is None:
        return
    found = MODULE.members_of(line, [("property", "v"), ("property", said.decode())])
    assert found is not None
    (_, customer, *_), properties = found
    assert (customer, properties) == (b"a" + said, [("text", said), ("number", b"1")])


@pytest.mark.parametrize("members", ODD)
def test_odd_events_are_those_of_python(members: bytes) -> None:
    """What stands on a border of what is plain: whichever side it takes, nothing changes."""
    line = line_of(members)
    records = records_of([(line, 0), (line + b" ", 0), (line + b"}", 0), (line[:-1], 0)])
    every = [*versions(FIVE), *versions({"sum": parse(body("SUM", "sum"))})]

    assert plans(records, every, native=True) == plans(records, every, native=False)


TEXTS: Final = ["x", "xyz", "", "true", "TRUE", "7", "7.5", "1e1", "-0", "é", "1" * 19, "+7"]
SEEN: Final[list[Any]] = [
    ABSENT,
    None,
    True,
    False,
    7,
    -7,
    7.5,
    0,
    10**20,
    10**70,
    1e-12,
    [],
    {},
    ["x"],
    *TEXTS,
]
WANTED: Final[list[tuple[Any, ...]]] = [
    (),
    ("x",),
    ("x", "7"),
    ("true",),
    ("",),
    ("7.5",),
    (7,),
    (Decimal("7.5"),),
    (0, "x"),
    (None,),
    ("1" * 19,),
]


@pytest.mark.parametrize("comparison", Comparison)
def test_conditions_are_those_of_python(comparison: Comparison) -> None:
    """Every operator under a comparison, with every kind of operand and of value."""
    made = [
        Condition(
            field=Field(source="property", key="v"),
            operator=operator,
            operands=operands,
            comparison=comparison,
            if_unknown=if_unknown,
            strict=strict,
        )
        for operator in Operator
        for operands in WANTED
        for strict in (False, True)
        for if_unknown in (False, True)
    ]
    rules, stream = [], []
    for number, condition in enumerate(filter(conditions, made)):
        name = f"type {number}"
        measure = Measure(
            name="m",
            events=EventSelector(include=(name,)),
            where=(condition,),
            aggregation=Aggregation.COUNT,
        )
        rules.append(version_of(f"m{number}", measure))
        for at, value in enumerate(SEEN):
            properties = {} if value is ABSENT else {"v": value}
            line = event(f"{number}/{at}", customer_id="a", event_type=name, properties=properties)
            stream.append((line, 0))
    records = records_of(stream)

    assert len(rules) > 100
    assert plans(records, rules, native=True) == plans(records, rules, native=False)


def test_borders_of_measures_are_those_of_python() -> None:
    """Before and from effective_from on; a field that a condition asks for, or does not."""
    asks = Condition(
        field=Field(source="property", key="v"),
        operator=Operator.IS_SET,
        comparison=Comparison.EXISTENCE,
        if_unknown=False,
    )
    rules = [
        version_of(
            f"{kind}{len(where)}{early is None}{numeric_text}",
            Measure(
                name="m",
                events=EventSelector(include=("use",)),
                where=where,
                aggregation=kind,
                field=None if kind is Aggregation.COUNT else Field(source="property", key="v"),
                numeric_text=numeric_text,
            ),
            effective_from=early,
        )
        for kind in Aggregation
        for where in ((), (asks,))
        for early in (None, datetime(2026, 3, 1, 11, tzinfo=UTC))
        for numeric_text in (True, False)
    ]
    stream = [
        (
            event(
                f"{at}/{number}/{hour}",
                customer_id="a",
                timestamp=f"2026-03-01T{hour}:00Z",
                properties={} if value is ABSENT else {"v": value},
            ),
            0,
        )
        for number, value in enumerate(SEEN)
        for hour in ("10:59", "11:00", "11:01")
        for at in range(2)
    ]
    for rule in rules:  # each by itself: what one leaves to Python, another may not
        assert plans(records_of(stream), [rule], native=True) == plans(
            records_of(stream), [rule], native=False
        )


def test_plans_of_many_events_are_those_of_python() -> None:
    """Over thousands of events, odd ones among them, ids that repeat, and an index that grows."""
    draw = random.Random(7)
    stream: list[tuple[bytes | None, int]] = []
    for number in range(6_000):
        value = draw.choice([number, f"{number}.25", "odd", 1e3, "7"]) if number % 50 else None
        own = draw.randrange(number + 1)
        line = event(
            own,
            customer_id=f"customer {own % 300}",
            properties={"v": value, "g": f"g{draw.randrange(5)}"},
        )
        stream.append((line if number % 97 else b"{", 0))
    records, every = records_of(stream), versions(FIVE)

    assert plans(records, every, native=True, batch=50) == plans(
        records, every, native=False, batch=50
    )


def test_plain_events_are_taken_by_it() -> None:
    """Events as clients send them do not fall back: then it would be there for nothing."""
    if MODULE is None:
        return  # test_it_is_there_where_it_can_be says why
    matcher = Matcher([rule for each in versions(FIVE) for rule in compile_version(each)])
    of_all = deployment()
    native = RustFold(MODULE, 0, of_all, matcher)
    fold(
        records_of([(event(number), 0) for number in range(1_000)]),
        partition=0,
        state=PartitionState("s", "t", 0, 0),
        deployment=of_all,
        matcher=matcher,
        index=IdIndex(),
        native=native,
    )

    assert native.paths == {"native/": 1_000}


@given(STAMPS)
@example("2024-02-29T23:59:59.999999999Z")
@example("2023-02-29T00:00:00Z")
@example("1699-12-31T23:59:60Z")
@example("2026-03-01t11:30:05+23:59")
def test_times_are_those_of_python(text: str) -> None:
    """A time that it reads is the one that everybody reads."""
    if MODULE is not None and (read := MODULE.time_of(text.encode("utf-8", "replace"))):
        assert read == parse_timestamp(text)


@given(st.datetimes(datetime(1700, 1, 1), datetime(2199, 12, 31)), st.integers(-1439, 1439))
def test_times_of_our_days_are_read(moment: datetime, offset_minutes: int) -> None:
    """Any instant of five centuries is read, so that it is not left to Python for nothing."""
    sign, minutes = "-" if offset_minutes < 0 else "+", abs(offset_minutes)
    text = f"{moment.isoformat()}{sign}{minutes // 60:02}:{minutes % 60:02}"
    if MODULE is not None:
        assert MODULE.time_of(text.encode()) == parse_timestamp(text) is not None


@given(
    st.one_of(
        st.from_regex(r"\A[+-]?[0-9]{0,20}(\.[0-9]{0,12})?([eE][+-]?[0-9]{1,3})?\Z"),
        st.text(max_size=5),
    )
)
def test_numbers_are_those_of_python(text: str) -> None:
    """A number that it reads is the one that everybody reads, to the last digit."""
    if MODULE is None:
        return
    read = MODULE.decimal_of(text.encode("utf-8", "replace"))
    if read is not None:
        expected = decimal_of_text(text)
        assert expected is not None
        assert read == canonical(expected)


@given(st.integers(-(10**9), 10**9), st.integers(-8, 8), st.sampled_from("eE"))
def test_numbers_with_an_exponent_are_read(number: int, exponent: int, sign: str) -> None:
    """Floats are written so: they are not left to Python for nothing."""
    text = f"{number}{sign}{exponent}"
    if MODULE is not None:
        read = MODULE.decimal_of(text.encode())
        assert read == canonical(Decimal(text))


def same(read: tuple[str, bytes], value: object) -> bool:
    """Whether a property as it was read is the value that Python has for it."""
    kind, raw = read
    if kind == "text":
        return value == raw.decode()
    if kind == "number":
        token = raw.decode()
        exact = json.loads(token, parse_float=decimal_of_text)
        return (type(value) in {int, Decimal} and exact == value) or decimal_of_text(token) is None
    if kind in {"list", "object"}:
        return isinstance(value, list if kind == "list" else dict)
    known: Mapping[str, object] = {"absent": ABSENT, "null": None, "true": True, "false": False}
    return value is known[kind]


@given(st.one_of(BYTES, STREAM_LINES))
def test_events_are_those_of_python(value: bytes | None) -> None:
    """An event that it finds plain is one for Python, with the same members and properties."""
    keys = [*KEYS, "z", "é", ""]
    found = (
        MODULE.members_of(value or b"", [("property", key) for key in keys])
        if MODULE is not None
        else None
    )
    if found is None:
        return
    read = _WIDE(value)
    assert isinstance(read, Event)
    members, properties = found
    assert [member.decode() for member in members] == [
        read.transaction_id,
        read.customer_id,
        read.event_type,
        read.timestamp,
    ]
    assert all(
        same(each, read.properties.get(key, ABSENT))
        for key, each in zip(keys, properties, strict=True)
    )
