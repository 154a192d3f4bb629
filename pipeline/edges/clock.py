"""The only reader of the system clock."""

import time
from datetime import UTC, datetime, timedelta


class SystemClock:
    """Processing time of this machine."""

    def now(self) -> datetime:
        """Return the present moment, UTC."""
        return datetime.now(UTC)  # noqa: TID251  the one place that may

    def monotonic(self) -> float:
        """Return seconds that never step back."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Wait, blocking the thread."""
        time.sleep(seconds)


class SetClock:
    """A clock that stands until it is moved: the twin for tests."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._start = start

    def now(self) -> datetime:
        """Return the moment it was set to."""
        return self._now

    def monotonic(self) -> float:
        """Return the seconds it was moved by."""
        return (self._now - self._start).total_seconds()

    def move(self, by: timedelta) -> None:
        """Let time pass."""
        self._now += by
