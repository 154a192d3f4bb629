"""CloudEvents 1.0 in JSON, one or a batch (docs/formats.md 4.1)."""

from typing import Any, Final

from ..formats.bodies import TEXT, Problems
from ..times import parse_timestamp, rfc3339
from .common import Arrival, ReadEvent, add_named, digest, named

_REQUIRED: Final = ("specversion", "id", "source", "type", "subject")


def translate(body: Any, arrival: Arrival) -> list[ReadEvent]:
    """Return the events; the subject is the customer, (source, id) the identity.

    Raises:
        DefinitionError: every broken rule with its pointer.
    """
    problems, found = Problems(), list[ReadEvent]()
    batch = isinstance(body, list)
    for index, event in enumerate(body if batch else [body]):
        own, pointer, which = Problems(), f"/{index}" if batch else "", named(index, event, "id")
        made = _event(event, pointer, arrival, own)
        add_named(problems, own, which)
        if made is not None:
            found.append(ReadEvent(which, pointer, made))
    problems.raise_if_any()
    return found


def _event(
    event: Any, pointer: str, arrival: Arrival, problems: Problems
) -> dict[str, Any] | None:
    if not isinstance(event, dict):
        problems.add("CE-TYPE", pointer, "a CloudEvent is an object")
        return None
    before = len(problems.found)
    problems.kinds(event, {**dict.fromkeys(_REQUIRED, TEXT), "time": TEXT}, pointer, "CE-TYPE")
    for name in _REQUIRED:
        if name not in event:
            problems.add("CE-REQ", f"{pointer}/{name}", f"{name} is required")
        elif event[name] == "":
            problems.add("CE-REQ", f"{pointer}/{name}", f"{name} must not be empty")
    time = event.get("time", rfc3339(arrival.received_at))
    if isinstance(time, str) and parse_timestamp(time) is None:
        problems.add("CE-TIME", f"{pointer}/time", "time is RFC 3339 with an offset")
    data = event.get("data")
    if data is not None and not isinstance(data, dict):
        problems.add("CE-TYPE", f"{pointer}/data", "data is an object, whose members are counted")
    if len(problems.found) > before:
        return None
    return {
        "transaction_id": f"c:{digest(event['source'], event['id'])}",
        "customer_id": event["subject"],
        "event_type": event["type"],
        "timestamp": time,
        "properties": data or {},
    }
