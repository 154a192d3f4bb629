"""Which cell, what a plan adds to it, and where cells lie in the store."""

from typing import Final, NamedTuple

from definitions.metric import Aggregation

from .aggregations import Partial


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


class CellAddress(NamedTuple):
    """Where cells lie: those of one measure, day (since 1970, UTC) and owner.

    kind: CELLS, their texts; ELEMENTS, the UNIQUE sets of the same.
    """

    kind: str
    measure: str
    day: int
    owner: str
