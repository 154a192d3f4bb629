"""rebuild: count the log again, beside what readers see, or in place."""

import asyncio
import sys
from collections import Counter
from typing import Annotated, Any, Final

import typer

from ..app.supervisor import Supervisor
from ..control.entities import DeploymentRecord
from ..deploy.rebuild import Planned, Reset, lost_of, planned, reset, tell_starts
from ..deploy.room import check_room
from ..edges.redis_epochs import RedisEpochs
from ..errors import ExitCode, UsageError, harmless
from ..settings import load_settings
from .open import Opened, opened
from .output import show, wait
from .rebuilding import Children

_AGAIN: Final = "run it again: it goes on where it stood"
_PAUSE_S: Final = 0.005  # between two parts of what is dropped


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rebuild")(rebuild)


def _say(text: str) -> None:
    sys.stderr.write(f"recount rebuild: {harmless(text)}\n")


def rebuild(
    partition: Annotated[
        int | None, typer.Option(min=0, help="Only this partition. Default: all.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Processes; each builds one partition at a time.")
    ] = 1,
    in_place: Annotated[
        bool,
        typer.Option(
            "--in-place",
            help="Delete the numbers first: needs no memory for two epochs, and readers wait.",
        ),
    ] = False,
    abandon: Annotated[
        bool,
        typer.Option("--abandon", help="Give up what a rebuild has built, and delete it."),
    ] = False,
) -> None:
    """Count the log again from its start, while readers and workers go on.

    Each partition is built in a new epoch beside the one that readers see, then
    audited; then one step makes it the current one, and the old one is deleted
    little by little. If this command is killed, run it again: it goes on where
    it stood. What nobody can read (lost, damaged, or of another release) is
    rebuilt in place: then readers get exit 4 until it has caught up.
    """
    if abandon:
        if in_place:
            raise UsageError("--abandon: what was begun with --in-place can only be finished")
        show([wait(_abandon(partition), stopped=_AGAIN)])
        return
    code, line = wait(_rebuild(partition, processes, in_place=in_place), stopped=_AGAIN)
    if line is not None:
        show([line])
    raise typer.Exit(code)


async def _rebuild(
    partition: int | None, processes: int, *, in_place: bool
) -> tuple[ExitCode, dict[str, Any] | None]:
    async with opened() as found:
        plan = await planned(
            found.settings.address, found.identity, found.store, partition, in_place=in_place
        )
        lost = lost_of(found.identity, plan)
        for number, count in lost.items():
            _say(
                f"partition {number}: Kafka no longer holds {count} offsets that were counted "
                "before; they will be missing in the numbers"
            )
        dropped = Counter[str]()
        for number in plan.beside:
            dropped["keys"] += await _drop(RedisEpochs(found.store), number)
        await check_room(RedisEpochs(found.store), plan.beside, processes)
        done = await _emptied(found, plan)
    dropped["keys"] += done.keys
    children = Children(plan.spans, processes, _say)
    code = await children.run(plan.beside)
    dropped["keys"] += children.dropped
    if code is not ExitCode.DONE:
        return code, None
    if plan.beside:
        async with opened() as found:
            await tell_starts(found.control, found.store, plan)
    if plan.in_place:
        code = await Supervisor(load_settings(), processes).run(until_caught_up=True)
    if code is not ExitCode.DONE:
        return code, None
    return code, {
        "rebuilt": sorted([*plan.beside, *plan.in_place]),
        "in_place": plan.in_place,
        "dropped_keys": dropped["keys"],
        "lost_offsets": {str(number): count for number, count in lost.items()},
    }


async def _emptied(found: Opened, plan: Planned) -> Reset:
    """Empty what is rebuilt in place."""
    if not plan.in_place:
        return Reset([], 0)
    if not plan.was_asked:
        _say(
            f"partitions {plan.in_place} cannot be read, or the deployment is of another release "
            "or topic: they are rebuilt in place"
        )
    return await reset(found.settings.address, found.control, found.store, plan, _say)


async def _drop(epochs: RedisEpochs, number: int) -> int:
    count = 0
    async for keys in epochs.drop(number):
        count += keys
        await asyncio.sleep(_PAUSE_S)
    return count


async def _abandon(partition: int | None) -> dict[str, Any]:
    async with opened() as found:
        epochs = RedisEpochs(found.store)
        numbers = _numbers(found.identity, partition)
        given_up = [number for number in numbers if await epochs.give_up(number)]
        keys = [await _drop(epochs, number) for number in numbers]
    return {"abandoned": given_up, "dropped_keys": sum(keys)}


def _numbers(identity: DeploymentRecord, partition: int | None) -> list[int]:
    if partition is None:
        return sorted(identity.starts)
    if partition not in identity.starts:
        raise UsageError(f"--partition: {partition} is not registered")
    return [partition]
