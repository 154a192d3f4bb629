"""Ids have bounds, and everybody who reads an event knows the same ones."""

import json
from datetime import UTC, datetime

import pytest

from definitions.errors import DefinitionError
from definitions.events import translate
from definitions.events.common import Arrival
from pipeline.core.event import Event, decode_slowly, decoder_for
from pipeline.core.reasons import Reason, Rejected
from pipeline.doors.metronome.verbatim import verbatim
from pipeline.recount.events import NotCounted, read_event

from ..recount import usable

BOUNDS = {"transaction_id": 128, "customer_id": 256, "event_type": 256}
ARRIVAL = Arrival(datetime(2026, 3, 1, 12, tzinfo=UTC), new_id=lambda: "new")


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600"])
@pytest.mark.parametrize(("name", "most"), BOUNDS.items())
def test_all_readers_have_the_same_bounds(name: str, most: int, letter: str) -> None:
    """The longest id is an event to all of them, one character more is not_an_event to all."""
    event = {
        "transaction_id": "t",
        "customer_id": "c",
        "event_type": "e",
        "timestamp": "2026-03-01T11:00:00Z",
        "properties": {},
    }
    for length, is_event in ((most, True), (most + 1, False)):
        body = {**event, name: letter * length}
        for ascii_only in (True, False):
            value = json.dumps(body, ensure_ascii=ascii_only).encode()

            found = [
                decode_slowly(value),
                decoder_for(frozenset(), context=False).decode(value),
                *decoder_for(frozenset({"a"}), context=True).decode_all([value]),
            ]
            assert [isinstance(each, Event) for each in found] == [is_event] * 3
            for each in found if not is_event else ():
                assert isinstance(each, Rejected)
                assert each.reason is Reason.NOT_AN_EVENT
                assert each.detail == f"{name} has {length} characters, at most {most}"
            assert (usable(value) is not None) == is_event
            if is_event:
                read_event(value)
                assert translate("metronome", [body], ARRIVAL) == [body]
            else:
                with pytest.raises(NotCounted):
                    read_event(value)
                with pytest.raises(DefinitionError, match=f"{name} has at most {most}"):
                    translate("metronome", [body], ARRIVAL)
                assert verbatim(b"[" + value + b"]", ARRIVAL) is None
