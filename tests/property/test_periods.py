"""Windows of a query: they tile the period, and a day is a local day."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.windows import (
    RefusedPeriod,
    WindowSize,
    first_instant,
    opening_of,
    windows,
    zone_of,
)

ODD_MINUTES = {"America/St_Johns", "Canada/Newfoundland"}
ZONES = sorted(zone for zone in available_timezones() if "/" in zone)
QUARTERS = st.datetimes(  # naive bounds, as hypothesis wants them
    datetime(1975, 1, 1), datetime(2037, 1, 1)
).map(
    lambda moment: moment.replace(
        minute=moment.minute // 15 * 15, second=0, microsecond=0, tzinfo=UTC
    )
)


@given(QUARTERS, st.integers(0, 4000), st.sampled_from(list(WindowSize)), st.sampled_from(ZONES))
def test_windows_tile_the_period(
    opens: datetime, quarters: int, size: WindowSize, zone_name: str
) -> None:
    """Windows are not empty, adjoin, and cover just the period; days start on new local dates."""
    closes, zone = opens + timedelta(minutes=15 * quarters), zone_of(zone_name)
    try:
        found = windows(opens, closes, size=size, zone=zone, bucket_s=900)
    except RefusedPeriod:
        # St Johns changed its clocks at 00:01 until 2011, so midnight is passed by an hour's jump.
        assert zone_name in ODD_MINUTES
        return

    assert [window.starting_on for window in found] + [closes] == [opens][: len(found)] + [
        window.ending_before for window in found
    ] + ([closes] if not found else [])
    assert all(window.starting_on < window.ending_before for window in found)
    for window in found[1:] if size is WindowSize.DAY else ():
        local = window.starting_on.astimezone(zone)
        before = (window.starting_on - timedelta(minutes=15)).astimezone(zone)
        assert local.date() > before.date() or local.hour == 0


@given(QUARTERS, st.integers(0, 400), st.sampled_from(list(WindowSize)), st.sampled_from(ZONES))
def test_a_cut_window_opens_where_the_whole_one_does(
    begins: datetime, quarters: int, size: WindowSize, zone_name: str
) -> None:
    """Where the window of a moment opens is a bound of a longer period, and no later one is."""
    moment, zone = begins + timedelta(minutes=15 * quarters), zone_of(zone_name)

    opens = opening_of(moment, size=size, zone=zone)

    assert opens <= moment
    assert opening_of(opens, size=size, zone=zone) == opens
    if size is WindowSize.NONE or zone_name in ODD_MINUTES:
        return
    longer = windows(
        opens - timedelta(days=40), moment + timedelta(days=1), size=size, zone=zone, bucket_s=900
    )
    assert max(each.starting_on for each in longer if each.starting_on <= moment) == opens


@pytest.mark.parametrize(
    ("zone", "day", "opens"),
    [
        ("Europe/Berlin", "2024-03-31", "2024-03-30T23:00:00+00:00"),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00+00:00"),  # midnight is skipped
        ("America/Havana", "2024-11-03", "2024-11-03T04:00:00+00:00"),  # midnight comes twice
        ("America/Toronto", "1919-03-31", "1919-03-31T04:30:00+00:00"),  # 23:30 jumps to 00:30
        ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00:00+00:00"),  # the 30th does not exist
    ],
)
def test_first_instants(zone: str, day: str, opens: str) -> None:
    """A date begins with the first instant that a local clock shows it."""
    assert first_instant(date.fromisoformat(day), zone_of(zone)).isoformat() == opens


def test_an_hour_that_happens_twice_is_two_windows() -> None:
    """Berlin, 27 October 2024: 02:00 to 03:00 happens twice, so the day has 25 hours."""
    opens, closes = datetime(2024, 10, 26, 22, tzinfo=UTC), datetime(2024, 10, 27, 23, tzinfo=UTC)

    found = windows(
        opens, closes, size=WindowSize.HOUR, zone=zone_of("Europe/Berlin"), bucket_s=3600
    )

    assert len(found) == 25


@pytest.mark.parametrize(
    ("size", "count"), [("none", 1), ("hour", 744), ("day", 31), ("week", 5), ("month", 1)]
)
def test_sizes(size: str, count: int) -> None:
    """March 2026 in UTC, weeks from Monday (C14): it begins on a Sunday."""
    opens, closes = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)

    found = windows(opens, closes, size=WindowSize(size), zone=zone_of("UTC"), bucket_s=3600)

    assert len(found) == (6 if size == "week" else count)


def test_unaligned_bounds_are_refused() -> None:
    """Bounds off the base bucket are refused, and the reason names them (C11, C13)."""
    opens = datetime(2026, 3, 1, 0, 30, tzinfo=UTC)

    with pytest.raises(RefusedPeriod, match="base bucket of 60"):
        windows(
            opens,
            opens + timedelta(hours=1),
            size=WindowSize.NONE,
            zone=zone_of("UTC"),
            bucket_s=3600,
        )
