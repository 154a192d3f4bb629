"""metrics create, list, show, rename, update, archive, check."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from definitions.errors import DefinitionError
from definitions.formats import FORMATS, guess, native_body, parse
from definitions.formats.bodies import parse_json
from definitions.times import rfc3339

from ..control.entities import Metric
from ..control.writer import status_of
from ..edges.clock import SystemClock
from ..errors import ExitCode, UnknownNameError, UsageError
from ..reads.summary import summary_of
from .open import Opened, opened
from .output import TableOption, show, wait, write_json

Id = Annotated[str, typer.Argument(metavar="METRIC", help="Id or name.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Metric definitions.", no_args_is_help=True)
    for name, command in (
        ("create", create),
        ("list", list_command),
        ("show", show_command),
        ("rename", rename),
        ("update", update),
        ("check", check),
        ("archive", archive),
    ):
        group.command(name)(command)
    app.add_typer(group, name="metrics")


def create(
    file: Annotated[str, typer.Argument(help="One native JSON body; - is stdin.")],
    format_: Annotated[str, typer.Option("--format", help="klaviyo, metronome or statsig.")],
    effective_from: Annotated[str | None, typer.Option(help="RFC 3339 or now.")] = None,
) -> None:
    """Register a metric. It counts what workers apply after they have heard of it.

    What was applied before is not counted, however young, until `recount rebuild` applies the log
    again. --effective-from leaves events out that are older than this time.
    """
    if format_ not in FORMATS:
        raise UsageError(f"--format is one of {', '.join(sorted(FORMATS))}")
    text = _read(file)
    parse(format_, text)  # an invalid definition is told without a deployment
    wait(_create(format_, text, effective_from))


async def _create(format_: str, text: str, effective_from: str | None) -> None:
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
        show([_created(made, await _unresolved(deployment, made))])


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
    file: Annotated[str, typer.Argument(help="A native update body; - is stdin.")],
    effective_from: Annotated[str, typer.Option(help="RFC 3339, or now (default).")] = "now",
) -> None:
    """Change a metric: a new version from a base-bucket boundary on, where the old one ends."""

    async def work() -> dict[str, Any]:
        async with opened() as deployment:
            found = deployment.metric(metric)
            changed = await deployment.writer.update(found, _read(file), effective_from)
            return _created(changed, await _unresolved(deployment, changed))

    show([wait(work())])


def check(
    files: Annotated[list[str], typer.Argument(help="Native create bodies.")],
    format_: Annotated[
        str | None, typer.Option("--format", help="Default: as each body looks.")
    ] = None,
) -> None:
    """Print every problem of every file, with its rule and place. Exit 3 if there is any."""
    if format_ is not None and format_ not in FORMATS:
        raise UsageError(f"--format is one of {', '.join(sorted(FORMATS))}")
    lines, refused = [], False
    for file in files:
        text = _read(file)
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


def _read(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode()
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not UTF-8: {error}") from error


async def _summaries(deployment: Opened, metrics: list[Metric]) -> list[dict[str, Any]]:
    standings = await deployment.reader.standings() if metrics else {}
    now = SystemClock().now()
    reader, find = deployment.reader, deployment.control.state.find_typed
    unresolved = await reader.unresolved(metrics, find)
    return [summary_of(each, reader, standings, now, unresolved[each.id]) for each in metrics]


def list_command(
    all_: Annotated[bool, typer.Option("--all", help="Archived ones too.")] = False,
    table: TableOption = False,
) -> None:
    """List the metrics."""

    async def work() -> list[dict[str, Any]]:
        async with opened() as deployment:
            metrics = list(deployment.control.state.metrics.values())
            shown = [metric for metric in metrics if all_ or metric.archived_at is None]
            return await _summaries(deployment, shown)

    show(wait(work()), table=table)


def show_command(
    metric: Id,
    format_: Annotated[
        str | None, typer.Option("--format", help="metronome: the native body; neutral.")
    ] = None,
) -> None:
    """Show a metric; --format gives the native body back unchanged."""

    async def work() -> Any:
        async with opened() as deployment:
            found = deployment.metric(metric)
            body = found.latest.body
            if format_ is None:
                return (await _summaries(deployment, [found]))[0]
            if body is None:
                raise UnknownNameError(f"{found.name!r} was written by a release unknown here")
            if format_ == "neutral":
                return {"id": found.id, "name": found.name, **body.model_dump(mode="json")}
            if format_ != body.definition.origin.format:
                raise UsageError(f"{found.name!r} was given as {body.definition.origin.format}")
            return native_body(found.origin, found.name)

    write_json([wait(work())])


def rename(metric: Id, name: Annotated[str, typer.Argument(help="The new name.")]) -> None:
    """Give a metric another name. No new version: what is counted stays."""
    if not name.strip():
        raise UsageError("a name must not be blank")

    async def work() -> list[dict[str, Any]]:
        async with opened() as deployment:
            found = deployment.metric(metric)
            await deployment.writer.rename(found, name)
            return await _summaries(deployment, [deployment.metric(found.id)])

    show(wait(work()))


def archive(
    metric: Id,
    at: Annotated[str | None, typer.Option("--at", help="RFC 3339; default: now.")] = None,
) -> None:
    """End a metric at a base-bucket boundary. What it counted before stays readable."""

    async def work() -> list[dict[str, Any]]:
        async with opened() as deployment:
            found = deployment.metric(metric)
            await deployment.writer.archive(found, at or "now")
            return await _summaries(deployment, [deployment.metric(found.id)])

    show(wait(work()))
