"""What Klaviyo's reports ask, and how their statistics are made (docs/formats.md 1.9).

Pure: questions in, numbers out. reports.py reads the counts.
"""

import json
import re
from calendar import monthrange
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from definitions.events.common import instant
from definitions.formats.bodies import LIST_OR_NULL, OBJECT, TEXT, TEXT_OR_NULL, Problems
from definitions.values import QUOTIENT

_AT: Final = "/data/attributes"
_SPAN_MAX: Final = timedelta(days=366)
_LIST_MAX: Final = 100
CHANNEL: Final = "email"  # the only one whose metrics are read
_CHANNELS: Final = ("email", "sms", "push-notification", "whatsapp")
# series: interval → window size
INTERVALS: Final = {"hourly": "hour", "daily": "day", "weekly": "week", "monthly": "month"}
_LONGEST: Final = {"hourly": timedelta(days=7), "daily": timedelta(days=60)}


class Counted(NamedTuple):
    """What one number of a message is: a measurement of a metric. metric None: conversions."""

    metric: str | None
    measurement: str


DELIVERED: Final = Counted("Received Email", "count")
BOUNCED: Final = Counted("Bounced Email", "count")
OPENS: Final = Counted("Opened Email", "count")
OPENED: Final = Counted("Opened Email", "unique")
CLICKS: Final = Counted("Clicked Email", "count")
CLICKED: Final = Counted("Clicked Email", "unique")
LEAVES: Final = Counted("Unsubscribed from Email Marketing", "count")
LEFT: Final = Counted("Unsubscribed from Email Marketing", "unique")
COMPLAINTS: Final = Counted("Marked Email as Spam", "count")
CONVERSIONS: Final = Counted(None, "count")
CONVERTED: Final = Counted(None, "unique")
WORTH: Final = Counted(None, "sum_value")

Numbers = Callable[[Counted], Decimal]


@dataclass(frozen=True, slots=True)
class Statistic:
    """A sum of sources, divided by a sum of others where there are any."""

    above: tuple[Counted, ...]
    below: tuple[Counted, ...] = ()

    def of(self, numbers: Numbers) -> Decimal:
        """Return its value; a rate of nothing is 0."""
        total = sum(map(numbers, self.above), Decimal(0))
        if not self.below:
            return total
        divisor = sum(map(numbers, self.below), Decimal(0))
        return QUOTIENT.divide(total, divisor) if divisor else Decimal(0)


_SENT: Final = (DELIVERED, BOUNCED)
STATISTICS: Final[dict[str, Statistic]] = {
    "average_order_value": Statistic((WORTH,), (CONVERSIONS,)),
    "bounce_rate": Statistic((BOUNCED,), _SENT),
    "bounced": Statistic((BOUNCED,)),
    "click_rate": Statistic((CLICKED,), (DELIVERED,)),
    "click_to_open_rate": Statistic((CLICKED,), (OPENED,)),
    "clicks": Statistic((CLICKS,)),
    "clicks_unique": Statistic((CLICKED,)),
    "conversion_rate": Statistic((CONVERTED,), (DELIVERED,)),
    "conversion_uniques": Statistic((CONVERTED,)),
    "conversion_value": Statistic((WORTH,)),
    "conversions": Statistic((CONVERSIONS,)),
    "delivered": Statistic((DELIVERED,)),
    "delivery_rate": Statistic((DELIVERED,), _SENT),
    "open_rate": Statistic((OPENED,), (DELIVERED,)),
    "opens": Statistic((OPENS,)),
    "opens_unique": Statistic((OPENED,)),
    "recipients": Statistic(_SENT),
    "revenue_per_recipient": Statistic((WORTH,), _SENT),
    "spam_complaint_rate": Statistic((COMPLAINTS,), (DELIVERED,)),
    "spam_complaints": Statistic((COMPLAINTS,)),
    "unsubscribe_rate": Statistic((LEFT,), (DELIVERED,)),
    "unsubscribe_uniques": Statistic((LEFT,)),
    "unsubscribes": Statistic((LEAVES,)),
}


def _days(count: int) -> Callable[[datetime], tuple[datetime, datetime]]:
    return lambda today: (today - timedelta(days=count), today)


def _months(count: int) -> Callable[[datetime], tuple[datetime, datetime]]:
    return lambda today: (_earlier(today, count), today)


def _earlier(day: datetime, months: int) -> datetime:
    """The same day some months before, or the last one of a shorter month."""
    number = day.year * 12 + day.month - 1 - months
    year, month = number // 12, number % 12 + 1
    return day.replace(year=year, month=month, day=min(day.day, monthrange(year, month)[1]))


def _week(today: datetime) -> datetime:
    return today - timedelta(days=today.weekday())


_DAY: Final = timedelta(days=1)
# key → (midnight of today in UTC) → the period (CK20)
TIMEFRAMES: Final[dict[str, Callable[[datetime], tuple[datetime, datetime]]]] = {
    "today": lambda today: (today, today + _DAY),
    "yesterday": _days(1),
    "last_7_days": _days(7),
    "last_30_days": _days(30),
    "last_90_days": _days(90),
    "last_365_days": _days(365),
    "last_3_months": _months(3),
    "last_12_months": _months(12),
    "this_week": lambda today: (_week(today), today + _DAY),
    "last_week": lambda today: (_week(today) - 7 * _DAY, _week(today)),
    "this_month": lambda today: (today.replace(day=1), today + _DAY),
    "last_month": lambda today: (_earlier(today.replace(day=1), 1), today.replace(day=1)),
    "this_year": lambda today: (today.replace(month=1, day=1), today + _DAY),
    "last_year": lambda today: (
        today.replace(year=today.year - 1, month=1, day=1),
        today.replace(month=1, day=1),
    ),
}


class ReportKind(NamedTuple):
    """What a report is about. type: of the resource. holder: what messages belong to."""

    type: str
    holder: str
    message: str
    is_series: bool = False


CAMPAIGNS: Final = ReportKind("campaign-values-report", "campaign_id", "campaign_message_id")
FLOWS: Final = ReportKind("flow-values-report", "flow_id", "flow_message_id")
FLOW_SERIES: Final = ReportKind("flow-series-report", "flow_id", "flow_message_id", is_series=True)


@dataclass(frozen=True, slots=True)
class ReportQuery:
    """A checked question. wanted: attribute → its values."""

    statistics: tuple[str, ...]
    starting_on: datetime
    ending_before: datetime
    conversion_metric_id: str
    wanted: Mapping[str, frozenset[str]]
    group_by: tuple[str, ...]
    interval: str = "none"

    @property
    def sources(self) -> set[Counted]:
        """What the statistics are made of, and what says which messages there are."""
        found = {DELIVERED, CONVERSIONS}
        for name in self.statistics:
            statistic = STATISTICS[name]
            found.update(statistic.above, statistic.below)
        return found

    def shows(self, groupings: Mapping[str, str]) -> bool:
        """Whether the filter lets a row through."""
        return all(groupings[name] in values for name, values in self.wanted.items())


def check(body: Any, kind: ReportKind, now: datetime) -> ReportQuery:
    """Return what a body asks.

    Raises:
        DefinitionError: every broken rule with its pointer.
    """
    problems = Problems()
    attributes = _attributes(body, kind, problems)
    known = {
        "statistics": LIST_OR_NULL,
        "timeframe": OBJECT,
        "conversion_metric_id": TEXT,
        "group_by": LIST_OR_NULL,
        "filter": TEXT_OR_NULL,
        **({"interval": TEXT} if kind.is_series else {}),
    }
    problems.members(attributes, known, _AT, "K-UNKNOWN")
    due = ["statistics", "timeframe", "conversion_metric_id", *(["interval"] * kind.is_series)]
    for name in due:
        if name not in attributes:
            problems.add("K-REQ", f"{_AT}/{name}", f"{name} is required")
    problems.kinds(attributes, known, _AT, "K-TYPE")
    problems.raise_if_any()
    statistics = _statistics(attributes["statistics"], problems)
    period = _period(attributes["timeframe"], now, problems)
    group_by = _group_by(attributes.get("group_by"), kind, problems)
    wanted = _wanted(attributes.get("filter"), kind, problems)
    interval = attributes.get("interval", "none")
    if kind.is_series:
        _check_interval(interval, period, problems)
    problems.raise_if_any()
    assert period is not None
    size = INTERVALS.get(interval, interval)
    metric_id = attributes["conversion_metric_id"]
    return ReportQuery(statistics, *period, metric_id, wanted, group_by, size)


def _attributes(body: Any, kind: ReportKind, problems: Problems) -> dict[str, Any]:
    data = body.get("data") if isinstance(body, dict) else None
    attributes = data.get("attributes") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(attributes, dict):
        at = _AT if isinstance(data, dict) else "/data"
        problems.add("K-REQ", at, "data with attributes is required")
        problems.raise_if_any()
    assert isinstance(data, dict)
    assert isinstance(attributes, dict)
    problems.members(body, {"data"}, "", "K-UNKNOWN")
    problems.members(data, {"type", "attributes"}, "/data", "K-UNKNOWN")
    if data.get("type") != kind.type:
        problems.add("K-RESOURCE-TYPE", "/data/type", f"the type of the resource is {kind.type}")
    return attributes


def _statistics(given: Any, problems: Problems) -> tuple[str, ...]:
    if not given or not all(isinstance(each, str) and each in STATISTICS for each in given):
        message = f"a list out of {', '.join(STATISTICS)}"
        problems.add("K-REPORT", f"{_AT}/statistics", message)
        return ()
    return tuple(dict.fromkeys(given))


def _period(
    frame: dict[str, Any], now: datetime, problems: Problems
) -> tuple[datetime, datetime] | None:
    at = f"{_AT}/timeframe"
    if set(frame) == {"key"} and isinstance(frame["key"], str):
        made = TIMEFRAMES.get(frame["key"])
        if made is not None:
            return made(now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0))
        problems.add("K-REPORT", f"{at}/key", f"one of {', '.join(TIMEFRAMES)}")
        return None
    if set(frame) != {"start", "end"}:
        problems.add("K-REPORT", at, "give key, or start and end")
        return None
    bounds = [instant(each) if isinstance(each, str) else None for each in frame.values()]
    if None in bounds:
        problems.add("K-REPORT", at, "start and end are ISO 8601 date-times")
        return None
    start, end = (_bare(frame[name]) for name in ("start", "end"))
    if not timedelta(0) < end - start <= _SPAN_MAX:
        problems.add("K-REPORT", at, "start is before end, by at most one year")
        return None
    return start, end


def _bare(text: str) -> datetime:
    """A time whose offset is ignored, as Klaviyo says."""
    moment = instant(re.sub(r"([Zz]|[+-]\d{2}:?\d{2})$", "", text))
    assert moment is not None, "checked before"
    return moment.replace(tzinfo=UTC)


def _group_by(given: Any, kind: ReportKind, problems: Problems) -> tuple[str, ...]:
    """The ids of holder and message are due, as at Klaviyo; of other attributes one is known."""
    due = (kind.holder, kind.message)
    if given is None:
        return (*due, "send_channel")
    known = {*due, "send_channel"}
    words = [each for each in given if isinstance(each, str)]
    if len(words) < len(given) or set(words) - known or not set(due) <= set(words):
        message = (
            f"{' and '.join(due)} are due, send_channel may follow; others are not known here"
        )
        problems.add("K-REPORT", f"{_AT}/group_by", message)
    return tuple(dict.fromkeys(words))


# -- filters ----------------------------------------------------------------------------------

_ONE: Final = re.compile(r'equals\(\s*([\w-]+)\s*,\s*("(?:[^"\\]|\\.)*")\s*\)')
_SOME: Final = re.compile(
    r'contains-any\(\s*([\w-]+)\s*,\s*(\[\s*"(?:[^"\\]|\\.)*"(?:\s*,\s*"(?:[^"\\]|\\.)*")*\s*\])\s*\)'
)


def _wanted(text: str | None, kind: ReportKind, problems: Problems) -> dict[str, frozenset[str]]:
    """Attribute → its values: what a filter asks."""
    found: dict[str, frozenset[str]] = {}
    rest = "" if text is None else text.strip()
    if rest.startswith("and(") and rest.endswith(")"):
        rest = rest[len("and(") : -1].strip()
    known = (kind.holder, kind.message, "send_channel")
    while rest:
        match = _ONE.match(rest) or _SOME.match(rest)
        values = None if match is None else _texts(match[2])
        if match is None or values is None or match[1] not in known or match[1] in found:
            message = (
                f'cannot read {rest[:100]!r}; give equals(NAME,"VALUE") or contains-any, once '
                f"for each of {', '.join(known)}"
            )
            problems.add("K-REPORT", f"{_AT}/filter", message)
            return {}
        found[match[1]] = frozenset(values)
        rest = rest[match.end() :].strip()
        rest = rest[1:].strip() if rest.startswith(",") else rest
    channels = found.get("send_channel", frozenset())
    if channels - set(_CHANNELS) or any(len(each) > _LIST_MAX for each in found.values()):
        message = f"send_channel is {', '.join(_CHANNELS)}; a list has at most {_LIST_MAX} items"
        problems.add("K-REPORT", f"{_AT}/filter", message)
    return found


def _texts(text: str) -> list[str] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, list) else [found]


def _check_interval(
    interval: str, period: tuple[datetime, datetime] | None, problems: Problems
) -> None:
    if interval not in INTERVALS:
        problems.add("K-REPORT", f"{_AT}/interval", f"one of {', '.join(INTERVALS)}")
    elif period is not None and period[1] - period[0] > _LONGEST.get(interval, _SPAN_MAX):
        longest = _LONGEST[interval].days
        problems.add("K-REPORT", f"{_AT}/interval", f"{interval} is of at most {longest} days")


# -- rows -------------------------------------------------------------------------------------


def values_of(
    asked: ReportQuery, counts: Mapping[Counted, Sequence[Decimal]], places: int
) -> dict[str, list[Decimal]]:
    """Return the statistics of a message, a number for each place.

    counts: what was counted of a source at each place; a source that is not there is 0.
    """
    found: dict[str, list[Decimal]] = {}
    for name in asked.statistics:

        def at(place: int, statistic: Statistic = STATISTICS[name]) -> Decimal:
            def number(source: Counted) -> Decimal:
                numbers = counts.get(source)
                return Decimal(0) if numbers is None else numbers[place]

            return statistic.of(number)

        found[name] = [at(place) for place in range(places)]
    return found
