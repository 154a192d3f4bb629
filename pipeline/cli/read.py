"""usage, status, audit, explain."""

import json
import sys
from contextlib import aclosing
from typing import Annotated, Any

import typer

from ..audit import Auditor, Findings, audit_in_processes
from ..control.entities import Metric
from ..errors import BadParameter, ExitCode, UnknownNameError, UsageError
from ..reads.answers import End
from ..reads.explain import Explainer
from ..reads.lines import end_line, lines_of
from ..reads.query import Query
from ..reads.recounting import share_of
from .open import opened
from .output import TableOption, progress, show, wait, write_json


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("usage")(usage)
    app.command("status")(status)
    app.command("audit")(audit)
    app.command("explain")(explain)


def usage(
    metric: Annotated[str, typer.Argument(metavar="METRIC", help="Id or name of a metric.")],
    starting_on: Annotated[
        str, typer.Option(help="Start of the period, RFC 3339, included: 2026-11-01T00:00:00Z.")
    ],
    ending_before: Annotated[str, typer.Option(help="End of the period, RFC 3339, not included.")],
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
    table: TableOption = False,
) -> None:
    """Print the usage of a metric: a line for each window and group, then the offsets.

    `complete` is true where no event that was durable is missing; `as_of`
    names, for each partition, the first offset that the answer does not contain
    (docs/semantics.md).

    Example: recount usage Tokens --customer acme --starting-on
    2026-11-01T00:00:00Z --ending-before 2026-12-01T00:00:00Z --window-size day
    """
    names, wanted = _group_key(group_key), _group_filters(group_filter or [])

    async def work() -> None:
        lines: list[dict[str, Any]] = []
        async with opened(reads=True) as deployment:
            query = _query(
                deployment.metric(metric),
                each_customer=each_customer,
                customer=customer,
                starting_on=starting_on,
                ending_before=ending_before,
                window_size=window_size,
                timezone=timezone,
                group_key=names,
                group_filters=wanted,
                find=deployment.control.state.find_typed,
            )
            reader = deployment.reader
            async with aclosing(reader.batches(query)) as batches:
                async for batch in batches:
                    if isinstance(batch, End):
                        made = [end_line(batch)]
                    else:
                        made = lines_of(reader.topic, batch)
                    if table:
                        lines += made
                    else:
                        show(made)
        if table:
            show(lines, table=True)

    wait(work())


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
    elif (query.customer is None) == (not each_customer):
        raise UsageError("give --customer C, or --each-customer (one of the two)")
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


def _group_filters(texts: list[str]) -> dict[str, frozenset[str]]:
    """name=value, or JSON {name: value} or {name: [values]}; one name given twice allows both."""
    wanted: dict[str, set[str]] = {}
    for text in texts:
        if text.startswith("{"):
            given = _json("--group-filter", text)
        else:
            name, separator, value = text.partition("=")
            if not separator:
                raise UsageError(f"--group-filter: {text!r} is not name=value")
            given = {name: value}
        for name, values in given.items():
            listed = values if isinstance(values, list) else [values]
            if not all(isinstance(value, str) for value in listed):
                raise UsageError("--group-filter: each value must be a string")
            wanted.setdefault(name, set()).update(listed)
    return {name: frozenset(values) for name, values in wanted.items()}


def _json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def status(table: TableOption = False) -> None:
    """Show how far each partition is applied, its lag, and how many events have which fate.

    A partition is open, rebuilding, or halted: then `reason` says why it does
    not go on, and what to do. Exit 1 if counted, unmatched, duplicate and
    rejected do not add up to the consumed events.
    """

    async def work() -> list[dict[str, Any]]:
        async with opened(reads=True) as deployment:
            return await deployment.reader.status(deployment.control.state.versions)

    lines = wait(work())
    reasons = [
        {"partition": line["partition"], "reason": line["reason"]}
        for line in lines
        if "reason" in line
    ]
    show((_unexplained(line) for line in lines) if table else lines, table=table)
    if table:  # a table of its own: in a narrow column nobody could read it
        show(reasons, table=True)
    if lines[-1]["rejected"]:
        each = ", ".join(
            f"{count:,} {why}" for why, count in lines[-1]["rejected_by_reason"].items()
        )
        sys.stderr.write(
            f"{lines[-1]['rejected']:,} events were rejected and are in no number ({each}); see "
            "`recount rejected list`\n"
        )
    if not lines[-1]["balanced"]:
        raise typer.Exit(ExitCode.DIFFERENCE)


def _unexplained(line: dict[str, Any]) -> dict[str, Any]:
    return {name: held for name, held in line.items() if name not in {"reason", "looked_at"}}


def audit(
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Exit 0 also if cells are unverifiable.")
    ] = False,
    customers: Annotated[
        str,
        typer.Option(
            help="Audit a share of the customers, told by a hash of their names: 1/50 is the first"
            " of fifty. The log is read once, and only their events are decoded.",
            metavar="K/N",
        ),
    ] = "1/1",
    processes: Annotated[
        int,
        typer.Option(min=1, max=256, help="Split the work by partitions over so many processes."),
    ] = 1,
) -> None:
    """Recount the log independently and compare every number with it. Exit 1 on a difference.

    It may run while workers run. Cells whose events Kafka no longer holds are
    unverifiable. A share compares every cell of its customers, and nothing that
    belongs to many customers or to none: its last line has "customers" and
    "not_checked".

    Examples: recount audit --processes 4; recount audit --customers 1/50
    """
    try:
        share = share_of("customers", customers)
    except BadParameter as error:
        raise UsageError(f"--customers: {error.why}") from error

    async def work() -> Findings:
        async with opened() as deployment:
            auditor = Auditor(
                deployment.identity,
                deployment.control.catch_up,
                deployment.store,
                deployment.log,
                share=share,
            )
            with progress("recounted") as (bar, task):
                if processes == 1:
                    return await auditor.run(
                        lambda total: bar.update(task, total=total),
                        lambda done: bar.advance(task, done),
                    )
                plans = await auditor.plan()
                bar.update(task, total=sum(passes.total for passes in plans.values()))
                return await audit_in_processes(
                    deployment.settings.place,
                    plans,
                    share,
                    processes,
                    lambda done: bar.advance(task, done),
                )

    findings = wait(work())
    show([*findings.lines, findings.summary()])
    if share.of > 1:
        sys.stderr.write(
            f"only a share of the customers was audited, {customers}: this says nothing of the "
            f"others. Not checked: {', '.join(findings.not_checked)}\n"
        )
    if findings.mismatches or (findings.unverifiable_cells and not allow_partial):
        raise typer.Exit(ExitCode.DIFFERENCE)


def explain(
    transaction_id: Annotated[str, typer.Argument(help="The transaction_id of the event.")],
    customer: Annotated[str | None, typer.Option(help="Only this customer's events.")] = None,
    first: Annotated[
        bool,
        typer.Option(
            "--first",
            help="Only the record that counts, not its duplicates. Needs --customer. Reads one "
            "flush of the log instead of all of it, where the dedup window remembers the event.",
        ),
    ] = False,
) -> None:
    """Show where an event is on the log, its fate, and why each metric counts it or not."""
    if first and customer is None:
        raise UsageError("--first needs --customer: an identity is both ids together")

    async def work() -> list[dict[str, Any]]:
        async with opened() as deployment:
            explainer = Explainer(
                deployment.identity, deployment.control.state, deployment.store, deployment.log
            )
            if first and customer is not None:
                line = await explainer.first(transaction_id, customer)
                if line is not None:
                    return [line]
            with progress("read") as (bar, task):
                return [
                    line
                    async for line in explainer.find(
                        transaction_id,
                        None,  # another customer's is told to whoever named the wrong one
                        lambda total: bar.update(task, total=total),
                        lambda done: bar.advance(task, done),
                    )
                ]

    found = wait(work())
    lines = [line for line in found if customer in {None, line["customer_id"]}]
    if not lines:
        whose = sorted({str(line["customer_id"]) for line in found})
        if whose:
            raise UnknownNameError(
                f"the transaction_id {transaction_id!r} is on the log for "
                f"{', '.join(map(repr, whose[:3]))}, not for customer {customer!r}"
            )
        raise UnknownNameError(
            f"no event on the log has the transaction_id {transaction_id!r}. If the event could "
            "not be read, it is in `recount rejected list`; if Kafka's retention has removed that "
            "part of the log, nothing tells of it any more"
        )
    write_json(lines)
