"""rebuild: what every HALT about lost or foreign state points to."""

import sys
from typing import Annotated

import typer

from ..app.supervisor import Supervisor
from ..deploy.rebuild import Reset, reset
from ..errors import ExitCode
from ..settings import load_settings
from .open import opened
from .output import show, wait


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rebuild")(rebuild)


def _say(text: str) -> None:
    sys.stderr.write(f"recount rebuild: {text}\n")


def rebuild(
    partition: Annotated[
        int | None, typer.Option(min=0, help="Only this partition. Default: all.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=256, help="Worker processes.")] = 1,
) -> None:
    """Delete the numbers in Redis and count the log again from its start.

    Running workers wait, then continue; this command also starts workers of its
    own. Readers get exit 4 until a partition has caught up. If this command is
    killed, run it again. Afterwards every metric counts from the log's first
    offset.
    """

    async def work() -> tuple[Reset, ExitCode]:
        async with opened() as deployment:
            done = await reset(
                deployment.settings.address,
                deployment.control,
                deployment.store,
                partition,
                _say,
            )
        for number, count in done.lost.items():
            _say(
                f"partition {number}: Kafka no longer holds {count} offsets that were counted "
                "before; they are missing in the numbers now"
            )
        supervisor = Supervisor(load_settings(), processes)
        return done, await supervisor.run(until_caught_up=True)

    done, code = wait(work())
    if code is ExitCode.DONE:
        show(
            [
                {
                    "rebuilt": done.partitions,
                    "dropped_keys": done.keys,
                    "lost_offsets": {str(number): count for number, count in done.lost.items()},
                }
            ]
        )
    raise typer.Exit(code)
