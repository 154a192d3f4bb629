"""Metronome's request bodies (docs/formats.md 3.1, 3.2, 3.4, 3.5).

A Body is what the door reads through. A Described one only tells of a body: its rules are held by
definitions/formats/metronome.py and definitions/events/metronome.py, for the command line as well.
"""

import uuid
from collections.abc import Container, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    RootModel,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from definitions.events import metronome as events
from definitions.formats.bodies import is_text_list
from definitions.formats.metronome import AGGREGATIONS
from definitions.times import parse_timestamp

from ..http.bodies import Body, Fault, refuses, texts
from ..http.described import Absent, Described

WINDOW_SIZES: Final = tuple(
    spelling for word in ("hour", "day", "none") for spelling in (word, word.title(), word.upper())
)
GROUP_VALUES_MAX: Final = 200
SEARCHED_MAX: Final = 100
_ID: Final = "0b1c8a3e-6f0f-4b1e-9a7c-2f6f5f3a8b11"
_PERIOD: Final[dict[str, Any]] = {
    "starting_on": "2026-11-19T00:00:00Z",
    "ending_before": "2026-11-20T00:00:00Z",
}
_TEXTS: Final[dict[str, Any]] = {"type": "array", "items": {"type": "string"}}


def _window_size(text: str) -> str:
    if text not in WINDOW_SIZES:
        raise refuses(("M-USAGE-WINDOW", "window_size is hour, day or none"))
    return text


def _instant(text: str, info: ValidationInfo) -> str:
    if parse_timestamp(text) is None:
        raise refuses(("M-USAGE-TIME", f"{info.field_name} is RFC 3339 with an offset"))
    return text


def _values(given: Any) -> Any:
    wrong = [] if is_text_list(given) else [("texts_type", "")]
    if isinstance(given, list) and not 1 <= len(given) <= GROUP_VALUES_MAX:
        wrong.append(("M-USAGE-GROUP", f"1 to {GROUP_VALUES_MAX} values"))
    if wrong:
        raise refuses(*wrong)
    return given


def _uuid(value: Any) -> Any:
    try:
        if isinstance(value, str) and len(value) == 36:
            return str(value) if uuid.UUID(value) else value
    except ValueError:
        pass
    raise refuses(("M-UUID", "id is a UUID"))


def not_blank(text: str) -> str:
    if not text.strip():
        raise refuses(("NAME-BLANK", "the name must not be blank"))
    return text


def _never_null(schema: dict[str, Any]) -> None:
    """A member that is None where it is absent, and null nowhere."""
    schema.update(schema.pop("anyOf")[0])


Texts = Annotated[list[str], BeforeValidator(texts)]
Instant = Annotated[
    str, AfterValidator(_instant), Field(json_schema_extra={"format": "date-time"})
]
Size = Annotated[
    str, AfterValidator(_window_size), Field(json_schema_extra={"enum": list(WINDOW_SIZES)})
]


# -- usage ------------------------------------------------------------------------------------


class GroupBy(Body):
    """What usage is grouped by."""

    key: str = Field(description="The property; it is a group key of the metric.")
    values: Annotated[list[str], BeforeValidator(_values)] = Field(
        default_factory=list,
        description="Of these groups alone; absent: of every one.",
        json_schema_extra={"minItems": 1, "maxItems": GROUP_VALUES_MAX},
    )


class AskedMetric(Body):
    """A metric that usage is asked of."""

    # Of any type: what is no id of a metric is not found, and that is its answer.
    id: Annotated[Any, WithJsonSchema({"type": "string", "format": "uuid"})] = Field(
        description="The id of a billable metric."
    )
    group_by: GroupBy | None = Field(default=None, description="null is as good as absent.")


class UsageQuery(Body):
    """A question for usage by customer, metric and window."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {**_PERIOD, "window_size": "DAY", "customer_ids": ["c1"]},
                {**_PERIOD, "window_size": "none"},
            ]
        }
    )
    ahead: ClassVar = {"rule": ("window_size",)}

    starting_on: Instant = Field(description="The period's start.")
    ending_before: Instant = Field(description="The period's end, which is not part of it.")
    window_size: Size = Field(description="The windows that the period is cut into.")
    customer_ids: Texts = Field(
        default_factory=list, description="Of these customers alone; absent: of every one."
    )
    billable_metrics: list[AskedMetric] = Field(
        default_factory=list, description="Of these metrics alone; absent: of every one."
    )


class GroupsQuery(Body):
    """A question for the usage of one customer and metric by window and group."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_PERIOD,
                    "window_size": "DAY",
                    "customer_id": "c1",
                    "billable_metric_id": _ID,
                    "group_key": ["region"],
                }
            ]
        }
    )
    ahead: ClassVar = {"type": ("starting_on", "ending_before", "window_size")}

    customer_id: str = Field(description="The customer.")
    billable_metric_id: str = Field(
        description="The id of a billable metric.", json_schema_extra={"format": "uuid"}
    )
    window_size: Size = Field(description="The windows that the period is cut into.")
    starting_on: Instant = Field(
        default_factory=str, description="The period's start, unless current_period is true."
    )
    ending_before: Instant = Field(
        default_factory=str,
        description="The period's end, which is not part of it.",
    )
    current_period: bool = Field(
        default=False, description="true: the calendar month, in UTC, that now lies in."
    )
    group_key: Texts = Field(
        default_factory=list, description="The properties to group by: a whole key of the metric."
    )
    group_filters: dict[str, Annotated[Any, WithJsonSchema(_TEXTS)]] = Field(
        default_factory=dict,
        description="Property of group_key → the values whose groups are told; none: every one.",
    )
    group_by: GroupBy | None = Field(
        default=None,
        description="The older form of group_key and group_filters: one of the two.",
        json_schema_extra=_never_null,
    )

    @classmethod
    def across(cls, body: Mapping[str, Any]) -> Iterator[Fault]:
        """The period is given once, groups in one form, filters of what is grouped by."""
        if "group_by" in body and not isinstance(body["group_by"], dict):  # nor null, as above
            yield Fault("dict_type", ("group_by",))
        dates = [name for name in ("starting_on", "ending_before") if name in body]
        if body.get("current_period") is True and dates:
            message = f"current_period excludes {' and '.join(dates)}"
            yield Fault("M-USAGE-PERIOD", ("current_period",), message)
        if "group_by" in body and ("group_key" in body or "group_filters" in body):
            message = "group_by is the older form of group_key and group_filters; give one of them"
            yield Fault("M-USAGE-GROUP", ("group_by",), message)
        filters, names = body.get("group_filters"), body.get("group_key")
        for name, values in filters.items() if isinstance(filters, dict) else ():
            at = ("group_filters", name)
            if name not in (names if isinstance(names, Container) else ()):
                yield Fault("M-USAGE-GROUP", at, f"{name!r} is not in group_key")
            if not is_text_list(values):
                yield Fault("M-TYPE", at, "a list of strings is due")


# -- metrics and events -----------------------------------------------------------------------


class Archive(Body):
    """The metric that is archived."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"id": _ID}]})

    id: Annotated[str, BeforeValidator(_uuid)] = Field(
        description="The id of a billable metric.", json_schema_extra={"format": "uuid"}
    )


class Rename(Body):
    """The one member of a metric that can change."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "Tokens 2"}]})

    name: Annotated[str, AfterValidator(not_blank)] = Field(
        description="Its new name; not blank.", json_schema_extra={"pattern": r"\S"}
    )


class EventSearch(Body):
    """The events that are looked for; other members say nothing."""

    model_config = ConfigDict(
        extra="ignore", json_schema_extra={"examples": [{"transactionIds": ["t1"]}]}
    )

    transactionIds: list[str] = Field(  # noqa: N815  Metronome's name
        description="Their transaction_ids.",
        json_schema_extra={"minItems": 1, "maxItems": SEARCHED_MAX},
    )

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_sentence(cls, body: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            made = handler(body)
        except ValidationError as error:
            raise refuses(("M-TYPE", "transactionIds is a list of strings")) from error
        if not 1 <= len(made.transactionIds) <= SEARCHED_MAX:
            raise refuses(("M-SEARCH-SIZE", f"1 to {SEARCHED_MAX} transactionIds"))
        return made


class EventTypes(Described):
    """Which event types count; each list that is given is not empty."""

    in_values: list[str] | None = Field(None, description="These alone.", min_length=1)
    not_in_values: list[str] | None = Field(None, description="All but these.", min_length=1)


class PropertyRule(Described):
    """What a property of an event must be, so that the event counts."""

    name: str = Field(description="The property.")
    exists: bool | None = Field(
        None, description="true: it must be there; false: it must not; absent, null: either."
    )
    in_values: list[str] | None = Field(None, description="One of these texts.", min_length=1)
    not_in_values: list[str] | None = Field(None, description="None of them.", min_length=1)


class NewBillableMetric(Described):
    """A billable metric: of events and properties, or of SQL, which excludes all but a name."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Tokens",
                    "aggregation_type": "SUM",
                    "aggregation_key": "tokens",
                    "property_filters": [
                        {"name": "tokens", "exists": True},
                        {"name": "region", "exists": True},
                    ],
                    "group_keys": [["region"]],
                },
                {"name": "Calls", "aggregation_type": "COUNT"},
                {"name": "Rows", "sql": "SELECT COUNT(*) AS value FROM events"},
            ],
            "oneOf": [{"required": ["sql"]}, {"required": ["aggregation_type"]}],
        }
    )

    name: str = Field(description="Its name; not blank.", json_schema_extra={"pattern": r"\S"})
    sql: str | Absent = Field(
        None,
        description="A SELECT over the table events; it excludes what describes a metric else.",
    )
    aggregation_type: str | Absent = Field(
        None,
        description="What is computed of the events that count.",
        json_schema_extra={"enum": [*AGGREGATIONS]},
    )
    aggregation_key: str | Absent = Field(
        None,
        description="The property it is computed of: a name of property_filters. count has none.",
    )
    event_type_filter: EventTypes | Absent = Field(None, description="Which event types count.")
    property_filters: list[PropertyRule] | Absent = Field(
        None, description="All of them must hold."
    )
    group_keys: list[list[str]] | Absent = Field(
        None, description="Each inner list is one key: names of property_filters that must exist."
    )
    custom_fields: dict[str, str] | Absent = Field(
        None, description="Kept; of no effect on numbers."
    )


class EventBody(Described):
    """An event of a customer."""

    transaction_id: str = Field(
        description="Its identity: a second one within 34 days is not counted.",
        min_length=1,
        max_length=events.CHARS_MAX["transaction_id"],
    )
    customer_id: str = Field(
        description="Whose it is.", min_length=1, max_length=events.CHARS_MAX["customer_id"]
    )
    event_type: str = Field(
        description="What happened.", min_length=1, max_length=events.CHARS_MAX["event_type"]
    )
    timestamp: str = Field(
        description="RFC 3339 with four digits of year and an offset.",
        json_schema_extra={"format": "date-time"},
    )
    properties: dict[str, Any] = Field(
        default_factory=dict,
        description="Numbers are exact, as text or as JSON numbers.",
        max_length=events.PROPERTIES_MAX,
    )


class NewEvents(RootModel[Annotated[list[EventBody], Field(min_length=1)]]):
    """Events of a batch: all of them are taken, or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "maxItems": events.EVENTS_MAX,
            "examples": [
                [
                    {
                        "transaction_id": "t1",
                        "customer_id": "c1",
                        "event_type": "call",
                        "timestamp": "2026-11-19T01:00:00Z",
                        "properties": {"tokens": "12.5", "region": "eu"},
                    }
                ]
            ],
        }
    )
