"""The period of a question as a form gives it: wall-clock time of the zone that it names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from definitions.times import rfc3339

from ...core.windows import RefusedPeriod, WindowSize, first_instant, zone_of
from ...errors import BadParameter

SIZES: Final = tuple(str(each) for each in WindowSize)
_WALL: Final = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d)?)?", re.ASCII)
_DAYS: Final = 7  # of a question that names no period


@dataclass(frozen=True, slots=True)
class AskedPeriod:
    """What a form says of time.

    from_, to: as the form shows them. starting_on, ending_before: the same as RFC 3339.
    """

    from_: str
    to: str
    starting_on: str
    ending_before: str
    timezone: str
    window_size: str


def period_of(form: Mapping[str, str], now: datetime) -> AskedPeriod:
    """Return the period of a form; the last seven days, by day, where it names none.

    Raises:
        BadParameter: a zone or a time that cannot be read.
    """
    timezone = form.get("timezone", "").strip() or "UTC"
    try:
        zone = zone_of(timezone)
    except RefusedPeriod as error:
        raise BadParameter("timezone", str(error)) from error
    midnight = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    from_ = form.get("from", "").strip() or _wall(midnight - timedelta(days=_DAYS - 1))
    to = form.get("to", "").strip() or _wall(midnight + timedelta(days=1))
    return AskedPeriod(
        from_,
        to,
        _instant("from", from_, zone),
        _instant("to", to, zone),
        timezone,
        form.get("window", "").strip() or "day",
    )


def _wall(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M")


def _instant(name: str, text: str, zone: ZoneInfo) -> str:
    """A wall-clock time of a zone as RFC 3339; any other text as it is, for Query.of to judge."""
    if _WALL.fullmatch(text) is None:
        return text
    try:
        wall = datetime.fromisoformat(text)
        if not wall.time():  # where midnight is skipped, the day begins later
            return rfc3339(first_instant(wall.date(), zone))
        return rfc3339(wall.replace(tzinfo=zone))
    except (ValueError, OverflowError) as error:
        raise BadParameter(name, f"{text!r}: {error}") from error
