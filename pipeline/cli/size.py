"""`recount size`: what a deployment takes for a load."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from ..deploy.sizing import Load, markdown, size_of
from ..errors import UsageError
from .output import TableOption, show


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("size")(size)


def size(
    events_per_second: Annotated[
        float | None, typer.Option(help="Sustained, of all customers together.")
    ] = None,
    customers: Annotated[int, typer.Option(min=1, help="That send events.")] = 1_000,
    metrics: Annotated[int, typer.Option(min=1, help="That count an event.")] = 3,
    dedup_window_days: Annotated[
        float, typer.Option(help="How long an event's identity is remembered.")
    ] = 35.0,
    days: Annotated[int, typer.Option(min=1, help="How long numbers are kept.")] = 365,
    table: TableOption = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="The tables of docs/sizing.md.")
    ] = False,
) -> None:
    """Compute brokers, partitions, workers, shards of Redis and the memory of each.

    From constants that benchmarks measured, and assumptions: docs/sizing.md has
    both. Nothing is asked of Kafka or Redis.

    Example: recount size --events-per-second 10000 --customers 100000 --metrics 20
    """
    if as_markdown:
        sys.stdout.writelines(f"{line}\n" for line in markdown())
        return
    if events_per_second is None:
        raise UsageError("give --events-per-second")
    for name, value, most in (
        ("--events-per-second", events_per_second, 1e9),
        ("--dedup-window-days", dedup_window_days, 1e6),
    ):
        if not 0 < value <= most:
            raise UsageError(f"{name} is a number above 0, at most {most:,.0f}")
    load = Load(events_per_second, customers, metrics, dedup_window_days, days)
    show([asdict(size_of(load))], table=table)
