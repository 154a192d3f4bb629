"""What the translations share: the arrival of a body, times, hashes."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

_DATE_TIME: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Arrival:
    """When a body came, and where identities come from for systems that have none.

    received_at: aware. new_id: a fresh random text at each call.
    judge_age: whether Metronome's accepted times are checked (CM12); the log judges by its own
    clock, so only doors ask.
    """

    received_at: datetime
    new_id: Callable[[], str]
    judge_age: bool = True


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
