"""How a dead letter is written: its key and the names of its headers.

A dead letter is a record of the topic of rejected events. Its key says where the original lies,
its value is the original. Everything else is in headers, as text in UTF-8. docs/operations.md,
"Dead letters", has the table for whoever reads the topic with another program.
"""

import hashlib
from typing import Final

from ..core.records import DeadLetter, Unheld

REASON: Final = "reason"  # docs/semantics.md, "Rejected events"
DETAIL: Final = "detail"  # a sentence for people
APPEND_TIME: Final = "append_time"  # of the original, in ms since 1970: with the key, its identity
KEY: Final = "key"  # the original's key, where it has at most KEY_BYTES_MAX
OMITTED: Final = "omitted"  # length and sha256 of an original that is too large to be the value
REDRIVEN: Final = "redriven"  # in a record without value: where the event was sent again
KEY_BYTES_MAX: Final = 1_024


def letter_key(topic: str, partition: int, offset: int) -> str:
    """Return the key of a dead letter: where the original lies, `topic/partition@offset`."""
    return f"{topic}/{partition}@{offset}"


def letter_parts(
    topic: str, partition: int, letter: DeadLetter, bytes_max: int
) -> tuple[bytes, bytes | None, list[tuple[str, bytes]]]:
    """Return key, value and headers of a dead letter; a longer original is left out, and told."""
    record, rejected = letter.record, letter.rejected
    value = record.value
    headers = [
        (REASON, rejected.reason.encode()),
        (DETAIL, rejected.detail.encode()),
        (APPEND_TIME, str(record.timestamp).encode()),
    ]
    if record.key is not None and len(record.key) <= KEY_BYTES_MAX:
        headers.append((KEY, record.key))
    if value is not None and len(value) > bytes_max:
        digest = value.sha256 if isinstance(value, Unheld) else hashlib.sha256(value).hexdigest()
        omitted = f"{len(value)} bytes, sha256 {digest}"
        headers.append((OMITTED, omitted.encode()))
        value = None
    key = letter_key(topic, partition, record.offset).encode()
    return key, value, headers
