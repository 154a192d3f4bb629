"""Records as they lie in Kafka's batches: native/ reads those of aiokafka, or leaves the batch."""

import asyncio
import struct
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final
from unittest.mock import patch

import pytest
from aiokafka.consumer.subscription_state import Assignment
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from definitions.matcher import Matcher, compile_version
from definitions.metric import MetricVersion
from pipeline.app.checks import check_kind
from pipeline.core.clocked import clock_of, left_of
from pipeline.core.commit import advance
from pipeline.core.compiled import MODULE
from pipeline.core.fold.fold import fold
from pipeline.core.fold.rust import RustFold
from pipeline.core.id_index import IdIndex
from pipeline.core.raw import RawRecords, offsets_of, since
from pipeline.core.state import PartitionState
from pipeline.edges import kafka_batches, kafka_codecs
from pipeline.edges.kafka_batches import BoundedResult, Fetched, WholeRecords
from pipeline.edges.kafka_raw import RawBatches
from pipeline.errors import Halt

from ..batches import CODECS, misnamed, rechecked, repacked
from ..world import NOW_MS
from .test_native import METRICS, SETTINGS, STREAM_LINES, changed

POINT: Final = TopicPartition("t.usage.events", 0)
RawBatches.topics.add(POINT.topic)
_ABORT, _COMMIT = 0, 1
_APPEND_TIME, _TRANSACTIONAL, _CONTROL = 0x08, 0x10, 0x20
# How many offsets are missing before it, key, value, headers.
Record = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]


@dataclass(frozen=True)
class Made:
    """A batch: its records with the holes before them, and all that may be odd about it.

    hole: offsets before it that the log lost. marker: of a control batch. harm: of its bytes.
    """

    records: list[Record]
    codec: int = 0
    hole: int = 0
    later_ms: int = 0
    append_time: bool = True
    producer: int = -1
    marker: int | None = None
    harm: Callable[[bytearray], bytearray] | None = None

    def build(self, base: int, stamp: int) -> tuple[bytearray, int]:
        """Its bytes, and the offset behind it."""
        builder = DefaultRecordBatchBuilder(
            magic=2,
            compression_type=0,
            is_transactional=0,
            producer_id=self.producer,
            producer_epoch=0,
            base_sequence=0,
            batch_size=1 << 30,
        )
        records = self.records
        if self.marker is not None:
            records = [(0, struct.pack(">hh", 0, self.marker), b"\0" * 6, [])]
        delta = -1
        for hole, key, value, headers in records:
            delta += 1 + hole
            builder.append(delta, stamp - 7 + delta, key, value, headers)
        raw = bytearray(builder.build())
        raw[0:8] = struct.pack(">q", base)
        if self.append_time:
            raw[22] |= _APPEND_TIME
            raw[35:43] = struct.pack(">q", stamp)
        raw[22] |= _TRANSACTIONAL if self.producer >= 0 else 0
        raw[22] |= _CONTROL if self.marker is not None else 0
        if self.codec and self.marker is None:
            raw = repacked(raw, self.codec)
        raw = rechecked(raw)
        return (self.harm(raw) if self.harm else raw), base + delta + 1


def fetch_of(batches: Sequence[Made], cut: int = 0) -> bytes:
    """What a broker answers: batches, the last of them perhaps cut off."""
    made, base, stamp = bytearray(), 0, NOW_MS
    for batch in batches:
        stamp += batch.later_ms
        raw, base = batch.build(base + batch.hole, stamp)
        made += raw
    return bytes(made[: len(made) - cut])


def flipped(at: int, bit: int, *, checked: bool) -> Callable[[bytearray], bytearray]:
    """A bit of what stands behind the header is another one; the checksum may be right."""

    def harm(raw: bytearray) -> bytearray:
        raw[61 + at % (len(raw) - 61)] ^= 1 << bit
        return rechecked(raw) if checked else raw

    return harm


def grown(more: bytes, count: int) -> Callable[[bytearray], bytearray]:
    """Bytes behind the records, and another number of records in the header."""

    def harm(raw: bytearray) -> bytearray:
        raw += more
        raw[8:12] = struct.pack(">i", len(raw) - 12)
        (said,) = struct.unpack(">i", raw[57:61])
        raw[57:61] = struct.pack(">i", said + count)
        return rechecked(raw)

    return harm


TEXTS: Final = st.none() | st.binary(max_size=12)
RECORDS: Final = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 200]),
        TEXTS,
        st.one_of(STREAM_LINES, STREAM_LINES, TEXTS),
        st.lists(st.tuples(st.text(max_size=3), TEXTS), max_size=2),
    ),
    min_size=1,
    max_size=12,
)
WHOLE: Final = st.builds(
    Made,
    RECORDS,
    codec=st.sampled_from([0, 0, *CODECS.values()]),
    hole=st.sampled_from([0, 0, 0, 3]),
    later_ms=st.sampled_from([0, 1, -5_000]),
    producer=st.sampled_from([-1, -1, 7, 8]),
)
MARKERS: Final = st.builds(
    Made, st.just([]), producer=st.sampled_from([7, 8]), marker=st.sampled_from([_ABORT, _COMMIT])
)
HARM: Final = st.one_of(
    st.builds(flipped, st.integers(0, 4_000), st.integers(0, 7), checked=st.booleans()),
    st.builds(grown, st.binary(max_size=3), st.integers(-1, 1)),
    st.just(lambda _: misnamed([(b"k", b"{}", [("ab", b"v")])], 0)),
)
ODD: Final = st.builds(
    Made,
    RECORDS,
    codec=st.sampled_from([0, *CODECS.values()]),
    append_time=st.booleans(),
    harm=st.none() | HARM,
)
FETCHES: Final = st.lists(st.one_of(WHOLE, WHOLE, WHOLE, MARKERS), min_size=1, max_size=6)
ANY_FETCHES: Final = st.lists(st.one_of(WHOLE, MARKERS, ODD), min_size=1, max_size=6)
# Producer and first offset of what it aborted, as the broker tells it.
ABORTED: Final = st.lists(st.tuples(st.sampled_from([7, 8]), st.integers(0, 40)), max_size=2)


async def _answers(
    kind: type[WholeRecords], raw: bytes, aborted: list[tuple[int, int]], begin: int, most: int
) -> tuple[list[Any], int, str]:
    """What a reader gets of a fetch, where it stands then, and what stops it."""
    assignment = Assignment({POINT})
    state = assignment.state_value(POINT)
    state.seek(begin)
    source = kind(POINT, Fetched(raw), aborted, begin, None, None, True, 1)
    result = BoundedResult(POINT, assignment=assignment, partition_records=source, backoff=0)
    found, halted = list[Any](), ""
    try:
        while result.has_more():
            found.append(result.getall(most))
    except Halt as halt:
        halted = str(halt)
    return [answer for answer in found if answer], state.position, halted


def answers(
    kind: type[WholeRecords],
    raw: bytes,
    aborted: list[tuple[int, int]] | None = None,
    begin: int = 0,
    most: int = 50_000,
) -> tuple[list[Any], int, str]:
    """The same."""
    return asyncio.run(_answers(kind, raw, aborted or [], begin, most))


def rows(records: Sequence[Any]) -> list[tuple[Any, ...]]:
    """What records say."""
    return [
        (each.offset, each.timestamp, each.timestamp_type, each.key, each.value)
        for each in records
    ]


def all_rows(found: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """What all of them say."""
    return [row for records in found for row in rows(records)]


@given(
    batches=ANY_FETCHES,
    aborted=ABORTED,
    begin=st.integers(0, 12),
    most=st.sampled_from([1, 2, 5, 50_000]),
    cut=st.sampled_from([0, 0, 1, 9, 70]),
    held=st.sampled_from([1, 50, 1 << 24]),
    at_once=st.sampled_from([0, 60, 1 << 25]),
)
def test_a_fetch_gives_the_records_of_aiokafka(
    batches: list[Made],
    aborted: list[tuple[int, int]],
    begin: int,
    most: int,
    cut: int,
    held: int,
    at_once: int,
) -> None:
    """Any batches, transactions, codecs and damage: the same records, position and Halt."""
    raw = fetch_of(batches, cut)
    with (
        patch.object(kafka_batches, "HELD_BYTES_MAX", held),
        patch.object(kafka_codecs, "BATCH_BYTES_MAX", at_once),
    ):
        found, position, halted = answers(RawBatches, raw, aborted, begin, most)
        known, known_position, known_halted = answers(WholeRecords, raw, aborted, begin, most)

    if not halted:
        # Where one stops, both stop before the broken batch; how much came before is up to them.
        assert all_rows(found) == all_rows(known)
        assert position == known_position
    assert halted == known_halted
    assert all(len(records) <= most for records in found)


@given(FETCHES, ABORTED)
def test_good_batches_are_read_as_they_lie(
    batches: list[Made], aborted: list[tuple[int, int]]
) -> None:
    """What has append times and is whole makes no objects: native/ leaves none of it."""
    found, _, halted = answers(RawBatches, fetch_of(batches), aborted)

    assert not halted
    assert MODULE is None or all(isinstance(records, RawRecords) for records in found)
    for records in found:
        known = rows(records)
        offsets = [row[0] for row in known]
        assert offsets_of(records) == offsets
        assert rows([records[at] for at in range(-len(known), len(known))]) == known * 2
        for at in {0, *offsets, offsets[-1] + 1}:
            assert rows(since(records, at)) == [row for row in known if row[0] >= at]
        assert rows(records[1:-1][1:]) == known[1:-1][1:]
        with pytest.raises(IndexError):
            records[len(known)]


@given(FETCHES, ABORTED, st.sets(st.integers(0, 40)), st.integers(-3_000, 3_000))
def test_a_past_leaves_out_what_python_leaves_out(
    batches: list[Made], aborted: list[tuple[int, int]], duplicates: set[int], later_ms: int
) -> None:
    """Duplicates are left out, and move the log clock of what is behind them, either way."""
    raw, clock_ms = fetch_of(batches), NOW_MS + later_ms
    found, _, _ = answers(RawBatches, raw, aborted)
    known, _, _ = answers(WholeRecords, raw, aborted)

    for records, same in zip(found, known, strict=True):
        made = left_of(clock_ms, records, duplicates)
        assert type(made) is type(records)
        assert rows(made) == rows(left_of(clock_ms, same, duplicates))
        for passed in range(len(same) + 1):
            now_ms = clock_of(clock_ms, records[:passed])
            assert now_ms == clock_of(clock_ms, same[:passed])
            assert now_ms == max([clock_ms, *(each.timestamp for each in same[:passed])])


def plans(
    records: Sequence[Any], metrics: Sequence[MetricVersion], batch: int, *, native: bool
) -> list[Any]:
    """What every plan of these records changes."""
    matcher = Matcher([rule for version in metrics for rule in compile_version(version)])
    helper = RustFold(MODULE, 0, SETTINGS, matcher) if native and MODULE is not None else None
    state, index, found = PartitionState("s", "t", 0, 0), IdIndex(), []
    while rest := since(records, state.next)[:batch]:
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
        letters = [(rows([each.record]), each.rejected) for each in plan.dead_letters]
        found.append((state, *changed(plan), letters, plan.duplicates, plan.first, len(index)))
    return found


@given(FETCHES, ABORTED, METRICS, st.sampled_from([1, 3, 1 << 20]))
def test_plans_are_those_of_python(
    batches: list[Made],
    aborted: list[tuple[int, int]],
    metrics: tuple[MetricVersion, ...],
    batch: int,
) -> None:
    """Folded as they lie, or by Python from aiokafka's records: every plan is the same."""
    raw = fetch_of(batches)
    found, _, _ = answers(RawBatches, raw, aborted)
    known, _, _ = answers(WholeRecords, raw, aborted)

    for records, same in zip(found, known, strict=True):
        made = plans(records, metrics, batch, native=True)
        assert made == plans(same, metrics, batch, native=False)


def test_times_of_producers_halt() -> None:
    """A batch with CreateTime is no raw one: the owner's check sees what it says."""
    one: list[Record] = [(0, b"k", b"{}", [])]
    raw = fetch_of([Made(one), Made(one, append_time=False), Made(one)])
    found, _, _ = answers(RawBatches, raw)

    assert [row[0] for row in all_rows(found)] == [0, 1, 2]
    (bad,) = [records for records in found if 1 in offsets_of(records)]
    assert MODULE is None or offsets_of(bad) == [1]
    for records in found:
        with nullcontext() if records is not bad else pytest.raises(Halt, match="append time"):
            check_kind(0, records)


@given(st.binary(max_size=60), st.integers(-1, 9), st.integers(0, 70), st.integers(0, 70))
def test_any_bytes_are_read_or_left(data: bytes, count: int, begin: int, end: int) -> None:
    """Whatever stands where records should, wherever that is said to be: no error."""
    RawRecords.read(data, begin, end, base_offset=(1 << 63) - 3, stamp=0, count=count)


def test_offsets_that_do_not_rise_are_left() -> None:
    """Two records with one offset: no broker writes that, and native/ does not take it."""
    good = fetch_of([Made([(0, None, b"a", []), (0, None, b"b", [])])])
    places = {"base_offset": 0, "stamp": 0, "count": 2}
    same = bytearray(good)
    second = good.index(b"b") - 3  # before its value: distance, key, length of the value
    assert same[second] == 2  # a distance of 1, zigzag
    same[second] = 0

    assert MODULE is None or RawRecords.read(good, 61, len(good), **places) is not None
    assert RawRecords.read(bytes(same), 61, len(good), **places) is None


@pytest.mark.parametrize(("more", "count"), [(b"\0", 0), (b"", -1), (b"", 1)])
def test_other_bytes_than_the_records_that_it_says_halt(more: bytes, count: int) -> None:
    """Bytes behind the last record, or another number of records: left by native/; halts."""
    one: list[Record] = [(0, b"k", b"{}", []), (0, b"k", b"{}", [])]
    raw = fetch_of([Made(one), Made(one, harm=grown(more, count))])

    before, position, _ = answers(RawBatches, raw)
    found, _, halted = answers(RawBatches, raw, begin=position)

    assert [len(records) for records in before] == [2]  # the batch before it is handed on
    assert position == 2
    assert not found
    assert "at or after offset 2" in halted
