"""A question about usage, and what of the store answers it."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from definitions.matcher import measure_key
from definitions.metric import Aggregation, Scope
from definitions.times import NS_PER_DAY, NS_PER_S

from ..control.records import Metric, Version
from ..core.periods import Window, WindowSize
from ..core.windows import bucket_of, ns_of
from ..errors import UsageError


@dataclass(frozen=True, slots=True)
class Query:
    """One question. customer None: each customer that has usage. group_filters: name → values."""

    metric: Metric
    customer: str | None
    starting_on: datetime
    ending_before: datetime
    size: WindowSize
    zone: ZoneInfo
    group_key: tuple[str, ...] | None
    group_filters: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Part:
    """A version's measure, and the buckets that are read from it."""

    measure: str
    aggregation: Aggregation
    from_ns: int | None
    to_ns: int | None

    def covers(self, bucket: int, bucket_s: int) -> bool:
        """Whether a bucket is read from this version: every bucket from exactly one."""
        opens = bucket * bucket_s * NS_PER_S
        after = self.from_ns is None or opens >= self.from_ns
        return after and (self.to_ns is None or opens < self.to_ns)


class WindowFinder:
    """bucket → the number of the window that holds it."""

    def __init__(self, spread: Sequence[Window], bucket_s: int) -> None:
        self._starts = [bucket_of(ns_of(window.starting_on), bucket_s) for window in spread]
        self._end = bucket_of(ns_of(spread[-1].ending_before), bucket_s) if spread else 0

    def window_of(self, bucket: int) -> int | None:
        """The window that holds a bucket; None outside the period."""
        if not self._starts or not self._starts[0] <= bucket < self._end:
            return None
        return bisect_right(self._starts, bucket) - 1


def parts_of(metric: Metric) -> list[Part]:
    """The measures to read; none where a stream cannot compute the metric."""
    parts = []
    for version in metric.versions:
        body = version.body
        if body is None or not body.definition.computable:
            continue
        for index, measure in enumerate(body.definition.measures):
            parts.append(
                Part(
                    measure_key(body, index),
                    measure.aggregation,
                    None if body.effective_from is None else ns_of(body.effective_from),
                    None if version.effective_to is None else ns_of(version.effective_to),
                )
            )
    return parts


def aggregation_of(version: Version) -> Aggregation:
    """The aggregation of a version; COUNT where nothing can be computed."""
    if version.body is None or not version.body.definition.measures:
        return Aggregation.COUNT
    return version.body.definition.measures[0].aggregation


def versions_of(metric: Metric, window: Window) -> list[Version]:
    """The versions that any bucket of a window is read from."""
    return [
        version
        for version in metric.versions
        if (version.effective_to is None or version.effective_to > window.starting_on)
        and (
            version.body is None
            or version.body.effective_from is None
            or version.body.effective_from < window.ending_before
        )
    ]


def grouping_set_of(query: Query) -> tuple[int, list[int]]:
    """Return the number of the grouping set and, for each asked name, its place in it.

    The order of names makes no other set. Raises UsageError for a set nobody declared.
    """
    body = query.metric.latest.body
    if body is not None and body.definition.scope is not Scope.CUSTOMER:
        raise UsageError("this release answers metrics of customers only")
    if query.group_key is None:
        if query.group_filters:
            raise UsageError("--group-filter needs --group-key")
        return 0, []
    sets = () if body is None else body.definition.dimensions
    for number, names in enumerate(sets, start=1):
        if sorted(names) == sorted(query.group_key):
            unknown = set(query.group_filters) - set(names)
            if unknown:
                raise UsageError(f"--group-filter {min(unknown)!r} is not in the group key")
            return number, [names.index(name) for name in query.group_key]
    declared = "; ".join(",".join(names) for names in sets) or "none"
    asked = ",".join(query.group_key)
    raise UsageError(f"{asked!r} is no group key of {query.metric.name!r} (it has: {declared})")


def days_of(spread: Sequence[Window]) -> list[int]:
    """The UTC days that a period touches."""
    if not spread:
        return []
    first = ns_of(spread[0].starting_on) // NS_PER_DAY
    last = (ns_of(spread[-1].ending_before) - 1) // NS_PER_DAY
    return list(range(first, last + 1))
