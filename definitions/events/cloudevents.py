"""CloudEvents 1.0 in JSON, one or a batch (docs/formats.md 4.1)."""

from typing import Any, Final

from ..formats.bodies import TEXT, TEXT_OR_NULL, Problems
from ..times import parse_timestamp, rfc3339
from .common import Arrival, ReadEvent, add_named, digest, kept, named

_REQUIRED: Final = ("specversion", "id", "source", "type", "subject")
_KINDS: Final = {**dict.fromkeys(_REQUIRED, TEXT), "time": TEXT_OR_NULL}
# What has a place of its own in our event; other attributes are kept beside (CE2).
_PLACED: Final = {"specversion", "type", "subject", "time", "data"}


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
    problems.kinds(
        event, {**dict.fromkeys(_REQUIRED, TEXT), "time": TEXT_OR_NULL}, pointer, "CE-TYPE"
    )
    for name in _REQUIRED:
        if name not in event:
            problems.add("CE-REQ", f"{pointer}/{name}", f"{name} is required")
        elif event[name] == "":
            problems.add("CE-REQ", f"{pointer}/{name}", f"{name} must not be empty")
    time = event.get("time")
    if time is None:
        time = rfc3339(arrival.received_at)
    if isinstance(time, str) and parse_timestamp(time) is None:
        problems.add("CE-TIME", f"{pointer}/time", "time is RFC 3339 with an offset")
    data = event.get("data")
    if data is not None and not isinstance(data, dict):
        problems.add("CE-TYPE", f"{pointer}/data", "data is an object, whose members are counted")
    if event.get("data_base64") is not None:
        message = "data_base64 cannot be counted: send data, an object"
        problems.add("CE-TYPE", f"{pointer}/data_base64", message)
    if len(problems.found) > before:
        return None
    return {
        "transaction_id": f"c:{digest(event['source'], event['id'])}",
        "customer_id": event["subject"],
        "event_type": event["type"],
        "timestamp": time,
        "properties": data or {},
        "context": {"more": kept({n: each for n, each in event.items() if n not in _PLACED})},
    }
