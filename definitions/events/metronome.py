"""Metronome's ingest body: a bare list of events, already in our form (docs/formats.md 3.4)."""

from typing import Any, Final

from ..formats.bodies import OBJECT, TEXT, Problems
from ..times import parse_timestamp
from .common import Arrival, ReadEvent, add_named, named, too_far

EVENTS_MAX: Final = 100
PROPERTIES_MAX: Final = 2_000
TRANSACTION_ID_CHARS_MAX: Final = 128
# The other two are ours: Metronome documents no limit (E-2).
CHARS_MAX: Final = {
    "transaction_id": TRANSACTION_ID_CHARS_MAX,
    "customer_id": 256,
    "event_type": 256,
}
_REQUIRED: Final = {
    "transaction_id": TEXT,
    "customer_id": TEXT,
    "event_type": TEXT,
    "timestamp": TEXT,
}
_MEMBERS: Final = {**_REQUIRED, "properties": OBJECT}


def translate(body: Any, arrival: Arrival) -> list[ReadEvent]:
    """Return the events as they are.

    Raises:
        DefinitionError: every broken rule with its pointer; the whole batch is refused.
    """
    problems = Problems()
    if not isinstance(body, list):
        problems.add("M-INGEST-ARRAY", "", "the body is a bare JSON list of events")
        problems.raise_if_any()
    if not 1 <= len(body) <= EVENTS_MAX:
        problems.add("M-INGEST-SIZE", "", f"1 to {EVENTS_MAX} events, not {len(body)}")
        problems.raise_if_any()
    for index, event in enumerate(body):
        own = Problems()
        _check(event, f"/{index}", arrival, own)
        if own.found:
            add_named(problems, own, named(index, event))
    problems.raise_if_any()
    return [ReadEvent(named(index, event), f"/{index}", event) for index, event in enumerate(body)]


def _check(event: Any, pointer: str, arrival: Arrival, problems: Problems) -> None:
    if not isinstance(event, dict):
        problems.add("M-TYPE", pointer, "an event is an object")
        return
    problems.members(event, _MEMBERS, pointer, "M-UNKNOWN")
    for name in _REQUIRED:
        if name not in event:
            problems.add("M-REQ", f"{pointer}/{name}", f"{name} is required")
    problems.kinds(event, _MEMBERS, pointer, "M-TYPE")
    for name in ("transaction_id", "customer_id", "event_type"):
        text = event.get(name)
        if isinstance(text, str) and not text:
            problems.add("M-INGEST-LENGTH", f"{pointer}/{name}", f"{name} must not be empty")
        elif isinstance(text, str) and len(text) > CHARS_MAX[name]:
            message = f"{name} has at most {CHARS_MAX[name]} characters, not {len(text)}"
            problems.add("M-INGEST-LENGTH", f"{pointer}/{name}", message)
    properties = event.get("properties")
    if isinstance(properties, dict) and len(properties) > PROPERTIES_MAX:
        message = f"at most {PROPERTIES_MAX} properties, not {len(properties)}"
        problems.add("M-INGEST-PROPS", f"{pointer}/properties", message)
    if isinstance(event.get("timestamp"), str):
        _check_time(event["timestamp"], f"{pointer}/timestamp", arrival, problems)


def _check_time(text: str, pointer: str, arrival: Arrival, problems: Problems) -> None:
    at_ns = parse_timestamp(text)
    if at_ns is None:
        message = "timestamp is RFC 3339 with four digits of year and an offset"
        problems.add("M-INGEST-TIME", pointer, message)
        return
    far = too_far(at_ns, arrival)
    if far is not None:
        problems.add("M-INGEST-WINDOW", pointer, far)
