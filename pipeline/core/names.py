"""What events are called and what they carry, learned from the stream so that people can choose.

It decides no number. Of a flush every new event type is looked at, and LOOKS_MAX records spread
over it: what a few records alone carry may be learned late. All of it is bounded.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

from definitions.metric import VALUE_NAME

from .event import Event, decoder_for
from .records import LogRecord

TYPES_MAX: Final = 1_000
PROPERTIES_MAX: Final = 400  # of an event type
FIELDS_MAX: Final = 50_000  # of a partition
FIELDS_CHARS_MAX: Final = 2_000_000  # of all of them together
CHARS_MAX: Final = 200  # longer names are not learned
LOOKS_MAX: Final = 64
_SIZE_DIGITS_MAX: Final = 4
_STAMP_DIGITS_MAX: Final = 15
_WIDE: Final = decoder_for(None, context=True)
_OFFSET: Final = attrgetter("offset")
_KINDS: Final = {
    bool: "b",
    int: "n",
    float: "n",
    Decimal: "n",
    str: "s",
    list: "l",
    dict: "o",
}


@dataclass(frozen=True, slots=True)
class EventType:
    """An event type as it was seen. first_ms: append time of an early event of it.

    properties: name → the kinds of value it had, some of b l n o s: boolean, list, number,
    object, string. An event's own value is `$value`, as Klaviyo calls it.
    """

    first_ms: int
    properties: Mapping[str, str]


@dataclass(slots=True)
class Names:
    """What one partition has learned. held: its fields and their texts, as the store has them."""

    held: dict[str, str] = field(default_factory=dict)
    _sizes: dict[str, int] = field(default_factory=dict)
    _chars: int = 0
    _fresh_chars: int = 0  # of what look() has found so far

    def __post_init__(self) -> None:
        self._chars = sum(map(len, self.held))
        for event_type, found in event_types(self.held).items():
            self._sizes[event_type] = len(found.properties)

    def look(self, records: Sequence[LogRecord], first: Mapping[str, int]) -> dict[str, str]:
        """Return the fields that are new or changed after a flush. Nothing is kept yet.

        Args:
            records: Those of the flush. first: event type → offset of the first one of it.
        """
        places = set(range(0, len(records), -(-len(records) // LOOKS_MAX) or 1))
        for event_type, offset in first.items():
            if event_type not in self._sizes:
                places.add(bisect_left(records, offset, key=_OFFSET))
        fresh: dict[str, str] = {}
        self._fresh_chars = 0
        sizes = dict(self._sizes)
        for at in sorted(places):
            event = _WIDE.decode(records[at].value) if at < len(records) else None
            if isinstance(event, Event) and event.event_type in first:
                self._take(event, records[at].timestamp, sizes, fresh)
        return fresh

    def _take(
        self, event: Event, stamp_ms: int, sizes: dict[str, int], fresh: dict[str, str]
    ) -> None:
        name = event.event_type
        if name not in sizes:
            if len(sizes) >= TYPES_MAX or len(name) > CHARS_MAX:
                return
            sizes[name] = 0
            fresh[_field(name)] = str(stamp_ms)
        own = (event.context or {}).get("value")
        given = event.properties if own is None else {**event.properties, VALUE_NAME: own}
        for key, value in given.items():
            kind = _KINDS.get(type(value))
            if kind is None or not key or len(key) > CHARS_MAX:
                continue
            place = _field(name) + key
            seen = fresh.get(place) or self.held.get(place)
            if seen is None:
                if sizes[name] >= PROPERTIES_MAX or self._is_full(fresh):
                    continue
                sizes[name] += 1
                self._fresh_chars += len(place)
                fresh[place] = kind
            elif kind not in seen:
                fresh[place] = "".join(sorted(seen + kind))

    def _is_full(self, fresh: Mapping[str, str]) -> bool:
        many = len(self.held) + len(fresh) >= FIELDS_MAX
        return many or self._chars + self._fresh_chars >= FIELDS_CHARS_MAX

    def keep(self, fresh: Mapping[str, str]) -> None:
        for place, text in fresh.items():
            name, key = _split(place)
            if place not in self.held:
                self._sizes[name] = self._sizes.get(name, 0) + bool(key)
                self._chars += len(place)
            self.held[place] = text


def is_field(place: str, text: str) -> bool:
    """Whether a field and its text are ones that keep() makes: nothing else is read."""
    size, colon, rest = place.partition(":")
    if not (colon and size.isascii() and size.isdigit() and len(size) <= _SIZE_DIGITS_MAX):
        return False
    if place != f"{int(size)}:{rest}" or int(size) > len(rest):
        return False
    if int(size) == len(rest):
        return text.isascii() and text.isdigit() and len(text) <= _STAMP_DIGITS_MAX
    return bool(text) and set(text) <= set(_KINDS.values())


def event_types(held: Mapping[str, str]) -> dict[str, EventType]:
    """Return what fields say, by event type."""
    first: dict[str, int] = {}
    properties: dict[str, dict[str, str]] = {}
    for place, text in held.items():
        name, key = _split(place)
        if key:
            properties.setdefault(name, {})[key] = text
        else:
            first[name] = int(text)
    return {name: EventType(stamp, properties.get(name, {})) for name, stamp in first.items()}


def merged(parts: Sequence[Mapping[str, EventType]]) -> dict[str, EventType]:
    """Return what several partitions have learned."""
    found: dict[str, EventType] = {}
    for part in parts:
        for name, seen in part.items():
            before = found.get(name)
            if before is None:
                found[name] = seen
                continue
            properties: dict[str, Any] = dict(before.properties)
            for key, kinds in seen.properties.items():
                properties[key] = "".join(sorted(set(properties.get(key, "") + kinds)))
            found[name] = EventType(min(before.first_ms, seen.first_ms), properties)
    return found


def _field(event_type: str) -> str:
    return f"{len(event_type)}:{event_type}"


def _split(place: str) -> tuple[str, str]:
    size, _, rest = place.partition(":")
    return rest[: int(size)], rest[int(size) :]
