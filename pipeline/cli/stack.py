"""stack up, down, status."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import ExitCode
from ..settings import load_settings
from ..stack import local
from .output import show

Folder = Annotated[Path, typer.Option("--dir", help="Data, logs and state of the stack.")]
DEFAULT = Path(".recount/stack")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(help="Kafka and Redis for this machine.", no_args_is_help=True)
    group.command("up")(up)
    group.command("down")(down)
    group.command("status")(status)
    app.add_typer(group, name="stack")


def up(
    folder: Folder = DEFAULT,
    kafka_port: Annotated[int | None, typer.Option(help="Default: 9092, or a free one.")] = None,
    redis_port: Annotated[int | None, typer.Option(help="Default: 6379, or a free one.")] = None,
    native: Annotated[bool, typer.Option("--native", help="Processes, never Docker.")] = False,
) -> None:
    """Bring Kafka and Redis up: those configured, by Docker, or as native processes."""
    settings = load_settings()
    show(
        [
            local.up(
                folder,
                configured=(settings.kafka, settings.redis),
                kafka_port=kafka_port,
                redis_port=redis_port,
                native=native,
            )
        ]
    )


def down(folder: Folder = DEFAULT) -> None:
    """Take down what `stack up` started; data stays in the folder."""
    show([{"stopped": local.down(folder)}])


def status(folder: Folder = DEFAULT) -> None:
    """Say what runs, and whether it answers. Exit 4 if nothing does."""
    found = local.status(folder)
    if found is None:
        show([{"kafka": None, "redis": None, "kind": None, "answers": False}])
        raise typer.Exit(ExitCode.UNAVAILABLE)
    show([found])
    if not found["answers"]:
        raise typer.Exit(ExitCode.UNAVAILABLE)
