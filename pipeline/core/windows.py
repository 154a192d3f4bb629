"""The windows of a query: half-open, tumbling, in the query's zone, whole base buckets.

zone_of() reads a zone's name, windows() splits a period, opening_of() says where the window of a
moment begins, first_instant() where a local date begins. Example: a day of Europe/Berlin that the
clocks go forward in is one window of 23 hours.

Rule 1: a day runs from the first instant of its local date to the first instant of the next; of a
midnight that happens twice the first one opens the day. Weeks start on Monday (C14).
Rule 2: hours are the local full hours; an hour that happens twice is two windows.
Rule 3: what the base bucket cannot serve is refused with the reason, never rounded (C11, C13).
"""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, reset_tzpath

from definitions.times import NS_PER_S

from .buckets import ns_of, why_no_start

# The zone data of the locked `tzdata` package, not of this machine.
reset_tzpath(to=())

WINDOWS_MAX: Final = 100_000
_QUARTER: Final = timedelta(minutes=15)
_DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
_SLACK: Final = 1_000  # hours or dates that all changes of a zone together take away at most


class WindowSize(StrEnum):
    """How long a window is."""

    NONE = "none"
    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


# Longer than a window of the size can be; a zone may skip a whole date.
_LONGEST: Final = {
    WindowSize.HOUR: timedelta(hours=4),
    WindowSize.DAY: timedelta(days=3),
    WindowSize.WEEK: timedelta(days=9),
    WindowSize.MONTH: timedelta(days=33),
}


class Window(NamedTuple):
    """starting_on inclusive, ending_before exclusive, both UTC."""

    starting_on: datetime
    ending_before: datetime


class RefusedPeriod(ValueError):
    """A period or zone that cannot be answered exactly; the message says why."""


def zone_of(name: str) -> ZoneInfo:
    """Return an IANA zone.

    Raises:
        RefusedPeriod: no such zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise RefusedPeriod(f"{name!r} is not an IANA time zone") from error


def windows(
    starting_on: datetime,
    ending_before: datetime,
    *,
    size: WindowSize,
    zone: ZoneInfo,
    bucket_s: int,
) -> list[Window]:
    """Return the windows of a period, the first and the last cut to it; none if it is empty.

    Raises:
        RefusedPeriod: bounds or windows that are not whole base buckets, or too many of them.
    """
    if ending_before < starting_on:
        raise RefusedPeriod("ending_before is before starting_on")
    _refuse_unaligned((starting_on, ending_before), bucket_s, "the period's bound")
    if ending_before == starting_on:
        return []
    if size is WindowSize.NONE:
        return [Window(starting_on, ending_before)]
    widest = _WIDEST[size]
    if ending_before - starting_on > widest * (WINDOWS_MAX + _SLACK):
        raise _too_many()  # told from the length: nobody walks 8,000 years to refuse them
    try:
        return _spread(starting_on, ending_before, size, zone, bucket_s)
    except OverflowError as error:
        raise RefusedPeriod(
            f"the period touches the edge of the calendar in {zone.key}; ask for years 2 to 9998"
        ) from error


def _too_many() -> RefusedPeriod:
    return RefusedPeriod(f"more than {WINDOWS_MAX} windows; ask for a shorter period")


def _spread(
    starting_on: datetime,
    ending_before: datetime,
    size: WindowSize,
    zone: ZoneInfo,
    bucket_s: int,
) -> list[Window]:
    found = []
    opened = starting_on
    for boundary in _BOUNDARIES[size](starting_on, ending_before, zone):
        found.append(Window(opened, boundary))
        opened = boundary
        if len(found) >= WINDOWS_MAX:
            raise _too_many()
    found.append(Window(opened, ending_before))
    what = f"a {size} boundary of {zone.key}"
    _refuse_unaligned((window.starting_on for window in found), bucket_s, what)
    return found


def opening_of(moment: datetime, *, size: WindowSize, zone: ZoneInfo) -> datetime:
    """Return where the whole window of a size opens that holds a moment: at or before it.

    windows() cuts its first window to the period; this is where that one would begin.
    """
    if size is WindowSize.NONE:
        return moment
    try:
        since, until = moment - _LONGEST[size], moment + _SECOND
        return max(_BOUNDARIES[size](since, until, zone), default=moment)
    except OverflowError:
        return moment  # the calendar begins or ends here


def _refuse_unaligned(
    bounds: "Iterator[datetime] | tuple[datetime, ...]", bucket_s: int, what: str
) -> None:
    for bound in bounds:
        if ns_of(bound) % (bucket_s * NS_PER_S):
            why = why_no_start(ns_of(bound), bucket_s)
            raise RefusedPeriod(f"{what}, {bound.isoformat()}, {why}")


def _dates(
    starting_on: datetime,
    ending_before: datetime,
    zone: ZoneInfo,
    following: Callable[[date], date],
) -> Iterator[datetime]:
    """The first instants of local dates inside the period, each date named by following()."""
    day = following(starting_on.astimezone(zone).date() - _DAY)
    previous = starting_on
    while True:
        try:
            opens = first_instant(day, zone)
            day = following(day)
        except OverflowError:
            return
        if opens >= ending_before:
            return
        if opens > previous:  # a date that a zone skipped has no instant of its own
            yield opens
            previous = opens


def first_instant(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of a local date, UTC."""
    local = datetime.combine(day, time(), zone)
    opens = local.astimezone(UTC)
    if opens.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return opens
    # Midnight was skipped: the date begins where the clocks jumped, within the day before.
    low, high = opens - _DAY, opens
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        if middle.astimezone(zone).date() < day:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


def _next_day(day: date) -> date:
    return day + _DAY


def _next_monday(day: date) -> date:
    return day + timedelta(days=7 - day.weekday())


def _next_first(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)


def _hours(starting_on: datetime, ending_before: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    # Offsets since 1972 are whole quarters, so every local full hour is a quarter in UTC.
    moment = starting_on.replace(minute=0, second=0, microsecond=0)
    before = moment.astimezone(zone)
    while (moment := moment + _QUARTER) < ending_before:
        local = moment.astimezone(zone)
        opens = local.minute == 0 or (local.date(), local.hour) != (before.date(), before.hour)
        if opens and moment > starting_on:
            yield moment
        before = local


_WIDEST: Final = {
    WindowSize.HOUR: timedelta(hours=1),
    WindowSize.DAY: _DAY,
    WindowSize.WEEK: 7 * _DAY,
    WindowSize.MONTH: 31 * _DAY,
}
_BOUNDARIES: Final[dict[WindowSize, Callable[..., Iterator[datetime]]]] = {
    WindowSize.HOUR: _hours,
    WindowSize.DAY: lambda start, end, zone: _dates(start, end, zone, _next_day),
    WindowSize.WEEK: lambda start, end, zone: _dates(start, end, zone, _next_monday),
    WindowSize.MONTH: lambda start, end, zone: _dates(start, end, zone, _next_first),
}
