"""What a browser holds after somebody gave a key: a cookie that this server sealed.

Rule 1: the cookie names a key and a moment, and never holds the key. The key is looked up for
every request, so a revoked key ends its sessions at once.
Rule 2: nothing is kept for a session, so nobody can fill a server with them. Only those that were
ended by hand are remembered, until they would have ended by themselves.
Rule 3: servers with the same RECOUNT_CONTROL_KEY open each other's sessions. Without it, each
server has a secret of its own, made at its start.
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SESSION_S: Final = 8 * 3_600  # a working day; then the key is asked for again
COOKIE_CHARS_MAX: Final = 512
_ENDED_MAX: Final = 10_000
_SEAL_BYTES: Final = 32
_NONCE_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Session:
    """What an open cookie says. until_s: seconds since 1970."""

    key_id: str
    until_s: int
    nonce: str


class Sessions:
    """Seals sessions and opens them.

    Args:
        secrets_: What seals records of the control log, the first one in use; or nothing.
    """

    def __init__(self, secrets_: Sequence[bytes] = ()) -> None:
        given = [
            hashlib.blake2b(each, digest_size=32, person=b"recount session").digest()
            for each in secrets_
        ]
        self._secrets = given or [secrets.token_bytes(32)]
        self._ended: OrderedDict[str, int] = OrderedDict()  # nonce → until_s

    def begin(self, key_id: str, now_s: int) -> str:
        """Return the cookie of a new session."""
        held = {"k": key_id, "u": now_s + SESSION_S, "n": secrets.token_urlsafe(_NONCE_BYTES)}
        raw = json.dumps(held, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._seal(self._secrets[0], raw) + raw).decode()

    def opened(self, cookie: str, now_s: int) -> Session | None:
        """Return the session of a cookie; None where it is not ours, too old, or was ended."""
        if not cookie.isascii() or len(cookie) > COOKIE_CHARS_MAX:
            return None
        try:
            sealed = base64.b64decode(cookie, b"-_", validate=True)
        except ValueError:
            return None
        if base64.urlsafe_b64encode(sealed).decode() != cookie:
            return None  # bits beside the last byte: another spelling
        seal, raw = sealed[:_SEAL_BYTES], sealed[_SEAL_BYTES:]
        if not any(hmac.compare_digest(seal, self._seal(each, raw)) for each in self._secrets):
            return None
        held = json.loads(raw)
        found = Session(held["k"], held["u"], held["n"])
        return None if found.until_s <= now_s or found.nonce in self._ended else found

    def end(self, session: Session, now_s: int) -> None:
        """Open a session no more, at this server."""
        for nonce, until_s in list(self._ended.items()):
            if until_s <= now_s or len(self._ended) >= _ENDED_MAX:
                del self._ended[nonce]
        self._ended[session.nonce] = session.until_s

    def token(self, session: Session) -> str:
        """Return what each POST of a session has to send: another site cannot know it."""
        return self._seal(self._secrets[0], b"post " + session.nonce.encode()).hex()

    def is_token(self, session: Session, text: str) -> bool:
        """Whether a text is the token of a session."""
        said = b"post " + session.nonce.encode()
        return any(
            hmac.compare_digest(self._seal(each, said).hex().encode(), text.encode())
            for each in self._secrets
        )

    def _seal(self, secret: bytes, raw: bytes) -> bytes:
        return hmac.digest(secret, raw, "sha256")
