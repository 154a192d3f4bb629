"""Which cell, what a plan adds to it, and where cells lie in the store."""

from typing import Final, NamedTuple

from definitions.metric import Aggregation
from definitions.values import text_form

from .aggregations import Partial, element_of

GROUP_BYTES_MAX: Final = 256
SHORT_CHARS_MAX: Final = GROUP_BYTES_MAX // 4  # of UTF-8; a text of so many is its own name


def group_of(value: object) -> str | None:
    """Return what a value is called as a group or as a unit (docs/semantics.md V-8).

    Its text form (C05); of one of more than GROUP_BYTES_MAX bytes of UTF-8 the first 256, whole
    characters only, then `…` and the digest that a UNIQUE set holds. Two values never share a
    name: whatever is cut is longer than anything that is not.
    """
    text = text_form(value)
    return None if text is None else group_name(text)


def group_name(text: str) -> str:
    """Return what a text is called as a group."""
    if len(text) <= SHORT_CHARS_MAX:
        return text
    raw = text.encode()
    if len(raw) <= GROUP_BYTES_MAX:
        return text
    return f"{raw[:GROUP_BYTES_MAX].decode(errors='ignore')}…{element_of(text)}"


class CellKey(NamedTuple):
    """Which cell: measure (`metric_id#version.n`), customer, base bucket, grouping set, groups.

    grouping_set 0 is the total, n the n-th of the definition's dimensions.
    """

    measure: str
    customer: str
    bucket: int
    grouping_set: int
    groups: tuple[str | None, ...]


class Change(NamedTuple):
    """What a plan adds to a cell. change: value and unreadable, both of this plan alone."""

    aggregation: Aggregation
    partial: Partial


CELLS: Final = "c"


ELEMENTS: Final = "u"


MEASURES_TOGETHER: Final = 4  # with hourly buckets a day of totals stays a listpack, see below


class CellAddress(NamedTuple):
    """Where cells lie: those of up to MEASURES_TOGETHER measures, of one day and one owner.

    kind: CELLS, their texts; ELEMENTS, the UNIQUE sets of the same. group: of the measures, what
    their numbers have in common (group_number()). day: since 1970, UTC.
    """

    kind: str
    group: int
    day: int
    owner: str


def group_number(number: int) -> int:
    """Return which measures lie in one key: those with numbers 0 to 3 are together, and so on.

    Most of what a commit costs in Redis is keys, not fields; more measures in one key would make
    it longer than Redis keeps in its small form (docs/performance.md).
    """
    return number // MEASURES_TOGETHER
