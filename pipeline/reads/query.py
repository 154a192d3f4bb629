"""A question about usage, and what of the store answers it."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

from definitions.matcher import measure_key
from definitions.metric import Aggregation, Definition, Result, ResultKind, Scope
from definitions.times import NS_PER_DAY, NS_PER_S, parse_timestamp, rfc3339, why_no_time

from ..control.entities import Metric, Version
from ..core.buckets import bucket_of, moment_of, ns_of
from ..core.cells import CellKey
from ..core.windows import RefusedPeriod, Window, WindowSize, zone_of
from ..errors import BadParameter, UsageError
from .results import Group, Place, adds_up, shape_of

SECONDS_PER_DAY: Final = 86_400
_ADDITIVE: Final = {Aggregation.COUNT, Aggregation.SUM}
_DAYS_IN_400_YEARS: Final = 146_097
NS_PER_US: Final = 1_000


@dataclass(frozen=True, slots=True)
class Query:
    """One question.

    customer None: each customer that has usage; a metric of the whole deployment has none.
    group_filters: name → values. find: another metric by its name and its system's type.
    after, limit: of all customers, those behind this one in the order of their ids, and how many.
    unit: the unit type whose value is asked for; None: the overall value.
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
    unit: str | None = None

    @classmethod
    def of(
        cls,
        metric: Metric,
        *,
        starting_on: str | datetime,
        ending_before: str | datetime,
        window_size: str = "none",
        timezone: str = "UTC",
        group_key: Sequence[str] | None = None,
        group_filters: Mapping[str, Iterable[str]] = MappingProxyType({}),
        **more: Any,
    ) -> "Query":
        """Return a question of what a user gave: texts are read and checked here, for all doors.

        more: customer, find, after, limit, unit.

        Raises:
            BadParameter: one that cannot be read, or that does not fit the metric.
        """
        try:
            size = WindowSize(window_size.lower())
        except ValueError as error:
            raise BadParameter("window_size", "none, hour, day, week or month") from error
        try:
            zone = zone_of(timezone)
        except RefusedPeriod as error:
            raise BadParameter("timezone", str(error)) from error
        query = cls(
            metric=metric,
            customer=more.pop("customer", None),
            starting_on=_instant("starting_on", starting_on),
            ending_before=_instant("ending_before", ending_before),
            size=size,
            zone=zone,
            group_key=tuple(group_key) if group_key else None,
            group_filters={name: frozenset(values) for name, values in group_filters.items()},
            **more,
        )
        if query.customer is not None and not query.is_of_customers:
            why = f"{metric.name!r} counts the whole deployment, not customers: leave it out"
            raise BadParameter("customer", why)
        if not query.each_customer and not (query.limit is None and query.after is None):
            name = "after" if query.limit is None else "limit"
            raise BadParameter(name, "this is for pages of customers: give no customer")
        return query

    @property
    def each_customer(self) -> bool:
        """Whether lines say whose they are."""
        return self.customer is None and self.is_of_customers

    @property
    def is_of_customers(self) -> bool:
        """Whether each customer has a value of their own."""
        body = self.metric.latest.body
        return body is None or body.definition.scope is Scope.CUSTOMER


def _instant(name: str, given: str | datetime) -> datetime:
    if isinstance(given, datetime):
        return given
    ns = parse_timestamp(given)
    if ns is None:
        raise BadParameter(name, why_no_time(given))
    if ns % NS_PER_US:
        raise BadParameter(name, f"{given!r} is not the start of a base bucket")
    return moment_of(ns)


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which cells answer a question, and what of their group tells the rows of the answer apart.

    number: of the grouping set. kept: the places in a cell's group that were asked for, in the
    order of the answer; None: all as they are. windows: those of the statement whose rows add up;
    None where no rows do. by_unit: a unit is followed in each of its groups by itself.
    """

    number: int
    kept: tuple[int, ...] | None = None
    windows: tuple[str, ...] | None = None
    by_unit: bool = False

    def of(self, groups: Group) -> Group:
        """The asked part of a cell's group."""
        return groups if self.kept is None else tuple(groups[at] for at in self.kept)


@dataclass(frozen=True, slots=True)
class Part:
    """A version's measure, and the buckets that are read from it.

    number: of the measure in its definition. by_unit: cells are kept for each unit, whose days
    begin day_offset_s before midnight UTC. grouping: None where the version cannot answer the
    question, which definition_of() refuses for the windows that need it.
    """

    measure: str
    number: int
    aggregation: Aggregation
    by_unit: bool
    day_offset_s: int
    from_ns: int | None
    to_ns: int | None
    grouping: Grouping | None

    def place_of(self, cell: CellKey, bucket_s: int) -> Place:
        """Where results.py wants a cell's partial."""
        if self.grouping is not None and self.grouping.windows is not None:
            opens_s = cell.bucket * bucket_s
            return self.number, cell.groups, _windows_at(opens_s, self.grouping.windows)
        if not self.by_unit:
            return self.number, "", 0
        if self.grouping is not None and self.grouping.by_unit:
            return self.number, (cell.customer, *cell.groups), 0
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


@lru_cache(maxsize=4_096)
def _windows_at(opens_s: int, sizes: tuple[str, ...]) -> tuple[int, ...]:
    """The numbers of the UTC windows of these sizes that hold a second (DATE_TRUNC)."""
    return tuple(_window_at(opens_s, size) for size in sizes)


def _window_at(opens_s: int, size: str) -> int:
    day = opens_s // SECONDS_PER_DAY
    if size == "hour":
        return opens_s // 3_600
    if size == "week":
        return (day + 3) // 7  # 1970 began on a Thursday, weeks begin on Monday (C14)
    if size == "month":
        # The calendar repeats after 400 years; `date` itself ends with the year 9999.
        turn, rest = divmod(day + date(1970, 1, 1).toordinal() - 1, _DAYS_IN_400_YEARS)
        found = date.fromordinal(rest + 1)
        return (turn * 400 + found.year) * 12 + found.month
    return day


def parts_of(query: Query, names: tuple[str, ...]) -> list[Part]:
    """The measures to read; none where a stream cannot compute the metric.

    names: the group key in the order of stored_key().
    """
    parts, metric = [], query.metric
    for version in metric.versions:
        body = version.body
        if body is None or not body.definition.computable:
            continue
        asked = None if query.group_key is None else names
        grouping = grouping_of(body.definition, asked)
        for index, measure in enumerate(body.definition.measures):
            if measure.name not in body.definition.answering_of(query.unit):
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
                    grouping,
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


def stored_key(query: Query) -> tuple[str, ...]:
    """The names that were asked for, in the order of the latest version: rows are sorted by it.

    Raises:
        UsageError: a group key that nobody declared, or filters that do not fit it.
    """
    if query.group_key is None:
        if query.group_filters:
            raise UsageError("--group-filter needs --group-key")
        return ()
    body = query.metric.latest.body
    sets = () if body is None else body.definition.dimensions
    found = None if body is None else grouping_of(body.definition, query.group_key)
    if found is None:
        declared = "; ".join(",".join(names) for names in sets) or "none"
        asked = ",".join(query.group_key)
        raise UsageError(
            f"{asked!r} is no group key of {query.metric.name!r} (it has: {declared})"
        )
    if unknown := set(query.group_filters) - set(query.group_key):
        raise UsageError(f"--group-filter {min(unknown)!r} is not in the group key")
    return tuple(name for name in sets[found.number - 1] if name in query.group_key)


def grouping_of(definition: Definition, asked: tuple[str, ...] | None) -> Grouping | None:
    """The cells that answer; None where the definition keeps none for this group key.

    Of a statement whose rows add up, any of its columns may be asked for: the rows of the others
    are added. Any other group key is asked for whole; the order of names makes no other set.
    """
    result, sets = definition.result, definition.dimensions
    if result is not None and result.op is ResultKind.ADD_ROWS:
        names = sets[0] if sets else ()
        if len(set(asked or ())) != len(asked or ()) or not set(asked or ()) <= set(names):
            return None
        kinds = {measure.aggregation for measure in definition.measures}
        if result.outer != "sum":
            return None if asked else Grouping(len(sets), (), result.windows)
        if asked is None and kinds <= _ADDITIVE:
            return Grouping(0)
        kept = tuple(names.index(name) for name in asked or ())
        return Grouping(len(sets), kept, result.windows)
    if result is not None and result.order is not None and result.order.by_group:
        return Grouping(1, (), by_unit=True) if asked is None else None
    if result is not None and is_by_value(definition, result):
        return Grouping(1, (), windows=()) if asked is None else None
    if asked is None:
        return Grouping(0)
    for number, names in enumerate(sets, start=1):
        if sorted(names) == sorted(asked):
            in_order = names == asked
            return Grouping(number, None if in_order else tuple(map(names.index, asked)))
    return None


def is_by_value(definition: Definition, result: Result) -> bool:
    """Whether values are counted as the groups of the definition's one grouping set."""
    by_unit = any(measure.unit is not None for measure in definition.measures)
    return result.op in {ResultKind.PERCENTILE, ResultKind.SUM_VALUES} and not by_unit


def days_of(spread: Sequence[Window]) -> range:
    """The UTC days that a period touches. A range: nobody walks the days of 8,000 years."""
    if not spread:
        return range(0)
    first = ns_of(spread[0].starting_on) // NS_PER_DAY
    last = (ns_of(spread[-1].ending_before) - 1) // NS_PER_DAY
    return range(first, last + 1)


def definition_of(query: Query, window: Window) -> Definition | None:
    """The definition a window is read by; None where a stream cannot compute it.

    Raises:
        UsageError: the window lies on both sides of a change after which values do not add up, or
            is not of whole windows of the statement whose rows are added.
    """
    metric = query.metric
    found = [version.body for version in versions_of(metric, window)] or [metric.latest.body]
    if any(body is None or not body.definition.computable for body in found):
        return None
    definitions = [body.definition for body in found if body is not None]
    if query.unit is not None and any(query.unit not in each.unit_types for each in definitions):
        return None
    last = metric.latest.body
    changed = None if last is None or last.effective_from is None else last.effective_from
    for definition in definitions:
        if grouping_of(definition, query.group_key) is None:
            raise UsageError(
                f"{metric.name!r} has the group key {','.join(query.group_key or ())!r} from "
                f"{changed} on; ask for windows that begin there or later"
            )
        _check_whole(metric, definition, window)
    common = common_of(definitions)
    if common is None:
        raise UsageError(
            f"{metric.name!r} counts something else from {changed} on; ask for windows that do "
            "not cross it"
        )
    return common


def common_of(definitions: Sequence[Definition]) -> Definition | None:
    """The definition by which a window of all of these is read; None: values do not add up."""
    if len({shape_of(definition) for definition in definitions}) == 1:
        return definitions[-1]
    widest = max(definitions, key=lambda definition: len(definition.measures))
    return widest if all(adds_up(definition, widest) for definition in definitions) else None


def _check_whole(metric: Metric, definition: Definition, window: Window) -> None:
    """Refuse a window that cuts one of the statement's own: its value there is not kept."""
    sizes = () if definition.result is None else definition.result.windows
    for size in sizes:
        for bound in window:
            at = ns_of(bound)
            if _window_at(at // NS_PER_S, size) == _window_at((at - 1) // NS_PER_S, size):
                whole = "; ".join(f"whole {each}s of UTC" for each in sizes)
                raise UsageError(
                    f"{metric.name!r} adds up one value for each {size} of UTC; "
                    f"{rfc3339(bound)} lies inside one: ask for windows that are {whole}"
                )
