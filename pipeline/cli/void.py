"""`recount void`: take an event back."""

from typing import Annotated, Any

import typer

from ..core.correction import RecordPlace, place_of
from ..edges.clock import SystemClock
from ..errors import ConflictError, UnknownNameError, UsageError
from ..log.voiding import send_void, void_of
from ..reads.explain import Explainer
from .open import Opened, opened
from .output import progress, wait, write_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("void")(void_command)


def void_command(
    transaction_id: Annotated[str, typer.Argument(help="The transaction_id of the event.")],
    customer: Annotated[str, typer.Option(help="Whose event it is.")],
    reason: Annotated[str | None, typer.Option(help="Why; it is kept on the log.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="PARTITION@OFFSET", help="Where the event lies, if that is known: no search."
        ),
    ] = None,
) -> None:
    """Take an event back: no number holds it any more.

    That is so once workers have read the void.

    The event stays on the log, and its transaction_id stays used. Numbers that
    cannot be subtracted from are counted again from the log; until then they
    say "complete": false and "stale": true.

    Example: recount void req-7 --customer acme --reason "test traffic"
    """
    place = None if at is None else place_of(at)
    if at is not None and place is None:
        raise UsageError(f"--at: {at[:80]!r} is no place such as 3@1041")

    async def work() -> dict[str, Any]:
        async with opened(sends=True) as deployment:
            found = place or await _place(deployment, transaction_id, customer)
            if found.partition not in deployment.identity.starts:
                raise UsageError(f"--at: there is no partition {found.partition}")
            void = void_of(transaction_id, customer, found, reason, SystemClock().now())
            topic = deployment.identity.topics["events"][0]
            sent = await send_void(deployment.settings.address, topic, void)
        return {
            "transaction_id": transaction_id,
            "customer_id": customer,
            "at": found.text,
            "void": {"transaction_id": void.transaction_id, "at": sent.text},
        }

    write_json([wait(work())])


async def _place(deployment: Opened, transaction_id: str, customer: str) -> RecordPlace:
    """Where the record lies that counts.

    Raises:
        UnknownNameError: there is none. ConflictError: it was taken back before.
    """
    explainer = Explainer(
        deployment.identity, deployment.control.state, deployment.store, deployment.log
    )
    with progress("read") as (bar, task):
        line = await explainer.accepted(
            transaction_id,
            customer,
            lambda total: bar.update(task, total=total),
            lambda done: bar.advance(task, done),
        )
    if line is None:
        raise UnknownNameError(
            f"no event of customer {customer!r} with the transaction_id {transaction_id!r} was "
            "accepted: there is nothing to take back; `recount explain` says what lies on the log"
        )
    place = RecordPlace(line["partition"], line["offset"])
    if "corrected_by" in line:
        raise ConflictError(
            f"the event {transaction_id!r} at {place.text} was taken back already, by the void at "
            f"{line['corrected_by']}"
        )
    return place
