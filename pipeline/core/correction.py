"""A record that takes an earlier one back: what it says, and whether it may (docs/corrections.md).

A void takes back; an amend takes back, and says what counts instead at the same time.

It names the original by its transaction_id and by its place on the log. The place is looked up by
whoever sends the correction; the worker looks at it once, and never searches.

Rule 1: it is judged in the order decode, keying, duplicate, original. Its own time decides
nothing, so it is never too old.
Rule 2: one that takes nothing back leaves no id, so that it can be sent again.
"""

import re
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

VOID: Final = "void"
AMEND: Final = "amend"
NAMING: Final = {VOID: "voids", AMEND: "amends"}  # the member that names the original
_PLACE: Final = re.compile(r"(0|[1-9][0-9]{0,8})@(0|[1-9][0-9]{0,17})", re.ASCII)


class RecordPlace(NamedTuple):
    """Where a record lies."""

    partition: int
    offset: int

    @property
    def text(self) -> str:
        """As a correction names it."""
        return f"{self.partition}@{self.offset}"


def place_of(text: str) -> RecordPlace | None:
    """Read `partition@offset`; None where it is none."""
    match = _PLACE.fullmatch(text)
    return None if match is None else RecordPlace(int(match[1]), int(match[2]))


class TakenBack(NamedTuple):
    """The record at `original` was taken back by the one at `by`."""

    original: int
    by: int

    @property
    def element(self) -> bytes:
        """What the list gains."""
        return self.original.to_bytes(8, "little") + self.by.to_bytes(8, "little")


class Amended(NamedTuple):
    """What an amend says that its original should have said."""

    event_type: str
    properties: dict[str, Any]
    context: dict[str, Any] | None


class Correction(msgspec.Struct, frozen=True, gc=False):
    """A void or an amend. original, place: what it takes back; None where it does not say.

    timestamp: of an amend, the original's. replacement: of an amend alone. event_type: empty,
    which no event's is.
    """

    transaction_id: str
    customer_id: str
    timestamp: str
    original: str | None
    place: RecordPlace | None
    replacement: Amended | None = None
    event_type: ClassVar[str] = ""


def correction_of(body: dict[str, Any], replacement: Amended | None) -> Correction:
    """Return what a body says whose ids and timestamp are texts."""
    named = body.get(NAMING[body["kind"]])
    original = at = None
    if isinstance(named, dict):
        original, at = named.get("transaction_id"), named.get("at")
    return Correction(
        body["transaction_id"],
        body["customer_id"],
        body["timestamp"],
        original if isinstance(original, str) else None,
        place_of(at) if isinstance(at, str) else None,
        replacement,
    )
