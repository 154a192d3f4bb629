"""JSON numbers that no decimal holds: refused where JSON is read, alike on both ways of ingest."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from definitions.errors import DefinitionError
from definitions.events import translate
from definitions.events.common import Arrival
from definitions.formats import metronome
from definitions.formats.bodies import parse_json
from pipeline.doors.metronome.verbatim import verbatim

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ARRIVAL = Arrival(NOW, new_id=lambda: "new")
DAY = timedelta(days=1)
MONSTERS = ("1e99999999999999999999", "-1.5E+99999999999999999999", "0e-99999999999999999999")
HUGE = ("1e999999999999999999", "1e-999999999999999999", "-1e999999999", "9" * 5_000, "1e400")


@pytest.mark.parametrize("number_text", MONSTERS)
def test_a_number_that_no_decimal_holds_is_refused(number_text: str) -> None:
    """Valid JSON, but no number that can be read: told by its rule, anywhere in a body."""
    for text in (number_text, f'{{"a":{number_text}}}', f'[[{{"a":[{number_text}]}}]]'):
        with pytest.raises(DefinitionError, match="exponent"):
            parse_json(text)


@pytest.mark.parametrize("number_text", HUGE)
def test_a_number_that_a_decimal_holds_is_read(number_text: str) -> None:
    """However large it is, it keeps its digits; who uses it says what it is worth (C04)."""
    assert parse_json(number_text) == Decimal(number_text)


@pytest.mark.parametrize("number_text", [*MONSTERS, *HUGE])
def test_the_fast_way_takes_nothing_that_the_other_refuses(number_text: str) -> None:
    """An event with such a number has one fate, whatever its neighbours hold."""
    event = (
        '[{"transaction_id":"1234567890123456789","customer_id":"c","event_type":"e",'
        f'"timestamp":"2026-03-01T11:00:00Z","properties":{{"n":{number_text}}}}}]'
    )
    taken = verbatim(event.encode(), ARRIVAL) is not None
    try:
        translated = bool(translate("metronome", parse_json(event), ARRIVAL))
    except DefinitionError:
        translated = False
    assert translated or not taken
    assert taken or "e400" not in number_text  # what is only large stays on the fast way


@pytest.mark.parametrize("number_text", HUGE)
def test_a_time_of_statsig_may_be_any_number(number_text: str) -> None:
    """A time outside the calendar is refused by its rule; a tiny one is 1970."""
    body = parse_json(f'{{"events":[{{"eventName":"e","time":{number_text}}}]}}')
    if number_text.startswith("1e-"):
        assert translate("statsig", body, ARRIVAL)[0]["timestamp"] == "1970-01-01T00:00:00Z"
        return
    with pytest.raises(DefinitionError, match="time is Unix milliseconds"):
        translate("statsig", body, ARRIVAL)


@pytest.mark.parametrize(
    "where",
    [
        "n > 1e99999999999999999999",
        "n > -1e999999999",
        "n = " + "9" * 5_000,
        " AND ".join(f"properties.a{number} = 'x'" for number in range(3_000)),
        "n = 1 GROUP BY " + "9" * 5_000,
    ],
)
def test_sql_that_goes_too_far_is_kept_with_a_reason(where: str) -> None:
    """Numbers that no event can have, and conditions without end: accepted, unsupported (C07)."""
    sql = f"SELECT SUM(properties.n) AS value FROM events WHERE {where}"
    try:
        _, definition = metronome.parse(json.dumps({"name": "x", "sql": sql}))
    except DefinitionError:
        return  # beyond the limits of a definition
    assert not definition.computable
    assert definition.reasons


def test_a_negative_literal_keeps_its_digits() -> None:
    """Sixty digits are compared as sixty digits."""
    digits = "1234567890" * 6
    sql = f"SELECT SUM(properties.n) AS value FROM events WHERE properties.n = -{digits}"
    _, definition = metronome.parse(json.dumps({"name": "x", "sql": sql}))
    assert f"-{digits}" in definition.model_dump_json(exclude={"origin"})
