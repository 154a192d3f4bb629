"""What a taken-back event added → what is subtracted at once, and what has to be counted again.

COUNT, SUM and MEAN are subtracted in the flush of the correction. MAX, MIN, LATEST and FIRST stand
as they are where the event did not make them what they are. The rest is stale, and counted again
from the log (core/mending.py): a UNIQUE element, the maximum itself, and a cell of which nothing
but zero would be left, since a cell that no event made does not exist.

Rule 1: nothing is subtracted from what is stale: a job that has begun to count it would write over
it. That is told by the state, so it is the same after a restart.
"""

from collections.abc import Mapping
from typing import Any, Final

from definitions.metric import Aggregation
from definitions.values import EXACT

from ..aggregations import Partial, empty_partial, merge_partials, stored_partial
from ..cells import CellKey, Change
from ..mending import Reached, version_of
from ..plan import Plan
from ..state import PartitionState
from .amend import add_cells

_EXTREMES: Final = {Aggregation.MAX, Aggregation.MIN}
_READINGS: Final = {Aggregation.LATEST, Aggregation.FIRST}


def subtract(
    plan: Plan, reached: Reached, held: Mapping[CellKey, str | None], state: PartitionState
) -> Reached:
    """Subtract from a correction's plan what its original added; return what is stale then.

    Args:
        plan: It holds what an amend adds, and gains what is subtracted.
        reached: By the original.
        held: What the store holds for each cell of `reached.texts`; None: nothing.
    """
    stale = dict[CellKey, Change]()
    for cell, added in reached.texts.items():
        text = None if state.is_stale(version_of(cell), cell.bucket, cell.bucket) else held[cell]
        less = None if text is None else _subtracted(cell, text, added, plan.cells.get(cell))
        if less is None:
            stale[cell] = added
        elif less != empty_partial(added.aggregation):
            add_cells(plan.cells, {cell: Change(added.aggregation, less)})
    rest = Reached(stale, reached.elements)
    plan.stale = rest.cells
    return rest


def _subtracted(cell: CellKey, text: str, added: Change, more: Change | None) -> Partial | None:
    """What to merge with a cell, so that it holds the event no more; None: that is not known.

    Args:
        text: What the cell holds. added: What the event added. more: What the amend adds.
    """
    kind, (value, unreadable) = added
    if kind is Aggregation.UNIQUE:
        return None
    held = stored_partial(kind, text, cell)
    if kind in _EXTREMES | _READINGS:
        if value is not None and _is_of_it(kind, held.value, value):
            return None
        less = Partial(None, -unreadable)
    else:
        less = Partial(_negative(kind, value), -unreadable)
    left = merge_partials(kind, held, less)
    if more is not None:
        left = merge_partials(kind, left, more.partial)
    return None if _is_doubtful(kind, left) else less


def _is_of_it(kind: Aggregation, held: Any, value: Any) -> bool:
    """Whether an event may be the one that a cell holds the value of.

    The log clock at the event is not known exactly, so a reading is known by its offset.
    """
    if kind in _EXTREMES:
        return bool(held == value)
    return held is None or held[0].offset == value[0].offset


def _negative(kind: Aggregation, value: Any) -> Any:
    if kind is Aggregation.MEAN:
        return EXACT.minus(value[0]), -value[1]
    return -value if kind is Aggregation.COUNT else EXACT.minus(value)


def _is_doubtful(kind: Aggregation, left: Partial) -> bool:
    """Whether no event may be left in a cell, or fewer than none."""
    return left == empty_partial(kind) or left.unreadable < 0
