"""metrics create, list, show, rename, update, archive, check; try and replace have their own."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from definitions.errors import DefinitionError
from definitions.formats import FORMATS, guess, native_body, parse
from definitions.formats.bodies import parse_json
from definitions.times import rfc3339

from ..control.entities import Metric
from ..control.writer import status_of
from ..edges.clock import SystemClock
from ..errors import ExitCode, UnknownNameError, UsageError
from ..reads.history import BACKFILLING, History
from .bodies import check_body, read_body
from .open import Opened, opened
from .output import TableOption, progress, show, wait, write_json
from .replacing import replace
from .trial import try_

_POLL_S = 0.2
_SEE: Final = (
    "what it wrote stays, and workers go on with it: `recount metrics list` shows what there is"
)
Id = Annotated[str, typer.Argument(metavar="METRIC", help="Id or name of a metric.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Create, try, change, check and list metrics.", no_args_is_help=True)
    for name, command in (
        ("create", create),
        ("list", list_command),
        ("show", show_command),
        ("rename", rename),
        ("update", update),
        ("check", check),
        ("try", try_),
        ("replace", replace),
        ("archive", archive),
    ):
        group.command(name)(command)
    app.add_typer(group, name="metrics")


def create(
    file: Annotated[str, typer.Argument(help="A create body of the format, JSON; - is stdin.")],
    format_: Annotated[str, typer.Option("--format", help="klaviyo, metronome or statsig.")],
    effective_from: Annotated[
        str | None, typer.Option(help="Older events are not counted: RFC 3339, or now.")
    ] = None,
    wait_: Annotated[
        bool, typer.Option("--wait", help="End when the past of the log is counted too.")
    ] = False,
) -> None:
    """Create a metric. It counts all that the log holds, and what comes.

    What was applied before is read again by the workers, beside the live
    events; `recount metrics show` says how far that is.

    Example: recount metrics create --format metronome metric.json
    """
    if format_ not in FORMATS:
        raise UsageError(f"--format is one of {', '.join(sorted(FORMATS))}")
    text = read_body(file)
    check_body(format_, text)  # an invalid definition is told without a deployment
    wait(_create(format_, text, effective_from, waits=wait_), stopped=_SEE)


async def _create(format_: str, text: str, effective_from: str | None, *, waits: bool) -> None:
    async with opened() as deployment:
        writer = deployment.writer
        name, definition = writer.parse(format_, text)
        if format_ == "statsig" and parse_json(text).get("dryRun"):
            reasons = list(definition.reasons)
            status = "unsupported" if reasons else "dry_run"
            show([{"id": None, "name": name, "status": status, "reasons": reasons}])
            return
        starts = writer.boundary(effective_from)
        made = await writer.create(name, definition, starts)
        line = _created(made, await _unresolved(deployment, made))
        if waits:
            line |= (await _counted(deployment, made)).members
        show([line])


async def _counted(deployment: Opened, metric: Metric) -> History:
    """Wait until a metric's past is counted in every partition; return its history then."""
    reader = deployment.reader
    with progress("history") as (bar, task):
        while True:
            standings = await reader.standings()
            found = (await reader.progress.of_metrics([metric], standings)).get(metric.id)
            if found is not None:
                bar.update(task, completed=found.counted, total=found.total)
                if found.word != BACKFILLING:
                    return found
            await asyncio.sleep(_POLL_S)


async def _unresolved(deployment: Opened, metric: Metric) -> list[str]:
    find = deployment.control.state.find_typed
    return (await deployment.reader.unresolved([metric], find))[metric.id]


def _created(metric: Metric, unresolved: list[str]) -> dict[str, Any]:
    body = metric.latest.body
    starts = None if body is None else body.effective_from
    return {
        "id": metric.id,
        "version": metric.latest.number,
        "name": metric.name,
        "status": status_of(metric, SystemClock().now()),
        "effective_from": None if starts is None else rfc3339(starts),
        "reasons": [] if body is None else list(body.definition.reasons),
        **({"unresolved": unresolved} if unresolved else {}),
    }


def update(
    metric: Id,
    file: Annotated[str, typer.Argument(help="An update body of the format, JSON; - is stdin.")],
    effective_from: Annotated[
        str, typer.Option(help="RFC 3339, or now: the next bucket.")
    ] = "now",
) -> None:
    """Change a metric. A new version begins at the start of a base bucket, and the old one ends.

    If the change does not alter what is counted (a description, for example),
    there is no new version.
    """

    async def work() -> dict[str, Any]:
        async with opened() as deployment:
            found = deployment.metric(metric)
            changed = await deployment.writer.update(found, read_body(file), effective_from)
            return _created(changed, await _unresolved(deployment, changed))

    show([wait(work(), stopped=_SEE)])


def check(
    files: Annotated[list[str], typer.Argument(help="Files with create bodies.")],
    format_: Annotated[
        str | None, typer.Option("--format", help="Default: guessed from each body.")
    ] = None,
) -> None:
    """Check definitions without a deployment: print every problem with its rule and place.

    Exit 3 if there is any problem.

    Example: recount metrics check *.json
    """
    if format_ is not None and format_ not in FORMATS:
        raise UsageError(f"--format is one of {', '.join(sorted(FORMATS))}")
    lines, refused = [], False
    for file in files:
        text = read_body(file)
        about = {"file": file, "format": format_ or guess(text)}
        try:
            name, definition = parse(about["format"], text)
        except DefinitionError as error:
            refused = True
            lines += [{**about, **asdict(problem)} for problem in error.problems]
        else:
            reasons = list(definition.reasons)
            lines.append(
                {**about, "name": name, "class": definition.execution, "reasons": reasons}
            )
    show(lines)
    if refused:
        raise typer.Exit(ExitCode.DEFINITION)


def list_command(
    all_: Annotated[bool, typer.Option("--all", help="Also archived metrics.")] = False,
    table: TableOption = False,
) -> None:
    """List the metrics with their status, and whether their values can be read."""

    async def work() -> list[dict[str, Any]]:
        async with opened(reads=True) as deployment:
            metrics = list(deployment.control.state.metrics.values())
            shown = [metric for metric in metrics if all_ or metric.archived_at is None]
            return await deployment.summaries(shown)

    show(wait(work()), table=table)


def show_command(
    metric: Id,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="The format it was given in, or neutral: print this body."),
    ] = None,
) -> None:
    """Show a metric. With --format, print its native body unchanged, or the neutral model."""

    async def work() -> Any:
        async with opened(reads=True) as deployment:
            found = deployment.metric(metric)
            body = found.latest.body
            if format_ is None:
                return (await deployment.summaries([found]))[0]
            if body is None:
                raise UnknownNameError(
                    f"{found.name!r} was written by a later release; this one cannot show it"
                )
            if format_ == "neutral":
                return {"id": found.id, "name": found.name, **body.model_dump(mode="json")}
            if format_ != body.definition.origin.format:
                raise UsageError(
                    f"--format: {found.name!r} was created as {body.definition.origin.format}; "
                    "give this format, or neutral"
                )
            return native_body(found.origin, found.name)

    write_json([wait(work())])


def rename(metric: Id, name: Annotated[str, typer.Argument(help="The new name.")]) -> None:
    """Give a metric another name. Its numbers do not change."""
    if not name.strip():
        raise UsageError("a name must not be blank")

    async def work() -> list[dict[str, Any]]:
        async with opened() as deployment:
            found = deployment.metric(metric)
            await deployment.writer.rename(found, name)
            return await deployment.summaries([deployment.metric(found.id)])

    show(wait(work(), stopped=_SEE))


def archive(
    metric: Id,
    at: Annotated[
        str | None, typer.Option("--at", help="RFC 3339; default: the next bucket.")
    ] = None,
    drop_history: Annotated[
        bool, typer.Option("--drop-history", help="Do not count the rest of its past.")
    ] = False,
) -> None:
    """Archive a metric: it ends at the start of a base bucket. Its numbers stay readable."""

    async def work() -> list[dict[str, Any]]:
        async with opened() as deployment:
            found = deployment.metric(metric)
            await deployment.writer.archive(found, at or "now", drop_history=drop_history)
            return await deployment.summaries([deployment.metric(found.id)])

    show(wait(work(), stopped=_SEE))
