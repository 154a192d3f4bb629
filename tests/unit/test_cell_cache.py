"""Cells that are kept for the next flushes: bounded in bytes, whatever they are called."""

import asyncio
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.app.cell_cache import CellCache, bytes_of
from pipeline.core.aggregations import Partial
from pipeline.core.cells import CellKey
from pipeline.core.compiled import MODULE
from pipeline.core.names import FIELDS_CHARS_MAX, Names

from ..property.test_laws import assert_recount
from ..world import World, event
from .test_names import record

TEXTS = st.text(max_size=40)
CELLS = st.builds(
    CellKey,
    st.just("m#1.0"),
    TEXTS,
    st.integers(0, 5),
    st.integers(0, 2),
    st.lists(st.none() | TEXTS, max_size=3).map(tuple),
)
FLUSHES = st.lists(st.dictionaries(CELLS, st.builds(Partial, st.integers(), st.just(0))))


@settings(max_examples=50)
@given(FLUSHES, st.integers(0, 5_000))
def test_it_holds_no_more_than_its_bound_and_only_what_was_kept_last(
    flushes: list[dict[CellKey, Partial]], bytes_max: int
) -> None:
    """Its bytes are those of its cells, within the bound; a cell is absent or as kept last."""
    cache, last = CellCache(bytes_max), dict[CellKey, Partial]()
    for flush in flushes:
        cache.keep(flush)
        last |= flush

        assert cache.nbytes <= bytes_max
        held = {cell: cache.get(cell) for cell in last if cache.get(cell) is not None}
        assert len(held) == len(cache)
        assert cache.nbytes == sum(map(bytes_of, held))
        assert all(partial == last[cell] for cell, partial in held.items())


def test_cells_that_fit_stay() -> None:
    """75,000 live cells where 100,000 have room, flushes of 30,000: each is loaded once."""
    cells = [CellKey("m#1.0", f"c{number:06}", 0, 0, ()) for number in range(75_000)]
    cache, loads = CellCache(100_000 * bytes_of(cells[0])), 0
    for flush in range(20):
        touched = [cells[(flush * 30_000 + at) % len(cells)] for at in range(30_000)]
        loads += sum(cache.get(cell) is None for cell in touched)
        cache.keep(dict.fromkeys(touched, Partial(1, 0)))

    assert loads == len(cells) == len(cache)


def test_what_is_used_again_outlives_what_is_not() -> None:
    """Customers who come once each do not push out those who come in every flush."""
    often = [CellKey("m#1.0", f"often{number:04}", 0, 0, ()) for number in range(300)]
    cache, loads = CellCache(1_000 * bytes_of(often[0])), 0
    for flush in range(50):
        once = [CellKey("m#1.0", f"o{flush:04}{at:04}", 0, 0, ()) for at in range(300)]
        loads += sum(cache.get(cell) is None for cell in often)
        cache.keep(dict.fromkeys([*often, *once], Partial(1, 0)))

    assert loads == len(often)


def test_the_estimate_is_no_less_than_the_memory() -> None:
    """400 KB of names in a few cells, and many plain cells: counted at what they really take."""
    kinds: list[Callable[[int], CellKey]] = [
        lambda number: CellKey("m", f"{number:08}", 1, 0, ()),
        lambda number: CellKey("m", chr(0x1F600 + number % 50) * 250, number, 0, ()),
        lambda number: CellKey("m", f"{number:08}", 1, 1, ("é" * 120 + str(number), None)),
    ]
    for made in kinds:
        tracemalloc.start()
        cache = CellCache(1 << 30)
        for at in range(0, 20_000, 1_000):
            cells = (made(number) for number in range(at, at + 1_000))
            cache.keep({cell: Partial(Decimal(12_345_678), 0) for cell in cells})
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert used < cache.nbytes < 5 * used


@pytest.mark.parametrize("native", [None, MODULE], ids=["python", "native"])
@pytest.mark.parametrize("bytes_max", [0, 900, 2_000])
def test_a_worker_without_room_for_cells_counts_the_same(
    native: ModuleType | None, bytes_max: int
) -> None:
    """Every flush loads what it needs: slower, and exact."""
    world = World(cells_bytes_max=bytes_max, native=native)
    for number in range(5):
        world.append([event(number * 10 + at, customer_id=f"c{at}") for at in range(6)])
        asyncio.run(world.apply())
    assert_recount(world)


def test_learned_names_are_bounded_together() -> None:
    """Names of 200 characters in any number of types: at most two million characters are kept."""
    names, offset = Names(), 0
    for kind in range(40):
        for part in range(0, 400, 200):
            properties = {f"{number:0200}": 1 for number in range(part, part + 200)}
            name = f"{kind:0200}"
            names.keep(names.look([record(offset, name, properties)], {name: offset}))
            offset += 1

    kept = sum(map(len, names.held))
    assert 0.95 * FIELDS_CHARS_MAX < kept < 1.05 * FIELDS_CHARS_MAX  # types have their own bound
