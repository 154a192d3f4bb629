"""`recount doctor`: what is well, what is not, and what to do."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Final

import typer

from ..deploy.examining import Examination
from ..deploy.notes import Found, Word
from ..edges.clock import SystemClock
from ..errors import ExitCode, harmless
from ..settings import load_settings
from .output import show, wait

_NAME_CHARS: Final = 16


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON line for each check.")] = False,
) -> None:
    """Check everything that a deployment needs. Exit 1 if anything is wrong.

    Each line says what is well, what is not, and what to do. Nothing is changed.
    `mind` works, and somebody should know of it; `unknown` could not be looked
    at. Run it with the settings of a worker, for its rights are checked as well.

    Example: recount doctor
    """
    settings = load_settings()
    found = wait(Examination(settings.place, SystemClock()).run())
    if as_json:
        show(asdict(each) for each in found)
    else:
        sys.stdout.writelines(f"{harmless(line)}\n" for line in _told(found))
    if any(each.state is Word.WRONG for each in found):
        raise typer.Exit(ExitCode.DIFFERENCE)


def _told(found: Sequence[Found]) -> Iterator[str]:
    for each in found:
        yield f"{each.state:<7} {each.check:<{_NAME_CHARS}} {each.told}"
        if each.do is not None:
            yield f"{'':<7} {'':<{_NAME_CHARS}} {each.do}"
    counts = {word: sum(each.state is word for each in found) for word in Word}
    yield ", ".join(f"{count} {word}" for word, count in counts.items() if count)
