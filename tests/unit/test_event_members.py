"""A member of the event is known to all who read events, or it is lost in one of them."""

import asyncio
import json
from typing import Any

import pytest

from definitions.errors import DefinitionError
from definitions.events import translate
from pipeline.core.compiled import MODULE
from pipeline.core.event import Event, decode_slowly, decoder_for
from pipeline.doors.metronome.verbatim import verbatim
from pipeline.recount.events import NotCounted, read_event

from ..recount import usable
from ..world import World
from .test_event_names import ARRIVAL, NOW

# A good value of every member, and some that are of no event. A new member must be added here.
GOOD: dict[str, Any] = {
    "transaction_id": "t",
    "customer_id": "c",
    "event_type": "use",
    "timestamp": NOW.isoformat(),
    "properties": {"v": 1},
    "context": {"value": 5},
    "kind": "usage",
}
WRONG: dict[str, list[Any]] = {
    "transaction_id": ["", 7, None, [], {}],
    "customer_id": ["", 7, None, [], {}],
    "event_type": ["", 7, None, [], {}],
    "timestamp": ["", "now", 7, None, [], {}],
    "properties": [7, "x", [], False],
    "context": [7, "x", [], False],
    "kind": ["amend", "", 7, [], {}],
}
# What Metronome's own body has; its door refuses the others.
OF_METRONOME = {"transaction_id", "customer_id", "event_type", "timestamp", "properties"}


def test_every_member_is_listed() -> None:
    """A member that Event has and this file has not was forgotten: list it."""
    assert set(GOOD) == set(WRONG) == set(Event.__struct_fields__)


def is_read_by_the_audit(value: bytes) -> bool:
    """Whether the independent recount, and with it explain, takes an event."""
    try:
        read_event(value)
    except NotCounted:
        return False
    return True


def counters(value: bytes, native: Any) -> dict[str, int]:
    """The fates of a log of one record."""
    world = World(native=native)
    world.append([value])
    asyncio.run(world.apply())
    return dict(world.state.counters)


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, each) for name, many in WRONG.items() for each in many]
)
def test_every_reader_looks_at_every_member(name: str, wrong: Any) -> None:
    """With a wrong value in one member, no reader takes the event; without it, every one does."""
    for body, is_good in ((GOOD, True), ({**GOOD, name: wrong}, False)):
        value = json.dumps(body).encode()
        ours = [
            decode_slowly(value),
            decoder_for(frozenset(), context=False).decode(value),
            *decoder_for(frozenset({"v"}), context=True).decode_all([value]),
            decoder_for(None, context=True).decode(value),
        ]
        # Times are read behind the decoders.
        of_form = is_good or (name == "timestamp" and isinstance(wrong, str))
        assert [isinstance(each, Event) for each in ours] == [of_form] * len(ours)
        assert is_read_by_the_audit(value) == is_good
        assert (usable(value) is not None) == is_good
        for native in (MODULE, None):
            found = counters(value, native)
            assert (found["rejected"], found["consumed"]) == (int(not is_good), 1)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [(name, each) for name, many in WRONG.items() for each in many if name in OF_METRONOME],
)
def test_both_ways_through_metronomes_door_look_at_it(name: str, wrong: Any) -> None:
    """The fast way and the whole one refuse the same wrong members."""
    good = {key: held for key, held in GOOD.items() if key in OF_METRONOME}
    for body, is_good in ((good, True), ({**good, name: wrong}, False)):
        raw = json.dumps([body]).encode()
        assert (verbatim(raw, ARRIVAL) is not None) == is_good
        try:
            assert translate("metronome", [body], ARRIVAL) == [body]
            taken = True
        except DefinitionError:
            taken = False
        assert taken == is_good
