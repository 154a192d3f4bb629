"""After retention cut the log, the audit calls no right cell wrong, and still finds wrong ones."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.core.cells import CellKey
from pipeline.core.records import LogRecord
from pipeline.core.verdicts import duplicates_in, pack

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


def count_cells(world: World) -> dict[int, CellKey]:
    """The total of the metric COUNT of each day that has one, by day."""
    cells = world.store._partitions[0].cells
    found = [cell for cell in cells if cell.measure.startswith("COUNT") and not cell.grouping_set]
    return {cell.bucket // 24 - NOW_MS // DAY_MS: cell for cell in found}


CHAIN = [(day, 0) for day in (0, 4, 5, 9, 10, 14)]


def test_verdicts_that_hang_on_what_is_gone_are_the_stored_ones() -> None:
    """One id on days 0, 4, 5, 9, 10, 14, cut at day 4: it counted on 5 and 10, as was judged."""
    world = world_of(CHAIN)
    cut(world, 1)
    found, days = audited(world), count_cells(world)

    # Without day 0 the log says: 4, 9 and 14. Up to noon of day 6 events that are gone may lie.
    assert sorted(days) == [0, 5, 10]
    assert (found.mismatches, found.unverifiable_cells * 3) == (0, found.cells * 2)
    held = world.store._partitions[0].cells
    extra = days[10]._replace(bucket=days[10].bucket + 4 * 24)
    for cell, text in ((days[10], "2"), (extra, "1")):
        right = held.get(cell)
        held[cell] = text
        assert audited(world).mismatches == 1
        if right is None:
            del held[cell]
        else:
            held[cell] = right
    assert audited(world).mismatches == 0


@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("how", ["lost", "one lost", "one more", "another"])
def test_kept_verdicts_are_recounted(at: int, how: str) -> None:
    """A list of verdicts that is not what the log says is a mismatch, before and after a cut."""
    world = world_of([*CHAIN, *((day, day) for day in range(1, 20))])
    held = world.store._partitions[0].duplicates
    stored = [int(offset) for offset in duplicates_in(held, world.state.trimmed)]
    assert len(stored) == 3
    counted = next(n for n in range(22, 5, -1) if n not in stored)
    cut(world, at)
    assert audited(world).mismatches == 0
    wrong = {
        "lost": [],
        "one lost": stored[:-1],
        "one more": sorted([*stored, counted]),
        "another": sorted([*stored[:-1], counted]),
    }[how]
    held[:] = pack(wrong)

    found = audited(world)
    assert found.mismatches > 0
    assert any(line.get("counter", "").endswith("verdicts") for line in found.lines)
    held[:] = [*pack(stored), *pack(stored)]  # what a torn commit leaves
    assert audited(world).mismatches == 0


def test_stored_verdicts_must_agree_with_each_other() -> None:
    """What one verdict says of the time before the cut binds those that come after it."""
    world = world_of([(4, 0), (5, 0), (8, 0), (8, 0)])  # counted on day 4, repeated ever since
    cut(world, 1)
    assert audited(world).mismatches == 0
    held = world.store._partitions[0]
    total = next(iter(count_cells(world).values()))
    held.cells[total._replace(bucket=total.bucket + 4 * 24)] = "1"
    held.duplicates[:] = pack([1, 2])  # on day 8: once repeated, once counted
    held.fields |= {"duplicate": "2", "counted": "2"}
    found = audited(world)

    assert [line.get("counter", "cell") for line in found.lines] == ["cell", "verdicts"]


@pytest.mark.parametrize("days", [(0, 4, 5, 9, 10, 16), (0, 4, 30 - 3)])
def test_a_pause_longer_than_the_window_needs_no_verdict(days: tuple[int, ...]) -> None:
    """The last one is counted whatever was before and whatever the store says of it."""
    world = world_of([(day, 0) for day in days])
    cut(world, 1)
    assert audited(world).mismatches == 0
    held, cell = world.store._partitions[0], count_cells(world)[days[-1]]
    right = held.cells.pop(cell)
    held.duplicates += pack([len(days) - 1])
    found = audited(world)

    wrong = [line["cell"] for line in found.lines if "cell" in line]
    assert wrong == [{**cell._asdict()}]
    held.cells[cell] = right
    assert [line.get("counter") for line in audited(world).lines] == ["verdicts", "kept verdicts"]


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
