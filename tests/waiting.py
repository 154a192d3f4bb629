"""Waiting for a condition, with a limit. No test sleeps."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_POLL = threading.Event()


def eventually(condition: Callable[[], T], *, within_s: float, because: str) -> T:
    """Return the first true value of a condition, or fail saying what it saw last."""
    deadline = time.monotonic() + within_s
    while True:
        seen = condition()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"{because}: not within {within_s} s; saw {seen!r}"
        _POLL.wait(0.1)
