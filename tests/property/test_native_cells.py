"""Cells in native/: what it sends and keeps is what Python would send, whatever is stored."""

import asyncio
import json
import random
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from definitions.matcher import Matcher, compile_version
from definitions.metric import Aggregation, MetricVersion
from pipeline.app.opening import SeekBack
from pipeline.app.owner import Owner
from pipeline.core.activation import Activation
from pipeline.core.aggregations import (
    Partial,
    Position,
    decode_partial,
    element_of,
    encode_partial,
)
from pipeline.core.cell_cache import RustCells
from pipeline.core.cells import CellKey, Change
from pipeline.core.commit import Commit, advance, commit_of, settle
from pipeline.core.compiled import MODULE
from pipeline.core.fold import fold as core_fold
from pipeline.core.fold.fold import fold
from pipeline.core.fold.rust import RustFold
from pipeline.core.id_index import IdIndex
from pipeline.core.plan import Plan
from pipeline.core.state import PartitionState
from pipeline.edges import redis as edges_redis
from pipeline.edges.redis import RedisStore
from pipeline.errors import Halt

from ..world import World, event
from .test_laws import assert_recount
from .test_native import METRICS, SETTINGS, STREAMS, records_of

pytestmark = pytest.mark.skipif(
    MODULE is None, reason="test_it_is_there_where_it_can_be says whether it has to be"
)
KINDS: Final = list(Aggregation)
ACTIVE: Final = {
    f"{kind.value}#1": Activation(0, 0, "d", 3 * number, 3) for number, kind in enumerate(KINDS)
}
FIRST: Final = PartitionState("s", "t", 0, 0, active=ACTIVE)

NAMES: Final = st.sampled_from(
    ["", "a", "ü:1", "a name, and a long one", "é" * 130, "1:", "=", "-"]
)
# Of each number also the next to what is too long for native/, before the point and after it.
DECIMALS: Final = st.one_of(
    st.integers(-3, 3).map(Decimal),
    st.sampled_from([-1, 1]).flatmap(
        lambda sign: st.sampled_from(
            ["999999999999999999.999999999", "1E18", "5E17", "0.0000000001", "1E-9", "7E40"]
        ).map(lambda text: sign * Decimal(text))
    ),
    st.decimals(-(10**12), 10**12, places=4),
)
POSITIONS: Final = st.builds(
    Position,
    st.integers(-2, 2).map(lambda number: number * 999_999) | st.integers(-(2**70), 2**70),
    st.integers(-1, 1) | st.integers(-(2**65), 2**65),
    st.integers(0, 2),
    st.integers(0, 2) | st.integers(0, 2**63),
)
COUNTS: Final = st.integers(1, 3) | st.sampled_from([2**63, 2**64 - 1, 2**64])
VALUES: Final[Mapping[Aggregation, st.SearchStrategy[Any]]] = {
    Aggregation.COUNT: COUNTS | st.just(0),
    Aggregation.SUM: DECIMALS,
    Aggregation.MAX: DECIMALS | st.none(),
    Aggregation.MIN: DECIMALS | st.none(),
    Aggregation.LATEST: st.tuples(POSITIONS, DECIMALS) | st.none(),
    Aggregation.FIRST: st.tuples(POSITIONS, DECIMALS) | st.none(),
    Aggregation.MEAN: st.tuples(DECIMALS, COUNTS | st.just(0)),
    Aggregation.UNIQUE: st.just(frozenset()),
}
UNREADABLE: Final = st.sampled_from([0, 0, 0, 1, 2**63, 2**64 - 1])


@st.composite
def changes(draw: st.DrawFn) -> tuple[CellKey, Change]:
    """A cell, and what a plan adds to it."""
    kind = draw(st.sampled_from(KINDS))
    number = draw(st.integers(0, 2))
    set_number = draw(st.sampled_from([0, 0, 0, 1, 12]))
    groups = draw(st.lists(st.none() | NAMES, min_size=1, max_size=2)) if set_number else []
    bucket = draw(st.sampled_from([490_000, 490_000, 490_001, 490_030, -1, -30]))
    key = CellKey(f"{kind.value}#1.{number}", draw(NAMES), bucket, set_number, tuple(groups))
    return key, Change(kind, Partial(draw(VALUES[kind]), draw(UNREADABLE)))


FLUSHES: Final = st.lists(
    st.tuples(
        st.lists(changes(), max_size=6).map(dict),
        st.lists(changes(), max_size=3).map(dict),  # of these the cells of elements
        st.sampled_from(["kept", "kept", "kept", "lost", "refused"]),
    ),
    max_size=6,
)


STORE: Final = RedisStore("redis://localhost:1", "d")  # it never connects


def result_of(work: Coroutine[Any, Any, Any]) -> Any:
    """What work returns that waits for nothing."""
    with pytest.raises(StopIteration) as stopped:
        work.send(None)
    return stopped.value.value


class Redis:
    """What a Redis would hold, and what it would be sent."""

    def __init__(self) -> None:
        self.texts: dict[CellKey, str] = {}
        self.store = STORE

    def send(self, commit: Commit) -> dict[str, Any]:
        """What a commit says, whoever wrote it: keys with what is written there, and the rest."""
        script = Script([b"applied", b""])
        with patch.object(edges_redis, "_APPLY", script):
            result_of(self.store.apply(commit))
        return said(*script.seen[0])

    def load(self, cells: RustCells, state: PartitionState) -> list[bytes | None]:
        """What is stored for the cells that native/ misses: for what its request really asks."""
        missing = cells.missing()
        script, send = Script([None] * len(missing)), Script(None)
        with patch.object(edges_redis, "_LOAD", script):
            result_of(self.store.load(0, missing, state))
        with patch.object(edges_redis, "_LOAD", send):
            result_of(self.store.load_missing(0, cells, state))
            result_of(self.store.load_missing(0, cells, state))
        assert send.seen[0] == send.seen[1], "a repetition asks the same"
        asked = wanted(*send.seen[0])
        assert len(set(asked)) == len(asked)
        assert set(asked) == set(wanted(*script.seen[0]))
        numbers = state.worked_out.numbers
        places = self.store.keys(0).located(self.texts, numbers)
        both = zip(places, self.texts.values(), strict=True)
        held = {(key.encode(), name): text for (key, name), text in both}
        found = map(held.get, asked)
        return [None if text is None else text.encode() for text in found]


class Script:
    """A script that answers this, and notes KEYS and ARGV, however they came."""

    sha = "f" * 40

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.seen: list[tuple[Sequence[Any], Sequence[Any]]] = []

    async def __call__(self, _client: Any, *, keys: Sequence[Any], args: Sequence[Any]) -> Any:
        self.seen.append((keys, args))
        return self.answer

    async def send(self, _client: Any, request: bytes) -> Any:
        """The same by a request that native/ wrote."""
        self.seen.append(parsed(request))
        return self.answer


def wanted(keys: Sequence[str | bytes], args: Sequence[str | bytes]) -> list[tuple[bytes, str]]:
    """The key and the field of everything that a load asks for, in the order of its answer."""
    names = [key if isinstance(key, bytes) else key.encode() for key in keys]
    body = args[-1]
    assert isinstance(body, bytes)
    fields = msgspec.msgpack.decode(body)
    assert len(args) == BODY_OF_LOAD + 1
    return [(name, field) for name, each in zip(names[1:], fields, strict=True) for field in each]


def parsed(request: bytes) -> tuple[list[bytes], list[bytes]]:
    """KEYS and ARGV of a request, which has to be of the one form that the protocol has for it."""
    parts, at = [], request.index(b"\r\n")
    count, at = int(request[1:at]), at + 2
    while at < len(request):
        end = request.index(b"\r\n", at)
        size = int(request[at + 1 : end])
        assert request[at : at + 1] == b"$"
        assert request[end + 2 + size : end + 4 + size] == b"\r\n"
        parts.append(request[end + 2 : end + 2 + size])
        at = end + 4 + size
    assert len(parts) == count
    assert parts[0] == b"EVALSHA"
    keys = int(parts[2])
    return parts[3 : 3 + keys], parts[3 + keys :]


BODY: Final = 9  # which of ARGV
BODY_OF_LOAD: Final = 6


def said(keys: Sequence[str | bytes], args: Sequence[str | bytes]) -> dict[str, Any]:
    """What a script is told to do; in which order keys, fields and members come says nothing."""
    names = [key if isinstance(key, bytes) else key.encode() for key in keys]
    values = [arg if isinstance(arg, bytes) else arg.encode() for arg in args]
    body = msgspec.msgpack.decode(values[BODY])
    cells, sets = body.pop("cells"), body.pop("sets")
    hashes = names[1 : 1 + len(cells)]
    assert all(b":c:" in name for name in hashes[: body["known"]])
    after = 1 + len(cells) + len(sets)
    pairs = [dict(zip(each[::2], each[1::2], strict=True)) for each in cells]
    assert all(len(pair) * 2 == len(each) for pair, each in zip(pairs, cells, strict=True))
    assert len(set(names)) == len(names)
    state = body.pop("state")
    return {
        "first": names[0],
        "cells": dict(zip(hashes, pairs, strict=True)),
        "sets": dict(zip(names[1 + len(cells) : after], map(frozenset, sets), strict=True)),
        "last": names[after:],
        "state": dict(zip(state[::2], state[1::2], strict=True)),
        "body": body,
        "args": [*values[:BODY], *values[BODY + 1 :]],
    }


def native_cells(redis: Redis, bytes_max: int) -> RustCells:
    """Cells of partition 0 in native/."""
    assert MODULE is not None
    return RustCells(MODULE, 0, redis.store.layout(0, 0), bytes_max)


def check_flush(
    redis: Redis, cells: RustCells, state: PartitionState, plain: Plan, reference: Plan
) -> dict[CellKey, str]:
    """Both ways of one plan say the same; return what would be stored."""
    stored = {
        key: None if (text := redis.texts.get(key)) is None else decode_partial(kind, text)
        for key, (kind, _) in reference.cells.items()
    }
    # Where versions begin with the flush, not all keys are known.
    before = replace(state, active={}) if state.next % 3 == 1 else state
    expected, _ = settle(0, before, state, reference, stored)
    texts: list[bytes | None] = []
    if cells.begin(plain, state.worked_out.numbers):
        texts = redis.load(cells, state)
    cells.settle(texts)
    commit = commit_of(0, before, state, plain, rust=cells)

    assert {key: text for key, text, _ in cells.cells()} == expected.cells
    assert redis.send(commit) == redis.send(expected) == redis.send(commit)
    return dict(expected.cells)


@given(FLUSHES, st.lists(changes(), max_size=8).map(dict), st.sampled_from([0, 3_000, 10**6]))
def test_commits_are_those_of_python(
    flushes: list[tuple[dict[CellKey, Change], dict[CellKey, Change], str]],
    before: dict[CellKey, Change],
    bytes_max: int,
) -> None:
    """Any changes, over anything stored, with any memory, after flushes that were lost as well."""
    redis = Redis()
    redis.texts = {key: encode_partial(*change) for key, change in before.items()}
    cells = native_cells(redis, bytes_max)
    for number, (changed, elements, end) in enumerate(flushes):
        state = replace(FIRST, next=number)
        plan = Plan(number, number + 1, 0, (number, 0), generation=1)
        plan.cells = changed
        plan.elements = {
            key._replace(measure=f"count_distinct#1.{number % 3}"): {"x", "", element_of("y" * 99)}
            for key in elements
        }
        plan.new_ids = bytes(12) * (number % 2)
        plan.learned = {"type": "1"} if number % 3 else {}
        stored = check_flush(redis, cells, state, plan, plan)
        if end == "kept":
            redis.texts |= stored
            cells.keep()
        elif end == "refused":
            cells.clear()

        assert end != "kept" or cells.nbytes <= bytes_max or not len(cells)


def folded(
    stream: list[tuple[bytes | None, int]], metrics: Sequence[MetricVersion], bytes_max: int
) -> None:
    """Every plan of a log, half of it plain, says what Python alone says."""
    redis, records = Redis(), records_of(stream)
    cells = native_cells(redis, bytes_max)
    matcher = Matcher([rule for version in metrics for rule in compile_version(version)])
    assert MODULE is not None
    helper = RustFold(MODULE, 0, SETTINGS, matcher)
    active, number = {}, 0
    for version in metrics:
        active[version.key] = Activation(0, 0, "d", number, len(version.definition.measures))
        number += len(version.definition.measures)
    state = PartitionState("s", "t", 0, 0, active=active)
    indexes = IdIndex(), IdIndex()
    while rest := records[state.next : state.next + 20]:
        plans = [
            fold(
                rest,
                partition=0,
                state=state,
                deployment=SETTINGS,
                matcher=matcher,
                index=index,
                native=native,
            )
            for index, native in zip(indexes, (helper, None), strict=True)
        ]
        plans[0].new_ids = plans[1].new_ids  # their order is another
        stored = check_flush(redis, cells, state, *plans)
        redis.texts |= stored
        cells.keep()
        state = advance(state, plans[1])


@given(STREAMS, METRICS, st.sampled_from([0, 5_000, 10**6]))
def test_commits_of_events_are_those_of_python(
    stream: list[tuple[bytes | None, int]], metrics: tuple[MetricVersion, ...], bytes_max: int
) -> None:
    """Events of which native/ takes some: both halves of a plan may change one cell."""
    with patch.object(core_fold, "SLICE", 1):
        folded(stream, metrics, bytes_max)


FOREIGN: Final = [
    "abc",
    "1|",
    "1|x",
    "|",
    "1.5.2",
    "1||2",
    "é",
    "1/2/3",
    "z:z:z:z",
    "::::",
    "1 ",
    "1|-",
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "text",
    [*FOREIGN, "007", "+5", "1e3", "-0", "1.50", "1_000", "5|007", "-0.0/01", "00:0:0:0:1", ".5"],
)
def test_texts_that_are_not_ours_are_read_as_python_reads_them(
    kind: Aggregation, text: str
) -> None:
    """A stored text that Recount does not write: halted at, or read, as without native/."""
    redis = Redis()
    cells = native_cells(redis, 10**6)
    key = CellKey(f"{kind.value}#1.0", "a", 7, 0, ())
    at = Position(1, 2, 0, 3)
    values = {Aggregation.COUNT: 1, Aggregation.UNIQUE: frozenset(), Aggregation.SUM: Decimal(2)}
    values |= dict.fromkeys((Aggregation.MAX, Aggregation.MIN), Decimal(2))
    values |= dict.fromkeys((Aggregation.LATEST, Aggregation.FIRST), (at, Decimal(2)))
    values[Aggregation.MEAN] = (Decimal(2), 1)
    plan = Plan(0, 1, 0, (0, 0), generation=1)
    plan.cells = {key: Change(kind, Partial(values[kind], 1))}
    redis.texts[key] = text
    try:
        decode_partial(kind, text)
    except (ValueError, ArithmeticError, LookupError, TypeError):
        cells.begin(plan, FIRST.worked_out.numbers)
        with pytest.raises(Halt, match="did not write"):
            cells.settle([text.encode()])
        return
    check_flush(redis, cells, FIRST, plan, plan)


def filled(count: int, cells: RustCells, **members: Any) -> int:
    """Change so many cells, each of another owner; return how many had to be loaded."""
    plan = Plan(0, 1, 0, (0, 0), generation=1)
    kind: Aggregation = members.get("kind", Aggregation.SUM)
    names: list[str] = members.get("names", ["customer-{:06}"])
    value = members.get("value", Decimal("12.5"))
    for number in range(members.get("begin", 0), members.get("begin", 0) + count):
        for name in names:
            key = CellKey(f"{kind.value}#1.0", name.format(number), 7, 0, ())
            plan.cells[key] = Change(kind, Partial(value, 0))
    missing = cells.begin(plan, FIRST.worked_out.numbers)
    asked = cells.missing() if missing else []
    cells.settle([None] * len(asked))
    cells.keep()
    return len(asked)


def test_cells_that_fit_stay() -> None:
    """75,000 cells in flushes of 30,000, with room for them and little more: each loads once."""
    cells = native_cells(Redis(), 75_000 * 80)
    loads = [
        filled(30_000 if begin < 60_000 else 15_000, cells, begin=begin)
        for _ in range(4)
        for begin in (0, 30_000, 60_000)
    ]

    assert loads == [30_000, 30_000, 15_000, *[0] * 9]
    assert len(cells) == 75_000


def test_what_is_used_again_outlives_what_is_not() -> None:
    """Customers who come once each do not push out those who come in every flush."""
    cells = native_cells(Redis(), 100_000)
    loads = 0
    for flush in range(50):
        loads += filled(300, cells, names=["often-{}", f"once-{flush}-{{}}"])

    assert loads == 300 + 50 * 300
    assert cells.nbytes <= 100_000


@pytest.mark.parametrize(
    ("members", "bytes_each"),
    [
        ({}, 80),
        ({"names": ["{}" + "é" * 100]}, 300),
        ({"value": Decimal("1E-30")}, 240),
        (
            {
                "kind": Aggregation.LATEST,
                "value": (Position(10**18, 10**12, 0, 10**9), Decimal(7)),
            },
            180,
        ),
    ],
)
def test_a_cell_takes_what_is_stated(members: dict[str, Any], bytes_each: int) -> None:
    """Of each kind of cell the bytes are those stated, and those of the process; a bound holds."""
    cells = native_cells(Redis(), 1 << 40)
    filled(20_000, cells, **members)

    assert len(cells) == 20_000
    assert cells.nbytes / 20_000 < bytes_each
    bounded = native_cells(Redis(), cells.nbytes // 3)
    for begin in range(0, 40_000, 2_000):
        filled(2_000, bounded, begin=begin, **members)

        assert 0 < bounded.nbytes <= cells.nbytes // 3
    assert len(bounded) > 1_000
    assert filled(1_000, bounded, begin=39_000, **members) == 0  # the last ones stay


@given(st.text(max_size=200))
def test_elements_are_those_of_python(text: str) -> None:
    """The element of any text is the one that everybody makes, digests too."""
    assert MODULE is not None
    assert MODULE.element_of(text) == element_of(text)


def test_elements_of_any_length_are_those_of_python() -> None:
    """Up to and over the borders of a digest's blocks."""
    draw = random.Random(3)
    for size in range(600):
        text = "".join(draw.choice("aé€😀") for _ in range(size))
        assert MODULE is not None
        assert MODULE.element_of(text) == element_of(text), json.dumps(text)


class Failing:
    """native/ whose store of cells fails, at a call and from a flush on."""

    def __init__(self, call: str, flush: int) -> None:
        self.Folder = MODULE.Folder if MODULE is not None else None
        self.Records = MODULE.Records if MODULE is not None else None
        self._call, self._left = call, flush

    def Store(self, **terms: Any) -> Any:  # noqa: N802  what native/ calls it
        """A store of cells that fails."""
        assert MODULE is not None
        return FailingStore(self, MODULE.Store(**terms))

    def fails(self, call: str) -> bool:
        """Whether this call fails."""
        self._left -= call == self._call
        return call == self._call and self._left < 0


class FailingStore:
    """A store of native/ that fails where it is told to."""

    def __init__(self, failing: Failing, store: Any) -> None:
        self._failing, self._store = failing, store

    def __len__(self) -> int:
        return len(self._store)

    def __getattr__(self, name: str) -> Any:
        if self._failing.fails(name):
            raise RuntimeError("native/ is broken")
        return getattr(self._store, name)


@pytest.mark.parametrize(
    "call", ["begin", "gather", "join", "missing", "loaded", "odd", "cells", "elements", "keep"]
)
@pytest.mark.parametrize("flush", [0, 2])
def test_where_it_fails_python_goes_on(call: str, flush: int) -> None:
    """An owner whose native/ fails drops what it knows, and counts on without it, exactly."""
    native: Any = Failing(call, flush)
    world = World(native=native)
    for number in range(60):
        world.append([event(number, customer_id=f"c{number}")])

    async def worked() -> Owner:
        owner: Owner = world.owner()
        await owner.open()
        while owner.state.next < 60:
            rest = world.log.records[0][owner.state.next :][:10]
            with suppress(SeekBack):
                await owner.take(rest)
        return owner

    owner = asyncio.run(worked())

    assert owner.done["broken"] == 1
    assert_recount(world)
