"""`recount events`: the events behind a number, and events by their content."""

from contextlib import aclosing
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from ..errors import BadParameter, ExitCode, UsageError
from ..reads.behind import Behind, Recounted
from ..reads.query import Query
from ..reads.search import Search, Sought
from .open import opened
from .output import TableOption, progress, show, wait, write_json
from .usage import group_filters

_BEHIND: Final = "of"  # what `recount events METRIC` means
_FOUND: Final = 100  # events of a search, unless more are asked for


class _Events(TyperGroup):
    """The two commands. What is no name of one is a metric."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command that the arguments name, and the arguments that are left for it."""
        if args[0] not in self.commands:
            args = [_BEHIND, *args]
        return super().resolve_command(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        cls=_Events,
        help="Show the events behind a number (recount events METRIC), or search by content.",
        no_args_is_help=True,
    )
    group.command(_BEHIND)(events)
    group.command("search")(search)
    app.add_typer(group, name="events")


StartingOn = Annotated[
    str,
    typer.Option(
        "--starting-on", "--from", help="Events from this time on, RFC 3339: 2026-11-01T00:00:00Z."
    ),
]
EndingBefore = Annotated[
    str, typer.Option("--ending-before", "--to", help="Events before this time, RFC 3339.")
]


def search(
    *,
    starting_on: StartingOn,
    ending_before: EndingBefore,
    customer: Annotated[str | None, typer.Option(help="Only this customer's events.")] = None,
    event_type: Annotated[
        str | None, typer.Option("--type", help="Only events of this type.")
    ] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option("--property", help="Only events with name=value; repeatable: all must hold."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = _FOUND,
    table: TableOption = False,
) -> None:
    """Find events by what they say, each with its fate and why each metric counts it or not.

    The times are those of the events. Only the part of the log is read in which
    such events can lie; with --customer only that customer's partition. The last
    line says how many were found, and whether there are more.

    Example: recount events search --from 2026-11-03T00:00:00Z --to
    2026-11-04T00:00:00Z --customer acme --type call --property region=eu
    """
    try:
        sought = Sought.of(
            customer, starting_on, ending_before, properties or (), event_type=event_type
        )
    except BadParameter as error:
        raise UsageError(f"--{error.parameter.replace('_', '-')}: {error.why}") from error

    async def work() -> dict[str, Any]:
        count, lines = 0, list[dict[str, Any]]()
        async with opened() as deployment:
            searching = Search(
                deployment.identity, deployment.control.state, deployment.store, deployment.log
            )
            with progress("read") as (bar, task):
                found = searching.lines(
                    sought,
                    lambda total: bar.update(task, total=total),
                    lambda done: bar.advance(task, done),
                )
                async with aclosing(found) as each_of:
                    async for line in each_of:
                        if count == limit:
                            return {"events": count, "more": True}
                        count += 1
                        if table:
                            lines.append(_row(line))
                        else:
                            write_json([line])
            if lines:
                show(lines, table=True)
        return {"events": count, "more": False}

    show([wait(work())], table=table)


def _row(line: dict[str, Any]) -> dict[str, Any]:
    """What a table shows of an event; explain tells the rest."""
    names = ("timestamp", "customer_id", "event_type", "transaction_id", "fate")
    counted = [each["metric"] for each in line.get("metrics", ()) if each["matched"]]
    place = f"{line['partition']}@{line['offset']}"
    return {"place": place, **{name: line.get(name) for name in names}, "matched_by": counted}


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
