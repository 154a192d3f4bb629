"""metrics try: a dry run of a definition over the log."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from definitions.formats import FORMATS, guess

from ..errors import BadParameter, UsageError
from .bodies import check_body, read_body
from .open import opened
from .output import TableOption, progress, show, wait

if TYPE_CHECKING:  # with numpy: the other commands on metrics do not wait for it
    from ..reads.trial import TrialAnswer


def try_(
    file: Annotated[str, typer.Argument(help="A create body of the format, JSON; - is stdin.")],
    starting_on: Annotated[
        str, typer.Option(help="Start of the period, RFC 3339, included: 2026-11-01T00:00:00Z.")
    ],
    ending_before: Annotated[str, typer.Option(help="End of the period, RFC 3339, not included.")],
    format_: Annotated[
        str | None, typer.Option("--format", help="Default: guessed from the body.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="METRIC", help="Id or name of a metric to compare with.")
    ] = None,
    customer: Annotated[
        str | None, typer.Option(help="One customer; default: each that has a value.")
    ] = None,
    window_size: Annotated[
        str, typer.Option(help="One line for each hour, day, week or month; none: one line.")
    ] = "none",
    timezone: Annotated[
        str, typer.Option(help="Zone of days, weeks and months: Europe/Berlin.")
    ] = "UTC",
    sample: Annotated[
        str | None,
        typer.Option(
            help="A share of the customers, told by a hash of their names: 1/50 is the first of"
            " fifty.",
            metavar="K/N",
        ),
    ] = None,
    table: TableOption = False,
) -> None:
    """Try a definition over the whole log, before it is created. Nothing is written.

    A line for each customer and window: what the metric would be, and with
    --against what another metric is, and the difference. Then the clauses that
    keep out most events, the totals, the events by fate, and the cells and bytes
    that a backfill would make. Values stand at the offsets of `as_of`.

    At most 100,000 customers x windows: beyond that it ends with exit 2.

    Example: recount metrics try new.json --against Tokens --starting-on
    2026-11-01T00:00:00Z --ending-before 2026-12-01T00:00:00Z --table
    """
    text = read_body(file)
    kind = guess(text) if format_ is None else format_
    if kind not in FORMATS:
        raise UsageError(f"--format is one of {', '.join(sorted(FORMATS))}")
    check_body(kind, text)
    given = {
        "customer": customer,
        "starting_on": starting_on,
        "ending_before": ending_before,
        "window_size": window_size,
        "timezone": timezone,
    }
    from ..reads.trial_lines import clause_lines, end_lines, row_lines

    answer = wait(_tried(kind, text, against, sample, given))
    end = end_lines(answer)
    show(row_lines(answer), table=table)
    show(clause_lines(answer), table=table)
    show(end.values() if table else [end], table=table)


async def _tried(
    format_: str, text: str, against: str | None, sample: str | None, given: dict[str, Any]
) -> "TrialAnswer":
    from ..reads.trial import Trial, TrialQuery

    async with opened() as deployment:
        name, definition = deployment.writer.candidate(format_, text)
        other = None if against is None else deployment.metric(against)
        find = deployment.control.state.find_typed
        try:
            asked = TrialQuery.of(name, definition, other, sample=sample, find=find, **given)
        except BadParameter as error:
            raise UsageError(f"--{error.parameter.replace('_', '-')}: {error.why}") from error
        trial = Trial(
            deployment.identity,
            deployment.control.state,
            deployment.store,
            deployment.log,
            deployment.reader,
        )
        with progress("read") as (bar, task):
            return await trial.run(
                asked,
                lambda total: bar.update(task, total=total),
                lambda done: bar.advance(task, done),
            )
