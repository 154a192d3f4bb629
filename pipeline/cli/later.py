"""Commands that INTERFACES.md names and this release does not have: they say so and exit 2."""

from collections.abc import Callable
from typing import Final

import typer

from ..errors import UsageError

_COMMANDS: Final = {
    "rebuild": "it comes with the fault suite; until then start a new deployment",
    "explain": "it comes with the three formats",
    "serve": "it comes with the HTTP doors",
    "keys": "it comes with the HTTP doors",
}


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, when in _COMMANDS.items():
        app.command(
            name,
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
            help="Not there yet.",
            hidden=True,
        )(_absent(name, when))


def _absent(name: str, when: str) -> Callable[[], None]:
    def command() -> None:
        raise UsageError(f"`recount {name}` is not there yet: {when}")

    return command
