"""How a dead letter is written: its key and the names of its headers.

A dead letter is a record of the topic of rejected events. Its key says where the original lies,
its value is the original. Everything else is in headers, as text in UTF-8. docs/operations.md,
"Dead letters", has the table for whoever reads the topic with another program.
"""

from typing import Final

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
