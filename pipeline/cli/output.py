"""JSON lines for programs, tables for people."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, TypeVar

import typer

from definitions.formats.bodies import dump_json

from ..errors import Interrupted, harmless

T = TypeVar("T")
TableOption = Annotated[bool, typer.Option("--table", help="Print a table instead of JSON lines.")]


def show(lines: Iterable[dict[str, Any]], *, table: bool = False) -> None:
    """Print lines to stdout."""
    if table:
        from .tables import show_tables

        show_tables(list(lines))
        return
    for line in lines:
        sys.stdout.write(harmless(json.dumps(line, ensure_ascii=False)) + "\n")
    sys.stdout.flush()


def show_drawn(lines: list[dict[str, Any]]) -> None:
    """Draw lines of usage; where they stand goes to stderr."""
    from .drawing import drawn
    from .tables import terminal_width

    plain = "utf" not in (sys.stdout.encoding or "").lower()
    sys.stdout.writelines(f"{line}\n" for line in drawn(lines, terminal_width(), plain=plain))
    sys.stdout.flush()
    _tell_end(lines)


def show_csv(lines: list[dict[str, Any]]) -> None:
    """Print lines of usage as CSV; where they stand goes to stderr: no spreadsheet would read it.

    A text that a spreadsheet would take for a formula is written as text (periods/columns.py).
    """
    from ..periods.columns import ColumnKind, FileColumn, cell_of
    from ..periods.writing import CsvWriter

    rows = [_flat(line) for line in lines if "value" in line]
    names = dict.fromkeys(name for row in rows for name in row)
    kinds = [ColumnKind.NUMBER if name == "value" else ColumnKind.TEXT for name in names]
    spelt = [cell_of(ColumnKind.TEXT, name) for name in names]
    columns = [FileColumn(*pair) for pair in zip(spelt, kinds, strict=True)]
    CsvWriter(sys.stdout, columns).write([[row.get(name) for name in names] for row in rows])
    sys.stdout.flush()
    _tell_end(lines)


def _flat(line: dict[str, Any]) -> dict[str, Any]:
    """A line whose group has a column for each of its names."""
    group = line.get("group") or {}
    plain = {name: held for name, held in line.items() if name != "group"}
    texts = {name: _text(held) for name, held in plain.items()}
    return {**texts, **{f"group {name}": held for name, held in group.items()}}


def _text(held: Any) -> str | None:
    return held if isinstance(held, str | None) else json.dumps(held, ensure_ascii=False)


def _tell_end(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        if "value" not in line:
            sys.stderr.write(harmless(json.dumps(line, ensure_ascii=False)) + "\n")


def write_json(bodies: Iterable[Any]) -> None:
    """Print JSON whose numbers keep all their digits, a line each."""
    sys.stdout.writelines(harmless(dump_json(body)) + "\n" for body in bodies)
    sys.stdout.flush()


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[tuple[Any, Any]]:
    """A bar on stderr where it is a terminal."""
    if not sys.stderr.isatty():
        yield NO_BAR, None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        yield bar, bar.add_task(what, total=total)


class NoBar:
    """Stands for a bar where nobody sees one."""

    def update(self, task: object, **what: object) -> None:
        """Nothing to show."""

    def advance(self, task: object, count: float = 1) -> None:
        """Nothing to show."""


NO_BAR: Final = NoBar()


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
