"""Cells of several partitions → rows of an answer. Pure, so that a thread can do it."""

from collections.abc import Iterable, Mapping, Sequence

from definitions.metric import Definition

from ..core.aggregations import Partial, stored_partial
from ..core.cells import CellKey, group_name
from ..core.windows import Window
from ..ports import Book
from .query import Part, Query, WindowFinder
from .results import Answered, Group, Held, add_to, answer

Rows = dict[tuple[int, Group], Held]
Row = tuple[Window, dict[str, str | None] | None, Answered]


def merge(
    query: Query,
    books: Mapping[int, Book],
    parts: Sequence[Part],
    finder: WindowFinder,
    together: Rows,
) -> dict[str, Rows]:
    """Merge cells over partitions and buckets: customer → (window, group) → partials.

    together: where all of them go if the metric is the whole deployment's.
    """
    by_measure = {part.measure: part for part in parts}
    bucket_s = finder.bucket_s
    merged: dict[str, Rows] = {}

    def add(cell: CellKey, partial: Partial, part: Part) -> None:
        window, grouping = finder.window_of(cell.bucket), part.grouping
        if window is None or grouping is None or cell.grouping_set != grouping.number:
            return
        if not part.covers(cell.bucket, bucket_s):
            return
        rows = merged.setdefault(cell.customer, {}) if query.is_of_customers else together
        held = rows.setdefault((window, grouping.of(cell.groups)), {})
        add_to(held, part.place_of(cell, bucket_s), part.aggregation, partial)

    for book in books.values():
        for cell, text in book.cells.items():
            part = by_measure[cell.measure]
            add(cell, stored_partial(part.aggregation, text, cell), part)
        for cell, members in book.elements.items():
            add(cell, Partial(members, 0), by_measure[cell.measure])
    return merged


def rows_of(
    query: Query,
    definitions: Sequence[Definition | None],
    merged: Rows,
    names: Sequence[str],
    spread: Sequence[Window],
) -> list[Row]:
    """A row for each window, or for each window and group that has a cell."""

    def answered(at: int, held: Held) -> Answered:
        definition = definitions[at]
        return Answered(None) if definition is None else answer(definition, held, query.unit)

    if query.group_key is None:
        return [
            (window, None, answered(at, merged.get((at, ()), {})))
            for at, window in enumerate(spread)
        ]
    rows: list[Row] = []
    allowed = {
        name: wanted | {group_name(value) for value in wanted}
        for name, wanted in query.group_filters.items()
    }
    for (at, values), held in sorted(merged.items(), key=_row_order):
        named = dict(zip(names, values, strict=True))
        group = {name: named[name] for name in query.group_key}
        if all(group[name] in wanted for name, wanted in allowed.items()):
            rows.append((spread[at], group, answered(at, held)))
    return rows


def homes_of(books: Mapping[int, Book]) -> dict[str, set[int]]:
    """In which partitions each customer has cells."""
    found: dict[str, set[int]] = {}
    for number, book in books.items():
        for cell in (*book.cells, *book.elements):
            found.setdefault(cell.customer, set()).add(number)
    return found


def _row_order(item: tuple[tuple[int, Group], Held]) -> tuple[int, list[tuple[bool, str]]]:
    """By window, then by group values; null comes first."""
    (window, values), _ = item
    return window, [(text is not None, text or "") for text in values]


def cells_in(books: Iterable[Book]) -> int:
    """How much there is to merge."""
    return sum(len(book.cells) + sum(map(len, book.elements.values())) for book in books)
