"""API keys: made at random, kept as hashes on the control log, told apart in constant time."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from typing import Any, Final

from definitions.times import rfc3339

from ..ports import Clock
from .entities import CLIENT_KEY, SERVER_KEY, ApiKey
from .log import ControlLog

_PREFIX: Final = "rk"
_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_KEY_CHARS_MAX: Final = 200
# How a key looks that a client of this vendor takes: the head, then letters and digits alone.
_HEADS: Final[Mapping[str, str]] = {SERVER_KEY: "secret-", CLIENT_KEY: "client-"}
LIKE: Final = tuple(_HEADS)


async def create_key(
    control: ControlLog, clock: Clock, name: str, roles: Iterable[str], like: str | None = None
) -> tuple[ApiKey, str]:
    """Make a key; return it with its text, which is nowhere else.

    like: a vendor's form, one of LIKE; None is our own.
    """
    key_id = secrets.token_hex(_ID_BYTES)
    if like is None:
        text = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    else:
        text = f"{_HEADS[like]}{key_id}{secrets.token_hex(_SECRET_BYTES)}"
    record: dict[str, Any] = {
        "type": "key",
        "key_id": key_id,
        "name": name,
        "roles": sorted(set(roles)),
        "hashed": _hash(text),
        "created_at": rfc3339(clock.now()),
        **({} if like is None else {"like": like}),
    }
    await control.write(record)
    return control.state.keys[key_id], text


async def revoke_key(control: ControlLog, key_id: str) -> None:
    """Make a key worth nothing, at every server as soon as it reads on."""
    await control.write({"type": "key_end", "key_id": key_id})


def key_of(keys: Mapping[str, ApiKey], text: str) -> ApiKey | None:
    """Return the key that a text is, or None.

    The id in it is public and finds the hash; the comparison takes the same time wherever two
    hashes differ, and a text with an unknown id is hashed and compared as well.
    """
    if len(text) > _KEY_CHARS_MAX:
        return None
    found = keys.get(_id_of(text))
    wanted = _hash("") if found is None else found.hashed
    same = hmac.compare_digest(_hash(text), wanted)
    return found if same else None


def _id_of(text: str) -> str:
    for head in _HEADS.values():
        if text.startswith(head):
            return text[len(head) :][: 2 * _ID_BYTES]
    parts = text.split("_", 2)
    return parts[1] if len(parts) == 3 else ""


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
