"""What is kept costs memory: `make bench-memory`, or `python -m benchmarks.memory`.

A million hourly cells of each aggregation for each of three metrics, written by the worker's own
commits and measured by Redis itself; then ten million identities (identities.py).
"""

import argparse
import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from definitions.formats import metronome
from definitions.metric import Aggregation, MetricVersion
from pipeline.core.aggregations import Partial, Position
from pipeline.core.cells import CellKey, Change
from pipeline.core.commit import Answer, settle, transitions
from pipeline.core.plan import Plan
from pipeline.core.state import PartitionState
from pipeline.edges.redis import RedisStore
from tests.services import fresh, services
from tests.world import versions

from . import aims
from .identities import measure as measure_ids
from .measuring import machine
from .traffic import now

HOURS = 24
METRICS = 3  # of a customer, all of one aggregation
CELLS = 1_000_000  # of one metric
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


def metrics(kind: Aggregation) -> list[MetricVersion]:
    """METRICS versions of one measure, all of an aggregation."""
    of_value = {"aggregation_key": "n", "property_filters": [{"name": "n", "exists": True}]}
    word = "COUNT" if kind is Aggregation.COUNT else "SUM"
    body = {"aggregation_type": word, **({} if word == "COUNT" else of_value)}
    found = {}
    for number in range(METRICS):
        name = f"m_{number:016x}"  # as long as an id that the product makes
        _, definition = metronome.parse(json.dumps({"name": name, **body}))
        measure = definition.measures[0].model_copy(update={"aggregation": kind})
        found[name] = definition.model_copy(update={"measures": (measure,)})
    return versions(found)


def batches(measures: Sequence[str], customers: int) -> Iterator[list[CellKey]]:
    """Yield the cells of a day, hour by hour, as many as a commit has."""
    found: list[CellKey] = []
    for hour in range(HOURS):
        bucket = _EPOCH_DAY * HOURS + hour
        for customer in range(customers):
            owner = f"customer-{customer:06d}"
            found += [CellKey(measure, owner, bucket, 0, ()) for measure in measures]
            if len(found) >= CELLS_A_COMMIT or customer == customers - 1:
                yield found
                found = []


async def measure(url: str, kind: Aggregation, cells: int) -> float:
    """Bytes of Redis a cell: a day of hourly cells, METRICS each, of as many customers.

    They come hour by hour, as a log brings them, through activation, settle() and apply(): what
    they are in Redis is the product's own business. A UNIQUE cell has one element, so it is the
    bytes of an element and its cell.
    """
    store = RedisStore(url, fresh("memory"))
    client = store._client  # noqa: SLF001  a question about Redis itself
    before = (await client.info("memory"))["used_memory"]
    state = PartitionState(store_id="0" * 32, topic_id="t", start=0, next=0)
    await store.register(0, state)
    made = metrics(kind)
    active = transitions(state, made, ends_ms={}, max_age_ms=0)
    count = 0
    for cell_keys in batches([f"{version.key}.0" for version in made], cells // HOURS):
        plan = Plan(state.next, state.next + 1, state.clock_ms, (state.next, 0), None)
        for number, key in enumerate(cell_keys, count):
            if kind is Aggregation.UNIQUE:
                plan.elements[key] = {f"user-{number:07d}"}
            else:
                plan.cells[key] = Change(kind, Partial(PARTIALS[kind](number), 0))
        commit, _ = settle(0, state, active, plan, dict.fromkeys(cell_keys))
        assert await store.apply(commit) is Answer.APPLIED
        state = active = commit.after
        count += len(cell_keys)
    used = (await client.info("memory"))["used_memory"] - before
    await client.flushdb()
    await store.close()
    return float(used / count)


def main() -> None:
    """Print a table, and keep the figures with --save."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--cells", type=int, default=CELLS)
    parser.add_argument("--ids", type=int, default=10_000_000)
    parser.add_argument("--only", default=",".join(kind.value for kind in PARTIALS))
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    table = Table("kept", "bytes of Redis each")
    told: dict[str, Any] = {"at": f"{now():%Y-%m-%d %H:%M} UTC", "machine": machine(), "cells": {}}
    with services() as found:
        for kind in map(Aggregation, options.only.split(",")):
            used = asyncio.run(measure(found.redis, kind, options.cells))
            told["cells"][kind.value] = round(used, 1)
            title = f"a cell of {kind.value}, of {METRICS} x {options.cells:,}"
            table.add_row(title, f"{used:.1f}")
            print(f"{kind.value}: {used:.1f}", flush=True)
        ids = told["ids"] = asyncio.run(measure_ids(found.redis, options.ids))
    table.add_row(f"an identity, of {options.ids:,}", str(ids["redis_bytes_an_id"]))
    Console().print(table)
    print(json.dumps(ids))
    figures = {
        f"bytes of a cell of {kind.name}, three metrics": told["cells"][kind.value]
        for kind in PARTIALS
        if kind.value in told["cells"]
    }
    known = {aim.what for aim in aims.AIMS}
    figures = {what: used for what, used in figures.items() if what in known}
    aims.note(aims.MEMORY, figures, now(), short=options.cells < CELLS)
    Console(width=170).print(aims.table(aims.MEMORY))
    if options.save:
        path = Path(__file__).parent / "results" / "memory.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
