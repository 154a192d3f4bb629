"""The socket that a server listens on: connections are counted where they are accepted.

That is before TLS and before HTTP, so a connection that never says anything counts too. One that
is too many is closed at once: whoever opens them holds nothing of the server.
"""

import socket
from collections import Counter
from ipaddress import ip_address
from typing import Any

from ...errors import UsageError

_BACKLOG = 2_048
OPEN_MAX = 2_000  # connections of a server, those that shake hands or are being closed included


class Listening(socket.socket):
    """A listening socket with bounds.

    of_address_max: connections of an address that may be open; 0 is no limit.
    """

    __slots__ = ("_of_address", "_of_address_max")

    def bound(self, of_address_max: int) -> None:
        """Set the bound, before anything is accepted."""
        self._of_address_max = of_address_max
        self._of_address: Counter[str] = Counter()

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Raises:
            ConnectionAbortedError: it was one too many, and is closed. The loop asks again.
        """
        taken, address = super().accept()
        host = str(address[0])
        most, held = self._of_address_max, self._of_address[host]
        if (most and held >= most) or self._of_address.total() >= OPEN_MAX:
            taken.close()
            raise ConnectionAbortedError("too many connections")
        self._of_address[host] = held + 1
        counted = _Counted(taken.family, taken.type, taken.proto, fileno=taken.detach())
        counted.counted_in(self._of_address, host)
        return counted, address


class _Counted(socket.socket):
    """A connection that leaves the count when it is closed."""

    __slots__ = ("_counts", "_host")

    def counted_in(self, counts: Counter[str], host: str) -> None:
        self._counts: Counter[str] | None = counts
        self._host = host

    def close(self) -> None:
        """Close it."""
        super().close()
        counts, self._counts = self._counts, None
        if counts is not None:
            counts[self._host] -= 1
            if not counts[self._host]:
                del counts[self._host]


def listening(host: str, port: int, of_address_max: int) -> Listening:
    """Listen on an address.

    Raises:
        UsageError: the address or the port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family, backlog=_BACKLOG) as made:
            bounded = Listening(made.family, made.type, made.proto, fileno=made.detach())
    except OSError as error:
        raise UsageError(f"--host {host} --port {port}: {error.strerror or error}") from error
    bounded.bound(of_address_max)
    return bounded


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
