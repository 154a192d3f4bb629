"""The batches of a fetch as they lie, for workers: native/ finds the records in them.

It comes after all that aiokafka judges by batch: checksum, transactions, control batches. A batch
that native/ does not take is read as every other process reads it: times of producers, older
message formats, one that is too large to be unpacked at once, or one that is broken.
"""

from typing import ClassVar, Final

from ..core.raw import RawRecords
from .kafka_batches import Batch, Part, Reader, WholeRecords
from .kafka_codecs import CODECS, decoder

_APPEND_TIME: Final = 1
_COUNT_AT: Final = 57
_RECORDS_AT: Final = 61
_DECODERS: Final = {number: decoder(codec) for number, codec in CODECS.items()}


def raw_part(batch: Batch) -> Part | None:
    """Return all records of a batch; None where it has to be read in another way.

    Raises:
        Oversized: it is too large to be unpacked at once.
        CorruptRecordException: it cannot be unpacked.
    """
    if batch.magic != 2 or batch.timestamp_type != _APPEND_TIME:
        return None
    data, begin, end = batch.fetched, batch.begin + _RECORDS_AT, batch.end
    count = int.from_bytes(data[batch.begin + _COUNT_AT : begin], signed=True)
    codec, size = batch.compression_type, 0
    if codec:
        if codec not in _DECODERS:
            return None
        data = _DECODERS[codec](memoryview(data)[begin:end])
        begin, end = 0, len(data)
        size = end
    records = RawRecords.read(
        data, begin, end, base_offset=batch.base_offset, stamp=batch.max_timestamp, count=count
    )
    return None if records is None else Part(records, size)


class RawBatches(WholeRecords):
    """WholeRecords that leave the batches of some topics as they lie, where native/ reads them.

    topics: of events. The headers of their records are no part of what is metered, and are not
    kept; those of the control log are (control/seal.py).
    """

    topics: ClassVar[set[str]] = set()

    def _reader(self, topic: str) -> Reader | None:
        return raw_part if topic in self.topics else None
