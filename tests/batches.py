"""Record batches of Kafka made byte by byte: what no client of ours would write."""

import gzip
import struct

import cramjam
import lz4.frame
import zstandard
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_ATTRIBUTES = 21  # where a batch of format 2 says its codec; its checksum covers all from here
HEADER_BYTES = 61
Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


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


def rechecked(raw: bytearray) -> bytearray:
    """The same with the checksum of what is in it now."""
    raw[17:21] = struct.pack(">I", calc_crc32c(bytes(raw[_ATTRIBUTES:])))
    return raw


def count_of(raw: bytearray, count: int) -> bytearray:
    """The same batch, whose header says another number of records."""
    raw[57:61] = struct.pack(">i", count)
    return rechecked(raw)


def repacked(raw: bytearray, codec: int) -> bytearray:
    """A plain batch, packed by a codec."""
    data = bytes(raw[HEADER_BYTES:])
    pack = {
        0: bytes,
        1: gzip.compress,
        2: cramjam.snappy.compress_raw,
        3: lz4.frame.compress,
        4: zstandard.ZstdCompressor().compress,
    }
    made = raw[:HEADER_BYTES] + bytes(pack[codec](data))
    made[22] = (made[22] & ~7) | codec
    made[8:12] = struct.pack(">i", len(made) - 12)
    return made


def misnamed(records: list[Record], codec: int, *, name: bytes = b"ab") -> bytearray:
    """A batch in which the header of that name has a name that is no UTF-8."""
    raw = packed(records, 0)
    at = raw.index(name)
    raw[at : at + len(name)] = b"\xff" * len(name)
    return rechecked(repacked(raw, codec))


async def produced(kafka: str, topic: str, raw: bytearray) -> None:
    """Have the broker append a batch as it is; it answers whether it took it."""
    client = AIOKafkaClient(bootstrap_servers=kafka)
    await client.bootstrap()
    try:
        await client.force_metadata_update()
        request = ProduceRequest(
            transactional_id=None,
            required_acks=-1,
            timeout=10_000,
            topics=[(topic, [(0, bytes(raw))])],
        )
        node = client.get_random_node()
        answer = await client.send(node, request)
        [(_, [(_, error, *_)])] = answer.topics
        assert error == 0, error
    finally:
        await client.close()
