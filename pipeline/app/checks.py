"""What stops a flush before anything of it is written: the partition halts, with what to do."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Final

from definitions.times import NS_PER_MS

from ..core.buckets import moment_of
from ..core.limits import Rejections
from ..core.plan import Plan
from ..core.raw import RawRecords, offsets_of
from ..core.records import LogRecord
from ..errors import PartitionHalt
from ..telemetry.logs import LOG

_CLOCK_SKEW_MAX: Final = timedelta(hours=1)
_APPEND_TIME: Final = 1
_SLOW_S: Final = 2.0  # a flush that takes longer is told of,
_SLOW_TIMES: Final = 4  # and so many times flush_s
_STAMP_KIND: Final = attrgetter("timestamp_type")


def check_kind(partition: int, records: Sequence[LogRecord]) -> None:
    """Halt on records whose time was not given by the broker."""
    # Raw ones are read of batches with append times only.
    if not isinstance(records, RawRecords) and set(map(_STAMP_KIND, records)) != {_APPEND_TIME}:
        raise PartitionHalt(
            partition,
            f"a record of partition {partition} from {records[0].offset} on has no append time; "
            "set message.timestamp.type=LogAppendTime on the topic; "
            f"what it holds already cannot be counted: delete it, then run `recount rebuild "
            f"--partition {partition}`",
        )


def check_clock(partition: int, clock_ms: int, now: datetime) -> None:
    """Halt where the log clock is far ahead of this machine's."""
    stamp = moment_of(clock_ms * NS_PER_MS)
    if stamp > now + _CLOCK_SKEW_MAX:
        raise PartitionHalt(
            partition,
            f"partition {partition}: append times ({stamp.isoformat()}) are more than an hour "
            "ahead of this machine's clock; correct the clock that is wrong",
        )


def check_rejections(
    partition: int, rejections: Rejections, records: Sequence[LogRecord], plan: Plan
) -> None:
    """Halt where too much is rejected, before anything of the flush is written."""
    taken = plan.counters["consumed"]
    letters = plan.dead_letters
    offsets = offsets_of(records[:taken]) if letters else range(taken)
    too_much = rejections.add(offsets, letters)
    if too_much is not None:
        raise PartitionHalt(
            partition,
            f"partition {partition}: {too_much}; nothing at or after {plan.lo} was written. "
            "Correct the producer or the release; where the events are to be rejected all the "
            "same, raise RECOUNT_REJECTED_CONSECUTIVE_MAX and RECOUNT_REJECTED_RATIO_MAX (0 is no "
            "limit) and start the worker again",
        )


def tell_slow(partition: int, took_s: float, records: int, flush_s: float) -> None:
    """Tell of a flush that took far longer than it should: Redis, Kafka, or this machine."""
    if took_s > max(_SLOW_S, _SLOW_TIMES * flush_s):
        LOG.warning("slow", partition=partition, records=records, ms=round(1_000 * took_s))
