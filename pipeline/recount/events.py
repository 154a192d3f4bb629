"""Bytes of the log → a plain event, or the reason why it is none. One record, no shortcuts."""

import json
import re
from calendar import timegm
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

_NUMBER = re.compile(
    r"^[+-]?([0-9]+(\.[0-9]+)?|\.[0-9]+)([eE](?P<exponent>[+-]?[0-9]+))?$", re.ASCII
)
_TIME = re.compile(
    r"^(?P<date>\d{4}-\d\d-\d\d)[Tt](?P<time>\d\d:\d\d:\d\d)(\.(?P<part>\d+))?"
    r"(?P<zone>[Zz]|[+-]\d\d:\d\d)$",
    re.ASCII,
)
MEMBERS = ("transaction_id", "customer_id", "event_type", "timestamp")


class UnreadableText:
    """A number that no rule reads."""

    def __str__(self) -> str:
        return "a number outside C04"


class Plain(NamedTuple):
    """An event, taken apart. at: its event time in nanoseconds since 1970 UTC."""

    transaction_id: str
    customer_id: str
    event_type: str
    at: int
    properties: dict[str, Any]
    context: dict[str, Any]


class NotCounted(Exception):
    """Why a record is rejected; its only argument is the reason."""


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
        if depth > 32:
            raise NotCounted("too_deep")
        for item in value.values() if isinstance(value, dict) else value:
            _look_inside(item, depth + 1)


def read_event(value: bytes | None) -> Plain:
    """Return the event of a record's value.

    Raises:
        NotCounted: with the reason.
    """
    if value is None or value == b"":
        raise NotCounted("empty")
    if len(value) > 1024 * 1024:
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
    for name in MEMBERS:
        if not isinstance(body.get(name), str):
            raise NotCounted("not_an_event")
    for name in ("properties", "context"):
        if body.get(name) is not None and not isinstance(body[name], dict):
            raise NotCounted("not_an_event")
    if body.get("kind") is not None and body["kind"] != "usage":
        raise NotCounted("unknown_kind")
    for name in MEMBERS[:3]:
        if body[name] == "":
            raise NotCounted("not_an_event")
    for name, most in (("transaction_id", 128), ("customer_id", 256), ("event_type", 256)):
        if len(body[name]) > most:
            raise NotCounted("not_an_event")
    at = read_time(body["timestamp"])
    transaction_id, customer_id, event_type = (body[name] for name in MEMBERS[:3])
    properties, context = body.get("properties") or {}, body.get("context") or {}
    return Plain(transaction_id, customer_id, event_type, at, properties, context)


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
