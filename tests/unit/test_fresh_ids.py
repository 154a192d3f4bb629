"""Ids of new metrics: Klaviyo's look as on its page, in the order in which they were made."""

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

from pipeline.control.fresh_ids import fresh_id

AT = datetime(2026, 11, 30, 15, tzinfo=UTC)


def test_klaviyos_metrics_have_klaviyos_ids() -> None:
    """26 characters that begin with the time, as `01J2EZE52CT203GP5BGJPP9H5A`; no two equal."""
    made = [fresh_id("klaviyo", AT + timedelta(milliseconds=each)) for each in range(1_000)]

    assert all(re.fullmatch("[0-7][0-9A-HJKMNP-TV-Z]{25}", each) for each in made)
    assert made == sorted(made)
    assert len({fresh_id("klaviyo", AT) for _ in range(1_000)}) == 1_000
    page = datetime.fromtimestamp(1720637133900 / 1000, UTC)  # when the page's metric was made
    assert fresh_id("klaviyo", page).startswith("01J2EZE52")


def test_other_metrics_have_uuids() -> None:
    """Metronome's clients ask for a UUID."""
    for name in ("metronome", "statsig"):
        made = fresh_id(name, AT)
        assert str(UUID(made)) == made
