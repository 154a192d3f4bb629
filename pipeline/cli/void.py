"""`recount void` and `recount amend`: take an event back, or say what it should have said."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

from definitions.errors import DefinitionError
from definitions.formats.bodies import parse_json

from ..core.correction import RecordPlace, place_of
from ..edges.clock import SystemClock
from ..errors import UsageError
from ..log.correcting import CorrectionLine, amend_of, send_correction, void_of
from ..periods.period import check_unclosed
from ..reads.explain import Explainer
from ..reads.originals import FoundOriginal, find_original
from .open import Opened, opened
from .output import progress, wait, write_json

IdArgument = Annotated[str, typer.Argument(help="The transaction_id of the event.")]
CustomerOption = Annotated[str, typer.Option(help="Whose event it is.")]
ReasonOption = Annotated[str | None, typer.Option(help="Why; it is kept on the log.")]
AtOption = Annotated[
    str | None,
    typer.Option(
        metavar="PARTITION@OFFSET", help="Where the event lies, if that is known: no search."
    ),
]
ReviseOption = Annotated[
    bool,
    typer.Option("--revise", help="Even if a closed period changes by it, in its next revision."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("void")(void_command)
    app.command("amend")(amend_command)


def void_command(
    transaction_id: IdArgument,
    customer: CustomerOption,
    reason: ReasonOption = None,
    at: AtOption = None,
    revise: ReviseOption = False,
) -> None:
    """Take an event back: no number holds it any more.

    That is so once workers have read the void.

    The event stays on the log, and its transaction_id stays used. Numbers that
    cannot be subtracted from are counted again from the log; until then they
    say "complete": false and "stale": true.

    Example: recount void req-7 --customer acme --reason "test traffic"
    """

    def made(found: FoundOriginal) -> CorrectionLine:
        now = SystemClock().now()
        return void_of(transaction_id, customer, found.place, reason, now)

    _correct(made, "void", transaction_id, customer, at, revise=revise)


def amend_command(
    transaction_id: IdArgument,
    customer: CustomerOption,
    properties: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="All properties that the event should have had."),
    ] = None,
    event_type: Annotated[
        str | None, typer.Option(help="The event type that it should have had.")
    ] = None,
    reason: ReasonOption = None,
    at: AtOption = None,
    revise: ReviseOption = False,
) -> None:
    """Say what an event should have said: that counts instead, at the same time.

    That is so once workers have read the amend.

    Customer, timestamp and transaction_id stay; what is not given stays as it
    was. The event may be amended again, or taken back. As after `recount void`,
    some numbers say "stale": true until they are counted again.

    Example: recount amend req-7 --customer acme --properties '{"tokens": 12}'
    """
    given = None if properties is None else _object_in(properties)

    def made(found: FoundOriginal) -> CorrectionLine:
        timestamp, event = found.amended(event_type, given)
        return amend_of(transaction_id, customer, found.place, reason, timestamp, event)

    if given is None and event_type is None:
        raise UsageError("give --properties, --event-type, or both")
    _correct(made, "amend", transaction_id, customer, at, revise=revise)


def _object_in(text: str) -> dict[str, Any]:
    try:
        found = parse_json(text)
    except DefinitionError as error:
        raise UsageError(f"--properties: {error}") from error
    if not isinstance(found, dict):
        raise UsageError('--properties: a JSON object, such as {"tokens": 12}')
    return found


def _correct(
    make: Callable[[FoundOriginal], CorrectionLine],
    kind: str,
    transaction_id: str,
    customer: str,
    at: str | None,
    *,
    revise: bool,
) -> None:
    """Find an event, and send what is made of it."""
    place = None if at is None else place_of(at)
    if at is not None and place is None:
        raise UsageError(f"--at: {at[:80]!r} is no place such as 3@1041")

    async def work() -> dict[str, Any]:
        async with opened(sends=True) as deployment:
            if place is not None and place.partition not in deployment.identity.starts:
                raise UsageError(f"--at: there is no partition {place.partition}")
            found = await _found(deployment, transaction_id, customer, place)
            if not revise:
                check_unclosed(deployment.control.state.periods, found.at)
            made = make(found)
            topic = deployment.identity.topics["events"][0]
            sent = await send_correction(deployment.settings.address, topic, made)
        return {
            "transaction_id": transaction_id,
            "customer_id": customer,
            "at": found.place.text,
            kind: {"transaction_id": made.transaction_id, "at": sent.text},
        }

    write_json([wait(work())])


async def _found(
    deployment: Opened, transaction_id: str, customer: str, place: RecordPlace | None
) -> FoundOriginal:
    """The event, looked for with progress. Raises: see find_original()."""
    explainer = Explainer(
        deployment.identity, deployment.control.state, deployment.store, deployment.log
    )
    with progress("read") as (bar, task):
        return await find_original(
            explainer,
            deployment.log,
            transaction_id,
            customer,
            place,
            started=lambda total: bar.update(task, total=total),
            progress=lambda done: bar.advance(task, done),
        )
