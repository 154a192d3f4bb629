"""Offsets: what a delivered batch is to a partition that stands at `next`."""

from collections.abc import Sequence
from enum import Enum, auto

from .records import LogRecord


class Step(Enum):
    """REPLAY: all applied already. IN_LINE: continues at next. HOLE: begins after next."""

    REPLAY = auto()
    IN_LINE = auto()
    HOLE = auto()


def step_of(next_offset: int, records: Sequence[LogRecord]) -> Step:
    """Return what a batch is. A hole is one until a probe proves it a gap (docs/faults.md 37)."""
    if not records or records[-1].offset < next_offset:
        return Step.REPLAY
    return Step.HOLE if records[0].offset > next_offset else Step.IN_LINE
