"""`recount events`: the events behind a number."""

from contextlib import aclosing
from typing import Annotated

import typer

from ..errors import BadParameter, ExitCode, UsageError
from ..reads.behind import Behind, Recounted
from ..reads.query import Query
from .open import opened
from .output import TableOption, progress, show, wait, write_json
from .usage import group_filters


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("events")(events)


def events(
    metric: Annotated[str, typer.Argument(metavar="METRIC", help="Id or name of a metric.")],
    customer: Annotated[str, typer.Option(help="Whose number.")],
    starting_on: Annotated[
        str, typer.Option(help="Start of the period, RFC 3339, included: 2026-11-01T00:00:00Z.")
    ],
    ending_before: Annotated[str, typer.Option(help="End of the period, RFC 3339, not included.")],
    group: Annotated[
        list[str] | None,
        typer.Option(help="One group: name=value for each name of a group key; repeatable."),
    ] = None,
    table: TableOption = False,
) -> None:
    """Show every event that a number counts: its place in the log and what it contributed.

    Last comes the number as `recount usage` has it, and a recount of these
    events. Exit 1 if they differ. Only the part of the log is read that can hold
    such events. Duplicates and events that a metric does not count are not told
    of: see `recount explain`.

    Example: recount events Tokens --customer acme --starting-on
    2026-11-01T00:00:00Z --ending-before 2026-12-01T00:00:00Z --group model=large
    """
    wanted = group_filters(group or [], "--group")

    async def work() -> Recounted:
        async with opened() as deployment:
            state = deployment.control.state
            try:
                query = Query.of(
                    deployment.metric(metric),
                    customer=customer,
                    starting_on=starting_on,
                    ending_before=ending_before,
                    group_key=tuple(wanted),
                    group_filters=wanted,
                    find=state.find_typed,
                )
            except BadParameter as error:
                option = error.parameter.replace("_", "-")
                raise UsageError(f"--{option}: {error.why}") from error
            reader = deployment.reader
            behind = Behind(deployment.identity, state, deployment.store, deployment.log, reader)
            with progress("read") as (bar, task):
                found = behind.events(
                    query,
                    lambda total: bar.update(task, total=total),
                    lambda done: bar.advance(task, done),
                )
                async with aclosing(found) as batches:
                    async for batch in batches:
                        if isinstance(batch, Recounted):
                            show([batch.line(reader.topic)], table=table)
                            return batch
                        if table:
                            show(batch, table=True)
                        else:
                            write_json(batch)
            raise AssertionError("an answer has an end")

    found = wait(work())
    if found.value != found.usage and not found.lost:
        raise typer.Exit(ExitCode.DIFFERENCE)
