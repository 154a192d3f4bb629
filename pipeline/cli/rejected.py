"""rejected list, rejected redrive."""

import base64
import re
from typing import Annotated, Any, Final

import typer

from ..core.reasons import REDRIVABLE, Reason
from ..edges.clock import SystemClock
from ..errors import UnknownNameError, UsageError
from ..log.letters import Letter, Redriven, letters_of, redrive
from .open import opened
from .output import TableOption, progress, show, wait

_PLACE: Final = re.compile(r"([0-9]+)@([0-9]+)")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Dead letters: rejected events.", no_args_is_help=True)
    group.command("list")(list_command)
    group.command("redrive")(redrive_command)
    app.add_typer(group, name="rejected")


ReasonOption = Annotated[str | None, typer.Option(help="Only events with this reason.")]


def _check(reason: str | None) -> None:
    if reason is not None and reason not in set(Reason):
        raise UsageError(f"--reason is one of {', '.join(Reason)}")


def list_command(reason: ReasonOption = None, table: TableOption = False) -> None:
    """List the rejected events, each once, with reason, place and original."""
    _check(reason)

    async def work() -> list[Letter]:
        async with opened() as deployment:
            topic = deployment.identity.topics["rejected"][0]
            return await letters_of(deployment.settings.address, topic)

    show(
        (letter_line(each) for each in wait(work()) if reason in {None, each.reason}), table=table
    )


def letter_line(letter: Letter) -> dict[str, Any]:
    """A dead letter, for people and programs."""
    return {
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "append_time_ms": letter.append_time_ms,
        "key": letter.key,
        **_original(letter),
        **({} if letter.redriven is None else {"redriven": letter.redriven}),
    }


def _original(letter: Letter) -> dict[str, Any]:
    """The original as text; bytes that are no UTF-8 as base64."""
    if letter.omitted is not None:
        return {"original": None, "omitted": letter.omitted}
    if letter.original is None:
        return {"original": None}
    try:
        return {"original": letter.original.decode()}
    except UnicodeDecodeError:
        return {"original": None, "original_base64": base64.b64encode(letter.original).decode()}


def redrive_command(
    reason: ReasonOption = None,
    at: Annotated[
        str | None, typer.Option(metavar="PARTITION@OFFSET", help="Only the event at this place.")
    ] = None,
) -> None:
    """Send rejected events again, with their own transaction_id, to their home partition.

    Only events that can count now are sent: misplaced; too_far_ahead whose time
    has come; unknown_kind that this release knows. An event that is sent twice
    counts once.

    Example: recount rejected redrive --reason misplaced
    """
    _check(reason)
    if reason is not None and reason not in REDRIVABLE:
        raise UsageError(
            f"--reason: events with {reason} would be rejected again; only these can be sent "
            f"again: {', '.join(sorted(REDRIVABLE))}"
        )
    place = None if at is None else _PLACE.fullmatch(at)
    if at is not None and place is None:
        raise UsageError("--at is PARTITION@OFFSET, as `recount rejected list` shows them")

    async def work() -> Redriven:
        async with opened(sends=True) as deployment:
            address, identity = deployment.settings.address, deployment.identity
            letters = await letters_of(address, identity.topics["rejected"][0])
            wanted = [each for each in letters if reason in {None, each.reason}]
            if place is not None:
                wanted = _lying_at(wanted, int(place[1]), int(place[2]))
            with progress("re-driven", len(wanted)) as (bar, task):
                return await redrive(
                    address,
                    identity,
                    deployment.log,
                    wanted,
                    now=SystemClock().now(),
                    progress=lambda done: bar.advance(task, done),
                )

    told = wait(work(), stopped="run it again: what was sent already counts once")
    show([{"redriven": told.sent, "refused": dict(told.refused)}])
    if place is not None and not told.sent:
        raise UsageError(next(iter(told.refused)))


def _lying_at(letters: list[Letter], partition: int, offset: int) -> list[Letter]:
    """The letter of one place, the latest where a topic was made anew."""
    found = [each for each in letters if (each.partition, each.offset) == (partition, offset)]
    if not found:
        raise UnknownNameError(f"no event at {partition}@{offset} was rejected")
    return [max(found, key=lambda letter: letter.append_time_ms)]
