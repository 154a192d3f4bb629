"""The thread that folds, so that the event loop fetches and sends meanwhile.

native/ lets go of Python's lock while it folds, so both get on. Without native/ a thread would
only take turns with the loop, and a short fold costs less than the way to a thread and back:
both are done at once.

Rule 1: one thread, whatever the process owns: two folds never run side by side, so what
definitions and customers are remembered by needs no lock.
Rule 2: whoever waits here may be cancelled, and the fold goes on to its end. Its owner is released
then, and nobody looks at what it changed (app/desk.py, release).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
_RECORDS_MIN: Final = 2_000  # native/ folds as many in the time of some ways to a thread
_THREAD: Final = ThreadPoolExecutor(1, thread_name_prefix="fold")


async def folded(work: Callable[[], T], *, records: int, is_native: bool) -> T:
    """Return what a fold of so many records returns."""
    if is_native and records >= _RECORDS_MIN:
        return await asyncio.get_running_loop().run_in_executor(_THREAD, work)
    return work()
