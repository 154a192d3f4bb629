"""serve: the HTTP doors."""

from typing import Annotated

import typer

from ..doors.app import serve as run
from ..settings import load_settings
from .open import opened
from .output import wait


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Where to listen.")] = 8000,
    host: Annotated[str, typer.Option(help="Of which address.")] = "127.0.0.1",
) -> None:
    """Serve the doors over HTTP until SIGTERM; any number of servers can run."""

    async def exists() -> None:
        async with opened():
            pass

    wait(exists())  # what is wrong is told before anything listens
    run(load_settings(), host, port)
