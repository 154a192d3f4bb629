"""Statsig's log_event body (docs/formats.md 2.7, 4.1)."""

from datetime import datetime
from typing import Any, Final

from ..formats.bodies import TEXT, Kind, Problems, is_number
from ..times import rfc3339
from .common import (
    Arrival,
    ReadEvent,
    add_named,
    instant,
    is_full,
    kept,
    named,
    of_milliseconds,
)

# An event whose name holds one of these is dropped, not refused (docs/formats.md 2.7).
DROPPED: Final = frozenset('"\\[]{}<>#=;&$%|\0\r\n')
NOBODY: Final = "anonymous"  # the customer of an event without any id
PRODUCTION: Final = "production"  # the environment of an event that names none
_MS: Final = 10**18  # of Unix; far outside the calendar
_USER_MEMBERS: Final = ("userID", "email", "ip", "userAgent", "country", "locale", "appVersion")
# What of a user is read, or never stored; the rest is kept beside.
_USER_READ: Final = {*_USER_MEMBERS, "custom", "customIDs", "stableID", "privateAttributes"}
_VALUE: Final = Kind(
    "a string or a number", lambda each: each is None or isinstance(each, str) or is_number(each)
)
_OBJECT_OR_NULL: Final = Kind("an object", lambda each: each is None or isinstance(each, dict))
_EVENT: Final = {
    "eventName": TEXT,
    "value": _VALUE,
    "time": _VALUE,
    "user": _OBJECT_OR_NULL,
    "metadata": _OBJECT_OR_NULL,
}


def translate(body: Any, arrival: Arrival) -> list[ReadEvent]:
    """Return the events of a body, but for those that Statsig takes and does not count.

    It does not count names that it drops, and environments that are not production (CS24).
    Members that are unknown here are no fault: each release of its clients has more of them.

    Raises:
        DefinitionError: every broken rule with its pointer; the whole request is refused.
    """
    problems = Problems()
    if not isinstance(body, dict):
        problems.add("S-TYPE", "", "the body must be an object")
        problems.raise_if_any()
    problems.kinds(body, {"user": _OBJECT_OR_NULL}, "", "S-TYPE")
    events = body.get("events")
    if "events" not in body:
        problems.add("S-REQ", "/events", "events is required")
    elif not isinstance(events, list):
        problems.add("S-TYPE", "/events", "events must be a list")
    elif not events:
        problems.add("S-EVENTS-EMPTY", "/events", "give at least one event")
    found = []
    for index, event in enumerate(events if isinstance(events, list) else []):
        own, pointer, which = Problems(), f"/events/{index}", named(index, event, "eventName")
        user = (event.get("user") if isinstance(event, dict) else None) or body.get("user") or {}
        made = _event(event, user, pointer, arrival, own)
        add_named(problems, own, which)
        if made is not None and is_kept(made["event_type"]) and _counts(user, arrival):
            found.append(ReadEvent(which, pointer, made))
    problems.raise_if_any()
    return found


def is_kept(name: str) -> bool:
    """Whether Statsig keeps events of this name."""
    return not DROPPED & set(name)


def _counts(user: dict[str, Any], arrival: Arrival) -> bool:
    """Whether the environment that a user is in is one of those that count (CS24)."""
    held = user.get("statsigEnvironment")
    tier = held.get("tier") if isinstance(held, dict) else None
    named = tier.lower() if isinstance(tier, str) and tier else PRODUCTION
    return arrival.environments is None or named in arrival.environments


def _event(
    event: Any, user: Any, pointer: str, arrival: Arrival, problems: Problems
) -> dict[str, Any] | None:
    if not isinstance(event, dict):
        problems.add("S-TYPE", pointer, "an event is an object")
        return None
    before = len(problems.found)
    problems.kinds(event, _EVENT, pointer, "S-TYPE")
    if "eventName" not in event:
        problems.add("S-REQ", f"{pointer}/eventName", "eventName is required")
    elif event["eventName"] == "":
        problems.add("S-EVENT-NAME", pointer, "eventName must not be empty")
    moment = _moment(event.get("time"), arrival)
    if moment is None:
        problems.add("S-TYPE", f"{pointer}/time", "time is Unix milliseconds or ISO 8601")
    if len(problems.found) > before or moment is None or not isinstance(user, dict):
        return None
    ids = user.get("customIDs")
    ids = dict(ids) if isinstance(ids, dict) else {}
    if isinstance(user.get("stableID"), str):
        ids.setdefault("stableID", user["stableID"])
    context = {
        "value": event.get("value"),
        "user": {name: user[name] for name in _USER_MEMBERS if name in user},
        "custom": user.get("custom") if isinstance(user.get("custom"), dict) else None,
        "custom_ids": ids,
        "more": _more(event, user),
    }
    return {
        "transaction_id": f"s:{arrival.new_id()}",
        "customer_id": _customer(user, ids),
        "event_type": event["eventName"],
        "timestamp": rfc3339(moment),
        "properties": event.get("metadata") or {},
        "context": {name: held for name, held in context.items() if held not in (None, {})},
    }


def _more(event: dict[str, Any], user: dict[str, Any]) -> dict[str, Any]:
    """Return what an event holds besides, as it came (CS25)."""
    held = {name: each for name, each in event.items() if name not in _EVENT}
    of_user = {name: each for name, each in user.items() if name not in _USER_READ}
    return kept({**held, "user": {name: each for name, each in of_user.items() if is_full(each)}})


def _customer(user: dict[str, Any], ids: dict[str, Any]) -> str:
    named = [ids[name] for name in sorted(ids) if name != "stableID"]
    for text in (user.get("userID"), *named, ids.get("stableID")):
        if isinstance(text, str) and text:
            return text
    return NOBODY


def _moment(value: Any, arrival: Arrival) -> datetime | None:
    if value is None:
        return arrival.received_at
    if isinstance(value, str):
        if value.isascii() and value.isdigit() and len(value) < 18:
            return of_milliseconds(int(value))
        return instant(value)
    # abs() rounds by the context and overflows at a large exponent; comparing does not.
    return of_milliseconds(int(value)) if is_number(value) and -_MS < value < _MS else None
