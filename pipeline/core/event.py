"""Bytes of the log → Event, or Rejected with a reason.

Three decoders, each for what the one before leaves: the narrow one makes only the properties that
somebody reads, and is asked where skipping a value cannot hide a fault in it: ASCII without
escapes. The wide one makes everything. Whatever both refuse is decided by the slow one, which
alone gives reasons. All agree wherever they accept: tests/property/test_event.py holds them to it.
"""

import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, NoReturn

import msgspec

from definitions.values import ABSENT, NUMBER_CHARS_MAX, UNREADABLE, number_of_token

from .correction import AMEND, NAMING, Amended, Correction, correction_of
from .reasons import Reason, Rejected

EVENT_BYTES_MAX: Final = 1_048_576
DEPTH_MAX: Final = 32  # containers inside each other, the event itself included
TRANSACTION_ID_CHARS_MAX: Final = 128  # docs/formats.md 3.4
# Both are keys: of Kafka's records, of Redis, of caches. Nobody's ids are longer (E-2).
CUSTOMER_ID_CHARS_MAX: Final = 256
EVENT_TYPE_CHARS_MAX: Final = 256
_CHARS_MAX: Final = {
    "transaction_id": TRANSACTION_ID_CHARS_MAX,
    "customer_id": CUSTOMER_ID_CHARS_MAX,
    "event_type": EVENT_TYPE_CHARS_MAX,
}
USAGE: Final = "usage"
_DETAIL_CHARS_MAX: Final = 200
_FRAME_BYTES: Final = 5  # of a schema registry: 0, then the number of a schema
_COMPRESSED: Final = "send the JSON itself: Kafka's client compresses whole batches"
_BEGINNINGS: Final = {
    b"\xef\xbb\xbf": "it begins with a byte order mark; send UTF-8 without it",
    b"\xff\xfe": "it begins with the mark of UTF-16; send UTF-8",
    b"\xfe\xff": "it begins with the mark of UTF-16; send UTF-8",
    b"\x1f\x8b": f"it is compressed (gzip); {_COMPRESSED}",
    b"\x28\xb5\x2f\xfd": f"it is compressed (zstd); {_COMPRESSED}",
}


class Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A usage event, as the log holds it (docs/design.md 2). Never changed once made.

    Its timestamp is not read yet: definitions/times.py does that.
    properties: what the Decoder's readers read. context: a dict, where somebody reads it.
    """

    transaction_id: Annotated[str, msgspec.Meta(min_length=1, max_length=TRANSACTION_ID_CHARS_MAX)]
    customer_id: Annotated[str, msgspec.Meta(min_length=1, max_length=CUSTOMER_ID_CHARS_MAX)]
    event_type: Annotated[str, msgspec.Meta(min_length=1, max_length=EVENT_TYPE_CHARS_MAX)]
    timestamp: str
    properties: Any
    context: dict[str, Any] | None = None
    kind: Literal["usage"] = USAGE


class _Skipped(msgspec.Struct, gc=False):
    """An object whose members nobody reads."""


Decoded = Event | Correction | Rejected
_NESTED: Final = (dict, list)
_REQUIRED: Final = ("transaction_id", "customer_id", "event_type", "timestamp")
_OF_CORRECTION: Final = ("transaction_id", "customer_id", "timestamp")
_OF_REPLACEMENT: Final = frozenset({"event_type", "properties", "context"})
_TOGETHER: Final = 64  # events that are decoded by one call, unless one of them is odd
_NARROW_KEYS_MAX: Final = 24  # beyond, making a dict is cheaper than a struct of as many members
_UNDECIDED: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_OPENING_BRACKET, _CLOSING_BRACE, _BACKSLASH = b"[}\\"


class Decoder:
    """Decodes events for readers of certain properties.

    Args:
        keys: The properties that will be read; None: any, as a dict.
        context: Whether the context will be read.
    """

    def __init__(self, keys: frozenset[str] | None, *, context: bool = False) -> None:
        self._named: dict[str, str] = {}
        self._make: Callable[..., Any] = dict
        self._narrow: Callable[[bytes], Event] = _DECODE_WIDE
        if keys is None or len(keys) > _NARROW_KEYS_MAX:
            return
        self._named = {key: f"p{number}" for number, key in enumerate(sorted(keys))}
        kind = self._make = msgspec.defstruct(
            "Properties",
            [(name, Any, ABSENT) for name in self._named.values()],
            rename={name: _findable(key, name) for key, name in self._named.items()},
            gc=False,
        )
        self._narrow = _decoding(kind, dict[str, Any] if context else _Skipped)

    def reader(self, key: str) -> Callable[[Any], Any]:
        """What reads one of the properties of an event that this has decoded, or ABSENT."""
        if self._make is dict:
            return lambda properties: properties.get(key, ABSENT)
        return attrgetter(self._named[key])

    def decode_all(self, values: Sequence[bytes]) -> list[Decoded]:
        """Return what decode() says of each value; a record without one is empty."""
        found: list[Decoded] = []
        for start in range(0, len(values), _TOGETHER):
            part = values[start : start + _TOGETHER]
            # Most events: no escapes, no lists, and the second of two closing braces ends them,
            # so that they cannot be nested too deeply.
            together = b"".join(part)
            odd = (
                _OPENING_BRACKET in together
                or _BACKSLASH in together
                or not together.isascii()
                or len(together) > EVENT_BYTES_MAX
                or [value for value in part if _CLOSING_BRACE in value[:-2]]
            )
            try:
                found += list(map(self.decode if odd else self._narrow, part))
            except _UNDECIDED:
                found += map(self.decode, part)
        return found

    def decode(self, value: bytes | None) -> Decoded:
        """Return the event or the correction that a record's value holds, or why it is none."""
        if not value:
            return Rejected(Reason.EMPTY, "the record has no value")
        if len(value) > EVENT_BYTES_MAX:
            return Rejected(Reason.TOO_LARGE, f"{len(value)} bytes, at most {EVENT_BYTES_MAX}")
        # No more brackets than levels allowed: then it cannot be nested too deeply.
        if value.count(b"[") + value.count(b"{") > DEPTH_MAX:
            return self._reduced(decode_slowly(value))
        try:
            if value.isascii() and _BACKSLASH not in value:
                return self._narrow(value)
            event: Decoded = _DECODE_WIDE(value)
        except _UNDECIDED:
            event = decode_slowly(value)
        return self._reduced(event)

    def _reduced(self, event: Decoded) -> Decoded:
        """Give an event's properties the form that readers read."""
        if isinstance(event, Event) and self._make is not dict:
            held = event.properties
            event.properties = self._make(*[held.get(key, ABSENT) for key in self._named])
        return event


def _decoding(properties: Any, context: Any) -> Callable[[bytes], Event]:
    """What decodes events with properties and context of these types."""
    kind = msgspec.defstruct(
        "Event",
        [
            ("properties", properties, msgspec.field(default_factory=properties)),
            ("context", context | None, None),
        ],
        bases=(Event,),
        forbid_unknown_fields=True,
        gc=False,
    )
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(kind, float_hook=number_of_token).decode
    return decode


_DECODE_WIDE: Final = _decoding(dict[str, Any], dict[str, Any])


@lru_cache(maxsize=64)
def decoder_for(keys: frozenset[str], context: bool) -> Decoder:
    """The Decoder of these arguments, made once."""
    return Decoder(keys, context=context)


def _findable(key: str, name: str) -> str:
    """The key as the narrow decoder finds it: no ASCII text without escapes can hold another."""
    plain = key.isascii() and key.isprintable() and not {'"', "\\"} & set(key)
    return key if plain else f"\N{LINE SEPARATOR}{name}"


def no_time(event: Event | Correction) -> Rejected:
    """Say that an event's timestamp cannot be read."""
    detail = f"timestamp {event.timestamp!r} is not RFC 3339 with an offset"
    return Rejected(Reason.INVALID_TIMESTAMP, _cut(detail))


def decode_slowly(value: bytes) -> Decoded:
    """Decide any value, by the standard library's parser; the reference for decode()."""
    try:
        text = value.decode()
        body = json.loads(
            text, parse_float=number_of_token, parse_int=_integer, parse_constant=_refuse_constant
        )
    except RecursionError:
        return Rejected(Reason.TOO_DEEP, f"nested deeper than {DEPTH_MAX}")
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError are both
        return Rejected(Reason.NOT_JSON, _cut(_begins_as(value) or str(error)))
    if _depth_exceeds(body, DEPTH_MAX):
        return Rejected(Reason.TOO_DEEP, f"nested deeper than {DEPTH_MAX}")
    if _has_surrogate(body):
        return Rejected(Reason.NOT_JSON, "a text holds a lone surrogate")
    if not isinstance(body, dict):
        return Rejected(Reason.NOT_AN_EVENT, "an event is a JSON object")
    kind = body.get("kind")
    is_correction = isinstance(kind, str) and kind in NAMING
    for name in _OF_CORRECTION if is_correction else _REQUIRED:
        if not isinstance(body.get(name), str):
            return Rejected(Reason.NOT_AN_EVENT, f"{name} must be a string")
    if is_correction:
        return _correction(body)
    if (rejected := _misformed(body)) is not None:
        return rejected
    if not isinstance(kind, str | None):
        return Rejected(Reason.UNKNOWN_KIND, "kind must be a string")
    if kind not in {None, USAGE}:
        return Rejected(Reason.UNKNOWN_KIND, _cut(f"kind {kind!r} is not known here"))
    if (rejected := _misnamed(body, _REQUIRED[:3])) is not None:
        return rejected
    members = {name: body[name] for name in _REQUIRED}
    properties, context = body.get("properties") or {}, body.get("context")
    return Event(**members, properties=properties, context=context)


def _correction(body: dict[str, Any]) -> Correction | Rejected:
    """The void or the amend of a body whose ids and timestamp are texts."""
    if (rejected := _misnamed(body, _OF_CORRECTION[:2])) is not None:
        return rejected
    if body["kind"] != AMEND:
        return correction_of(body, None)
    event = body.get("event")
    if not isinstance(event, dict) or not isinstance(event.get("event_type"), str):
        return Rejected(Reason.NOT_AN_EVENT, "event must be an object with an event_type")
    if not event.keys() <= _OF_REPLACEMENT:
        detail = f"event has no members but {', '.join(sorted(_OF_REPLACEMENT))}"
        return Rejected(Reason.NOT_AN_EVENT, detail)
    if (rejected := _misformed(event) or _misnamed(event, ["event_type"])) is not None:
        return rejected
    made = Amended(event["event_type"], event.get("properties") or {}, event.get("context"))
    return correction_of(body, made)


def _misformed(body: dict[str, Any]) -> Rejected | None:
    """Why members cannot be those of an event."""
    for name in ("properties", "context"):
        if not isinstance(body.get(name), dict | None):
            return Rejected(Reason.NOT_AN_EVENT, f"{name} must be an object")
    return None


def _misnamed(body: dict[str, Any], names: Sequence[str]) -> Rejected | None:
    """Why texts cannot be the names of an event."""
    if not all(body[name] for name in names):
        return Rejected(Reason.NOT_AN_EVENT, f"{', '.join(names)} must not be empty")
    for name in names:
        most = _CHARS_MAX[name]
        if len(body[name]) > most:
            detail = f"{name} has {len(body[name])} characters, at most {most}"
            return Rejected(Reason.NOT_AN_EVENT, detail)
    return None


def _begins_as(value: bytes) -> str | None:
    """What bytes that are no JSON begin as, if that is something known, and what to send."""
    if value[:1] == b"\0" and len(value) >= _FRAME_BYTES:
        schema = int.from_bytes(value[1:_FRAME_BYTES], "big")
        return (
            f"it begins with a schema registry's frame (magic byte 0, schema {schema}); send "
            "plain JSON, without a serializer that uses the registry"
        )
    return next((told for head, told in _BEGINNINGS.items() if value.startswith(head)), None)


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
