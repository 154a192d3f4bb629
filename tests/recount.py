"""The oracle: a naive recount. A list of records in, numbers out; one pass, no cleverness.

It imports nothing of `pipeline` and not the compiled matcher: it reads the bytes and interprets
the neutral metric itself (tests/conformance/test_tidy.py checks the imports).
"""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from hashlib import blake2b
from typing import Any, NamedTuple

from definitions.metric import Definition

_NUMBER = re.compile(r"[+-]?(\d+(\.\d+)?|\.\d+)([eE]([+-]?\d+))?", re.ASCII)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)

_OWN_VALUE = ("$value", "klaviyo")  # CK12: a name, and whose definitions mean the value by it


class Record(NamedTuple):
    """A record of the log."""

    offset: int
    append_ms: int
    value: bytes | None


@dataclass
class Terms:
    """The deployment's settings."""

    window_ms: int
    max_age_ms: int
    max_ahead_ms: int
    bucket_s: int


@dataclass
class Books:
    """What must be known at the end. cells: (metric, customer, bucket, set, groups) → answer."""

    fates: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(
            ("consumed", "counted", "unmatched", "duplicate", "rejected", "corrected"), 0
        )
    )
    reasons: dict[str, int] = field(default_factory=dict)  # of corrections that were rejected
    values: dict[tuple[Any, ...], list[Any]] = field(default_factory=dict)
    unreadable: dict[tuple[Any, ...], int] = field(default_factory=dict)


class _Token(str):
    """A JSON number, as written."""

    __slots__ = ()


_GROUP_BYTES_MAX = 256


def number(token: str) -> Fraction | None:
    """The number a text stands for, exactly."""
    match = _NUMBER.fullmatch(token)
    if match is None or len(token) > 64 or abs(int(match[4] or 0)) > 64:
        return None
    return Fraction(Decimal(token))


def text(value: Any) -> str | None:
    """The text form of a JSON value."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, _Token):
        exact = number(value)
        return None if exact is None else plain(exact)
    return value if isinstance(value, str) else None


def group(value: Any) -> str | None:
    """What a value is called as a group: a long text by its beginning and its digest."""
    found = text(value)
    if found is None or len(found.encode()) <= _GROUP_BYTES_MAX:
        return found
    begins = ""
    for char in found:
        if len((begins + char).encode()) > _GROUP_BYTES_MAX:
            break
        begins += char
    digest = blake2b(found.encode(), digest_size=16).digest()
    return f"{begins}…{b64encode(digest).decode()}"


def plain(exact: Fraction) -> str:
    """A decimal fraction in plain notation."""
    scale, power = exact.denominator, 0
    while 10**power % scale:
        power += 1
    digits = str(abs(exact.numerator) * (10**power // scale)).rjust(power + 1, "0")
    sign = "-" if exact < 0 else ""
    return sign + (digits[:-power] + "." + digits[-power:] if power else digits)


def event_ns(stamp: str) -> int | None:
    """Nanoseconds since 1970, or None."""
    match = _TIME.fullmatch(stamp)
    if match is None:
        return None
    zone = match[8]
    try:
        moment = datetime(*(int(part) for part in match.groups()[:6]), tzinfo=UTC)  # type: ignore[arg-type,misc]
    except ValueError:
        return None
    seconds = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    if zone.upper() != "Z":
        hours, minutes = int(zone[1:3]), int(zone[4:])
        if hours > 23 or minutes > 59:
            return None
        seconds -= int(f"{zone[0]}1") * (hours * 3600 + minutes * 60)
    return seconds * 10**9 + int(((match[7] or "") + "0" * 9)[:9])


def usable(value: bytes | None) -> dict[str, Any] | None:
    """The event or the void of a record, or None where it is rejected for its form."""
    try:
        body = json.loads(
            (value or b"").decode(), parse_int=_Token, parse_float=_Token, parse_constant=_refuse
        )
        json.dumps(body, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or _depth(body) > 32 or len(value or b"") > 2**20:
        return None
    is_void = body.get("kind") in ("void", "amend")
    if is_void:
        body["event_type"] = body["kind"]
    if body.get("kind") == "amend" and not _amends(body.get("event")):
        return None
    names = ("transaction_id", "customer_id", "event_type", "timestamp")
    if not all(type(body.get(name)) is str and body[name] for name in names):
        return None
    for name in () if is_void else ("properties", "context"):
        if not isinstance(body.get(name) or {}, dict) or body.get(name) in ("", False, []):
            return None
    if len(body["transaction_id"]) > 128 or body.get("kind", "usage") not in (
        "usage",
        "void",
        "amend",
        None,
    ):
        return None
    if max(len(body["customer_id"]), len(body["event_type"])) > 256:
        return None
    return body if event_ns(body["timestamp"]) is not None else None


def _refuse(token: str) -> Any:
    raise ValueError(token)


def _depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, inside), default=0)


def member(event: Mapping[str, Any], name: str, source: str) -> Any:
    """What an event has under a name; as a `value` its own value stands before the property."""
    own = (event.get("context") or {}).get("value") if source == "value" else None
    return (event.get("properties") or {}).get(name) if own is None else own


def matches(definition: Definition, event: Mapping[str, Any]) -> bool:
    """Whether an event belongs to a single-measure definition."""
    measure = definition.measures[0]
    kinds, others = measure.events.include, measure.events.exclude
    if kinds is not None and event["event_type"] not in kinds:
        return False
    if others is not None and event["event_type"] in others:
        return False
    for condition in measure.where:
        value = member(event, str(condition.field.key), condition.field.source)
        known = text(value)
        verdict = {
            "is_set": value is not None,
            "is_not_set": value is None,
            "in": condition.if_unknown if known is None else known in condition.operands,
            "not_in": condition.if_unknown if known is None else known not in condition.operands,
        }[condition.operator]
        if not verdict:
            return False
    return True


def recount(
    records: Iterable[Record],
    metrics: Mapping[str, Definition],
    terms: Terms,
    partition: int = 0,
) -> Books:
    """Recount one partition from its first record."""
    books, seen, clock = Books(), {}, -1  # type: Books, dict[tuple[str, str], int], int
    became: dict[int, tuple[str, str, str]] = {}  # offset → customer, transaction, fate
    accepted: dict[int, tuple[Mapping[str, Any], int, int]] = {}  # offset → event, time, clock
    times: dict[int, int] = {}  # offset → event time
    taken_back: set[int] = set()
    for record in records:
        clock = max(clock, record.append_ms)
        books.fates["consumed"] += 1
        event: Any = usable(record.value)
        at = 0 if event is None else event_ns(event["timestamp"]) or 0
        is_void = event is not None and event.get("kind") in ("void", "amend")
        times[record.offset] = at
        if is_void:
            at = clock * 10**6  # its own time decides nothing
        behind = clock * 10**6 - at
        too_old = terms.max_age_ms and behind > terms.max_age_ms * 10**6
        if event is None or too_old or -behind > terms.max_ahead_ms * 10**6:
            books.fates["rejected"] += 1
            continue
        identity = (event["customer_id"], event["transaction_id"])
        generation = clock * 4 // terms.window_ms
        if generation - seen.get(identity, -(10**12)) <= 4:
            books.fates["duplicate"] += 1
            became[record.offset] = (*identity, "void" if is_void else "duplicate")
            continue
        if is_void:
            original = _original(event, partition, record.offset)
            known, amends = became.get(original), event["kind"] == "amend"
            same_time = not amends or times[record.offset] == times.get(original)
            why = _why_not(event, known if same_time else None, original in taken_back)
            if why is not None:
                books.fates["rejected"] += 1
                books.reasons[why] = books.reasons.get(why, 0) + 1
                continue
            seen[identity] = generation
            became[record.offset] = (*identity, "void")
            taken_back.add(original)
            if amends:
                became[record.offset] = identity[0], event["amends"]["transaction_id"], "accepted"
                said = {**event["event"], "customer_id": identity[0]}
                accepted[record.offset] = said, times[record.offset], clock
            books.fates["corrected"] += 1
            continue
        seen[identity] = generation
        became[record.offset] = (*identity, "accepted")
        accepted[record.offset] = event, at, clock
        hit = any(matches(definition, event) for definition in metrics.values())
        books.fates["counted" if hit else "unmatched"] += 1
    for offset, (event, at, then) in accepted.items():
        for name, definition in metrics.items():
            if offset not in taken_back and matches(definition, event):
                _add(books, name, definition, event, at, then, offset, terms.bucket_s)
    return books


def _amends(event: Any) -> bool:
    """Whether an amend says an event."""
    if not isinstance(event, dict) or not set(event) <= {"event_type", "properties", "context"}:
        return False
    kind = event.get("event_type")
    inner = [event.get(name) for name in ("properties", "context")]
    return (
        type(kind) is str
        and 0 < len(kind) <= 256
        and all(each is None or isinstance(each, dict) for each in inner)
    )


def _why_not(
    correction: Mapping[str, Any], known: tuple[str, str, str] | None, is_gone: bool
) -> str | None:
    """Why what became of a record cannot be taken back by a correction that names it."""
    wanted = correction.get(correction["kind"] + "s")
    name = wanted.get("transaction_id") if isinstance(wanted, dict) else None
    if known is None or known[:2] != (correction["customer_id"], name) or known[2] == "void":
        return "nothing_to_void"
    if known[2] == "duplicate":
        return "voids_a_duplicate"
    return "already_voided" if is_gone else None


def _original(void: Mapping[str, Any], partition: int, offset: int) -> int:
    """The offset that a void of a partition names, if that lies before it; else -1."""
    voids = void.get(void["kind"] + "s")
    at = voids.get("at") if isinstance(voids, dict) else None
    if not isinstance(at, str):
        return -1
    match = re.fullmatch(rf"{partition}@(0|[1-9]\d{{0,17}})", at, re.ASCII)
    return int(match[1]) if match and int(match[1]) < offset else -1


def _add(
    books: Books,
    name: str,
    definition: Definition,
    event: Mapping[str, Any],
    at: int,
    clock: int,
    offset: int,
    bucket_s: int,
) -> None:
    measure, properties = definition.measures[0], event.get("properties") or {}
    value: Any = 1
    if measure.field is not None:
        name_, source = str(measure.field.key), measure.field.source
        raw = member(event, name_, source)
        if raw is None and name_ not in properties:
            return
        if measure.aggregation == "count_distinct":
            value = text(raw)
        else:
            value = number(raw) if isinstance(raw, str) else None
    kind = definition.origin.format
    sets: list[Any] = [()]
    sets += [
        tuple(
            group(member(event, each, "value" if (each, kind) == _OWN_VALUE else "property"))
            for each in names
        )
        for names in definition.dimensions
    ]
    for number_, groups in enumerate(sets):
        key = (name, event["customer_id"], at // (bucket_s * 10**9), number_, groups)
        if value is None:
            books.unreadable[key] = books.unreadable.get(key, 0) + 1
        else:
            books.values.setdefault(key, []).append(((at, clock, offset), value))


def answers(books: Books, metrics: Mapping[str, Definition]) -> dict[tuple[Any, ...], Any]:
    """Cell → (answer, unreadable): what a reader of that cell alone must be told."""
    found = {}
    for key in books.values.keys() | books.unreadable.keys():
        pairs = sorted(books.values.get(key, []), key=lambda pair: pair[0])
        values = [value for _, value in pairs]
        kind = str(metrics[key[0]].measures[0].aggregation)
        answer = answer_of(kind, values)
        found[key] = (answer, books.unreadable.get(key, 0))
    return found


def answer_of(kind: str, values: list[Any]) -> str | None:
    """The answer of one cell, its values in the order of the log clock."""
    if kind == "count":
        return str(len(values))
    if kind == "count_distinct":
        return str(len(set(values)))
    if kind == "sum":
        return plain(sum(values, Fraction()))
    if not values:
        return None
    return plain({"max": max(values), "min": min(values), "latest": values[-1]}[kind])
