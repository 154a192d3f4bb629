"""RFC 3339 text ↔ instants; event time is whole nanoseconds since 1970 UTC."""

import calendar
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Final

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
NS_PER_DAY: Final = 86_400 * NS_PER_S
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
# RFC 3339 with four digits of year and an offset (docs/formats.md 3.4); digits past the ninth of a
# second are cut, because no clock sends them.
_MINUTE: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}):([0-9]{2})")
_REST: Final = re.compile(r"(?:\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))")
_MINUTE_CHARS: Final = 16  # 2026-03-01T11:30
_SECOND_CHARS: Final = 19  # 2026-03-01T11:30:05
_REST_CHARS: Final = 10  # .123+02:00
_FRACTION_DIGITS: Final = 9
# What people write instead: a date, a time with a space, without seconds, or without an offset.
_NEARLY: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[Tt ]([0-9]{2}):([0-9]{2})(:[0-9]{2}(?:\.[0-9]+)?)?)?(.*)"
)
_SECONDS: Final = {f":{second:02}": second * NS_PER_S for second in range(60)}


def parse_timestamp(text: str) -> int | None:
    """Return an RFC 3339 time as nanoseconds since 1970 UTC, or None where it is none.

    A leap second (:60) is none: no instant of ours stands for it.
    """
    return parse_timestamps([text])[0]


def parse_timestamps(texts: Sequence[str]) -> list[int | None]:
    """Return what parse_timestamp() says of each of many texts.

    Seconds that were read lately are remembered, and so are fractions with an offset.
    """
    try:
        return [
            _SECONDS_NS[text[:_SECOND_CHARS]] + _RESTS_NS[text[_SECOND_CHARS:]] for text in texts
        ]
    except _NoTime:
        return [None] if len(texts) == 1 else [parse_timestamp(text) for text in texts]


class _NoTime(Exception):
    """A part of a text is no part of a time."""


class _Remembered(dict[str, int]):
    """Parts of texts and their nanoseconds, made when they are asked for.

    Raises:
        _NoTime: there are none.
    """

    def __init__(self, read: Callable[[str], int | None], size_max: int, chars_max: int) -> None:
        super().__init__()
        self._read = read
        self._size_max = size_max
        self._chars_max = chars_max

    def __missing__(self, part: str) -> int:
        found = self._read(part)
        if found is None:
            raise _NoTime
        if len(part) <= self._chars_max:
            if len(self) >= self._size_max:
                self.clear()
            self[part] = found
        return found


def _second_ns(text: str) -> int | None:
    """`2026-03-01T11:30:05` as nanoseconds since 1970."""
    minute_ns, second_ns = _minute_ns(text[:_MINUTE_CHARS]), _SECONDS.get(text[_MINUTE_CHARS:])
    return None if minute_ns is None or second_ns is None else minute_ns + second_ns


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


def _rest_ns(text: str) -> int | None:
    """`.123+02:00` as nanoseconds to add to the second."""
    match = _REST.fullmatch(text)
    if match is None:
        return None
    fraction, sign, offset_h, offset_m = match.groups()
    ns = int((fraction or "0")[:_FRACTION_DIGITS].ljust(_FRACTION_DIGITS, "0"))
    if sign is not None:
        away_h, away_m = int(offset_h), int(offset_m)
        if away_h > 23 or away_m > 59:
            return None
        away = (away_h * 60 + away_m) * 60 * NS_PER_S
        ns += away if sign == "-" else -away
    return ns


def why_no_time(text: str) -> str:
    """Say what keeps a text from being an RFC 3339 time, and show one that is."""
    found = _NEARLY.fullmatch(text.strip())
    if found is None:
        return f"{text!r} is not RFC 3339 with an offset, like 2026-11-01T00:00:00Z"
    year, month, day = int(found[1]), int(found[2]), int(found[3])
    if not (year and 1 <= month <= 12):
        return f"{text!r} has no such month: there are 12, and years begin with 0001"
    days = calendar.monthrange(year, month)[1]
    if not 1 <= day <= days:
        return f"{text!r} does not exist: {calendar.month_name[month]} {year} has {days} days"
    at = f"{found[4] or '00'}:{found[5] or '00'}{found[6] or ':00'}"
    if at[:2] > "23" or at[3:5] > "59" or at[6:8] > "59":
        return f"{text!r} has no such time of day: hours end at 23, minutes and seconds at 59"
    offset = found[7] if _REST.fullmatch(found[7]) else "Z"
    shown = f"{found[1]}-{found[2]}-{found[3]}T{at}{offset}"
    if parse_timestamp(shown) is None:
        shown = "2026-11-01T00:00:00Z"
    return f"{text!r} is not RFC 3339 with an offset, like {shown}"


_SECONDS_NS: Final = _Remembered(_second_ns, 1 << 13, _SECOND_CHARS)
_RESTS_NS: Final = _Remembered(_rest_ns, 1 << 14, _REST_CHARS)


def rfc3339(moment: datetime) -> str:
    """Return the one text of an instant: UTC, `Z`, no fraction where it is zero."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
