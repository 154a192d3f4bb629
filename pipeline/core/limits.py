"""Bounds: of rejected events, and of the memory that the past of a metric may take.

How many events may be rejected before that is no longer the producers' fault alone?

A bad deploy must not dead-letter a day: past a limit the worker stops before it writes anything of
the flush. What `rejected redrive` sends again without loss (REDRIVABLE) is not held against it.
Nor is an event that became too old on its way by less than an hour: a door judges ages before it
sends, so its clients can cause no other rejection, and they must never stop a stream.
Nor is a correction that takes nothing back: nothing is lost with it.
Limits decide when a worker stops, never what a flush contains.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .reasons import OF_CORRECTIONS, REDRIVABLE
from .records import DeadLetter

_NOT_HELD: Final = REDRIVABLE | OF_CORRECTIONS
_KEY_BYTES_MAX: Final = 64  # that a message shows
RECENT_EVENTS: Final = 20_000  # over which the ratio is taken
MEMORY_SHARE_MAX: Final = 0.8  # of the limit of Redis; the rest is for live events


def is_scarce(used: int, limit: int) -> bool:
    """Whether the past of metrics must wait for memory. limit: in bytes, 0 is none."""
    return bool(limit) and used > limit * MEMORY_SHARE_MAX


@dataclass(frozen=True, slots=True)
class Limits:
    """0 is no limit. consecutive_max: events. ratio_max: of the last RECENT_EVENTS events."""

    consecutive_max: int
    ratio_max: float


class Rejections:
    """What a partition's last plans rejected."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._consecutive = 0
        self._recent: deque[tuple[int, int]] = deque()

    def add(self, offsets: Sequence[int], letters: Sequence[DeadLetter]) -> str | None:
        """Take a plan's offsets and dead letters; return what is too much, or None."""
        held = {
            letter.record.offset
            for letter in letters
            if letter.rejected.reason not in _NOT_HELD and not letter.rejected.nearly
        }
        self._recent.append((len(offsets), len(held)))
        if not held:
            self._consecutive = 0
            return None
        longest = run = self._consecutive
        for offset in offsets:
            run = run + 1 if offset in held else 0
            longest = max(longest, run)
        self._consecutive = run
        limits = self._limits
        if limits.consecutive_max and longest > limits.consecutive_max:
            return f"{longest} events in a row were rejected{_mostly(letters)}"
        total, rejected = self._totals()
        if limits.ratio_max and total >= RECENT_EVENTS and rejected > total * limits.ratio_max:
            return f"{rejected} of the last {total} events were rejected{_mostly(letters)}"
        return None

    def _totals(self) -> tuple[int, int]:
        total = sum(taken for taken, _ in self._recent)
        while total - self._recent[0][0] >= RECENT_EVENTS:
            total -= self._recent.popleft()[0]
        return total, sum(rejected for _, rejected in self._recent)


def _mostly(letters: Sequence[DeadLetter]) -> str:
    ((reason, _),) = Counter(letter.rejected.reason for letter in letters).most_common(1)
    letter = next(letter for letter in letters if letter.rejected.reason == reason)
    said = f", most of them {reason} (offset {letter.record.offset}: {letter.rejected.detail})"
    ((key, times),) = Counter(letter.record.key for letter in letters).most_common(1)
    if key is None or times * 2 < len(letters):
        return said
    return f"{said}; {times} of {len(letters)} have the key {key[:_KEY_BYTES_MAX]!r}"
