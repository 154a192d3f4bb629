"""Batches of Kafka: any codec, unpacked at once or piece by piece, the same records."""

import hashlib
import struct
from contextlib import suppress
from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.event import decoder_for
from pipeline.core.reasons import Reason, Rejected
from pipeline.core.records import Unheld
from pipeline.edges import kafka_batches, kafka_codecs
from pipeline.edges.kafka_batches import Fetched, OwnPartitionRecords, next_of
from pipeline.errors import Halt

from ..batches import CODECS, HEADER_BYTES, Record, count_of, misnamed, packed, rechecked

RECORDS: list[Record] = [
    (b"k", b"one", []),
    (None, None, []),
    (b"", b"", [("h", b"v" * 300)]),
    (b"k" * 200, b"x" * 5_000, [("a", b""), ("b", b"2")]),
    (b"last", b"\0\xff" * 50, []),
]


def batch_of(raw: bytearray) -> Any:
    """The batch as aiokafka reads it."""
    return Fetched(bytes(raw)).next_batch()


def read(raw: bytearray) -> list[tuple[Any, ...]]:
    """Every record, by parts()."""
    return [
        (record.offset, record.timestamp, record.timestamp_type, record.key, record.value)
        for part in batch_of(raw).parts()
        for record in part.records
    ]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is packed is too large to be unpacked at once."""
    monkeypatch.setattr(kafka_codecs, "BATCH_BYTES_MAX", 0)
    monkeypatch.setattr(kafka_codecs, "_PIECE_BYTES", 7)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_every_codec_gives_what_was_packed(codec: int) -> None:
    """A batch of each codec has the records of the plain one."""
    assert read(packed(RECORDS, codec)) == read(packed(RECORDS, 0))
    assert [record[4] for record in read(packed(RECORDS, 0))] == [each[1] for each in RECORDS]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_piece_by_piece_gives_the_same(codec: int, tiny: None) -> None:
    """A batch that is too large to be unpacked at once has the same records."""
    assert read(packed(RECORDS, codec)) == read(packed(RECORDS, 0))


TEXTS = st.none() | st.binary(max_size=40)
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=9)), max_size=3)


@given(
    st.lists(st.tuples(TEXTS, TEXTS, HEADERS), min_size=1, max_size=20),
    st.sampled_from([*CODECS.values()]),
    st.integers(1, 50),
)
def test_any_records_in_any_pieces(records: list[Record], codec: int, piece: int) -> None:
    """Whatever the records and however the pieces fall, nothing is lost, added or changed."""
    plain = read(packed(records, 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kafka_codecs, "BATCH_BYTES_MAX", 0)
        patch.setattr(kafka_codecs, "_PIECE_BYTES", piece)

        assert read(packed(records, codec)) == plain


def test_a_value_too_large_to_hold_is_too_large(
    tiny: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stand-in has length and digest and is judged too_large; its neighbours are whole."""
    monkeypatch.setattr(kafka_batches, "VALUE_BYTES_MAX", 4_000)
    large = b"x" * 2_000_000
    records: list[Record] = [(b"a", b"1", []), (b"b", large, [("h", b"v")]), (b"c", b"3", [])]

    first, second, third = read(packed(records, 4))

    assert (first[4], third[4]) == (b"1", b"3")
    value = second[4]
    assert isinstance(value, Unheld)
    assert len(value) == len(large)
    assert value.sha256 == hashlib.sha256(large).hexdigest()
    for decoder in (
        decoder_for(frozenset({"v"}), context=False),
        decoder_for(frozenset(), context=True),
    ):
        for judged in (decoder.decode(value), decoder.decode_all([b"{}", value])[1]):
            assert isinstance(judged, Rejected)
            assert judged.reason is Reason.TOO_LARGE
            assert "2000000 bytes" in judged.detail


def source_of(raw: bytearray, offset: int = 0) -> Any:
    """What aiokafka makes of a fetch that holds a batch."""
    point = TopicPartition("t.usage.events", 3)
    return OwnPartitionRecords(point, Fetched(bytes(raw)), [], offset, None, None, True, 1)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("codec", CODECS)
def test_a_broken_batch_halts_with_its_place_and_codec(
    codec: str, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data that is not of its codec, with a right checksum: Halt, topic, partition, offset."""
    if streamed:
        monkeypatch.setattr(kafka_codecs, "BATCH_BYTES_MAX", 0)
    whole = packed(RECORDS, CODECS[codec])
    broken = whole[:HEADER_BYTES] + b"\x01rubbish" * 9
    broken[8:12] = struct.pack(">i", len(broken) - 12)
    cut = whole[: HEADER_BYTES + (len(whole) - HEADER_BYTES) // 2]
    cut[8:12] = struct.pack(">i", len(cut) - 12)

    for raw in (broken, cut):
        with pytest.raises(Halt) as halted:
            while next_of(source_of(rechecked(raw))) is not None:
                pass
        said = str(halted.value)
        assert "t.usage.events/3" in said
        assert "offset 0" in said
        assert codec in said or "record" in said


def test_an_unknown_codec_halts_with_its_place() -> None:
    """Codecs 5 to 7 do not exist: Halt names the number, topic, partition and offset."""
    for number in (5, 6, 7):
        raw = packed(RECORDS, 0)
        raw[22] = (raw[22] & ~7) | number

        with pytest.raises(Halt) as halted:
            next_of(source_of(rechecked(raw)))

        said = str(halted.value)
        assert f"{number}" in said.split("cannot be read")[1]
        assert "t.usage.events/3" in said
        assert "codec" in said


@pytest.mark.parametrize("count", [0, 4, 6, 1_000])
@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_of_another_number_of_records_than_it_says_halts(
    codec: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer or more records than the header says, at once and piece by piece: nothing is lost."""
    for streamed in (False, True):
        if streamed:
            monkeypatch.setattr(kafka_codecs, "BATCH_BYTES_MAX", 0)
        raw = count_of(packed(RECORDS, CODECS[codec]), count)
        with pytest.raises(Halt, match="record"):
            while next_of(source_of(raw)) is not None:
                pass


@pytest.mark.parametrize("codec", [0, *CODECS.values()])
def test_a_header_whose_name_is_no_text_is_read(codec: int) -> None:
    """Kafka takes any bytes as a header's name; aiokafka's reader ends there."""
    records: list[Record] = [(b"k", b"one", [("ab", b"v"), ("ok", b"")]), (b"k", b"two", [])]
    raw = misnamed(records, codec)

    found = [record for part in batch_of(raw).parts() for record in part.records]

    assert [(each.key, each.value) for each in found] == [(b"k", b"one"), (b"k", b"two")]
    assert list(found[0].headers) == [("\ufffd\ufffd", b"v"), ("ok", b"")]
    assert read(raw) == read(packed(records, 0))


@pytest.mark.parametrize(("codec", "more"), [(1, b"\0" * 64), (1, b"rest"), (3, b"\0" * 9)])
def test_padding_behind_packed_data_is_no_fault(codec: int, more: bytes) -> None:
    """Java's readers, the broker's among them, ignore what begins no further member or frame."""
    raw = packed(RECORDS, codec) + more
    raw[8:12] = struct.pack(">i", len(raw) - 12)

    assert read(rechecked(raw)) == read(packed(RECORDS, 0))


@given(st.binary(max_size=200), st.integers(0, 3))
def test_bytes_that_are_no_records_never_hang(data: bytes, count: int) -> None:
    """Whatever stands where records should: they are read, or Halt; never another error."""
    raw = packed([(b"k", b"v", [("ab", b"")])], 0)
    raw = count_of(raw[:HEADER_BYTES] + bytearray(data), count)
    raw[8:12] = struct.pack(">i", len(raw) - 12)
    with suppress(Halt):
        while next_of(source_of(rechecked(raw))) is not None:
            pass
