"""What the page decides by itself: sessions, cells of a CSV, periods of a form, rates."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.doors.page.periods import period_of
from pipeline.doors.page.sessions import SESSION_S, Sessions
from pipeline.doors.page.showing import ASSETS, asset, decimal, moment, wall
from pipeline.doors.page.trend import Trend
from pipeline.doors.page.usage import safe_cell
from pipeline.errors import BadParameter

NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)


def test_a_cookie_is_opened_until_its_time_and_by_nobody_else() -> None:
    """The seal, the time and the end of a session each close it; nothing else opens."""
    sessions = Sessions()
    cookie = sessions.begin("k1", 1_000)
    session = sessions.opened(cookie, 1_000 + SESSION_S - 1)

    assert session is not None
    assert session.key_id == "k1"
    assert sessions.opened(cookie, 1_000 + SESSION_S) is None
    assert Sessions().opened(cookie, 1_000) is None
    for strange in ("", "x", cookie[:-4], f"{cookie[:-1]}!", cookie + "=", "é", "B" * 999):
        assert sessions.opened(strange, 1_000) is None, strange
    sessions.end(session, 1_000)
    assert sessions.opened(cookie, 1_000) is None


def test_servers_with_one_secret_open_each_others_sessions() -> None:
    """The first secret seals, each one opens: so secrets can be changed while servers run."""
    old, both = Sessions([b"a" * 32]), Sessions([b"b" * 32, b"a" * 32])
    session = both.opened(old.begin("k", 0), 1)

    assert session is not None
    assert both.is_token(session, old.token(session))
    assert old.opened(both.begin("k", 0), 1) is None


def test_a_token_is_of_one_session() -> None:
    """The token of another session, and a text that is none, are refused."""
    sessions = Sessions()
    first, second = (sessions.opened(sessions.begin("k", 0), 1) for _ in range(2))

    assert first is not None
    assert second is not None
    assert sessions.is_token(first, sessions.token(first))
    assert not sessions.is_token(first, sessions.token(second))
    assert not sessions.is_token(first, "ü")


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("@x", "'@x"),
        ("-a", "'-a"),
        ("\tx", "'\tx"),
        ("-5.25", "-5.25"),
        ("a=b", "a=b"),
        (None, ""),
        (True, "true"),
    ],
)
def test_no_cell_is_a_formula(value: Any, cell: str) -> None:
    """What a spreadsheet would compute gets an apostrophe; a number stays one."""
    assert safe_cell(value) == cell


@pytest.mark.parametrize(
    ("form", "low", "high"),
    [
        ({}, "2026-03-23T00:00:00Z", "2026-03-30T00:00:00Z"),
        (
            {"timezone": "Europe/Berlin", "from": "2026-03-29T00:00", "to": "2026-03-30T00:00"},
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
        ),
        ({"from": "2026-03-29", "to": "x"}, "2026-03-29T00:00:00Z", "x"),
        # Midnight was skipped there: the day begins at one o'clock.
        (
            {"timezone": "America/Havana", "from": "2026-03-08T00:00", "to": "2026-03-09T00:00"},
            "2026-03-08T05:00:00Z",
            "2026-03-09T04:00:00Z",
        ),
    ],
)
def test_a_period_is_of_its_zone(form: Mapping[str, str], low: str, high: str) -> None:
    """Wall-clock times are those of the zone; what is no time is left for the query to judge."""
    period = period_of(form, NOW)

    assert (period.starting_on, period.ending_before) == (low, high)


@pytest.mark.parametrize("form", [{"timezone": "Mars"}, {"from": "2026-02-30T00:00"}])
def test_a_period_that_is_none_is_refused(form: Mapping[str, str]) -> None:
    """The refusal names the field."""
    with pytest.raises(BadParameter, match=next(iter(form))):
        period_of(form, NOW)


def total(counted: int, lag: int | None = 0) -> dict[str, Any]:
    """The total of a status."""
    others = dict.fromkeys(("unmatched", "duplicate", "rejected", "corrected"), 0)
    return {"counted": counted, **others, "lag": lag}


def test_rates_are_of_two_looks_and_begin_again_with_a_rebuild() -> None:
    """Events a second follow from the sums; a sum that went back begins the curves anew."""
    trend = Trend()
    trend._add(total(10), 5.0)
    assert trend.per_s is None
    trend._add(total(40), 8.0)
    assert trend.per_s == 10
    assert trend.points()["counted"] == [10.0]
    trend._add(total(1, None), 11.0)
    assert trend.per_s is None
    assert trend.points()["x"] == []


def test_numbers_keep_every_digit() -> None:
    """Thousands are apart and nothing is rounded; moments lose only their zone."""
    assert decimal("-1234567.8901234567890123") == "-1,234,567.8901234567890123"
    assert (decimal("1E+30"), decimal(None)) == ("1E+30", "\N{EN DASH}")
    assert moment("2026-03-29T01:02:03.5Z") == "2026-03-29 01:02:03"
    assert wall("2026-03-29T00:00:00Z", "Asia/Kathmandu") == "2026-03-29 05:45 +0545"


def test_every_file_of_the_page_is_there() -> None:
    """Each is served, and no other name is looked for."""
    assert all(asset(name).status_code == 200 for name in ASSETS)
    with pytest.raises(Exception, match="no file"):
        asset("../routes.py")
