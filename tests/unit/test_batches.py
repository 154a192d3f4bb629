"""Batches of Kafka: any codec, unpacked at once or piece by piece, the same records."""

import hashlib
import struct
from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.event import decoder_for
from pipeline.core.reasons import Reason
from pipeline.core.records import Rejected, Unheld
from pipeline.edges import kafka_batches
from pipeline.edges.kafka_batches import BoundedRecords, next_of, parts_of
from pipeline.errors import Halt

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_ATTRIBUTES = 21  # where a batch of format 2 says its codec; its checksum covers all from here
_HEADER = 61
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
RECORDS: list[Record] = [
    (b"k", b"one", []),
    (None, None, []),
    (b"", b"", [("h", b"v" * 300)]),
    (b"k" * 200, b"x" * 5_000, [("a", b""), ("b", b"2")]),
    (b"last", b"\0\xff" * 50, []),
]


def packed(records: list[Record], codec: int) -> bytearray:
    """One batch of format 2."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1 << 30,
    )
    for number, (key, value, headers) in enumerate(records):
        builder.append(number, 1_000 + number, key, value, headers)
    return bytearray(builder.build())


def batch_of(raw: bytearray) -> Any:
    """The batch as aiokafka reads it."""
    return MemoryRecords(bytes(raw)).next_batch()


def read(raw: bytearray) -> list[tuple[Any, ...]]:
    """Every record, by parts_of()."""
    return [
        (record.offset, record.timestamp, record.timestamp_type, record.key, record.value)
        for part in parts_of(batch_of(raw))
        for record in part.records
    ]


def rechecked(raw: bytearray) -> bytearray:
    """The same with the checksum of what is in it now."""
    raw[17:21] = struct.pack(">I", calc_crc32c(bytes(raw[_ATTRIBUTES:])))
    return raw


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is packed is too large to be unpacked at once."""
    monkeypatch.setattr(kafka_batches, "BATCH_BYTES_MAX", 0)
    monkeypatch.setattr(kafka_batches, "_PIECE_BYTES", 7)


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
        patch.setattr(kafka_batches, "BATCH_BYTES_MAX", 0)
        patch.setattr(kafka_batches, "_PIECE_BYTES", piece)

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
    return BoundedRecords(point, MemoryRecords(bytes(raw)), [], offset, None, None, True, 1)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("codec", CODECS)
def test_a_broken_batch_halts_with_its_place_and_codec(
    codec: str, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data that is not of its codec, with a right checksum: Halt, topic, partition, offset."""
    if streamed:
        monkeypatch.setattr(kafka_batches, "BATCH_BYTES_MAX", 0)
    whole = packed(RECORDS, CODECS[codec])
    broken = whole[:_HEADER] + b"\x01rubbish" * 9
    broken[8:12] = struct.pack(">i", len(broken) - 12)
    cut = whole[: _HEADER + (len(whole) - _HEADER) // 2]
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
