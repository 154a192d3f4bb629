"""Whether the command line knows what a file of a deployment tells it to run."""

from collections.abc import Sequence
from typing import Any

import typer
from typer.main import get_command

from pipeline.cli import COMMANDS, app, loaded
from pipeline.settings import describe, load_settings


def accepted(words: Sequence[str]) -> str | None:
    """Return why `recount WORDS` is refused before it begins, or None where it is not."""
    name, *rest = words
    if name not in COMMANDS:
        return f"no command {name}"
    command: Any = loaded(name)
    parent: Any = typer.Context(get_command(app), info_name="recount")
    try:
        context: Any = command.make_context(name, list(rest), parent=parent)
        while hasattr(command, "commands"):  # a group: what is left names one of its commands
            left: list[str] = [*context._protected_args, *context.args]
            named, rest = left[0], left[1:]
            command = command.commands[named]
            context = command.make_context(named, list(rest), parent=context)
    except Exception as error:  # noqa: BLE001  click's own, each of which says what is wrong
        return f"{type(error).__name__}: {error}"
    return None


def settings_known() -> set[str]:
    """The variables that are settings."""
    return {row["variable"] for row in describe(load_settings())}
