"""The thread that folds, so that the event loop fetches and sends meanwhile.

native/ lets go of Python's lock while it folds, so both get on. Without native/ a thread would
only take turns with the loop, and a short fold costs less than the way to a thread and back:
both are done at once, unless the thread is busy.

Rule 1: one fold at a time, whatever the process owns: what definitions and customers are
remembered by needs no lock.
Rule 2: whoever waits here may be cancelled, and the fold goes on to its end. Its owner is released
then, and nobody looks at what it changed (app/desk.py, release).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, TypeVar

from ..ports import Clock

T = TypeVar("T")
_RECORDS_MIN: Final = 2_000  # native/ folds as many in the time of some ways to a thread
_THREAD: Final = ThreadPoolExecutor(1, thread_name_prefix="fold")
_running: set["Future[Any]"] = set()  # what the thread has not ended


async def folded(
    work: Callable[[], T], clock: Clock, *, records: int, is_native: bool
) -> tuple[T, float]:
    """Return what a fold of so many records returns, and how many seconds it took.

    The wait for another partition's fold does not count: shorter slices would not make it shorter.
    """

    def timed() -> tuple[T, float]:
        began = clock.monotonic()
        return work(), clock.monotonic() - began

    if not _running and not (is_native and records >= _RECORDS_MIN):
        return timed()
    fold = _THREAD.submit(timed)
    _running.add(fold)
    fold.add_done_callback(_running.discard)
    return await asyncio.wrap_future(fold)
