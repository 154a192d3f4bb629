"""Event time → base bucket; event time and log clock → in time, too old, too far ahead.

Rule 1: event time is whole nanoseconds since 1970 UTC, so a seventh digit still orders readings.
Rule 2: age is judged by the log clock, never by a wall clock: a replay judges alike (DESIGN 2).
"""

import re
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
NS_PER_DAY: Final = 86_400 * NS_PER_S
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# RFC 3339 with four digits of year and an offset (FORMATS 3.4); digits past the ninth of a
# second are cut, because no clock sends them.
_MINUTE: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}):([0-9]{2})")
_REST: Final = re.compile(r":([0-9]{2})(?:\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))")
_MINUTE_CHARS: Final = 16
_REMEMBERED_CHARS_MAX: Final = 64


def parse_timestamp(text: str) -> int | None:
    """Return an RFC 3339 time as nanoseconds since 1970 UTC, or None where it is none.

    A leap second (:60) is none: no instant of ours stands for it. The two halves are remembered
    apart: neighbouring events share their minute, and most share their fraction and offset.
    """
    # What is long is read, but not remembered: a cache of megabytes would be a gift to a fool.
    read_rest = _rest_ns if len(text) <= _REMEMBERED_CHARS_MAX else _rest_ns.__wrapped__
    minute, rest = _minute_ns(text[:_MINUTE_CHARS]), read_rest(text[_MINUTE_CHARS:])
    return None if minute is None or rest is None else minute + rest


@lru_cache(maxsize=1 << 15)
def _minute_ns(text: str) -> int | None:
    """`2026-03-01T11:30` as nanoseconds since 1970."""
    match = _MINUTE.fullmatch(text)
    if match is None:
        return None
    day, hour, minute = match.groups()
    hours, minutes = int(hour), int(minute)
    if hours > 23 or minutes > 59:
        return None
    try:
        days = date.fromisoformat(day).toordinal() - _EPOCH_DAY
    except ValueError:
        return None
    return days * NS_PER_DAY + (hours * 60 + minutes) * 60 * NS_PER_S


@lru_cache(maxsize=1 << 17)
def _rest_ns(text: str) -> int | None:
    """`:05.25+02:00` as nanoseconds to add to the minute."""
    match = _REST.fullmatch(text)
    if match is None:
        return None
    second, fraction, sign, offset_h, offset_m = match.groups()
    if int(second) > 59:
        return None
    ns = int(second) * NS_PER_S
    if fraction is not None:
        ns += int(fraction[:9].ljust(9, "0"))
    if sign is not None:
        away_h, away_m = int(offset_h), int(offset_m)
        if away_h > 23 or away_m > 59:
            return None
        away = (away_h * 60 + away_m) * 60 * NS_PER_S
        ns += away if sign == "-" else -away
    return ns


def ns_of(moment: datetime) -> int:
    """Return an aware datetime as nanoseconds since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def moment_of(ns: int) -> datetime:
    """Return nanoseconds since 1970 as an aware UTC datetime, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=ns // 1000)


def rfc3339(moment: datetime) -> str:
    """Return the one text of an instant: UTC, `Z`, no fraction where it is zero."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def bucket_of(event_ns: int, bucket_s: int) -> int:
    """Return the number of the base bucket of an event time; negative before 1970."""
    return event_ns // (bucket_s * NS_PER_S)


def ceil_to_bucket(moment: datetime, bucket_s: int) -> datetime:
    """Return the first base-bucket boundary at or after a moment (DESIGN 6: `now` rounds up)."""
    size = bucket_s * NS_PER_S
    return moment_of(-(-ns_of(moment) // size) * size)
