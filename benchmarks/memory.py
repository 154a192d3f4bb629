"""What is kept costs memory: `make bench-memory`, or `python -m benchmarks.memory`.

A million cells of each aggregation, written by the worker's own commits and measured by Redis
itself; then ten million identities (identities.py).
"""

import argparse
import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from definitions.metric import Aggregation
from pipeline.core.activation import Activation
from pipeline.core.aggregations import Partial, Position, encode_partial
from pipeline.core.cells import CellKey
from pipeline.core.commit import Answer, Commit
from pipeline.core.state import PartitionState
from pipeline.edges.redis import RedisStore
from tests.services import fresh, services

from .identities import measure as measure_ids
from .measuring import machine
from .traffic import now

HOURS = 24
CELLS_A_COMMIT = 6_000
_EPOCH_DAY = 20_000  # of the cells; some day of 2024


def _value(number: int) -> Decimal:
    return Decimal(number * 37 % 10_000_000) / 100


def _place(number: int) -> Position:
    """A reading that arrived within a day after its event."""
    event_ms = 1_772_366_400_123 + number
    return Position(event_ms * 1_000_000, event_ms + number * 37 % 86_400_000, 3, number)


PARTIALS: dict[Aggregation, Callable[[int], Any]] = {
    Aggregation.COUNT: lambda number: number % 5_000 + 1,
    Aggregation.SUM: _value,
    Aggregation.MAX: _value,
    Aggregation.MIN: _value,
    Aggregation.MEAN: lambda number: (_value(number), number % 500 + 1),
    Aggregation.LATEST: lambda number: (_place(number), _value(number)),
    Aggregation.FIRST: lambda number: (_place(number), _value(number)),
    Aggregation.UNIQUE: lambda _: frozenset(),
}


async def measure(url: str, kind: Aggregation, cells: int) -> float:
    """Bytes of Redis a cell: a day of hourly cells of as many customers as that takes.

    A UNIQUE cell has one element, so it is the bytes of an element and its cell.
    """
    store = RedisStore(url, fresh("memory"))
    client = store._client  # noqa: SLF001  a question about Redis itself
    before = (await client.info("memory"))["used_memory"]
    active = {"m_0123456789abcdef#1": Activation(0, -1, "d", 0, 1)}
    state = PartitionState(store_id="0" * 32, topic_id="t", start=0, next=0, active=active)
    await store.register(0, state)
    pending: dict[CellKey, int] = {}
    for number in range(cells):
        customer, hour = divmod(number, HOURS)
        bucket = _EPOCH_DAY * HOURS + hour
        pending[CellKey("m_0123456789abcdef#1.0", f"customer-{customer:06d}", bucket, 0, ())] = (
            number
        )
        if len(pending) == CELLS_A_COMMIT or number == cells - 1:
            after = replace(state, next=state.next + 1)
            unique = kind is Aggregation.UNIQUE
            commit = Commit(
                partition=0,
                before=state,
                after=after,
                cells={}
                if unique
                else {
                    key: encode_partial(kind, Partial(PARTIALS[kind](at), 0))
                    for key, at in pending.items()
                },
                elements={key: {f"user-{at:07d}"} for key, at in pending.items()}
                if unique
                else {},
                new_cells=pending,
            )
            assert await store.apply(commit) is Answer.APPLIED
            state = after
            pending = {}
    used = (await client.info("memory"))["used_memory"] - before
    await client.flushdb()
    await store.close()
    return float(used / cells)


def main() -> None:
    """Print a table, and keep the figures with --save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--ids", type=int, default=10_000_000)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    table = Table("kept", "bytes of Redis each")
    told: dict[str, Any] = {"at": f"{now():%Y-%m-%d %H:%M} UTC", "machine": machine(), "cells": {}}
    with services() as found:
        for kind in PARTIALS:
            used = asyncio.run(measure(found.redis, kind, options.cells))
            told["cells"][kind.value] = round(used, 1)
            table.add_row(f"a cell of {kind.value}, of {options.cells:,}", f"{used:.1f}")
            print(f"{kind.value}: {used:.1f}", flush=True)
        ids = told["ids"] = asyncio.run(measure_ids(found.redis, options.ids))
    table.add_row(f"an identity, of {options.ids:,}", str(ids["redis_bytes_an_id"]))
    Console().print(table)
    print(json.dumps(ids))
    if options.save:
        path = Path(__file__).parent / "results" / "memory.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
