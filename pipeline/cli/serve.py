"""serve: the HTTP doors."""

from typing import Annotated

import typer

from ..app.crash import tell_as
from ..settings import load_settings
from .open import opened
from .output import wait


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port to listen on.")] = 8000,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the HTTP APIs until SIGTERM. You can run any number of servers.

    Each call needs a key: see `recount keys create`. /docs on the server
    describes all calls.
    """

    async def exists() -> None:
        async with opened(reads=True, sends=True):
            pass

    # Both are large: no other command waits for them.
    from ..doors.app import serve as run  # noqa: PLC0415
    from ..telemetry.logs import begin, line  # noqa: PLC0415

    settings = load_settings()
    wait(exists())  # what is wrong is told before anything listens
    begin(settings.log, settings.log_level)
    tell_as(line)
    run(settings, host, port)
