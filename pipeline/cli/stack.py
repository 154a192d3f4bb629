"""stack up, down, status."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ExitCode
from ..settings import load_settings
from ..stack import local
from .output import show

Folder = Annotated[Path, typer.Option("--dir", help="Folder for data, logs and state.")]
DEFAULT = Path(".recount/stack")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(
        help="Kafka and Redis on this machine, to try Recount.", no_args_is_help=True
    )
    group.command("up")(up)
    group.command("down")(down)
    group.command("status")(status)
    app.add_typer(group, name="stack")


def up(
    folder: Folder = DEFAULT,
    kafka_port: Annotated[
        int | None,
        typer.Option(help="Default: 9092, or a free one; further brokers have the next ones."),
    ] = None,
    redis_port: Annotated[int | None, typer.Option(help="Default: 6379, or a free one.")] = None,
    native: Annotated[
        bool, typer.Option("--native", help="Start processes, never Docker.")
    ] = False,
    brokers: Annotated[
        int,
        typer.Option(min=1, max=5, help="Of Kafka; several are always native processes."),
    ] = 1,
) -> None:
    """Start Kafka and Redis and print their addresses.

    If RECOUNT_KAFKA and RECOUNT_REDIS answer, nothing is started. Otherwise
    Docker is used, or native processes if there is no Docker.

    Example: recount stack up --brokers 3
    """
    settings = load_settings()
    show(
        [
            local.up(
                folder,
                configured=(settings.address, settings.redis),
                kafka_port=kafka_port,
                redis_port=redis_port,
                native=native,
                brokers=brokers,
            )
        ]
    )


def down(folder: Folder = DEFAULT) -> None:
    """Stop what `stack up` started. The data stays in the folder."""
    show([{"stopped": local.down(folder)}])


def status(folder: Folder = DEFAULT) -> None:
    """Show what runs, and whether it answers. Exit 4 if it does not.

    Of several brokers, brokers_up says how many there are now.
    """
    found = local.status(folder)
    if found is None:
        show([{"kafka": None, "redis": None, "kind": None, "answers": False}])
        raise typer.Exit(ExitCode.UNAVAILABLE)
    show([found])
    if not found["answers"]:
        raise typer.Exit(ExitCode.UNAVAILABLE)
