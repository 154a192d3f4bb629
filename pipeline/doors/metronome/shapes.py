"""Metronome: answers (docs/formats.md 3.1, 3.5, 3.6)."""

from typing import Any, Final

from pydantic import RootModel

from ..model import AnswerModel, Number


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


class UsageLine(AnswerModel):
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


class CustomerBrief(AnswerModel):
    """A customer that was made or renamed. external_id: its first alias, or else its id."""

    id: str
    external_id: str
    ingest_aliases: list[str]
    name: str
    custom_fields: dict[str, str]


class CustomerDetail(CustomerBrief):
    """A customer as it is read."""

    customer_config: dict[str, str | None]
    created_at: str
    updated_at: str
    archived_at: str | None = None


class OneCustomer(AnswerModel):
    """An answer to what makes or renames a customer."""

    data: CustomerBrief


class WholeCustomer(AnswerModel):
    """An answer with a customer."""

    data: CustomerDetail


class CustomerPage(AnswerModel):
    """A page of customers."""

    data: list[CustomerDetail]
    next_page: str | None = None


class One(AnswerModel):
    """An answer with one thing."""

    data: BillableMetric | Id


class Stands(AnswerModel):
    """Where the numbers of a page stand: our own member, which the vendor's clients pass over.

    offsets: topic/partition → offset. first_page_offsets: of the first page of the walk.
    moved_on: whether a row may hold events that the first page stood before. halted_partitions:
    what these hold is counted up to the offsets; some of it waits until they are mended.
    complete and kafka: only while Kafka is away (False, `unreachable`). history, percent and
    exact_from: only where the past of a metric is not all counted; complete is False meanwhile.
    """

    offsets: dict[str, int]
    applied_through: str | None
    first_page_offsets: dict[str, int | None]
    moved_on: bool
    halted_partitions: list[int] | None = None
    complete: bool | None = None
    kafka: str | None = None
    history: str | None = None
    percent: int | None = None
    exact_from: str | None = None


class Page(AnswerModel):
    """An answer with a page of things."""

    data: list[BillableMetric] | list[UsageLine] | list[GroupUsage]
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


ANSWERS: Final = (Message, One, Page, FoundEvents, OneCustomer, WholeCustomer, CustomerPage)
