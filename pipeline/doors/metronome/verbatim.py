"""Metronome's events byte for byte: the fast way of what definitions/events/metronome.py says.

Rule: whatever comes out here, translate() would take as well, and a worker reads the same event in
its bytes; where that is not plain to see, nothing comes out, and translate() decides.
"""

import re
from datetime import timedelta
from math import inf
from typing import Annotated, Final

import msgspec

from definitions.events.common import Arrival
from definitions.events.metronome import EVENTS_MAX, TRANSACTION_ID_CHARS_MAX
from definitions.times import NS_PER_S, parse_timestamp

from ...core.event import CUSTOMER_ID_CHARS_MAX, DEPTH_MAX, EVENT_TYPE_CHARS_MAX

# An exponent that parse_json() does not read. Looking for its digits first is ten times faster.
_MONSTROUS: Final = re.compile(rb"[eE][+-]?[0-9]{18}")
_MANY_DIGITS: Final = b"0" * 18
_ZEROED: Final = bytes(ord("0") if chr(code) in "0123456789" else code for code in range(256))
_LINE_BYTES_MAX: Final = 8_192  # it cannot hold more properties than are allowed
_SECOND: Final = timedelta(seconds=1)


class _Skipped(msgspec.Struct, gc=False):
    """An object whose members nobody reads."""


class _Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    transaction_id: Annotated[str, msgspec.Meta(min_length=1, max_length=TRANSACTION_ID_CHARS_MAX)]
    customer_id: Annotated[str, msgspec.Meta(min_length=1, max_length=CUSTOMER_ID_CHARS_MAX)]
    event_type: Annotated[str, msgspec.Meta(min_length=1, max_length=EVENT_TYPE_CHARS_MAX)]
    timestamp: str
    properties: _Skipped | msgspec.UnsetType = msgspec.UNSET


_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ONE: Final = msgspec.json.Decoder(_Event)


def verbatim(body: bytes, arrival: Arrival) -> list[tuple[str, bytes]] | None:
    """Return the customer and the bytes of each event of a body, or None."""
    # ASCII without escapes: what is skipped cannot hide a fault (core/event.py).
    if not body.isascii() or b"\\" in body:
        return None
    if _MANY_DIGITS in body.translate(_ZEROED) and _MONSTROUS.search(body):
        return None
    received_s = arrival.received_at.timestamp()
    oldest, newest = arrival.oldest, arrival.newest
    earliest = -inf if oldest is None else (received_s - oldest / _SECOND) * NS_PER_S
    latest = (received_s + newest / _SECOND) * NS_PER_S
    found = []
    try:
        raws = _LIST.decode(body)
        if not 1 <= len(raws) <= EVENTS_MAX:
            return None
        for raw in raws:
            line = bytes(raw)
            if len(line) > _LINE_BYTES_MAX or line.count(b"[") + line.count(b"{") > DEPTH_MAX:
                return None
            event = _ONE.decode(line)
            at = parse_timestamp(event.timestamp)
            if at is None or not earliest <= at <= latest:
                return None
            found.append((event.customer_id, line))
    except (msgspec.MsgspecError, RecursionError):
        return None
    return found
