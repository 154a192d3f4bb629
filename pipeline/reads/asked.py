"""A question that was understood, and how much of it is worked on at a time."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from definitions.metric import Definition

from ..core.windows import Window
from .query import Part, Query

T = TypeVar("T")
LINES_MAX: Final = 100_000  # of an answer that is held as a whole
_CUSTOMERS_AT_ONCE: Final = 500
_KEYS_AT_ONCE: Final = 4_000  # of Redis, in one read of several customers
_KEYS_TOGETHER: Final = 40_000  # the same where all owners make one number, of one moment
_LINES_AT_ONCE: Final = 20_000
_HERE_MAX: Final = 1_000  # lines or cells that are worked on in the loop; more, in a thread
HEAVY_WINDOWS: Final = 5_000  # a question of more is a large one


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that was understood. names: its group key in the order of stored_key()."""

    query: Query
    spread: Sequence[Window]
    parts: Sequence[Part]
    names: tuple[str, ...]
    definitions: Sequence[Definition | None]


async def worked(size: int, work: Callable[[], T]) -> T:
    """Do what is pure: here where it is little, in a thread where the loop would stand."""
    return work() if size <= _HERE_MAX else await asyncio.to_thread(work)


def slice_of(asked: Asked, days: int) -> int:
    """How many customers are read and answered at a time."""
    keys = 2 * max(len(asked.parts), 1) * max(days, 1)
    if not asked.query.is_of_customers:
        return max(_KEYS_TOGETHER // keys, 1)
    lines = max(len(asked.spread), 1)
    return max(min(_CUSTOMERS_AT_ONCE, _KEYS_AT_ONCE // keys, _LINES_AT_ONCE // lines), 1)


def too_long(query: Query, lines: str) -> str:
    """Say that an answer is too long, and what to ask instead."""
    what = "customers by windows by groups" if query.each_customer else "windows by groups"
    return (
        f"the answer has {lines} lines ({what}), at most {LINES_MAX} are answered at a time: ask "
        "for one customer or fewer of them, for a shorter period or wider windows; "
        "`recount usage` and the pages of /recount/v1/usage have no such limit"
    )
