"""demo --serve: live events through the HTTP door, a worker that counts them, and the page."""

import json
import sys
from contextlib import AbstractContextManager
from itertools import count
from typing import Any, Final, Protocol
from urllib.error import URLError
from urllib.request import Request, urlopen

from ..edges.clock import SystemClock
from ..errors import LogUnavailable
from .demo_data import EVENTS, live_events

_AT_ONCE: Final = 80
_PAUSE_S: Final = 0.4  # some 200 events a second
_ANSWER_S_MAX: Final = 10.0
_UP_S_MAX: Final = 60.0


class Commands(Protocol):
    """What runs `recount …` against the deployment of the demo."""

    def lines(self, *arguments: str) -> list[Any]:
        """Run a command; return its JSON lines."""
        ...

    def running(self, *arguments: str) -> AbstractContextManager[Any]:
        """A command that ends with the block."""
        ...


def go_on(recount: Commands, port: int) -> None:
    """Send events, count them and serve the page until Ctrl-C."""
    made = recount.lines(
        "keys", "create", "--name", "demo", "--role", "manage", "--role", "ingest"
    )
    key, url = made[0]["key"], f"http://127.0.0.1:{port}"
    with recount.running("worker"), recount.running("serve", "--port", str(port)) as server:
        try:
            _wait_for(f"{url}/page/login", server)
            sys.stdout.write(
                f"\nThe page, with live events: {url}/\nlog in with the key: {key}\n"
                "Ctrl-C ends it, and deletes nothing but this demo.\n"
            )
            sys.stdout.flush()
            _send_for_ever(f"{url}/v1/ingest", key)
        except KeyboardInterrupt:
            sys.stderr.write("ending …\n")


def _wait_for(url: str, server: Any) -> None:
    clock = SystemClock()
    deadline = clock.monotonic() + _UP_S_MAX
    while clock.monotonic() < deadline and server.poll() is None:
        try:
            with urlopen(url, timeout=_ANSWER_S_MAX):  # noqa: S310  our own server
                return
        except (URLError, OSError):
            clock.pause(_PAUSE_S)
    raise LogUnavailable("the server of the demo did not start; what it says stands above")


def _send_for_ever(url: str, key: str) -> None:
    clock = SystemClock()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    for first in count(EVENTS, _AT_ONCE):
        body = json.dumps(live_events(first, _AT_ONCE, clock.now())).encode()
        try:
            with urlopen(Request(url, body, headers), timeout=_ANSWER_S_MAX):  # noqa: S310
                pass
        except (URLError, OSError) as error:
            sys.stderr.write(f"events were not taken: {error}\n")
        clock.pause(_PAUSE_S)
