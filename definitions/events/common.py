"""What the translations share: the arrival of a body, times, hashes."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from ..formats.bodies import Problems, dump_json
from ..limits import nested_deeper
from ..times import NS_PER_S

_DATE_TIME: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)
_NAMED_CHARS_MAX: Final = 128
KEPT_BYTES_MAX: Final = 16_384  # of what an event holds besides; of more nothing is kept
KEPT_NESTING_MAX: Final = 16
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a body came, and where identities come from for systems that have none.

    received_at: aware; when the whole body was there. new_id: a fresh random text at each call.
    oldest, newest: how far before and after its arrival an event may lie, by the deployment's
    limits (CM12); None is no limit. The defaults are Metronome's own. environments: of Statsig's
    events those that count, in small letters (CS24); None is all.
    """

    received_at: datetime
    new_id: Callable[[], str]
    oldest: timedelta | None = timedelta(days=34)
    newest: timedelta = timedelta(hours=24)
    environments: frozenset[str] | None = frozenset({"production"})


class ReadEvent(NamedTuple):
    """An event in our form.

    which: what its sender knows it by, for messages. pointer: its place in the body.
    """

    which: str
    pointer: str
    event: dict[str, Any]


def named(index: int, event: object, member: str = "transaction_id") -> str:
    """Which event of a batch: its place from 0 on, and its own id where it has one.

    member: of the event, which tells it from others for its sender.
    """
    identity = event.get(member) if isinstance(event, dict) else None
    if not isinstance(identity, str) or not identity:
        return f"events[{index}]"
    return f"events[{index}] ({member} {json.dumps(identity[:_NAMED_CHARS_MAX])})"


def add_named(problems: Problems, own: Problems, which: str) -> None:
    """Add an event's own problems, each with which event it is about."""
    for problem in own.found:
        problems.add(problem.rule, problem.pointer, f"{which}: {problem.message}")


def too_far(at_ns: int, arrival: Arrival) -> str | None:
    """Say why an event's time is not taken by its age, or None."""
    ahead_s = at_ns / NS_PER_S - arrival.received_at.timestamp()
    newest, oldest = arrival.newest, arrival.oldest
    if ahead_s > newest.total_seconds():
        is_at, most = _apart(ahead_s, newest.total_seconds())
        return f"{is_at} ahead of the clock; at most {most}"
    if oldest is not None and -ahead_s > oldest.total_seconds():
        is_at, most = _apart(-ahead_s, oldest.total_seconds())
        return f"{is_at} old; at most {most} here"
    return None


def _apart(seconds: float, most: float) -> tuple[str, str]:
    """Two time spans for people; in seconds where they would read alike."""
    texts = _spelt(seconds), _spelt(most)
    return texts if texts[0] != texts[1] else (f"{seconds:.1f} seconds", f"{most:.1f} seconds")


def _spelt(seconds: float) -> str:
    """A time span for people."""
    for name, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f}".removesuffix(".0") + f" {name}"
    return f"{seconds:.1f} seconds"


def instant(text: str) -> datetime | None:
    """Read a date-time; without an offset it is UTC. None where it is none."""
    if not _DATE_TIME.fullmatch(text):
        return None
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def of_milliseconds(value: int) -> datetime | None:
    """Return the instant of Unix milliseconds; None outside the years 1 to 9999."""
    try:
        return _EPOCH + timedelta(milliseconds=value)
    except OverflowError:
        return None


def digest(*parts: str) -> str:
    """Hash texts, each with its length, so that no two lists of texts are one."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode()
        hashed.update(len(raw).to_bytes(8, "big") + raw)
    return hashed.hexdigest()


def kept(members: dict[str, Any]) -> dict[str, Any]:
    """Return what of an event nothing reads, as it came: the log keeps it.

    Empty members are left out; so is all of it beyond a bound, which must not refuse an event.
    """
    held = {name: each for name, each in members.items() if is_full(each)}
    text = dump_json(held)
    fits = len(text.encode()) <= KEPT_BYTES_MAX and not nested_deeper(text, held, KEPT_NESTING_MAX)
    return held if fits else {}


def is_full(value: object) -> bool:
    """Whether a member says anything."""
    return value not in (None, {}, [])
