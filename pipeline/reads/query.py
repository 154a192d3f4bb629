"""A question about usage, and what of the store answers it."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from definitions.matcher import measure_key
from definitions.metric import Aggregation, Definition, Scope
from definitions.times import NS_PER_DAY, NS_PER_S

from ..control.entities import Metric, Version
from ..core.buckets import bucket_of, ns_of
from ..core.cells import CellKey
from ..core.windows import Window, WindowSize
from ..errors import UsageError
from .results import adds_up, shape_of

SECONDS_PER_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Query:
    """One question.

    customer None: each customer that has usage; a metric of the whole deployment has none.
    group_filters: name → values. find: another metric by its name and its system's type.
    after, limit: of all customers, those behind this one in the order of their ids, and how many.
    """

    metric: Metric
    customer: str | None
    starting_on: datetime
    ending_before: datetime
    size: WindowSize
    zone: ZoneInfo
    group_key: tuple[str, ...] | None
    group_filters: Mapping[str, frozenset[str]]
    find: Callable[[str, str], Metric | None] = lambda _name, _type: None
    after: str | None = None
    limit: int | None = None

    @property
    def each_customer(self) -> bool:
        """Whether lines say whose they are."""
        return self.customer is None and self.is_of_customers

    @property
    def is_of_customers(self) -> bool:
        """Whether each customer has a value of their own."""
        body = self.metric.latest.body
        return body is None or body.definition.scope is Scope.CUSTOMER


@dataclass(frozen=True, slots=True)
class Part:
    """A version's measure, and the buckets that are read from it.

    number: of the measure in its definition. by_unit: cells are kept for each unit, whose days
    begin day_offset_s before midnight UTC.
    """

    measure: str
    number: int
    aggregation: Aggregation
    by_unit: bool
    day_offset_s: int
    from_ns: int | None
    to_ns: int | None

    def place_of(self, cell: CellKey, bucket_s: int) -> tuple[int, str, int]:
        """Where results.py wants a cell's partial."""
        if not self.by_unit:
            return self.number, "", 0
        opens_s = cell.bucket * bucket_s + self.day_offset_s
        return self.number, cell.customer, opens_s // SECONDS_PER_DAY

    def covers(self, bucket: int, bucket_s: int) -> bool:
        """Whether a bucket is read from this version: every bucket from exactly one."""
        opens = bucket * bucket_s * NS_PER_S
        after = self.from_ns is None or opens >= self.from_ns
        return after and (self.to_ns is None or opens < self.to_ns)


class WindowFinder:
    """bucket → the number of the window that holds it."""

    def __init__(self, spread: Sequence[Window], bucket_s: int) -> None:
        self.bucket_s = bucket_s
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
            if measure.name not in body.definition.answering:
                continue
            parts.append(
                Part(
                    measure_key(body, index),
                    index,
                    measure.aggregation,
                    measure.unit is not None,
                    body.definition.day_offset_minutes * 60,
                    None if body.effective_from is None else ns_of(body.effective_from),
                    None if version.effective_to is None else ns_of(version.effective_to),
                )
            )
    return parts


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


def days_of(spread: Sequence[Window]) -> range:
    """The UTC days that a period touches. A range: nobody walks the days of 8,000 years."""
    if not spread:
        return range(0)
    first = ns_of(spread[0].starting_on) // NS_PER_DAY
    last = (ns_of(spread[-1].ending_before) - 1) // NS_PER_DAY
    return range(first, last + 1)


def definition_of(metric: Metric, window: Window) -> Definition | None:
    """The definition a window is read by; None where a stream cannot compute it.

    Raises:
        UsageError: the window lies on both sides of a change after which values do not add up.
    """
    found = [version.body for version in versions_of(metric, window)] or [metric.latest.body]
    if any(body is None or not body.definition.computable for body in found):
        return None
    definitions = [body.definition for body in found if body is not None]
    if len({shape_of(definition) for definition in definitions}) > 1:
        widest = max(definitions, key=lambda definition: len(definition.measures))
        if all(adds_up(definition, widest) for definition in definitions):
            return widest
        last = metric.latest.body
        changed = None if last is None or last.effective_from is None else last.effective_from
        raise UsageError(
            f"{metric.name!r} counts something else from {changed} on; ask for windows that do "
            "not cross it"
        )
    return definitions[-1]
