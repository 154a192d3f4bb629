"""Which time a period is: 2026-11 a month, 2026-11-05 a day, 2026-11-05T13 an hour, of a zone."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final, NamedTuple

from ..control.entities import Revision
from ..core.windows import RefusedPeriod, Window, WindowSize, first_instant, windows, zone_of
from ..errors import ConflictError, UnknownNameError, UsageError

_PERIOD: Final = re.compile(r"(\d{4})-(\d{2})(?:-(\d{2})(?:T(\d{2}))?)?", re.ASCII)
_DAY: Final = timedelta(days=1)
Periods = Mapping[tuple[str, str], list[Revision]]


class Period(NamedTuple):
    """A period that can be closed. name: as it was given."""

    name: str
    timezone: str
    window: Window


def period_of(name: str, timezone: str, bucket_s: int) -> Period:
    """Return the period of a name.

    Raises:
        UsageError: it is none, or the base bucket cannot serve it.
    """
    match = _PERIOD.fullmatch(name)
    if match is None:
        raise UsageError(
            f"{name[:80]!r} is no period such as 2026-11, 2026-11-05 or 2026-11-05T13"
        )
    year, month, day, hour = (None if part is None else int(part) for part in match.groups())
    assert year is not None
    assert month is not None
    try:
        zone = zone_of(timezone)
        if hour is not None and day is not None:
            opens = datetime(year, month, day, hour, tzinfo=zone).astimezone(UTC)
            if opens.astimezone(zone).hour != hour or opens != _later(opens, zone):
                raise UsageError(f"{name}: the clocks of {timezone} change in this hour")
            window = Window(opens, opens + timedelta(hours=1))
        elif day is not None:
            first = date(year, month, day)
            window = Window(first_instant(first, zone), first_instant(first + _DAY, zone))
        else:
            first = date(year, month, 1)
            after = (first.replace(day=28) + timedelta(days=4)).replace(day=1)
            window = Window(first_instant(first, zone), first_instant(after, zone))
        windows(*window, size=WindowSize.NONE, zone=zone, bucket_s=bucket_s)
    except (RefusedPeriod, ValueError, OverflowError) as error:
        raise UsageError(f"{name}: {error}") from error
    return Period(name, timezone, window)


def _later(opens: datetime, zone: object) -> datetime:
    """The same local hour, the second time it comes; the same moment where it comes once."""
    local = opens.astimezone(zone)  # type: ignore[arg-type]  # a ZoneInfo
    return local.replace(fold=1).astimezone(UTC)


def numbered(text: str) -> tuple[str, int | None]:
    """Read PERIOD or PERIOD#REVISION.

    Raises:
        UsageError: what is behind # is no number.
    """
    name, mark, number = text.partition("#")
    if mark and (not number.isascii() or not number.isdigit() or not int(number)):
        raise UsageError(f"{text[:80]!r}: behind # stands the number of a revision, from 1 on")
    return name, int(number) if mark else None


def check_unclosed(periods: Periods, at: datetime) -> None:
    """Refuse a correction of an event whose time lies in a closed period.

    Raises:
        ConflictError: it does, and numbers of that period would change in its next revision.
    """
    found = [
        f"{name} ({zone})"
        for (name, zone), known in sorted(periods.items())
        if known and known[-1].starting_on <= at < known[-1].ending_before
    ]
    if found:
        raise ConflictError(
            f"the event is of {found[0]}, which is closed: say that its next revision may show "
            'the change (--revise, "revise": true)'
        )


def revisions_of(periods: Periods, text: str, timezone: str) -> list[Revision]:
    """Return the revisions of a closed period, up to the one that was asked for.

    Raises:
        UnknownNameError: the period is not closed, or has no such revision.
    """
    name, number = numbered(text)
    found = periods.get((name, timezone), [])
    if not found:
        others = sorted(zone for period, zone in periods if period == name)
        hint = f"; it is closed in {', '.join(others)}: give --timezone" if others else ""
        raise UnknownNameError(f"the period {name} is not closed in {timezone}{hint}")
    if number is not None and number > len(found):
        raise UnknownNameError(f"the period {name} has {len(found)} revisions, not {number}")
    return found if number is None else found[:number]
