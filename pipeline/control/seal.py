"""Seals of control records: who may write to the topic is not yet who may decide numbers.

A record carries, in a header, an HMAC-SHA256 over the topic's name and its own bytes, with a
secret that the deployment's processes share. Where the secret is set, a record without a right
seal is passed over with its reason. The topic's name is in the seal, so that a record of another
deployment is worth nothing here; a seal counts once, so that an old record cannot be said again.

Several secrets may be given: the first one seals, all of them open. So a secret is replaced in two
steps: first NEW,OLD everywhere; OLD goes when no record under it has to be read any more, which is
never for a deployment that keeps its log.
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from typing import Final

HEADER: Final = "recount-seal"
SECRET_BYTES_MIN: Final = 32


class Seals:
    """The seals of one topic. Without secrets nothing is sealed, and everything is let through."""

    def __init__(self, topic: str, secrets: Sequence[bytes] = ()) -> None:
        self._topic = topic.encode()
        self._secrets = tuple(secrets)
        self._seen: set[bytes] = set()

    def headers(self, value: bytes) -> list[tuple[str, bytes]]:
        """The headers of a record that is written."""
        if not self._secrets:
            return []
        return [(HEADER, self._seal(self._secrets[0], value))]

    def refusal(self, value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> str | None:
        """Say why a record is passed over, or None; a seal that is right is remembered."""
        if not self._secrets:
            return None
        given = [seal for name, seal in headers if name == HEADER]
        if len(given) != 1:
            return "it is not sealed, and RECOUNT_CONTROL_KEY is set"
        wanted = [self._seal(secret, value or b"") for secret in self._secrets]
        if not any(hmac.compare_digest(given[0] or b"", each) for each in wanted):
            return "its seal is not that of RECOUNT_CONTROL_KEY"
        if given[0] in self._seen:
            return "it was on the log before: a seal counts once"
        self._seen.add(given[0])
        return None

    def _seal(self, secret: bytes, value: bytes) -> bytes:
        sealed = len(self._topic).to_bytes(8) + self._topic + value
        return hmac.new(secret, sealed, hashlib.sha256).hexdigest().encode()
