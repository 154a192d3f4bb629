"""After retention cut the log, the audit calls no right cell wrong, and still finds wrong ones."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.core.records import LogRecord

from ..world import DAY_MS, FIVE, NOW_MS, World, deployment, event
from .test_audit import ShortLog, audited

LIMITS = deployment(dedup_window_ms=4 * DAY_MS, max_age_ms=2 * DAY_MS, max_ahead_ms=2 * DAY_MS)
Sent = tuple[int, int]  # day, id


def world_of(sent: list[Sent], shift_days: int = 0) -> World:
    """A world where a worker has applied these, each with a value of its own."""
    world = World(metrics=FIVE, log=ShortLog(1), settings=LIMITS)
    for number, (day, name) in enumerate(sorted(sent)):
        stamp = f"2026-03-{1 + day + shift_days:02}T12:00:00Z"
        value = {"v": number, "g": "x"}
        world.append([event(name, timestamp=stamp, properties=value)], NOW_MS + day * DAY_MS)
    asyncio.run(world.apply())
    return world


def cut(world: World, at: int) -> None:
    """Let retention take what lies before an offset."""
    assert isinstance(world.log, ShortLog)
    world.log.begins = at


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 24), st.integers(0, 3)), min_size=1, max_size=40),
    st.integers(0, 40),
    st.integers(0, 2),
)
@example([(0, 0), (4, 0), (5, 0), (9, 0), (10, 0), (14, 0)], 1, 0)
@example([(0, 0), (4, 0), (5, 0), (9, 0), (10, 0), (14, 0), (15, 0), (19, 0)], 1, 0)
def test_no_right_cell_is_called_wrong(sent: list[Sent], at: int, shift: int) -> None:
    """Whatever was repeated over the cut, and for however long, nothing right is a mismatch."""
    world = world_of(sent, shift)
    assert audited(world).mismatches == 0
    cut(world, min(at, len(sent) - 1))
    found = audited(world)

    assert (found.mismatches, found.lines) == (0, [])


def test_a_verdict_that_hangs_on_what_is_gone_is_unverifiable() -> None:
    """One id on days 0, 4, 5, 9, 10, 14, cut at day 4: its fate at 5 hangs on 0, and so on."""
    world = world_of([(day, 0) for day in (0, 4, 5, 9, 10, 14)])
    cut(world, 1)
    found = audited(world)

    # Counted on days 0, 5 and 10. Without day 0 also 4, 9 and 14 are possible, and never known.
    assert (found.mismatches, found.unverifiable_cells, found.cells) == (0, *[found.cells] * 2)
    assert found.cells > 0


@pytest.mark.parametrize("days", [(0, 4, 5, 9, 10, 16), (0, 4, 30 - 3)])
def test_a_pause_longer_than_the_window_ends_the_doubt(days: tuple[int, ...]) -> None:
    """The last one is counted whatever was before: a wrong cell there is a mismatch."""
    world = world_of([(day, 0) for day in days])
    cut(world, 1)
    assert audited(world).mismatches == 0
    held = world.store._partitions[0].cells
    last = max((cell for cell in held if cell.measure.startswith("COUNT")), key=lambda c: c.bucket)
    held[last] = "99"

    assert audited(world).mismatches == 1


def test_a_log_that_is_cut_while_it_is_read_is_read_again() -> None:
    """Records that went meanwhile are no mismatch: the audit begins again behind them."""
    world = world_of([(day, day) for day in range(20)])
    log = world.log
    assert isinstance(log, ShortLog)
    asked = log.read

    def read(partition: int, lo: int, hi: int) -> AsyncIterator[Sequence[LogRecord]]:
        log.begins = 3
        return asked(partition, max(lo, log.begins), hi)

    log.read = read  # type: ignore[method-assign]
    found = audited(world)

    assert found.mismatches == 0
    assert 0 < found.unverifiable_cells < found.cells
