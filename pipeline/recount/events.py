"""Bytes of the log → a plain event, or the reason why it is none.

read_event() takes no shortcuts, and alone gives reasons. read_quickly() reads the same from what
most records are, and leaves the others to it; customer_in() finds only whose event it is. Both say
None wherever they could be wrong: tests/property/test_recount_reading.py holds them to read_event.
"""

import json
import re
from calendar import timegm
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

_NUMBER = re.compile(
    r"^[+-]?([0-9]+(\.[0-9]+)?|\.[0-9]+)([eE](?P<exponent>[+-]?[0-9]+))?$", re.ASCII
)
_TIME = re.compile(
    r"^(?P<date>\d{4}-\d\d-\d\d)[Tt](?P<time>\d\d:\d\d:\d\d)(\.(?P<part>\d+))?"
    r"(?P<zone>[Zz]|[+-]\d\d:\d\d)$",
    re.ASCII,
)
_NAMING = {"void": "voids", "amend": "amends"}
_PLACE = re.compile(r"^(0|[1-9][0-9]{0,8})@(0|[1-9][0-9]{0,17})$", re.ASCII)
MEMBERS = ("transaction_id", "customer_id", "event_type", "timestamp")
_BYTES_MAX = 1024 * 1024
_LEVELS_MAX = 32
_CHARS_MAX = {"transaction_id": 128, "customer_id": 256, "event_type": 256}
_CUSTOMER_NAME = b'"customer_id"'
_CUSTOMER = re.compile(rb'[ \t\n\r]*:[ \t\n\r]*"([^"\\]+)"')
_MINUTES_MAX = 100_000  # texts of time remembered, some 150 bytes each


class UnreadableText:
    """A number that no rule reads."""

    def __str__(self) -> str:
        return "a number outside C04"


class Plain(NamedTuple):
    """An event, taken apart. at: its event time in nanoseconds since 1970 UTC.

    Numbers are Decimal; those of read_quickly() are int where no point or exponent is written.
    """

    transaction_id: str
    customer_id: str
    event_type: str
    at: int
    properties: dict[str, Any]
    context: dict[str, Any]


class NotCounted(Exception):
    """Why a record is rejected; its only argument is the reason."""


class Void(NotCounted):
    """The record is no event: it takes an earlier one back.

    original, partition, offset: what it names; None where it does not say so. event: what counts
    instead, of an amend; it has the transaction_id of the original. told: its kind, and its reason
    if it has one.
    """

    def __init__(self, body: dict[str, Any]) -> None:
        super().__init__("void")
        self.transaction_id: str = body["transaction_id"]
        self.customer_id: str = body["customer_id"]
        self.original: str | None = None
        self.partition: int | None = None
        self.offset: int | None = None
        self.event: Plain | None = None
        reason = body.get("reason")
        self.told: tuple[str, str | None] = (
            body["kind"],
            reason if isinstance(reason, str) else None,
        )
        voids = body.get(_NAMING[body["kind"]])
        if not isinstance(voids, dict) or not isinstance(voids.get("transaction_id"), str):
            return
        at = voids.get("at")
        found = _PLACE.match(at) if isinstance(at, str) and not at.endswith("\n") else None
        if found is not None:
            self.original = voids["transaction_id"]
            self.partition, self.offset = int(found[1]), int(found[2])

    def instead(self, event: dict[str, Any] | None, at: int) -> None:
        """Take what an amend says of its original; None: it is none."""
        if event is None:
            return
        self.event = Plain(
            self.original or "",
            self.customer_id,
            event["event_type"],
            at,
            event.get("properties") or {},
            event.get("context") or {},
        )


def read_number(text: str) -> Decimal | None:
    """Read decimal text by C04."""
    match = _NUMBER.match(text)
    if match is None or len(text) > 64 or text.endswith("\n"):
        return None
    exponent = match["exponent"]
    if exponent is not None and not -64 <= int(exponent) <= 64:
        return None
    return Decimal(text)


def _number_token(text: str) -> Any:
    value = read_number(text)
    return UnreadableText() if value is None else value


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def _look_inside(value: Any, depth: int) -> None:
    """Walk a JSON value: too deep, or a text that no UTF-8 can hold."""
    if isinstance(value, str):
        value.encode("utf-8")
    if isinstance(value, dict):
        for name in value:
            name.encode("utf-8")
    if isinstance(value, dict | list):
        if depth > _LEVELS_MAX:
            raise NotCounted("too_deep")
        for item in value.values() if isinstance(value, dict) else value:
            _look_inside(item, depth + 1)


def read_event(value: bytes | None) -> Plain:
    """Return the event of a record's value.

    Raises:
        NotCounted: with the reason. Void: it is a correction.
    """
    if value is None or value == b"":
        raise NotCounted("empty")
    if len(value) > _BYTES_MAX:
        raise NotCounted("too_large")
    try:
        body = json.loads(
            str(value, "utf-8"),
            parse_int=_number_token,
            parse_float=_number_token,
            parse_constant=_no_constant,
        )
    except RecursionError:
        raise NotCounted("too_deep") from None
    except ValueError:
        raise NotCounted("not_json") from None
    try:
        _look_inside(body, 1)
    except UnicodeEncodeError:
        raise NotCounted("not_json") from None
    if not isinstance(body, dict):
        raise NotCounted("not_an_event")
    kind = body.get("kind")
    is_void = isinstance(kind, str) and kind in _NAMING
    members = [name for name in MEMBERS if not is_void or name != "event_type"]
    for name in members:
        if not isinstance(body.get(name), str):
            raise NotCounted("not_an_event")
    if is_void:
        _check_names(body, members[:2])
        void, event = Void(body), body.get("event")
        if kind == "amend":
            _check_amended(event)
        void.instead(event if kind == "amend" else None, read_time(body["timestamp"]))
        raise void
    for name in ("properties", "context"):
        if body.get(name) is not None and not isinstance(body[name], dict):
            raise NotCounted("not_an_event")
    if body.get("kind") is not None and body["kind"] != "usage":
        raise NotCounted("unknown_kind")
    _check_names(body, members[:3])
    at = read_time(body["timestamp"])
    transaction_id, customer_id, event_type = (body[name] for name in MEMBERS[:3])
    properties, context = body.get("properties") or {}, body.get("context") or {}
    return Plain(transaction_id, customer_id, event_type, at, properties, context)


def _check_amended(event: Any) -> None:
    """Raise NotCounted where an amend does not say an event."""
    if not isinstance(event, dict) or not isinstance(event.get("event_type"), str):
        raise NotCounted("not_an_event")
    if not event.keys() <= {"event_type", "properties", "context"}:
        raise NotCounted("not_an_event")
    for name in ("properties", "context"):
        if event.get(name) is not None and not isinstance(event[name], dict):
            raise NotCounted("not_an_event")
    _check_names(event, ["event_type"])


def _check_names(body: dict[str, Any], names: list[str]) -> None:
    """Raise NotCounted where texts cannot be the names of an event."""
    for name in names:
        if body[name] == "" or len(body[name]) > _CHARS_MAX[name]:
            raise NotCounted("not_an_event")


def read_time(text: str) -> int:
    """Return a time stamp as nanoseconds since 1970 UTC."""
    match = _TIME.match(text)
    if match is None or text.endswith("\n"):
        raise NotCounted("invalid_timestamp")
    try:
        moment = datetime.strptime(f"{match['date']} {match['time']}", "%Y-%m-%d %H:%M:%S")  # noqa: DTZ007
    except ValueError:
        raise NotCounted("invalid_timestamp") from None
    seconds = timegm(moment.timetuple())
    zone = match["zone"]
    if zone not in {"Z", "z"}:
        hours, minutes = int(zone[1:3]), int(zone[4:6])
        if hours > 23 or minutes > 59:
            raise NotCounted("invalid_timestamp")
        seconds -= int(zone[0] + "1") * (hours * 60 + minutes) * 60
    part = ((match["part"] or "") + "000000000")[:9]
    return seconds * 10**9 + int(part)


# -- the same, quickly --------------------------------------------------------------------------


class _Read(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What most records are. Whatever is not exactly this is read_event's."""

    transaction_id: str
    customer_id: str
    event_type: str
    timestamp: str
    properties: dict[str, Any] = msgspec.field(default_factory=dict)
    context: dict[str, Any] = msgspec.field(default_factory=dict)
    kind: str = "usage"


_read = msgspec.json.Decoder(_Read, float_hook=_number_token).decode
_NOT_READ = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_minutes: dict[str, int] = {}


def read_quickly(value: bytes | None) -> Plain | None:
    """Return the event of a record's value; None where read_event() must decide.

    Raises:
        NotCounted: nothing is wrong but the time stamp.
    """
    if not value or len(value) > _BYTES_MAX:
        return None
    # No more brackets than levels allowed: then it cannot be nested too deeply.
    if value.count(b"{") + value.count(b"[") > _LEVELS_MAX:
        return None
    try:
        found = _read(value)
    except _NOT_READ:
        return None
    whose, named, kind = found.customer_id, found.transaction_id, found.event_type
    if not (whose and named and kind) or found.kind != "usage":
        return None
    if len(whose) > 256 or len(named) > 128 or len(kind) > 256:
        return None
    at = _time_of(found.timestamp)
    return Plain(named, whose, kind, at, found.properties, found.context)


def _time_of(text: str) -> int:
    """What read_time() says; it is asked once for every minute and zone."""
    if len(text) == 24 and text[19] == "." and text[23] == "Z":  # as most clients write it
        part, zone = text[20:23] + "000000", "Z"
    else:
        match = _TIME.fullmatch(text)
        if match is None:
            raise NotCounted("invalid_timestamp")
        part, zone = ((match["part"] or "") + "000000000")[:9], match["zone"]
    seconds = text[17:19]
    minute = text[:17] + zone
    known = _minutes.get(minute)
    if known is None:
        known = read_time(f"{text[:17]}00{zone}")
        if len(_minutes) >= _MINUTES_MAX:
            _minutes.clear()
        _minutes[minute] = known
    digits = seconds + part
    if not (digits.isdigit() and digits.isascii()) or seconds > "59":
        raise NotCounted("invalid_timestamp")
    return known + int(digits)


def customer_in(value: bytes | None) -> bytes | None:
    """Return the customer of a record's value in UTF-8, without reading the rest; None: unsure.

    It is right for every event that counts: the text `"customer_id"` stands in it once, and with
    no character spelt by number nothing else can be that name. A value that is no event may get
    any customer or none.
    """
    if value is None:
        return None
    at = value.find(_CUSTOMER_NAME)
    if at < 0 or value.find(_CUSTOMER_NAME, at + 13) >= 0 or b"\\u00" in value:
        return None
    found = _CUSTOMER.match(value, at + 13)
    return None if found is None else found[1]
