"""Klaviyo's filter and sort of events, and the filter of metrics (docs/formats.md 1.6)."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from definitions.events.common import instant
from definitions.times import NS_PER_S

from ...core.buckets import ns_of
from ..http.errors import Refused

FILTER_CHARS_MAX: Final = 4_000
SORTS: Final = ("datetime", "-datetime", "timestamp", "-timestamp")
_EVER_NS: Final = 253_402_300_800 * NS_PER_S  # the year 10000
_TERM: Final = re.compile(
    r"""([a-z-]+)\(\s*([\w.]+)\s*(?:,\s*("(?:[^"\\]|\\.)*"|'[^'"\\]*'|[\w.:+-]+)\s*)?\)"""
)
_BOUNDS: Final = ("greater-or-equal", "greater-than", "less-or-equal", "less-than")
_WHOLE: Final = re.compile(r"[0-9]{1,11}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AskedEvents:
    """Which events: of a metric's id, of a profile, in [starting_ns, ending_ns)."""

    metric_id: str | None = None
    profile: str | None = None
    starting_ns: int = 0
    ending_ns: int = _EVER_NS


def asked_events(text: str | None) -> AskedEvents:
    """Return what a filter of events asks.

    Raises:
        Refused: it cannot be read.
    """
    found, given = AskedEvents(), set()
    for operator, name, value in _terms(text):
        known = {
            "equals": ("metric_id", "profile_id"),
            "has": ("metric", "profile"),
            **dict.fromkeys(_BOUNDS, ("datetime", "timestamp")),
        }.get(operator, ())
        if name not in known or (operator == "has") is not (value is None):
            raise _unread(f"{operator}({name},…)")
        if (operator, name) in given:
            raise Refused(400, f"{operator}({name},…) is given twice", parameter="filter")
        given.add((operator, name))
        if operator == "equals" and name == "metric_id":
            found = replace(found, metric_id=value)
        elif operator == "equals":
            found = replace(found, profile=value)
        elif value is not None:
            found = _bounded(found, operator, name, value)
    return found


def _bounded(asked: AskedEvents, operator: str, name: str, value: str) -> AskedEvents:
    at_ns = _time_of(name, value)
    if operator.startswith("greater"):
        starts = at_ns + (operator == "greater-than")
        return replace(asked, starting_ns=max(asked.starting_ns, starts))
    ends = at_ns + (operator == "less-or-equal")
    return replace(asked, ending_ns=min(asked.ending_ns, ends))


def _time_of(name: str, value: str) -> int:
    """A datetime, or a timestamp of whole seconds since 1970, in nanoseconds."""
    if name == "timestamp":
        if not _WHOLE.fullmatch(value):
            raise Refused(400, "timestamp is whole seconds since 1970", parameter="filter")
        return int(value) * NS_PER_S
    moment = instant(value)
    if moment is None:
        message = f"{value[:100]!r} is no ISO 8601 date-time"
        raise Refused(400, message, parameter="filter")
    return max(ns_of(moment), 0)


def asks_integration(text: str | None) -> bool:
    """Whether a filter of metrics asks for those of an integration; none of ours has one.

    Raises:
        Refused: it cannot be read.
    """
    terms = list(_terms(text))
    for operator, name, value in terms:
        known = name in {"integration.name", "integration.category"}
        if operator != "equals" or not known or value is None:
            raise _unread(
                f"{operator}({name},…)",
                'give equals(integration.name,"TEXT") or equals(integration.category,"TEXT")',
            )
    return bool(terms)


def _terms(text: str | None) -> Iterator[tuple[str, str, str | None]]:
    """The terms of a filter: an operator, a name, and its operand as text."""
    rest = (text or "").strip()
    if len(rest) > FILTER_CHARS_MAX:
        message = f"a filter has at most {FILTER_CHARS_MAX} characters"
        raise Refused(400, message, parameter="filter")
    if rest.startswith("and(") and rest.endswith(")"):
        rest = rest[len("and(") : -1].strip()
        if not rest:
            raise _unread("and()")
    while rest:
        match = _TERM.match(rest)
        if match is None:
            raise _unread(rest)
        yield match[1], match[2], None if match[3] is None else _operand(match[3])
        rest = rest[match.end() :].strip()
        if rest and not rest.startswith(","):
            raise _unread(rest)
        if rest.startswith(","):
            rest = rest[1:].strip()
            if not rest:
                raise _unread(",")


def _operand(text: str) -> str:
    if text.startswith("'"):
        return text[1:-1]
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except ValueError as error:
        raise _unread(text) from error


def _unread(rest: str, due: str = "") -> Refused:
    due = due or (
        'give equals(metric_id,"ID"), equals(profile_id,"ID"), and '
        f"{', '.join(_BOUNDS)} of datetime or timestamp, with commas between them"
    )
    return Refused(400, f"the filter cannot be read at {rest[:100]!r}; {due}", parameter="filter")
