"""The laws: order, split, repetition, crash, rewind, zombie. All against the naive oracle."""

import asyncio
import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.compiled import MODULE

from ..recount import answers, recount
from ..world import DAY_MS, FIVE, NOW_MS, World, answers_of, event, parse, terms

# Values around every border of C04, and what is no number at all.
# Groups of up to 256 bytes have their own names; of longer ones the beginning is the same.
GROUPS = ["x", "y", "=", "1:", 7, True, "é" * 128, "é" * 129, "é" * 128 + "x", "x" + "é" * 128]
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.integers(-(10**20), 10**20),
    st.decimals(-(10**9), 10**9, places=9).map(str),
    st.sampled_from(
        ["1e64", "1e65", "-0.0", "1E-3", "", " 5", "NaN", "0x1", "9" * 64, "9" * 65, ".5", "+7"]
    ),
    st.sampled_from([True, False, None, [], {}, "x", "é", "a longer text than sixteen bytes"]),
)
EVENTS = st.fixed_dictionaries(
    {
        "transaction_id": st.integers(0, 30).map("t{}".format),
        "customer_id": st.sampled_from(["c", "d", "ü:1"]),
        "event_type": st.sampled_from(["use", "use", "other"]),
        "timestamp": st.integers(0, 7200).map(
            lambda s: f"2026-03-01T{10 + s // 3600}:{s // 60 % 60:02}:{s % 60:02}.{s % 7}Z"
        ),
        "properties": st.fixed_dictionaries(
            {"g": st.sampled_from(GROUPS)}, optional={"v": VALUES}
        ),
    }
)
LINES = st.one_of(
    EVENTS.map(lambda made: json.dumps(made).encode()),
    EVENTS.map(lambda made: json.dumps(made).encode()),
    st.sampled_from([None, b"", b"{", b"[]", b'{"transaction_id":"t"}', b"\xff", b'"x"']),
)
STREAMS = st.lists(LINES, max_size=40)


def assert_recount(world: World) -> None:
    """Everything that the store holds equals the oracle's recount of the log."""
    book = asyncio.run(world.book())
    upto = [record for record in world.records() if record.offset < book.state.next]
    books = recount(upto, world.metrics, terms(world.settings))
    fates = {name: book.state.counters[name] for name in books.fates}
    assert fates == books.fates
    assert book.state.balanced
    assert answers_of(book, world.metrics) == answers(books, world.metrics)


@given(STREAMS, st.lists(st.integers(0, 40)))
def test_any_split_gives_the_recount(lines: list[bytes | None], cuts: list[int]) -> None:
    """However a stream is cut into batches, the rollups are those of the recount."""
    world = World()
    world.append(lines)

    asyncio.run(world.apply([cut for cut in cuts if cut < len(lines)]))

    assert_recount(world)
    assert world.state.next == len(lines)


@given(STREAMS, st.lists(st.integers(0, 40)))
def test_splits_agree_byte_for_byte(lines: list[bytes | None], cuts: list[int]) -> None:
    """Splits of one stream, with native/ and without, leave the same texts and counts."""
    books = []
    inside = [cut for cut in cuts if cut < len(lines)]
    for cut, native in (([], MODULE), (inside, MODULE), (inside, None)):
        world = World(native=native)
        world.append(lines)
        asyncio.run(world.apply(cut))
        books.append(asyncio.run(world.book()))

    assert books[0] == books[1] == books[2]


@given(st.lists(EVENTS, max_size=30), st.randoms(use_true_random=False))
def test_order_does_not_matter(made: list[dict[str, Any]], draw: random.Random) -> None:
    """A permutation of distinct events gives the same cells, but for ties of LATEST (CM9)."""
    distinct = {(each["customer_id"], each["transaction_id"]): each for each in made}
    without_ties = {(each["customer_id"], each["timestamp"]): each for each in distinct.values()}
    ordered = list(without_ties.values())
    shuffled = draw.sample(ordered, len(ordered))
    found = []
    for stream in (ordered, shuffled):
        world = World()
        world.append(json.dumps(each).encode() for each in stream)
        asyncio.run(world.apply())
        found.append(answers_of(asyncio.run(world.book()), FIVE))

    assert found[0] == found[1]


@given(STREAMS, st.integers(0, 40))
def test_replay_adds_nothing(lines: list[bytes | None], back: int) -> None:
    """Records delivered a second time change nothing."""
    world = World()
    world.append(lines)

    async def twice() -> Any:
        owner = world.owner()
        await owner.open()
        await owner.take(world.log.records[0])
        before = await world.book()
        await owner.take(world.log.records[0][back:])
        return before

    assert asyncio.run(twice()) == asyncio.run(world.book())


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 60)), min_size=1, max_size=40),
    st.lists(st.integers(0, 40)),
)
def test_generations_keep_the_promise(sent: list[tuple[int, int]], cuts: list[int]) -> None:
    """Resends at every distance, append times that step back: as the brute-force reading says."""
    world = World()
    day = 0
    for number, (name, days) in enumerate(sent):
        day += days % 11 if number % 3 else -(days % 4)
        stamp = NOW_MS + day * DAY_MS
        line = json.dumps(
            {
                "transaction_id": f"t{name}",
                "customer_id": "c",
                "event_type": "use",
                "timestamp": "2026-03-01T11:30:00Z",
                "properties": {"g": "x"},
            }
        )
        world.append([line.encode()], stamp)

    asyncio.run(world.apply([cut for cut in cuts if cut < len(sent)]))

    assert_recount(world)


def test_a_resend_with_its_own_timestamp_never_counts_twice() -> None:
    """At every distance from 0 to 100 days, one identity counts once (docs/design.md 5)."""
    for distance in range(100):
        world = World()
        line = event(1, timestamp="2026-03-02T11:59:00Z")  # almost max_ahead before its time
        world.append([line])
        world.append([line], NOW_MS + distance * DAY_MS)
        asyncio.run(world.apply())

        assert world.state.counters["counted"] == 1, distance


@given(st.lists(st.integers(0, 29), min_size=1, max_size=60), st.lists(st.integers(0, 60)))
def test_types_met_late_are_read_whole(kinds: list[int], cuts: list[int]) -> None:
    """What is decoded follows the types seen so far; what is counted does not."""
    metrics = {
        f"m{number}": parse(
            {
                "name": f"m{number}",
                "aggregation_type": "SUM",
                "aggregation_key": f"p{number}",
                "event_type_filter": {"in_values": [f"t{number}"]},
                "property_filters": [{"name": f"p{number}", "exists": True}],
            }
        )
        for number in range(30)
    }
    world = World(metrics=metrics)
    world.append(
        event(at, event_type=f"t{kind}", properties={f"p{kind}": "1", "p0": "5"})
        for at, kind in enumerate(kinds)
    )

    asyncio.run(world.apply([cut for cut in cuts if cut < len(kinds)]))

    assert_recount(world)
    assert world.state.counters["counted"] == len(kinds)
