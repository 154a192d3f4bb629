"""Records of the past → what they add to cells that are counted again (core/mending.py)."""

import re
from collections.abc import Collection, Sequence
from typing import Final

from definitions.matcher import Matcher

from ..clocked import VerdictsDiffer, clock_of, left_of
from ..deployment import Deployment
from ..id_index import IdIndex
from ..mending import CountedAgain
from ..records import LogRecord
from ..state import PartitionState
from .fold import fold

_NEEDLES_MAX: Final = 50  # customers who are searched for; for more, every record is decoded


class Whose:
    """Tells by the bytes of a record whether it can be of certain customers; None: of anybody.

    A name is written as it is, or with an escape, which has a backslash.
    """

    def __init__(self, customers: Collection[str] | None) -> None:
        self._search = None
        if customers is not None and len(customers) <= _NEEDLES_MAX:
            needles = [re.escape(name.encode()) for name in sorted(customers)]
            self._search = re.compile(b"|".join([rb"\\", *needles])).search

    def left(self, records: Sequence[LogRecord]) -> Sequence[LogRecord]:
        """Those that can be theirs."""
        search = self._search
        if search is None:
            return records
        return [record for record in records if search(record.value or b"") is not None]


def count_again(
    found: CountedAgain,
    records: Sequence[LogRecord],
    clock_ms: int,
    *,
    whose: Whose,
    partition: int,
    state: PartitionState,
    deployment: Deployment,
    left_out: Collection[int],
    matcher: Matcher | None,
) -> int:
    """Count records, all of one part of the log; return the log clock behind them.

    Args:
        clock_ms: The log clock before them.
        left_out: Offsets of duplicates, and of what was taken back.
        matcher: Of the versions that count there; None: none does.

    Raises:
        VerdictsDiffer: the kept verdicts do not fit the log.
    """
    left: Sequence[LogRecord] = ()
    if matcher is not None:
        left = whose.left(left_of(clock_ms, records, left_out))
    while left:
        assert matcher is not None
        first = left[0]
        plan = fold(
            left,
            partition=partition,
            state=PartitionState(
                state.store_id, state.topic_id, 0, first.offset, clock_ms=first.timestamp
            ),
            deployment=deployment,
            matcher=matcher,
            index=IdIndex(),
            is_past=True,
        )
        if plan.duplicates:
            raise VerdictsDiffer(
                f"the record at {plan.duplicates[0]} repeats another one, and no verdict says so"
            )
        found.take(plan.cells, plan.elements)
        left = left[plan.counters["consumed"] :]
    return clock_of(clock_ms, records)
