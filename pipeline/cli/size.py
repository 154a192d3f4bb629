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
    check_above_0("--events-per-second", events_per_second, 1e9)
    check_above_0("--dedup-window-days", dedup_window_days, 1e6)
    load = Load(events_per_second, customers, metrics, dedup_window_days, days)
    show([asdict(size_of(load))], table=table)


def check_above_0(name: str, value: float, most: float) -> None:
    """Refuse what nothing can be computed from."""
    if not 0 < value <= most:
        raise UsageError(f"{name} is a number above 0, at most {most:,.0f}")


def told_of(load: Load, partitions: int) -> str:
    """Say in a sentence what a load takes.

    Raises:
        UsageError: so many partitions are too few; that cannot be mended later.
    """
    size = size_of(load)
    takes = (
        f"{load.events_per_second:,g} events/s of {load.customers:,} customers, with "
        f"{load.metrics:,} metrics and a dedup window of {load.dedup_window_days:g} days, take "
        f"{size.partitions:,} partitions, {size.brokers:,} brokers, {size.workers:,} worker "
        f"processes of {size.worker_gib:g} GiB and {size.shards:,} shards of Redis of "
        f"{size.shard_gib:g} GiB (docs/sizing.md)"
    )
    if partitions < size.partitions:
        raise UsageError(
            f"{takes}. {partitions:,} partitions are too few, and customers stay for ever in "
            f"those that the deployment is made with: give --partitions {size.partitions}, or "
            "make it without --expected-events-per-second"
        )
    return takes
