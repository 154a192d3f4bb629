"""Bytes of the log → Event, or Rejected with a reason.

The fast decoder accepts a subset: known members only, shallow properties. Whatever it refuses is
decided by the slow one, which alone gives reasons. Both must agree wherever the fast one accepts:
tests/property/test_event.py holds them to it.
"""

import json
from decimal import Decimal
from typing import Any, Final, NoReturn

import msgspec

from definitions.values import NUMBER_CHARS_MAX, UNREADABLE, number_of_token

from .reasons import Reason
from .windows import parse_timestamp

EVENT_BYTES_MAX: Final = 1_048_576
DEPTH_MAX: Final = 32  # containers inside each other, the event itself included
TRANSACTION_ID_CHARS_MAX: Final = 128  # FORMATS 3.4
USAGE: Final = "usage"
_DETAIL_CHARS_MAX: Final = 200


class Event(msgspec.Struct, frozen=True, gc=False):
    """A usage event that may count. event_ns: its timestamp, nanoseconds since 1970 UTC."""

    transaction_id: str
    customer_id: str
    event_type: str
    event_ns: int
    properties: dict[str, Any]


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """Why a record is no usage event. detail: what was wrong, bounded, for people."""

    reason: Reason
    detail: str


class _Wire(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The members of DESIGN 2."""

    transaction_id: str
    customer_id: str
    event_type: str
    timestamp: str
    properties: dict[str, Any] = {}
    context: dict[str, Any] = {}
    kind: str = USAGE


_FAST: Final = msgspec.json.Decoder(_Wire, float_hook=number_of_token)
_NESTED: Final = (dict, list)
_CONTAINERS: Final = frozenset(_NESTED)
_REQUIRED: Final = ("transaction_id", "customer_id", "event_type", "timestamp")


def decode(value: bytes | None) -> Event | Rejected:
    """Return the event that a record's value holds, or why it is none."""
    if not value:
        return Rejected(Reason.EMPTY, "the record has no value")
    if len(value) > EVENT_BYTES_MAX:
        return Rejected(Reason.TOO_LARGE, f"{len(value)} bytes, at most {EVENT_BYTES_MAX}")
    try:
        wire = _FAST.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return decode_slowly(value)
    if wire.context or not _CONTAINERS.isdisjoint(map(type, wire.properties.values())):
        return decode_slowly(value)
    transaction_id, event_ns = wire.transaction_id, parse_timestamp(wire.timestamp)
    if (
        event_ns is not None
        and 0 < len(transaction_id) <= TRANSACTION_ID_CHARS_MAX
        and wire.customer_id
        and wire.event_type
        and wire.kind == USAGE
    ):
        return Event(transaction_id, wire.customer_id, wire.event_type, event_ns, wire.properties)
    return decode_slowly(value)


def decode_slowly(value: bytes) -> Event | Rejected:
    """Decide any value, by the standard library's parser; the reference for decode()."""
    try:
        text = value.decode()
        body = json.loads(
            text, parse_float=number_of_token, parse_int=_integer, parse_constant=_refuse_constant
        )
    except RecursionError:
        return Rejected(Reason.TOO_DEEP, f"nested deeper than {DEPTH_MAX}")
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are both
        return Rejected(Reason.NOT_JSON, _cut(str(error)))
    if _depth_exceeds(body, DEPTH_MAX):
        return Rejected(Reason.TOO_DEEP, f"nested deeper than {DEPTH_MAX}")
    if _has_surrogate(body):
        return Rejected(Reason.NOT_JSON, "a text holds a lone surrogate")
    if not isinstance(body, dict):
        return Rejected(Reason.NOT_AN_EVENT, "an event is a JSON object")
    for name in _REQUIRED:
        if not isinstance(body.get(name), str):
            return Rejected(Reason.NOT_AN_EVENT, f"{name} must be a string")
    properties, context, kind = body.get("properties"), body.get("context"), body.get("kind")
    for name, member in (("properties", properties), ("context", context)):
        if not isinstance(member, dict | None):
            return Rejected(Reason.NOT_AN_EVENT, f"{name} must be an object")
    if not isinstance(kind, str | None):
        return Rejected(Reason.UNKNOWN_KIND, "kind must be a string")
    return _judge(
        body["transaction_id"],
        body["customer_id"],
        body["event_type"],
        body["timestamp"],
        properties or {},
        USAGE if kind is None else kind,
    )


def _judge(
    transaction_id: str,
    customer_id: str,
    event_type: str,
    timestamp: str,
    properties: dict[str, Any],
    kind: str,
) -> Event | Rejected:
    if kind != USAGE:
        return Rejected(Reason.UNKNOWN_KIND, _cut(f"kind {kind!r} is not known here"))
    if not (transaction_id and customer_id and event_type):
        return Rejected(
            Reason.NOT_AN_EVENT, "transaction_id, customer_id and event_type need text"
        )
    if len(transaction_id) > TRANSACTION_ID_CHARS_MAX:
        detail = f"transaction_id has {len(transaction_id)} characters, at most 128"
        return Rejected(Reason.NOT_AN_EVENT, detail)
    event_ns = parse_timestamp(timestamp)
    if event_ns is None:
        detail = f"timestamp {timestamp!r} is not RFC 3339 with an offset"
        return Rejected(Reason.INVALID_TIMESTAMP, _cut(detail))
    return Event(transaction_id, customer_id, event_type, event_ns, properties)


def _integer(token: str) -> int | Decimal | Any:
    # int() of thousands of digits is slow and guarded; outside C04 it is unreadable anyway.
    return int(token) if len(token) <= NUMBER_CHARS_MAX else UNREADABLE


def _refuse_constant(token: str) -> NoReturn:
    raise ValueError(f"{token} is no JSON number")


def _depth_exceeds(body: object, limit: int) -> bool:
    containers = [body] if isinstance(body, _NESTED) else []
    for _ in range(limit):
        containers = [
            item
            for outer in containers
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, _NESTED)
        ]
        if not containers:
            return False
    return True


def _has_surrogate(body: object) -> bool:
    level = [body]
    while level:
        inner: list[object] = []
        for item in level:
            if isinstance(item, str):
                if not item.isascii() and any("\ud800" <= char <= "\udfff" for char in item):
                    return True
            elif isinstance(item, dict):
                inner.extend(item)
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = inner
    return False


def _cut(text: str) -> str:
    return text if len(text) <= _DETAIL_CHARS_MAX else text[:_DETAIL_CHARS_MAX] + "…"
