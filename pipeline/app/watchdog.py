"""Ends a process that is alive and stuck, so that its successor goes on (docs/faults.md 38).

The main loop is watched by a thread. What the loop itself can see, a task of it watches: no
progress while records wait and both services answer, and a membership that was lost for good.
A service that is away is never a reason: restarting would not bring it back.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from ..edges.clock import SystemClock
from ..errors import ExitCode, PipelineError, Unavailable
from ..ports import Clock, EventLog
from .crash import leave

LOOP_S_MAX = 15.0
STUCK_S_MAX: Final = 20.0
_BEAT_S: Final = 0.5
_WATCH_S: Final = 1.0
_FROZEN_S: Final = 5.0  # a watch that took so long: the whole process was stopped, not the loop
_LOOK_S: Final = 3.0
_ANSWER_S_MAX: Final = 10.0

Say = Callable[[str], None]


class Stuck(PipelineError):
    """The process does nothing although it could. A supervisor starts it again."""

    exit_code = ExitCode.BUG


def watch_loop() -> tuple[Callable[[], None], Callable[[], bool]]:
    """Start the thread; return what the main loop must call, and whether it lately did."""
    clock = SystemClock()
    beat = clock.monotonic()

    def beats() -> None:
        nonlocal beat
        beat = clock.monotonic()

    def watch() -> None:
        nonlocal beat
        while True:
            began = clock.monotonic()
            clock.pause(_WATCH_S)
            now = clock.monotonic()
            if now - began > _FROZEN_S:
                beat = now  # everybody was stopped: the loop gets its time as well
            elif now - beat > LOOP_S_MAX:
                leave(Stuck(f"the main loop has not turned for {now - beat:.0f} s"))

    threading.Thread(target=watch, name="watchdog", daemon=True).start()
    return beats, lambda: clock.monotonic() - beat < LOOP_S_MAX


async def keep_beating(beats: Callable[[], None]) -> None:
    """Show the thread that the loop turns."""
    while True:
        beats()
        await asyncio.sleep(_BEAT_S)


@dataclass(frozen=True, slots=True)
class Signs:
    """What the watched part shows.

    nexts: assigned partition → its `next`; None where nobody opened it. generation: of the group
    membership, negative if there is none. store_answers: whether the store does.
    """

    nexts: Mapping[int, int | None]
    generation: int
    store_answers: bool


@dataclass(slots=True)
class Doctor:
    """Decides from signs over time whether the worker is stuck. Time is an argument."""

    session_s: float
    _since: dict[int, tuple[int | None, float]] = field(default_factory=dict)
    _lost_since: float | None = None

    def look(self, signs: Signs, ends: Mapping[int, int] | None, now: float) -> str | None:
        """Return what is wrong, or None.

        Args:
            ends: The end of every partition; None where the broker does not answer.
        """
        if ends is None or not signs.store_answers:
            self._since.clear()
            self._lost_since = None
            return None
        if signs.generation >= 0:
            self._lost_since = None
        elif self._lost_since is None:
            self._lost_since = now
        elif now - self._lost_since > max(2 * self.session_s, 10.0):
            return f"no member of the group for {now - self._lost_since:.0f} s"
        for number, at in signs.nexts.items():
            stood, since = self._since.get(number, (at, now))
            waits = at is None or at < ends.get(number, 0)
            if stood != at or not waits:
                since = now
            elif now - since > STUCK_S_MAX:
                return f"partition {number} stands at {at} for {now - since:.0f} s"
            self._since[number] = (at, since)
        self._since = {number: self._since[number] for number in signs.nexts}
        return None


async def examine(
    doctor: Doctor,
    log: EventLog,
    clock: Clock,
    signs: Callable[[], Signs],
    seen: dict[int, int],
) -> None:
    """Look for ever; leave the ends of the log in `seen`.

    Raises:
        Stuck: the worker is.
    """
    while True:
        await asyncio.sleep(_LOOK_S)
        ends = None
        try:
            async with asyncio.timeout(_ANSWER_S_MAX):
                spans = await log.spans()
            ends = {number: span.end for number, span in spans.items()}
            seen.update(ends)
        except (Unavailable, TimeoutError):
            pass  # Lane.check() tells of it
        wrong = doctor.look(signs(), ends, clock.monotonic())
        if wrong is not None:
            raise Stuck(f"{wrong} although Kafka and Redis answer; leaving for a successor")
