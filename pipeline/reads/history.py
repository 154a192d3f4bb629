"""How much of the log a metric's numbers hold, and how fast the rest is counted.

`complete`: all of it, or all from the metric's effective_from on. `backfilling`: its past is being
counted. `from`: the log no longer held its beginning when the past was counted, and numbers are
whole from `exact_from` on. `partial`: a part of the past will never be counted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from definitions.times import NS_PER_MS, rfc3339

from ..control.entities import Metric, Version
from ..core.buckets import moment_of
from ..core.state import PartitionState

COMPLETE: Final = "complete"
FROM: Final = "from"
BACKFILLING: Final = "backfilling"
PARTIAL: Final = "partial"
_WORSE: Final = (COMPLETE, FROM, BACKFILLING, PARTIAL)


@dataclass(frozen=True, slots=True)
class History:
    """What a metric's numbers hold. counted, total: offsets of its past.

    exact_from: with `from`, and where the past of `partial` and `backfilling` begins late too.
    per_s: offsets of its past that are counted in a second; None where nobody looked.
    """

    word: str = COMPLETE
    counted: int = 0
    total: int = 0
    exact_from: datetime | None = None
    per_s: float | None = None

    @property
    def percent(self) -> int:
        """How much of the past is counted; 100 only if all is."""
        return 100 * self.counted // self.total if self.total else 0

    @property
    def members(self) -> dict[str, Any]:
        """The history as answers tell it, with what explains it."""
        told: dict[str, Any] = {"history": self.word}
        if self.word in {BACKFILLING, PARTIAL}:
            told["percent"] = self.percent
        if self.per_s is not None:
            told["events_per_s"] = round(self.per_s)
            left = self.total - self.counted
            told["seconds_left"] = round(left / self.per_s) if self.per_s else None
        if self.exact_from is not None:
            told["exact_from"] = rfc3339(self.exact_from)
        return told

    @property
    def warning(self) -> dict[str, Any]:
        """What vendors' doors add where numbers are not final; nothing where they are."""
        if self.word == COMPLETE:
            return {}
        return {**({} if self.word == FROM else {"complete": False}), **self.members}


WHOLE: Final = History()


def history_of(metric: Metric, states: Iterable[PartitionState]) -> History:
    """What a metric has seen of the log, over all partitions and versions."""
    return joined_histories(
        _of_version(version, state) for state in states for version in metric.versions
    )


def _of_version(version: Version, state: PartitionState) -> History:
    activation, past = state.active.get(version.key), state.hist.by_version.get(version.key)
    if state.is_ready(version.key):
        if past is None:
            return History()
        exact = _moment(past.exact_from_ms)
        total = past.next - past.start
        return History(COMPLETE if exact is None else FROM, total, total, exact)
    word = BACKFILLING if version.foldable and not version.drops_history else PARTIAL
    if activation is None or past is None:  # no worker has heard of it yet
        until = state.next if activation is None else activation.offset
        return History(word, 0, until - state.start)
    exact = _moment(past.exact_from_ms)
    return History(word, past.next - past.start, activation.offset - past.start, exact)


def _moment(exact_from_ms: int) -> datetime | None:
    return moment_of(exact_from_ms * NS_PER_MS) if exact_from_ms else None


def joined_histories(histories: Iterable[History]) -> History:
    """The history of an answer that is made of others: the worst of them."""
    found = list(histories)
    exact = [each.exact_from for each in found if each.exact_from is not None]
    return History(
        max((each.word for each in found), key=_WORSE.index, default=COMPLETE),
        sum(each.counted for each in found),
        sum(each.total for each in found),
        max(exact, default=None),
    )


def paced(before: History, after: History, took_s: float) -> History:
    """A history with how fast it grew."""
    return replace(after, per_s=max(after.counted - before.counted, 0) / took_s)


def backfilling(versions: Mapping[str, Version], states: Iterable[PartitionState]) -> History:
    """The same of everything that is being counted in a deployment."""
    found = (_of_version(version, state) for state in states for version in versions.values())
    return joined_histories(each for each in found if each.word == BACKFILLING)
