"""Lines for people: a table where it fits, else a card for each line. Nothing is ever cut."""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from ..errors import harmless

_WIDTH: Final = 200  # where there is no terminal
_FRAME_CHARS: Final = 3  # that a column takes beside what it holds
_NOTHING: Final = "-"


def terminal_width() -> int:
    """How many characters a line has room for."""
    return shutil.get_terminal_size((_WIDTH, 24)).columns if sys.stdout.isatty() else _WIDTH


def show_tables(lines: Sequence[Mapping[str, Any]], width: int | None = None) -> None:
    """Print a table, or cards, for each run of lines that have the same members."""
    width = terminal_width() if width is None else width
    for _, run in groupby(lines, key=list):
        rows = list(run)
        texts = {name: [_cell(row[name]) for row in rows] for name in rows[0]}
        # A column that says nothing in any line is left out, unless all are so.
        told = {name: cells for name, cells in texts.items() if set(cells) - {_NOTHING, ""}}
        _show(told or texts, width)


def _show(columns: Mapping[str, Sequence[str]], width: int) -> None:
    spelt = {harmless(name): [*map(harmless, cells)] for name, cells in columns.items()}
    needed = sum(_FRAME_CHARS + max(map(cell_len, [name, *spelt[name]])) for name in spelt) + 1
    if needed > width:
        sys.stdout.writelines(f"{line}\n" for line in _cards(spelt))
        return
    # Text, not str: a str would be read as markup, and event data may look like it.
    table = Table(*(Column(Text(name), no_wrap=True) for name in spelt))
    for row in zip(*spelt.values(), strict=True):
        table.add_row(*map(Text, row))
    Console(width=width).print(table)


def _cards(columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A block for each row: a line for each column that says something in it."""
    names = max(map(cell_len, columns))
    for row in zip(*columns.values(), strict=True):
        for name, text in zip(columns, row, strict=True):
            if text not in {_NOTHING, ""}:
                yield f"{name}{' ' * (names - cell_len(name))}  {text}"
        yield ""


def _cell(value: Any) -> str:
    if value is None:
        return _NOTHING
    if isinstance(value, dict):
        return ", ".join(f"{name}={_cell(item)}" for name, item in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
