"""Segment's messages, one or a batch, as its sources send them (docs/formats.md 4.1)."""

from datetime import datetime
from typing import Any, Final

from ..formats.bodies import LIST, OBJECT, TEXT, TEXT_OR_NULL, Kind, Problems
from ..times import rfc3339
from .common import Arrival, ReadEvent, add_named, digest, instant, kept, named

# What is no event of use: who somebody is, which group they are in, two ids that are one.
LEFT_OUT: Final = frozenset({"identify", "group", "alias", "delete"})
_PAGES: Final = frozenset({"page", "screen"})
_OBJECT_OR_NULL: Final = Kind("an object", lambda each: each is None or isinstance(each, dict))
_KINDS: Final = {
    "type": TEXT,
    "messageId": TEXT,
    "userId": TEXT_OR_NULL,
    "anonymousId": TEXT_OR_NULL,
    "timestamp": TEXT_OR_NULL,
    "properties": _OBJECT_OR_NULL,
}
# What has a place of its own in our event; the rest is kept beside (SG3).
_PLACED: Final = {"type", "messageId", "event", "timestamp", "properties", "userId"}


def translate(body: Any, arrival: Arrival) -> list[ReadEvent]:
    """Return the events of one message, or of `{"batch": […]}`; messages of other types are none.

    Raises:
        DefinitionError: every broken rule with its pointer.
    """
    problems, found = Problems(), list[ReadEvent]()
    batch = isinstance(body, dict) and "batch" in body
    if batch and not LIST.holds(body["batch"]):
        problems.add("SG-TYPE", "/batch", "batch is a list of messages")
        problems.raise_if_any()
    for index, message in enumerate(body["batch"] if batch else [body]):
        pointer, which = f"/batch/{index}" if batch else "", named(index, message, "messageId")
        own = Problems()
        made = _event(message, pointer, arrival, own)
        add_named(problems, own, which)
        if made is not None:
            found.append(ReadEvent(which, pointer, made))
    problems.raise_if_any()
    return found


def _event(
    message: Any, pointer: str, arrival: Arrival, problems: Problems
) -> dict[str, Any] | None:
    if not OBJECT.holds(message):
        problems.add("SG-TYPE", pointer, "a message is an object")
        return None
    kind = message.get("type")
    if isinstance(kind, str) and kind in LEFT_OUT:
        return None
    before = len(problems.found)
    problems.kinds(message, _KINDS, pointer, "SG-TYPE")
    if not isinstance(kind, str) or kind not in {"track", *_PAGES}:
        problems.add("SG-REQ", f"{pointer}/type", "type is track, page or screen")
    for name in ("messageId", *(("event",) if kind == "track" else ())):
        if not isinstance(message.get(name), str) or not message[name]:
            problems.add("SG-REQ", f"{pointer}/{name}", f"{name} is a string that is not empty")
    customer = message.get("userId") or message.get("anonymousId")
    if not customer:
        problems.add("SG-REQ", f"{pointer}/userId", "userId or anonymousId is required")
    moment = _moment(message, arrival)
    if moment is None:
        problems.add("SG-TIME", f"{pointer}/timestamp", "timestamp is ISO 8601")
    if len(problems.found) > before or moment is None:
        return None
    more = {name: each for name, each in message.items() if name not in _PLACED}
    return {
        "transaction_id": f"g:{digest(message['messageId'])}",
        "customer_id": customer,
        "event_type": message["event"] if kind == "track" else kind,
        "timestamp": rfc3339(moment),
        "properties": message.get("properties") or {},
        "context": {"more": kept(more)},
    }


def _moment(message: dict[str, Any], arrival: Arrival) -> datetime | None:
    given = message.get("timestamp")
    if given is None:
        return arrival.received_at
    return instant(given) if isinstance(given, str) else None
