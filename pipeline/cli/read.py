"""audit, explain: what reads the log."""

import sys
from typing import Annotated, Any

import typer

from ..audit import Auditor, Findings, audit_in_processes
from ..errors import BadParameter, ExitCode, UnknownNameError, UsageError
from ..log.letters import about, letters_of
from ..reads.explain import Explainer
from ..reads.recounting import share_of
from .open import Opened, opened
from .output import progress, show, wait, write_json
from .rejected import letter_line


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("audit")(audit)
    app.command("explain")(explain)


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
