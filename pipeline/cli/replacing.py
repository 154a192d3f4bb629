"""metrics replace: a corrected definition takes over, with its past."""

import asyncio
from contextlib import suppress
from typing import Annotated, Any, Final

import typer

from ..control.names import Exchange
from ..errors import NotOpen
from ..reads.replacing import Readiness, check_ready, readiness
from .open import Opened, opened
from .output import progress, show, wait

_POLL_S: Final = 0.2


def replace(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Id or name of the metric.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Id or name of what replaces it.")],
    wait_: Annotated[
        bool, typer.Option("--wait", help="Wait until the past of NEW is counted.")
    ] = False,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Also where NEW holds less of the past.")
    ] = False,
) -> None:
    """Let NEW take over the name of OLD. OLD gets the name of NEW, and counts on.

    Whoever reads by the name gets the numbers of NEW from then on, those of
    the past too. NEW must hold all of the past that OLD holds: exit 3 as long
    as it does not. Ids stay as they are.

    Example: recount metrics replace Tokens 'Tokens, corrected' --wait
    """

    async def work() -> list[dict[str, Any]]:
        async with opened() as deployment:
            metrics = [deployment.metric(old), deployment.metric(new)]
            asked = Exchange.of(metrics[0], metrics[1], [old, new])
            if not asked.is_done:
                found = await _looked(deployment, asked, waits=wait_)
                check_ready(asked.new, found, allow_partial=allow_partial)
            await deployment.writer.replace(asked)
            return await deployment.summaries([asked.new, asked.old])

    show(wait(work(), stopped="`recount metrics list` shows which metric has the name"))


async def _looked(deployment: Opened, asked: Exchange, *, waits: bool) -> Readiness:
    """How much of the log the new metric holds; once that is all there will be, if waits."""
    reader, find = deployment.reader, deployment.control.state.find_typed
    if not waits:
        return await readiness(reader, find, asked)
    with progress("history") as (bar, task):
        while True:
            with suppress(NotOpen):
                found = await readiness(reader, find, asked)
                bar.update(task, completed=found.history.counted, total=found.history.total)
                if not found.waits:
                    return found
            await asyncio.sleep(_POLL_S)
