"""A TCP proxy between a worker and a service: exact crash points without hooks in the product."""

import hashlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pipeline.edges
from pipeline.stack.processes import free_port

_APPLY = Path(pipeline.edges.__path__[0]) / "lua" / "apply.lua"
COMMIT = hashlib.sha1(_APPLY.read_bytes()).hexdigest().encode()  # noqa: S324  how Redis names it
_NO_LINGER = struct.pack("ii", 1, 0)
_RECV = 65_536

Match = Callable[[bytes], bool]


def is_commit(data: bytes) -> bool:
    """Whether bytes hold the beginning of a commit."""
    return COMMIT in data


def anything(data: bytes) -> bool:
    """Whether there are any bytes."""
    return bool(data)


def _takes_leave(data: bytes) -> bool:
    """Whether bytes end with TLS' close_notify: an alert of two bytes, encrypted as 1.3 does."""
    return data[-24:-19] == b"\x17\x03\x03\x00\x13"


class _Link:
    """One connection, both ways."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.deaf = False  # replies are swallowed from now on
        self.is_over = False  # the client has left, or says that it will

    def reset(self) -> None:
        """Close both ends so that the peers see a reset."""
        for end in (self.near, self.far):
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()


class Proxy:
    """Forwards to a port of this machine, until told otherwise.

    caught: how often a request or a reply was held, swallowed or flipped: a fault that missed
    proves nothing. commits: how many commits came by. connections: how many were made. firsts: the
    first bytes of clients, and how many connections began with each. dropped: how many
    connections the service ended before the client had taken leave.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.port = port or free_port()
        self.caught = 0
        self.commits = 0
        self.connections = 0
        self.firsts: Counter[int] = Counter()
        self.dropped = 0
        self.delay_s = 0.0
        self._target = target
        self._links: list[_Link] = []
        self._lock = threading.Condition()
        self._hold: Match | None = None
        self._swallow: Match | None = None
        self._flip: Match | None = None
        self._refusing = False
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening, and reset what is open."""
        self._listener.close()
        self.release()
        self.reset()

    # -- what can be done to traffic -----------------------------------------------------------

    def hold(self, match: Match = anything) -> None:
        """Keep back requests that match, and whatever follows them, until release()."""
        with self._lock:
            self._hold = match

    def swallow(self, match: Match = anything) -> None:
        """Forward requests that match, but no reply on their connection any more."""
        with self._lock:
            self._swallow = match

    def flip(self, match: Match = anything) -> None:
        """Flip one bit in the middle of the next reply that matches."""
        with self._lock:
            self._flip = match

    def refuse(self) -> None:
        """Take no new connection, and reset those there are."""
        self._refusing = True
        self.reset()

    def release(self) -> None:
        """Let everything through again."""
        with self._lock:
            self._hold = self._swallow = self._flip = None
            self._refusing = False
            self.delay_s = 0.0
            self._lock.notify_all()

    def reset(self) -> None:
        """Reset every connection."""
        links, self._links = self._links, []
        for link in links:
            link.reset()

    @contextmanager
    def delaying(self, seconds: float) -> Iterator[None]:
        """Delay every piece of traffic, both ways."""
        self.delay_s = seconds
        try:
            yield
        finally:
            self.delay_s = 0.0

    # -- traffic -------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                near.close()
                continue
            link = _Link(near, far)
            if self._refusing:
                link.reset()
                continue
            far.settimeout(None)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._links.append(link)
            self.connections += 1
            threading.Thread(target=self._requests, args=(link,), daemon=True).start()
            threading.Thread(target=self._replies, args=(link,), daemon=True).start()

    def _requests(self, link: _Link) -> None:
        begun = False
        try:
            while data := link.near.recv(_RECV):
                if not begun:
                    self.firsts[data[0]], begun = self.firsts[data[0]] + 1, True
                self._pause()
                self.commits += is_commit(data)
                link.is_over |= _takes_leave(data)
                with self._lock:
                    if self._hold is not None and self._hold(data):
                        self.caught += 1
                        while self._hold is not None:
                            self._lock.wait()
                    if self._swallow is not None and self._swallow(data):
                        self.caught += 1
                        link.deaf = True
                link.far.sendall(data)
        except OSError:
            pass
        link.is_over = True
        link.reset()

    def _replies(self, link: _Link) -> None:
        try:
            while data := link.far.recv(_RECV):
                self._pause()
                if link.deaf:
                    continue
                with self._lock:
                    if self._flip is not None and self._flip(data):
                        self.caught += 1
                        self._flip = None
                        middle = len(data) // 2
                        data = data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]
                link.near.sendall(data)
            self.dropped += not link.is_over
        except OSError:
            pass
        link.is_over = True
        link.reset()

    def _pause(self) -> None:
        if self.delay_s:
            threading.Event().wait(self.delay_s)
