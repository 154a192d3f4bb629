"""status, audit, explain."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from ..audit import Auditor, Findings, audit_in_processes
from ..edges.kafka_client import KafkaAdmin
from ..edges.kafka_owners import owners
from ..errors import BadParameter, ExitCode, PipelineError, UnknownNameError, UsageError
from ..log.letters import about, letters_of
from ..reads.explain import Explainer
from ..reads.recounting import share_of
from .open import Opened, opened
from .output import TableOption, progress, show, wait, write_json
from .rejected import letter_line


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(status)
    app.command("audit")(audit)
    app.command("explain")(explain)


def status(table: TableOption = False) -> None:
    """Show how far each partition is applied, its lag, and how many events have which fate.

    A partition is open, rebuilding, or halted: then `reason` says why it does
    not go on, and what to do. Exit 1 if counted, unmatched, duplicate and
    rejected do not add up to the consumed events.
    """
    lines, idle = wait(_status())
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
    if idle:
        sys.stderr.write(f"recount status: {_unowned(idle, lines)}\n")
    if not lines[-1]["balanced"]:
        raise typer.Exit(ExitCode.DIFFERENCE)


async def _status() -> tuple[list[dict[str, Any]], list[int]]:
    """The lines, and the partitions that no worker has; none where nobody says who has them."""
    async with opened(reads=True) as deployment:
        lines = await deployment.reader.status(deployment.control.state.versions)
        if deployment.away is not None:
            return lines, []
        settings, topic = deployment.settings, deployment.reader.topic
        try:
            found = await owners(KafkaAdmin(settings.address), settings.group, topic)
        except PipelineError:  # a right that is missing, or a group without a coordinator
            found = None
    if found is None:  # they are just being given out
        return lines, []
    for line in lines[:-1]:
        line["owner"] = found.get(line["partition"])
    return lines, [line["partition"] for line in lines[:-1] if line["owner"] is None]


def _unowned(idle: Sequence[int], lines: Sequence[Mapping[str, Any]]) -> str:
    """Say that no worker has some partitions, and what that means."""
    lag = sum(line["lag"] or 0 for line in lines[:-1] if line["partition"] in set(idle))
    whose = "these partitions" if len(idle) == len(lines) - 1 else f"partitions {_runs(idle)}"
    waits = f"{lag:,} records wait" if lag else "nothing waits yet, and what comes is not counted"
    return f"no worker has {whose}: {waits}; start one with `recount worker`"


def _runs(numbers: Sequence[int]) -> str:
    """Numbers for people: 0 to 3, 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if run[1:] else f"{run[0]}" for run in runs)


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
    """Show where an event is on the log, its fate, and why each metric counts it or not.

    Of an event that cannot be read it shows the dead letter: where it lies, and
    what is wrong with it.
    """
    if first and customer is None:
        raise UsageError("--first needs --customer: an identity is both ids together")

    write_json(wait(_explained(transaction_id, customer, first=first)))


async def _explained(
    transaction_id: str, customer: str | None, *, first: bool
) -> list[dict[str, Any]]:
    async with opened() as deployment:
        explainer = Explainer(
            deployment.identity, deployment.control.state, deployment.store, deployment.log
        )
        if first and customer is not None:
            line = await explainer.first(transaction_id, customer)
            if line is not None:
                return [line]
        with progress("read") as (bar, task):
            found = [
                line
                async for line in explainer.find(
                    transaction_id,
                    None,  # another customer's is told to whoever named the wrong one
                    lambda total: bar.update(task, total=total),
                    lambda done: bar.advance(task, done),
                )
            ]
        lines = [line for line in found if customer in {None, line["customer_id"]}]
        return lines or await _unread(deployment, transaction_id, customer, found)


async def _unread(
    deployment: Opened, transaction_id: str, customer: str | None, found: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The dead letters of events with this id that could not be read as events.

    Raises:
        UnknownNameError: there are none. found: what the log holds of other customers.
    """
    whose = sorted({str(line["customer_id"]) for line in found})
    if whose:
        raise UnknownNameError(
            f"the transaction_id {transaction_id!r} is on the log for "
            f"{', '.join(map(repr, whose[:3]))}, not for customer {customer!r}"
        )
    topic = deployment.identity.topics["rejected"][0]
    letters = about(await letters_of(deployment.settings.address, topic), transaction_id)
    if not letters:
        raise UnknownNameError(
            f"no event on the log has the transaction_id {transaction_id!r}, and no dead letter; "
            "if Kafka's retention has removed that part of the log, nothing tells of it any more"
        )
    return [{"fate": f"rejected: {each.reason}", **letter_line(each)} for each in letters]
