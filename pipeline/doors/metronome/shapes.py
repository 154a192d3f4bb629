"""Metronome: usage queries, archive and rename bodies; answers (docs/formats.md 3.1, 3.5, 3.6)."""

import uuid
from typing import Any, Final

from pydantic import RootModel

from definitions.formats.bodies import BOOLEAN, LIST, OBJECT, TEXT, TEXTS, Problems, is_text_list
from definitions.times import parse_timestamp

from ..model import AnswerModel, Number

WINDOW_SIZES: Final = tuple(
    spelling for word in ("hour", "day", "none") for spelling in (word, word.title(), word.upper())
)
GROUP_VALUES_MAX: Final = 200
_PERIOD: Final = {"starting_on": TEXT, "ending_before": TEXT, "window_size": TEXT}
_USAGE: Final = {**_PERIOD, "customer_ids": TEXTS, "billable_metrics": LIST}
_GROUPS: Final = {
    **_PERIOD,
    "customer_id": TEXT,
    "billable_metric_id": TEXT,
    "current_period": BOOLEAN,
    "group_key": TEXTS,
    "group_filters": OBJECT,
    "group_by": OBJECT,
}


def check_usage(body: Any) -> None:
    """Check a body of POST /v1/usage.

    Raises:
        DefinitionError: every broken rule with its pointer.
    """
    problems = Problems()
    _check_shape(body, _USAGE, ("starting_on", "ending_before", "window_size"), problems)
    _check_period(body, problems)
    metrics = body.get("billable_metrics")
    for index, metric in enumerate(metrics if isinstance(metrics, list) else []):
        pointer = f"/billable_metrics/{index}"
        if not isinstance(metric, dict):
            problems.add("M-TYPE", pointer, "an object is due")
            continue
        problems.members(metric, {"id", "group_by"}, pointer, "M-UNKNOWN")
        if "id" not in metric:
            problems.add("M-REQ", f"{pointer}/id", "id is required")
        _check_group_by(metric, pointer, problems)
    problems.raise_if_any()


def check_usage_groups(body: Any) -> None:
    """Check a body of POST /v1/usage/groups.

    Raises:
        DefinitionError: every broken rule with its pointer.
    """
    problems = Problems()
    required = ("customer_id", "billable_metric_id", "window_size")
    _check_shape(body, _GROUPS, required, problems)
    _check_period(body, problems)
    dates = [name for name in ("starting_on", "ending_before") if name in body]
    if body.get("current_period") is True and dates:
        message = f"current_period excludes {' and '.join(dates)}"
        problems.add("M-USAGE-PERIOD", "/current_period", message)
    if "group_by" in body and ("group_key" in body or "group_filters" in body):
        message = "group_by is the older form of group_key and group_filters; give one of them"
        problems.add("M-USAGE-GROUP", "/group_by", message)
    _check_group_by(body, "", problems)
    filters = body.get("group_filters")
    for name, values in filters.items() if isinstance(filters, dict) else ():
        pointer = f"/group_filters/{name}"
        if name not in (body.get("group_key") or ()):
            problems.add("M-USAGE-GROUP", pointer, f"{name!r} is not in group_key")
        if not is_text_list(values):
            problems.add("M-TYPE", pointer, "a list of strings is due")
    problems.raise_if_any()


def check_archive(body: Any) -> None:
    """Check a body of POST /v1/billable-metrics/archive.

    Raises:
        DefinitionError: every broken rule with its pointer.
    """
    problems = Problems()
    if not isinstance(body, dict):
        problems.add("M-TYPE", "", "an object is due")
        problems.raise_if_any()
    problems.members(body, {"id"}, "", "M-UNKNOWN")
    if "id" not in body:
        problems.add("M-REQ", "/id", "id is required")
    elif not _is_uuid(body["id"]):
        problems.add("M-UUID", "/id", "id is a UUID")
    problems.raise_if_any()


def check_rename(body: Any) -> None:
    """Check a body of PUT /v1/billable-metrics/{id}: only the name can change.

    Raises:
        DefinitionError: every broken rule with its pointer.
    """
    problems = Problems()
    _check_shape(body, {"name": TEXT}, ("name",), problems)
    if isinstance(body.get("name"), str) and not body["name"].strip():
        problems.add("NAME-BLANK", "/name", "the name must not be blank")
    problems.raise_if_any()


def _check_shape(
    body: Any, members: dict[str, Any], required: tuple[str, ...], problems: Problems
) -> None:
    if not isinstance(body, dict):
        problems.add("M-TYPE", "", "an object is due")
        problems.raise_if_any()
    problems.members(body, members, "", "M-UNKNOWN")
    for name in required:
        if name not in body:
            problems.add("M-REQ", f"/{name}", f"{name} is required")
    problems.kinds(body, members, "", "M-TYPE")


def _check_period(body: dict[str, Any], problems: Problems) -> None:
    size = body.get("window_size")
    if isinstance(size, str) and size not in WINDOW_SIZES:
        problems.add("M-USAGE-WINDOW", "/window_size", "window_size is hour, day or none")
    for name in ("starting_on", "ending_before"):
        text = body.get(name)
        if isinstance(text, str) and parse_timestamp(text) is None:
            problems.add("M-USAGE-TIME", f"/{name}", f"{name} is RFC 3339 with an offset")


def _check_group_by(body: dict[str, Any], pointer: str, problems: Problems) -> None:
    given = body.get("group_by")
    if given is None:
        return
    pointer = f"{pointer}/group_by"
    if not isinstance(given, dict):
        problems.add("M-TYPE", pointer, "an object is due")
        return
    problems.members(given, {"key", "values"}, pointer, "M-UNKNOWN")
    problems.kinds(given, {"key": TEXT, "values": TEXTS}, pointer, "M-TYPE")
    if "key" not in given:
        problems.add("M-REQ", f"{pointer}/key", "key is required")
    values = given.get("values")
    if isinstance(values, list) and not 1 <= len(values) <= GROUP_VALUES_MAX:
        problems.add("M-USAGE-GROUP", f"{pointer}/values", f"1 to {GROUP_VALUES_MAX} values")


def _is_uuid(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return len(value) == 36


class Message(AnswerModel):
    """Every error."""

    message: str


class Id(AnswerModel):
    """An id alone."""

    id: str


class EventTypeFilter(AnswerModel):
    """Which event types count."""

    in_values: list[str] | None = None
    not_in_values: list[str] | None = None


class PropertyFilter(AnswerModel):
    """One filter."""

    name: str
    exists: bool | None = None
    in_values: list[str] | None = None
    not_in_values: list[str] | None = None


class BillableMetric(AnswerModel):
    """A metric as it was given, with its id."""

    id: str
    name: str
    sql: str | None = None
    aggregation_type: str | None = None
    aggregation_key: str | None = None
    event_type_filter: EventTypeFilter | None = None
    property_filters: list[PropertyFilter] | None = None
    group_keys: list[list[str]] | None = None
    custom_fields: dict[str, str] | None = None
    archived_at: str | None = None


class Usage(AnswerModel):
    """A window of POST /v1/usage."""

    customer_id: str
    billable_metric_id: str
    billable_metric_name: str
    start_timestamp: str
    end_timestamp: str
    value: Number | None = None
    groups: dict[str, Number | None] | None = None


class GroupUsage(AnswerModel):
    """A window and group of POST /v1/usage/groups."""

    starting_on: str
    ending_before: str
    group: dict[str, str | None] | None = None
    group_key: str | None = None
    group_value: str | None = None
    value: Number | None = None


class One(AnswerModel):
    """An answer with one thing."""

    data: BillableMetric | Id


class Stands(AnswerModel):
    """Where the numbers of a page stand: our own member, which the vendor's clients pass over.

    offsets: topic/partition → offset. first_page_offsets: of the first page of the walk.
    moved_on: whether a row may hold events that the first page stood before.
    """

    offsets: dict[str, int]
    applied_through: str | None
    first_page_offsets: dict[str, int | None]
    moved_on: bool


class Page(AnswerModel):
    """An answer with a page of things."""

    data: list[BillableMetric] | list[Usage] | list[GroupUsage]
    next_page: str | None = None
    as_of: Stands | None = None


class MetricRef(AnswerModel):
    """A metric that an event matched."""

    id: str
    name: str


class FoundEvent(AnswerModel):
    """An event of POST /v1/events/search."""

    id: str
    transaction_id: str
    customer_id: str
    event_type: str
    timestamp: str
    properties: dict[str, Any] | None = None
    is_duplicate: bool | None = None
    processed_at: str | None = None
    matched_customer: MetricRef | None = None
    matched_billable_metrics: list[MetricRef] | None = None


class FoundEvents(RootModel[list[FoundEvent]]):
    """The answer of POST /v1/events/search: a bare list."""

    def native(self) -> list[dict[str, Any]]:
        """The body, without the members that were not given."""
        return [event.native() for event in self.root]


ANSWERS: Final = (Message, One, Page, FoundEvents)
