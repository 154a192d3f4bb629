"""Events of other systems → the event of docs/formats.md 4.1. Pure functions."""

from collections.abc import Callable
from typing import Any, Final

from . import cloudevents, klaviyo, metronome, segment, statsig
from .common import Arrival, ReadEvent

# system → what makes the events of one native body, after checking every rule of it
SYSTEMS: Final[dict[str, Callable[[Any, Arrival], list[ReadEvent]]]] = {
    "cloudevents": cloudevents.translate,
    "klaviyo": klaviyo.translate,
    "metronome": metronome.translate,
    "segment": segment.translate,
    "statsig": statsig.translate,
}


def translate(system: str, body: Any, arrival: Arrival) -> list[dict[str, Any]]:
    """Return the events of a native body, numbers in it as they were parsed.

    Raises:
        DefinitionError: every broken rule with its pointer. The sender's fault.
    """
    return [each.event for each in translate_named(system, body, arrival)]


def translate_named(system: str, body: Any, arrival: Arrival) -> list[ReadEvent]:
    """Return the same, each event with what its sender calls it.

    Raises:
        DefinitionError: every broken rule with its pointer. The sender's fault.
    """
    return SYSTEMS[system](body, arrival)
