"""JSON lines for programs, tables for people."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table
from rich.text import Text

from definitions.formats.bodies import dump_json

from ..errors import Interrupted, harmless

T = TypeVar("T")
TableOption = Annotated[bool, typer.Option("--table", help="Print a table instead of JSON lines.")]


def show(lines: Iterable[dict[str, Any]], *, table: bool = False) -> None:
    """Print lines to stdout."""
    if table:
        _show_tables(list(lines))
        return
    for line in lines:
        sys.stdout.write(harmless(json.dumps(line, ensure_ascii=False)) + "\n")
    sys.stdout.flush()


def write_json(bodies: Iterable[Any]) -> None:
    """Print JSON whose numbers keep all their digits, a line each."""
    sys.stdout.writelines(harmless(dump_json(body)) + "\n" for body in bodies)
    sys.stdout.flush()


def _show_tables(lines: list[dict[str, Any]]) -> None:
    """One table for each run of lines that have the same members."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    at = 0
    while at < len(lines):
        columns = list(lines[at])
        table = Table(*(Column(Text(harmless(name))) for name in columns))
        while at < len(lines) and list(lines[at]) == columns:
            # Text, not str: a str would be read as markup, and event data may look like it.
            table.add_row(*(Text(harmless(_cell(lines[at][name]))) for name in columns))
            at += 1
        console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{name}={_cell(item)}" for name, item in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[tuple[Progress, Any]]:
    """A bar on stderr where it is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield bar, bar.add_task(what, total=total)


READS: Final = "nothing was changed"


def wait(work: Coroutine[Any, Any, T], *, stopped: str | Callable[[], str] = READS) -> T:
    """Run a coroutine to its end.

    stopped: what is told where Ctrl-C ends it: what is done, and what to do.

    Raises:
        Interrupted: Ctrl-C.
    """
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        told = stopped if isinstance(stopped, str) else stopped()
        raise Interrupted(f"interrupted; {told}") from None
