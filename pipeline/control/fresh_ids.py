"""Ids of new metrics, in the form that their system gives."""

import secrets
import uuid
from datetime import datetime
from typing import Final

# Crockford's base 32, as ULIDs are written.
_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHARS: Final = 26
_RANDOM_BYTES: Final = 10


def fresh_id(format_: str, now: datetime) -> str:
    """Return the id of a new metric: Klaviyo's is a ULID, which begins with the time."""
    if format_ != "klaviyo":
        return str(uuid.uuid4())
    stamp_ms = int(now.timestamp() * 1000)
    rest = stamp_ms << 8 * _RANDOM_BYTES | int.from_bytes(secrets.token_bytes(_RANDOM_BYTES))
    text = ""
    for _ in range(_CHARS):
        rest, digit = divmod(rest, len(_DIGITS))
        text = _DIGITS[digit] + text
    return text
