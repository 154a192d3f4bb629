"""`recount period …`: close a month, revise it, and prove it from the log."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..control.entities import Metric, Revision
from ..edges.clock import SystemClock
from ..errors import ExitCode, UnknownNameError, UsageError
from ..periods.period import Period, numbered, period_of, revisions_of
from ..periods.shapes import ClosedAs, told_of
from ..reads.together_query import TogetherQuery
from ..settings import duration_of
from .open import Opened, opened
from .output import TableOption, progress, show, wait

if TYPE_CHECKING:  # with numpy: other commands on periods do not wait for it
    from ..periods.closing import Closer
    from ..periods.verifying import Verdict

PERIOD: Final = "A month, a day or an hour: 2026-11, 2026-11-05, 2026-11-05T13."
Named = Annotated[str, typer.Argument(metavar="PERIOD", help=PERIOD)]
Numbered = Annotated[
    str, typer.Argument(metavar="PERIOD[#N]", help="A closed period; #N: its N-th revision.")
]
_AGAIN: Final = "run it again: parts that are whole are kept"
Zone = Annotated[str, typer.Option(help="Zone of the period: Europe/Berlin.")]
Root = Annotated[
    Path | None,
    typer.Option(help="The folder of all periods; default: RECOUNT_PERIODS_DIR.", metavar="DIR"),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    periods = typer.Typer(no_args_is_help=True, help="Close months, and prove closed numbers.")
    app.add_typer(periods, name="period")
    for command in (close, revise, verify):
        periods.command(command.__name__)(command)
    periods.command("list")(list_)
    periods.command("show")(show_)


def close(
    period: Named,
    timezone: Zone = "UTC",
    grace: Annotated[
        str, typer.Option(help="How long after its end a period may be closed: 24h, 90m.")
    ] = "24h",
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Only this metric, by id or name; repeatable. Default: all."),
    ] = None,
    to: Root = None,
    format_: Annotated[
        str, typer.Option("--format", help="Of the files: parquet, csv or jsonl.")
    ] = "parquet",
    window_size: Annotated[
        str, typer.Option(help="A row for each hour, day, week or month; none: for the period.")
    ] = "none",
    groups: Annotated[
        bool, typer.Option(help="Also a row for each group of each group key.")
    ] = True,
    decimal: Annotated[
        str | None,
        typer.Option(
            help="Parquet: also a column value_decimal of so many digits, and behind the point:"
            " 38,9. A value that does not fit ends the job."
        ),
    ] = None,
    focus: Annotated[
        bool, typer.Option("--focus", help="Call columns as FOCUS does, where it has a word.")
    ] = False,
) -> None:
    """Close a period: write its usage to files, and put that on the control log.

    Exit 3 while something lacks: a partition that is not applied through the
    period's end and the grace, records that are not applied, a metric whose past
    is being counted. Numbers that are closed never change; what comes later is a
    revision (`recount period revise`). If the job is killed, run it again: parts
    that are whole are kept. Of several jobs the first one counts.

    Example: recount period close 2026-11 --timezone Europe/Berlin --grace 24h
    """
    made_as = ClosedAs(format_, window_size, groups, _decimal(decimal), focus)

    async def work() -> dict[str, Any]:
        async with opened() as deployment:
            asked = _period(deployment, period, timezone)
            metrics = _metrics(deployment, metric)
            with progress("customers") as (bar, task):
                return await _closer(deployment, to).close(
                    asked,
                    metrics,
                    made_as,
                    duration_of("--grace", grace),
                    lambda done: bar.advance(task, done),
                )

    show([wait(work(), stopped=_AGAIN)])


def revise(period: Named, timezone: Zone = "UTC", to: Root = None) -> None:
    """Read a closed period again, and write what changed as its next revision.

    A row has the value, the one before, the difference, and the offsets between
    which the causes lie. Where nothing changed nothing is written.

    Example: recount period revise 2026-11 --timezone Europe/Berlin
    """

    async def work() -> dict[str, Any]:
        async with opened() as deployment:
            asked = _period(deployment, period, timezone)
            known = revisions_of(deployment.control.state.periods, period, timezone)
            with progress("customers") as (bar, task):
                return await _closer(deployment, to).revise(
                    asked, known, lambda done: bar.advance(task, done)
                )

    show([wait(work(), stopped=_AGAIN)])


def list_(table: TableOption = False) -> None:
    """List the closed periods: a line for each revision."""

    async def work() -> list[dict[str, Any]]:
        async with opened(reads=True) as deployment:
            periods = deployment.control.state.periods
            return [told_of(each) for key in sorted(periods) for each in periods[key]]

    lines = wait(work())
    show((_short(line) for line in lines) if table else lines, table=table)


def _short(line: Mapping[str, Any]) -> dict[str, Any]:
    names = ("period", "timezone", "revision", "rows", "files", "created_at", "digest")
    return {name: line[name] for name in names}


def show_(period: Numbered, timezone: Zone = "UTC", to: Root = None) -> None:
    """Show a revision as the control log has it, and its manifest if its folder is here.

    The checksums of its files are compared; exit 3 if one is not what it was.
    """

    async def work() -> dict[str, Any]:
        async with opened(reads=True) as deployment:
            known = revisions_of(deployment.control.state.periods, period, timezone)[-1]
            folder = _closer(deployment, to).folder_of(known)
            told = {**told_of(known), "definitions": dict(known.definitions)}
            if not folder.manifest.exists():
                return {**told, "path": None}
            manifest = folder.read(known)
            for part in manifest["files"]:
                folder.part(part)
            return {**told, "path": str(folder.path), "manifest": manifest}

    show([wait(work())])


def verify(
    period: Numbered,
    timezone: Zone = "UTC",
    to: Root = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Exit 0 also if rows are unverifiable.")
    ] = False,
) -> None:
    """Recount every row of a closed period from the log. Exit 1 on a difference.

    Each row is recounted up to the offset at which it stands, by the same
    independent recount as `recount audit`. Without #N all revisions are verified.
    Rows whose part of the log is gone are unverifiable.
    """

    async def work() -> "Verdict":
        async with opened() as deployment:
            known = revisions_of(deployment.control.state.periods, period, timezone)
            with progress("recounted") as (bar, task):
                return await _verified(
                    deployment,
                    _closer(deployment, to),
                    known,
                    only=numbered(period)[1],
                    told=lambda done: bar.advance(task, done),
                )

    found = wait(work())
    show([*found.lines, found.summary()])
    if found.lines or (found.unverifiable_rows and not allow_partial):
        raise typer.Exit(ExitCode.DIFFERENCE)


async def _verified(
    deployment: Opened,
    closer: "Closer",
    known: Sequence[Revision],
    *,
    only: int | None,
    told: Any,
) -> "Verdict":
    from ..periods.verifying import Verifier

    state = deployment.control.state
    whole = [(each, closer.folder_of(each), closer.folder_of(each).read(each)) for each in known]
    lost = sorted(known[-1].metric_ids - state.metrics.keys())
    if lost:
        raise UnknownNameError(f"the metrics {', '.join(lost)} are unknown here")
    query = TogetherQuery.of(
        [state.metrics[name] for name in known[-1].metric_ids],
        groups=known[0].groups,
        starting_on=known[0].starting_on,
        ending_before=known[0].ending_before,
        window_size=known[0].window_size,
        timezone=known[0].timezone,
        find=state.find_typed,
    )
    reading = await deployment.together(deployment.reader).opened(query)
    verifier = Verifier(deployment.identity, state, deployment.store, deployment.log, reading)
    await verifier.look()
    for at, each in enumerate(whole):
        if only is None or each[0].number == only:
            await verifier.verify(each, whole[:at], told)
    return verifier.found


def _closer(deployment: Opened, to: Path | None) -> "Closer":
    from ..periods.causes import Causes
    from ..periods.closing import Closer

    return Closer(
        deployment.control,
        deployment.identity,
        deployment.together(deployment.waiting(_PATIENCE_S)),
        Causes(
            deployment.identity, deployment.control.state, deployment.store, deployment.log
        ).since,
        SystemClock(),
        Path(deployment.settings.periods_dir) if to is None else to,
    )


_PATIENCE_S: Final = 10.0  # for what is durable to be applied: a job is not in a hurry


def _period(deployment: Opened, name: str, timezone: str) -> Period:
    return period_of(name, timezone, deployment.identity.deployment.base_bucket_s)


def _metrics(deployment: Opened, names: list[str] | None) -> list[Metric]:
    if not names:
        return list(deployment.control.state.metrics.values())
    return [deployment.metric(name) for name in dict.fromkeys(names)]


def _decimal(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    digits, comma, behind = text.partition(",")
    if not (comma and digits.isdecimal() and behind.isdecimal()):
        raise UsageError("--decimal: give the digits in all, and those behind the point: 38,9")
    if not 0 <= int(behind) <= int(digits) <= 38 or int(digits) == 0:
        raise UsageError("--decimal: at most 38 digits in all, and not more behind the point")
    return int(digits), int(behind)
