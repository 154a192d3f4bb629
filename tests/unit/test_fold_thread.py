"""A long fold of native/ leaves the event loop free; others are done at once."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest

from pipeline.app import fold_thread
from pipeline.edges.clock import SystemClock

T = TypeVar("T")
LONG = 50_000  # records
CLOCK = SystemClock()


async def folded(work: Callable[[], T], *, records: int, is_native: bool) -> T:
    """What the fold returns."""
    found, _ = await fold_thread.folded(work, CLOCK, records=records, is_native=is_native)
    return found


async def test_the_wait_for_another_fold_is_not_counted() -> None:
    """Else slices would shrink because there are many partitions."""

    def work() -> None:
        threading.Event().wait(0.1)

    folds = (fold_thread.folded(work, CLOCK, records=LONG, is_native=True) for _ in range(5))
    took = [took_s for _, took_s in await asyncio.gather(*folds)]
    assert sum(took) >= 0.5
    assert sorted(took)[2] < 0.2


async def test_the_loop_goes_on_while_a_long_fold_runs() -> None:
    """What the loop does meanwhile is what the fold waits for."""
    went_on = threading.Event()

    async def other() -> None:
        went_on.set()

    beside = asyncio.create_task(other())
    assert await folded(lambda: went_on.wait(20), records=LONG, is_native=True)
    await beside


@pytest.mark.parametrize(("records", "is_native"), [(LONG, False), (100, True)])
async def test_what_gains_nothing_is_folded_at_once(records: int, *, is_native: bool) -> None:
    """Python's folds, and short ones."""
    found = await folded(threading.current_thread, records=records, is_native=is_native)
    assert found is threading.current_thread()


async def test_folds_never_run_side_by_side() -> None:
    """Whatever the process owns, short ones and Python's too."""
    busy = threading.Lock()

    def work() -> bool:
        alone = busy.acquire(blocking=False)
        threading.Event().wait(0.01)
        if alone:
            busy.release()
        return alone

    sizes = [LONG, 10, LONG, 10, 10]
    tasks = [folded(work, records=each, is_native=True) for each in sizes]
    tasks.append(folded(work, records=LONG, is_native=False))
    assert all(await asyncio.gather(*tasks))
    assert await folded(threading.current_thread, records=1, is_native=True) is (
        threading.current_thread()
    )


async def test_what_goes_wrong_is_told() -> None:
    """As if it were done at once."""

    def work() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await folded(work, records=LONG, is_native=True)
