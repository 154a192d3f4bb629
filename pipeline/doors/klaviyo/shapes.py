"""Klaviyo: metric-aggregates queries, and answers in JSON:API (docs/formats.md 1.2, 1.7, 1.8)."""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from definitions.events.common import instant
from definitions.formats.bodies import LIST, TEXT, TEXTS, Problems, is_number

from ...core.windows import RefusedPeriod, zone_of
from ..model import AnswerModel, Number

MEASUREMENTS: Final = ("count", "sum_value", "unique")
INTERVALS: Final = ("hour", "day", "week", "month")
PAGE_SIZE_MAX: Final = 500
_SPAN_MAX: Final = timedelta(days=366)
_BOUND: Final = re.compile(r"(greater-or-equal|less-than)\(datetime,([^)]*)\)")
_OFFSET: Final = re.compile(r"([Zz]|[+-]\d{2}:?\d{2})$", re.ASCII)
_QUERY: Final = {
    "metric_id": TEXT,
    "measurements": LIST,
    "filter": LIST,
    "interval": TEXT,
    "timezone": TEXT,
    "by": TEXTS,
    "return_fields": TEXTS,
    "sort": TEXT,
    "page_cursor": TEXT,
}
_ATTRIBUTES: Final = "/data/attributes"
_DUE: Final = ("metric_id", "measurements", "filter")


def check_aggregates(body: Any) -> None:
    """Check a body of POST /api/metric-aggregates.

    Raises:
        DefinitionError: every broken rule with its pointer.
    """
    problems = Problems()
    attributes = asked(_attributes(body, problems))
    problems.members(attributes, {*_QUERY, "page_size"}, _ATTRIBUTES, "K-UNKNOWN")
    problems.kinds(attributes, _QUERY, _ATTRIBUTES, "K-TYPE")
    for name in _DUE:
        if name not in attributes:
            problems.add("K-REQ", f"{_ATTRIBUTES}/{name}", f"{name} is required")
    size = attributes.get("page_size", PAGE_SIZE_MAX)
    if not is_number(size) or not 1 <= size <= PAGE_SIZE_MAX or size % 1:
        message = f"page_size is a whole number, 1 to {PAGE_SIZE_MAX}"
        problems.add("K-AGGREGATE-QUERY", f"{_ATTRIBUTES}/page_size", message)
    measurements = attributes.get("measurements", ["count"])
    if isinstance(measurements, list) and (
        not measurements or not all(word in MEASUREMENTS for word in measurements)
    ):
        message = f"a list out of {', '.join(MEASUREMENTS)}"
        problems.add("K-AGGREGATE-QUERY", f"{_ATTRIBUTES}/measurements", message)
    if attributes.get("interval", "day") not in INTERVALS:
        message = f"interval is one of {', '.join(INTERVALS)}"
        problems.add("K-AGGREGATE-QUERY", f"{_ATTRIBUTES}/interval", message)
    if isinstance(attributes.get("filter"), list):
        _check_range(attributes["filter"], problems)
    try:
        zone_of(str(attributes.get("timezone", "UTC")))
    except RefusedPeriod as why:
        problems.add("K-AGGREGATE-TZ", f"{_ATTRIBUTES}/timezone", str(why))
    problems.raise_if_any()


def asked(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a query that say something: null asks nothing of the optional ones."""
    return {name: each for name, each in attributes.items() if each is not None or name in _DUE}


def _attributes(body: Any, problems: Problems) -> dict[str, Any]:
    data = body.get("data") if isinstance(body, dict) else None
    attributes = data.get("attributes") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(attributes, dict):
        at = _ATTRIBUTES if isinstance(data, dict) else "/data"
        problems.add("K-REQ", at, "data with attributes is required")
        problems.raise_if_any()
    assert isinstance(data, dict)
    problems.members(body, {"data"}, "", "K-UNKNOWN")
    problems.members(data, {"type", "attributes"}, "/data", "K-UNKNOWN")
    if "type" not in data:
        problems.add("K-REQ", "/data/type", "type is required")
    elif data["type"] != "metric-aggregate":
        message = "the type of the resource is metric-aggregate"
        problems.add("K-RESOURCE-TYPE", "/data/type", message)
    assert isinstance(attributes, dict)
    return attributes


def bounds_of(filters: list[str], zone: tzinfo) -> tuple[datetime, datetime]:
    """Return the period of a checked query; bounds without an offset are of the query's zone.

    Raises:
        RefusedPeriod: a bound lies outside the calendar.
    """
    found = {}
    for text in filters:
        match = _BOUND.fullmatch(text.replace(" ", ""))
        assert match is not None, "checked before"
        moment = instant(match[2])
        assert moment is not None, "checked before"
        local = not _OFFSET.search(match[2])
        try:
            given = moment.replace(tzinfo=zone) if local else moment
            found[match[1]] = given.astimezone(UTC)
        except OverflowError as error:
            raise RefusedPeriod(f"{match[2]} lies outside the calendar in this zone") from error
    return found["greater-or-equal"], found["less-than"]


def _check_range(filters: list[Any], problems: Problems) -> None:
    """Both bounds of the datetime, at most a year apart."""
    bounds: dict[str, datetime] = {}
    for text in filters:
        match = _BOUND.fullmatch(text.replace(" ", "")) if isinstance(text, str) else None
        moment = None if match is None else instant(match[2])
        if match is None or moment is None:
            message = f"cannot read {str(text)[:100]!r}; only the datetime can be filtered"
            problems.add("K-AGGREGATE-QUERY", f"{_ATTRIBUTES}/filter", message)
            return
        bounds[match[1]] = moment
    if len(bounds) < 2:
        message = "give greater-or-equal(datetime,…) and less-than(datetime,…)"
        problems.add("K-AGGREGATE-QUERY", f"{_ATTRIBUTES}/filter", message)
        return
    span = bounds["less-than"] - bounds["greater-or-equal"]
    if not timedelta(0) < span <= _SPAN_MAX:
        message = "the bounds are in order and at most one year apart"
        problems.add("K-AGGREGATE-RANGE", f"{_ATTRIBUTES}/filter", message)


class Links(AnswerModel):
    """Links of a resource or of a page."""

    self: str
    related: str | None = None
    prev: str | None = None
    next: str | None = None


class Identifier(AnswerModel):
    """type and id alone."""

    type: str
    id: str


class Related(AnswerModel):
    """What a resource points to, by one of its names."""

    data: list[Identifier] | Identifier
    links: Links | None = None


class Relationships(AnswerModel):
    """All that a resource points to."""

    metrics: Related | None = None
    metric: Related | None = None
    profile: Related | None = None


class Filter(AnswerModel):
    """A filter as it was given."""

    type: str
    operator: str
    value: str | bool | Number | list[str] | None = None


class MetricFilter(AnswerModel):
    """A filter of a group."""

    property: str
    filter: Filter


class MetricGroup(AnswerModel):
    """A group of a definition."""

    metric_id: str
    metric_filters: list[MetricFilter] | None = None
    value_property: str | None = None


class CustomDefinition(AnswerModel):
    """A definition; partial where sparse fields were asked for."""

    aggregation_method: str | None = None
    metric_groups: list[MetricGroup] | None = None


class CustomAttributes(AnswerModel):
    """Attributes of a custom metric; sparse ones leave some out."""

    name: str | None = None
    definition: CustomDefinition | None = None
    created: str | None = None
    updated: str | None = None


class CustomMetric(AnswerModel):
    """A custom metric."""

    type: str
    id: str
    attributes: CustomAttributes
    relationships: Relationships | None = None
    links: Links | None = None


class MetricAttributes(AnswerModel):
    """Attributes of a metric."""

    name: str | None = None
    created: str | None = None
    updated: str | None = None
    integration: dict[str, Any] | None = None


class MetricResource(AnswerModel):
    """A metric."""

    type: str
    id: str
    attributes: MetricAttributes
    links: Links | None = None


class PropertyAttributes(AnswerModel):
    """A property that events of a metric were seen with."""

    label: str
    property: str
    inferred_type: str


class MetricProperty(AnswerModel):
    """A property of a metric."""

    type: str
    id: str
    attributes: PropertyAttributes
    relationships: Relationships | None = None
    links: Links | None = None


class EventAttributes(AnswerModel):
    """An event. timestamp: whole seconds since 1970; event_properties: with `$value`, if any."""

    timestamp: int | None = None
    event_properties: dict[str, Any] | None = None
    datetime: str | None = None
    uuid: str | None = None


class EventResource(AnswerModel):
    """An event of the log; its id is partition@offset."""

    type: str
    id: str
    attributes: EventAttributes
    relationships: Relationships
    links: Links


class AggregateRow(AnswerModel):
    """One group of metric-aggregates: a number for each date."""

    dimensions: list[str]
    measurements: dict[str, list[Number | None]]


class AggregateAttributes(AnswerModel):
    """dates are the starts of the buckets in UTC."""

    dates: list[str]
    data: list[AggregateRow]


class Aggregate(AnswerModel):
    """An answer of metric-aggregates."""

    type: str
    id: str
    attributes: AggregateAttributes
    links: Links | None = None


Resource = CustomMetric | MetricResource | MetricProperty | EventResource | Aggregate | Identifier


class Document(AnswerModel):
    """A JSON:API document."""

    data: Resource | list[Resource]
    included: list[MetricResource] | None = None
    links: Links | None = None
    meta: dict[str, Any] | None = None


class Source(AnswerModel):
    """What an error is about."""

    pointer: str | None = None
    parameter: str | None = None


class ErrorObject(AnswerModel):
    """One problem of a request."""

    id: str
    status: int
    code: str
    title: str
    detail: str
    source: Source
    links: dict[str, Any]
    meta: dict[str, Any]


class Errors(AnswerModel):
    """Every error."""

    errors: list[ErrorObject]


ANSWERS: Final = (Document, Errors)
