"""Commands that INTERFACES.md names and this release does not have: they say so and exit 2."""

from typing import Final

import typer

from ..errors import UsageError

_COMMANDS: Final = {
    "serve": "it comes with the HTTP doors",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, when in _COMMANDS.items():
        add_absent(app, name, name, when)


def add_absent(app: typer.Typer, name: str, full_name: str, when: str) -> None:
    """Add a command that takes anything, says that it is not there yet, and exits 2."""

    def command() -> None:
        raise UsageError(f"`recount {full_name}` is not there yet: {when}")

    app.command(
        name,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        help="Not there yet.",
        hidden=True,
    )(command)
