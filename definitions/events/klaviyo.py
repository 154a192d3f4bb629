"""Klaviyo's create-event and bulk-create-events bodies (docs/formats.md 1.6, 4.1)."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ..formats.bodies import BOOLEAN, NUMBER_OR_NULL, OBJECT, TEXT_OR_NULL, Problems
from ..times import rfc3339
from .common import Arrival, ReadEvent, add_named, digest, instant, named

PROPERTIES_MAX: Final = 400
STRING_BYTES_MAX: Final = 100 * 1024
LIST_MAX: Final = 4_000
DEPTH_MAX: Final = 10
METRIC_NAME_CHARS_MAX: Final = 127
BULK_MAX: Final = 1_000
_OLDEST: Final = datetime(1990, 1, 1, tzinfo=UTC)
_AHEAD_MAX: Final = timedelta(days=366)
_EVENT: Final = {
    "properties": OBJECT,
    "metric": OBJECT,
    "profile": OBJECT,
    "time": TEXT_OR_NULL,
    "value": NUMBER_OR_NULL,
    "value_currency": TEXT_OR_NULL,
    "unique_id": TEXT_OR_NULL,
    "backfill": BOOLEAN,
}
_IDENTIFIERS: Final = ("id", "external_id", "email", "phone_number")
_BULK: Final = "events-bulk-create"
_OWN_ID: Final = "unique_id"


def translate(body: Any, arrival: Arrival) -> list[ReadEvent]:
    """Return the events of one create or bulk-create body.

    Raises:
        DefinitionError: every broken rule with its pointer; the whole request is refused.
    """
    problems = Problems()
    data = _data(body, problems)
    if data.get("type") == "event-bulk-create-job":
        events = _bulk(data, arrival, problems)
    else:
        if "type" in data and data["type"] != "event":
            problems.add("K-RESOURCE-TYPE", "/data/type", "the type of the resource is event")
        attributes = _attributes(data, "/data", problems)
        profile = attributes.get("profile")
        event = _event(attributes, profile, "/data/attributes", arrival, problems, own=True)
        events = [] if event is None else [ReadEvent(named(0, attributes, _OWN_ID), "", event)]
    problems.raise_if_any()
    return events


def _data(body: Any, problems: Problems) -> dict[str, Any]:
    if not isinstance(body, dict):
        problems.add("K-TYPE", "", "the body must be an object")
        problems.raise_if_any()
    problems.members(body, {"data"}, "", "K-UNKNOWN")
    data = body.get("data")
    if "data" not in body:
        problems.add("K-REQ", "/data", "data is required")
    elif not isinstance(data, dict):
        problems.add("K-TYPE", "/data", "data is an object")
    problems.raise_if_any()
    assert isinstance(data, dict)
    problems.members(data, {"type", "attributes"}, "/data", "K-UNKNOWN")
    if "type" not in data:
        problems.add("K-REQ", "/data/type", "type is required")
    return data


def _attributes(holder: dict[str, Any], pointer: str, problems: Problems) -> dict[str, Any]:
    attributes = holder.get("attributes")
    if isinstance(attributes, dict):
        return attributes
    rule = "K-TYPE" if "attributes" in holder else "K-REQ"
    problems.add(rule, f"{pointer}/attributes", "attributes is an object and required")
    problems.raise_if_any()
    return {}


def _inner(holder: Any, *path: str) -> Any:
    for name in path:
        holder = holder.get(name) if isinstance(holder, dict) else None
    return holder


def _event(
    attributes: dict[str, Any],
    profile: Any,
    pointer: str,
    arrival: Arrival,
    problems: Problems,
    *,
    own: bool,
) -> dict[str, Any] | None:
    """Check one event and return it translated; own: whether it holds its profile itself."""
    before = len(problems.found)
    known = _EVENT if own else {name: kind for name, kind in _EVENT.items() if name != "profile"}
    problems.members(attributes, known, pointer, "K-UNKNOWN")
    problems.kinds(attributes, known, pointer, "K-TYPE")
    for name in ("properties", "metric", *(("profile",) if own else ())):
        if name not in attributes:
            problems.add("K-REQ", f"{pointer}/{name}", f"{name} is required")
    name = _inner(attributes.get("metric"), "data", "attributes", "name")
    if isinstance(attributes.get("metric"), dict):
        if not isinstance(name, str):
            problems.add("K-REQ", f"{pointer}/metric/data/attributes/name", "a name is required")
        elif not 1 <= len(name) <= METRIC_NAME_CHARS_MAX:
            message = "the name of a metric has 1 to 127 characters"
            problems.add("K-EVENT-METRIC-NAME", f"{pointer}/metric", message)
    customer = _customer(profile)
    if own and isinstance(profile, dict) and customer is None:
        message = f"a profile needs at least one of {', '.join(_IDENTIFIERS)}"
        problems.add("K-REQ", f"{pointer}/profile/data/attributes", message)
    _check_properties(attributes.get("properties"), f"{pointer}/properties", problems)
    moment = _moment(attributes.get("time"), f"{pointer}/time", arrival, problems)
    if len(problems.found) > before or customer is None or moment is None:
        return None
    unique_id = attributes.get("unique_id")
    key = ("t", rfc3339(moment)) if unique_id is None else ("u", unique_id)
    context = {
        member: attributes[member]
        for member in ("value", "value_currency")
        if attributes.get(member) is not None
    }
    event = {
        "transaction_id": f"k:{digest(str(name), *key)}",
        "customer_id": customer,
        "event_type": name,
        "timestamp": rfc3339(moment),
        "properties": attributes["properties"],
    }
    return {**event, "context": context} if context else event


def _customer(profile: Any) -> str | None:
    """The one customer of a profile: id, external_id, email in lower case, phone number."""
    data = _inner(profile, "data")
    own = _inner(data, "id")
    attributes = _inner(data, "attributes")
    found = {"id": own, **(attributes if isinstance(attributes, dict) else {})}
    for name in _IDENTIFIERS:
        text = found.get(name) or (own if name == "id" else None)
        if isinstance(text, str) and text:
            return text.lower() if name == "email" else text
    return None


def _moment(text: Any, pointer: str, arrival: Arrival, problems: Problems) -> datetime | None:
    """The time of an event in whole seconds; the time of arrival where it has none."""
    if text is None:
        return arrival.received_at.replace(microsecond=0)
    moment = instant(text) if isinstance(text, str) else None
    if moment is None:
        if isinstance(text, str):
            problems.add("K-EVENT-TIME", pointer, "time is no ISO 8601 date-time")
        return None
    if not _OLDEST <= moment <= arrival.received_at + _AHEAD_MAX:
        message = "time must be after 1990 and at most one year in the future"
        problems.add("K-EVENT-TIME", pointer, message)
        return None
    return moment.replace(microsecond=0)


def _check_properties(properties: Any, pointer: str, problems: Problems) -> None:
    if not isinstance(properties, dict):
        return
    if len(properties) > PROPERTIES_MAX:
        message = f"at most {PROPERTIES_MAX} properties, not {len(properties)}"
        problems.add("K-EVENT-PROPS", pointer, message)
        return
    level: list[Any] = [properties]
    for _ in range(DEPTH_MAX):
        deeper: list[Any] = []
        for held in level:
            items = list(held.values()) if isinstance(held, dict) else held
            if isinstance(held, list) and len(held) > LIST_MAX:
                problems.add("K-EVENT-PROPS", pointer, f"a list has at most {LIST_MAX} elements")
                return
            texts = (item for item in items if isinstance(item, str))
            if any(len(text.encode()) > STRING_BYTES_MAX for text in texts):
                problems.add("K-EVENT-PROPS", pointer, "a string has at most 100 KB")
                return
            deeper += [item for item in items if isinstance(item, dict | list)]
        level = deeper
    if level:
        problems.add("K-EVENT-PROPS", pointer, f"nested deeper than {DEPTH_MAX}")


def _bulk(data: dict[str, Any], arrival: Arrival, problems: Problems) -> list[ReadEvent]:
    attributes = _attributes(data, "/data", problems)
    pointer = f"/data/attributes/{_BULK}/data"
    profiles = _inner(attributes.get(_BULK), "data")
    if not isinstance(profiles, list):
        problems.add("K-REQ", pointer, "a list of profiles with events is required")
        return []
    lists = [_inner(each, "attributes", "events", "data") for each in profiles]
    count = sum(len(each) for each in lists if isinstance(each, list))
    if count > BULK_MAX:
        problems.add("K-EVENT-BULK-MAX", "/data", f"at most {BULK_MAX} events, not {count}")
        return []
    events: list[ReadEvent] = []
    place = 0  # among the events of all profiles
    seen: set[tuple[str, str]] = set()
    for index, item in enumerate(profiles):
        at = f"{pointer}/{index}"
        profile = _inner(item, "attributes", "profile")
        if not isinstance(lists[index], list):
            problems.add("K-REQ", f"{at}/attributes/events/data", "a list of events is required")
            continue
        first, place = place, place + len(lists[index])
        if _customer(profile) is None:
            message = f"a profile needs at least one of {', '.join(_IDENTIFIERS)}"
            problems.add("K-REQ", f"{at}/attributes/profile", message)
            continue
        repeated = False
        for number, each in enumerate(lists[index]):
            inner = f"{at}/attributes/events/data/{number}"
            if not isinstance(each, dict):
                problems.add(
                    "K-TYPE", inner, f"{named(first + number, each)}: an event is an object"
                )
                continue
            own, attributes = Problems(), _attributes(each, inner, problems)
            which = named(first + number, attributes, _OWN_ID)
            event = _event(attributes, profile, f"{inner}/attributes", arrival, own, own=False)
            add_named(problems, own, which)
            if event is None:
                continue
            key = (event["customer_id"], event["transaction_id"])
            repeated = repeated or key in seen
            seen.add(key)
            events.append(ReadEvent(which, inner, event))
        if repeated:
            message = "the key (profile, metric, unique_id or second) of an event is repeated"
            problems.add("K-EVENT-BULK-DUP", at, message)
    return events
