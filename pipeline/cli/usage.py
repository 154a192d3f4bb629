"""`recount usage`: one metric, or all of them together; as lines, a table, or a file."""

import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ..control.entities import Metric
from ..errors import BadParameter, UsageError
from ..periods.columns import USAGE, usage_of
from ..periods.marking import Marking
from ..periods.writing import FORMATS, TEXTS, write_file
from ..reads.answers import End
from ..reads.lines import end_line, lines_of
from ..reads.query import Query
from ..reads.together import MetricRow, last_line, row_line
from ..reads.together_query import TogetherQuery
from .closed import show_as_closed
from .open import Opened, opened
from .output import TableOption, progress, show, show_csv, show_drawn, wait
from .unknown import Unknown


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("usage")(usage)


def usage(
    metric: Annotated[
        str | None, typer.Argument(metavar="[METRIC]", help="Id or name of a metric.")
    ] = None,
    starting_on: Annotated[
        str | None,
        typer.Option(help="Start of the period, RFC 3339, included: 2026-11-01T00:00:00Z."),
    ] = None,
    ending_before: Annotated[
        str | None, typer.Option(help="End of the period, RFC 3339, not included.")
    ] = None,
    all_metrics: Annotated[
        bool, typer.Option("--all-metrics", help="Every metric of customers, in one answer.")
    ] = False,
    customer: Annotated[str | None, typer.Option(help="One customer's usage.")] = None,
    each_customer: Annotated[
        bool, typer.Option("--each-customer", help="The usage of every customer that has any.")
    ] = False,
    window_size: Annotated[
        str, typer.Option(help="One line for each hour, day, week or month; none: one line.")
    ] = "none",
    timezone: Annotated[
        str, typer.Option(help="Zone of days, weeks and months: Europe/Berlin.")
    ] = "UTC",
    group_key: Annotated[
        str | None, typer.Option(help="One line for each group: a,b or a JSON list of names.")
    ] = None,
    group_filter: Annotated[
        list[str] | None,
        typer.Option(help="Only these groups: a=x, or a JSON object; repeatable."),
    ] = None,
    groups: Annotated[
        bool,
        typer.Option(
            "--groups", help="With --all-metrics: also a line for each group of each group key."
        ),
    ] = False,
    as_closed: Annotated[
        str | None,
        typer.Option(
            metavar="PERIOD[#N]",
            help="As it was closed: 2026-11, or 2026-11#1 for its first revision; from its files.",
        ),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="With --all-metrics: jsonl, csv or parquet.")
    ] = "jsonl",
    output: Annotated[
        Path | None,
        typer.Option(
            help="With --all-metrics: write the lines to this file, which appears whole."
        ),
    ] = None,
    table: TableOption = False,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw a bar for each line, with its exact value.")
    ] = False,
    csv: Annotated[
        bool,
        typer.Option("--csv", help="Print CSV, for a spreadsheet; the offsets go to stderr."),
    ] = False,
) -> None:
    """Print usage: a line for each window and group, then the offsets.

    `complete` is true where no event that was durable is missing; `as_of`
    names, for each partition, the first offset that the answer does not contain
    (docs/semantics.md).

    With --all-metrics a customer is read at one moment, and each line says in
    which partition and at which offset it stands. Windows without events have no
    line. As csv and parquet the columns are those of closed periods
    (docs/billing.md); with --output the last line alone is printed.

    A line whose window lies in a closed period has `closed`, the number of its
    last revision, and where the period's files are here `closed_value` and
    `delta`. With --as-closed the lines are those of the files: no start and no
    end is given.

    Examples: recount usage Tokens --customer acme --starting-on
    2026-11-01T00:00:00Z --ending-before 2026-12-01T00:00:00Z --window-size day;
    recount usage --all-metrics --each-customer --starting-on 2026-11-01T00:00:00Z
    --ending-before 2026-12-01T00:00:00Z --format parquet --output november.parquet
    """
    names, wanted = _group_key(group_key), group_filters(group_filter or [])
    form = _form(table=table, plot=plot, csv=csv, format_=format_)
    if as_closed is not None:
        if form not in {Form.LINES, Form.TABLE}:
            raise UsageError("--as-closed prints lines, or with --table a table")
        _check_as_closed(metric, starting_on, ending_before, all_metrics=all_metrics)
        _one_of(customer, each_customer=each_customer)
        work = show_as_closed(
            as_closed, timezone, metric, customer, group_key=names, groups=groups, table=table
        )
        wait(work)
        return
    if starting_on is None or ending_before is None:
        raise UsageError("give --starting-on and --ending-before, or --as-closed")
    period = {
        "starting_on": starting_on,
        "ending_before": ending_before,
        "window_size": window_size,
        "timezone": timezone,
    }
    if all_metrics:
        if metric is not None:
            raise UsageError("give METRIC or --all-metrics, one of the two")
        if names or wanted:
            raise UsageError("--all-metrics takes --groups instead of --group-key")
        _one_of(customer, each_customer=each_customer)
        format_ = "csv" if csv else format_
        _check_format(format_, output, table=table)
        wait(_all(period, customer, format_, output, groups=groups, form=form))
        return
    if metric is None:
        raise UsageError("give METRIC, or --all-metrics")
    if groups or output is not None or format_ != "jsonl":
        raise UsageError(
            "--groups, --format and --output go with --all-metrics; --csv prints one metric as CSV"
        )
    given = {**period, "customer": customer, "group_key": names, "group_filters": wanted}
    wait(_one(metric, given, each_customer=each_customer, form=form))


class Form(StrEnum):
    """How lines are printed."""

    LINES = "lines"
    TABLE = "--table"
    PLOT = "--plot"
    CSV = "--csv"


def _form(*, table: bool, plot: bool, csv: bool, format_: str) -> Form:
    asked = [
        form
        for form, is_asked in ((Form.TABLE, table), (Form.PLOT, plot), (Form.CSV, csv))
        if is_asked
    ]
    if len(asked) > 1:
        raise UsageError(f"give one of {', '.join(asked)}")
    if asked and asked != [Form.TABLE] and format_ != "jsonl":
        raise UsageError(f"give {asked[0]} or --format, one of the two")
    return asked[0] if asked else Form.LINES


async def _one(metric: str, given: dict[str, Any], *, each_customer: bool, form: Form) -> None:
    """Print the usage of one metric."""
    lines: list[dict[str, Any]] = []
    async with opened(reads=True) as deployment:
        query = _query(
            deployment.metric(metric),
            each_customer=each_customer,
            find=deployment.control.state.find_typed,
            **given,
        )
        reader, marking, unknown = deployment.reader, _marking(deployment), Unknown(deployment)
        async with aclosing(reader.batches(query)) as batches:
            async for batch in batches:
                if isinstance(batch, End):
                    made = [{**end_line(batch), **await unknown.of_end(query)}]
                else:
                    plain = lines_of(reader.topic, batch)
                    made = marking.of_one(query.metric, query.customer, batch, plain)
                    about = await unknown.of_rows(query.customer, batch)
                    made = [{**line, **about} for line in made]
                if form is Form.LINES:
                    show(made)
                else:
                    lines += made
    _show_as(form, lines)


def _marking(deployment: Opened) -> Marking:
    root = Path(deployment.settings.periods_dir)
    return Marking(deployment.control.state.periods, root, strict=True)


def _show_as(form: Form, lines: list[dict[str, Any]]) -> None:
    """Print the lines of a whole answer for people, or for a spreadsheet."""
    if form is Form.TABLE:
        show(lines, table=True)
    elif form is Form.PLOT:
        show_drawn(lines)
    elif form is Form.CSV:
        show_csv(lines)


def _check_as_closed(
    metric: str | None, starting_on: str | None, ending_before: str | None, *, all_metrics: bool
) -> None:
    if starting_on is not None or ending_before is not None:
        raise UsageError("--as-closed is of the whole period: leave start and end out")
    if (metric is None) == (not all_metrics):
        raise UsageError("give METRIC or --all-metrics, one of the two")


def _check_format(format_: str, output: Path | None, *, table: bool) -> None:
    if format_ not in FORMATS:
        raise UsageError(f"--format is one of {', '.join(FORMATS)}")
    if format_ == "parquet" and output is None:
        raise UsageError("--format parquet needs --output FILE: it is not for a terminal")
    if table and (output is not None or format_ != "jsonl"):
        raise UsageError("--table is for people: give it without --format and --output")


async def _all(
    period: dict[str, str],
    customer: str | None,
    format_: str,
    output: Path | None,
    *,
    groups: bool,
    form: Form,
) -> None:
    """Print or write the usage of all metrics."""
    async with opened(reads=True) as deployment:
        state = deployment.control.state
        query = together_of(
            state.metrics.values(),
            groups=groups,
            customer=customer,
            find=state.find_typed,
            **period,
        )
        source = deployment.together(deployment.reader).batches(query)
        async with aclosing(source) as batches:
            if output is not None:
                ends: list[End] = []
                facts = await write_file(output, format_, USAGE, _written(batches, ends))
                told = {"rows": facts.rows, "bytes": facts.bytes, "sha256": facts.sha256}
                show([{"file": str(output), **told, **last_line(ends[0], query)}])
            elif format_ == "csv":
                await _print_csv(batches, query)
            else:
                await _print_lines(deployment, batches, query, form)


def together_of(metrics: Any, **given: Any) -> TogetherQuery:
    """The question, checked; what is wrong is called as the option that was typed."""
    try:
        return TogetherQuery.of(metrics, **given)
    except BadParameter as error:
        raise UsageError(f"--{error.parameter.replace('_', '-')}: {error.why}") from error


async def _written(
    batches: AsyncGenerator[list[MetricRow] | End], ends: list[End]
) -> AsyncIterator[Sequence[Sequence[Any]]]:
    """The rows for a file; where they stand is put into `ends`."""
    with progress("rows") as (bar, task):
        async for batch in batches:
            if isinstance(batch, End):
                ends.append(batch)
            else:
                yield [usage_of(row) for row in batch]
                bar.advance(task, len(batch))


async def _print_csv(batches: AsyncGenerator[list[MetricRow] | End], query: TogetherQuery) -> None:
    """Rows go to stdout, where they stand to stderr: no spreadsheet would read it."""
    writer = TEXTS["csv"](sys.stdout, USAGE)
    async for batch in batches:
        if isinstance(batch, End):
            sys.stdout.flush()
            sys.stderr.write(json.dumps(last_line(batch, query)) + "\n")
        else:
            writer.write([usage_of(row) for row in batch])


async def _print_lines(
    deployment: Opened,
    batches: AsyncGenerator[list[MetricRow] | End],
    query: TogetherQuery,
    form: Form,
) -> None:
    topic, marking = deployment.reader.topic, _marking(deployment)
    unknown, lines = Unknown(deployment), list[dict[str, Any]]()
    async for batch in batches:
        if isinstance(batch, End):
            made = [{**last_line(batch, query), **await unknown.of_nobody(query.customer)}]
        else:
            unknown.rows += len(batch)
            made = [marking.of_all(row, row_line(topic, row)) for row in batch]
        lines += made
        if form is Form.LINES:
            show(lines)
            lines = []
    _show_as(form, lines)


def _one_of(customer: str | None, *, each_customer: bool) -> None:
    if (customer is None) == (not each_customer):
        raise UsageError("give --customer C, or --each-customer (one of the two)")


def _query(metric: Metric, *, each_customer: bool, **given: Any) -> Query:
    """The question, checked; what is wrong is called as the option that was typed."""
    try:
        query = Query.of(metric, **given)
    except BadParameter as error:
        option = error.parameter.replace("_", "-")
        raise UsageError(f"--{option}: {error.why}") from error
    if not query.is_of_customers:
        if each_customer:
            raise UsageError(
                f"--each-customer: {metric.name!r} counts the whole deployment, not single "
                "customers: leave it out"
            )
    else:
        _one_of(query.customer, each_customer=each_customer)
    return query


def _group_key(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    if not text.startswith("["):
        return tuple(text.split(","))
    names = _json("--group-key", text)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError("--group-key must be names (a,b) or a JSON list of strings")
    return tuple(names)


def group_filters(texts: list[str], option: str = "--group-filter") -> dict[str, frozenset[str]]:
    """name=value, or JSON {name: value} or {name: [values]}; one name given twice allows both."""
    wanted: dict[str, set[str]] = {}
    for text in texts:
        if text.startswith("{"):
            given = _json(option, text)
        else:
            name, separator, value = text.partition("=")
            if not separator:
                raise UsageError(f"{option}: {text!r} is not name=value")
            given = {name: value}
        for name, values in given.items():
            listed = values if isinstance(values, list) else [values]
            if not all(isinstance(value, str) for value in listed):
                raise UsageError(f"{option}: each value must be a string")
            wanted.setdefault(name, set()).update(listed)
    return {name: frozenset(values) for name, values in wanted.items()}


def _json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error
