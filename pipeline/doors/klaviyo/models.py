"""Klaviyo's definitions and questions, as the OpenAPI page tells of them (docs/formats.md 1).

Their rules are held by definitions/formats/klaviyo.py and, of questions, by shapes.py.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from definitions.formats import klaviyo as rules

from ..http.described import Described
from . import shapes

_NAMED: Final[dict[str, Any]] = {"pattern": r"\S"}
_DEFINITION: Final[dict[str, Any]] = {
    "aggregation_method": "value",
    "metric_groups": [{"metric_id": "Placed Order", "metric_filters": []}],
}
_MEASURED: Final[dict[str, Any]] = {"enum": [*shapes.MEASUREMENTS]}


def _words(kind: str) -> dict[str, Any]:
    return {"enum": rules.operators_of(kind)}


# -- custom metrics ---------------------------------------------------------------------------


class StringFilter(Described):
    """The property as text; `in` takes a list."""

    type: Literal["string"]
    operator: str = Field(json_schema_extra=_words("string"))
    value: str | list[str] | None


class NumericFilter(Described):
    """The property as a number."""

    type: Literal["numeric"]
    operator: str = Field(json_schema_extra=_words("numeric"))
    value: float


class BooleanFilter(Described):
    """The property as true or false."""

    type: Literal["boolean"]
    operator: str = Field(json_schema_extra=_words("boolean"))
    value: bool


class ExistenceFilter(Described):
    """Whether the property is set."""

    type: Literal["existence"]
    operator: str = Field(json_schema_extra=_words("existence"))


class ListFilter(Described):
    """The property as a list: whether one of its elements is, or holds, the value."""

    type: Literal["list"]
    operator: str = Field(json_schema_extra=_words("list"))
    value: int | str | None


class GroupFilter(Described):
    """What a property of an event must be."""

    property: str = Field(description="The property; `$value` is the event's value.")
    filter: StringFilter | NumericFilter | BooleanFilter | ExistenceFilter | ListFilter = Field(
        discriminator="type"
    )


class DefinitionGroup(Described):
    """The events of a metric that hold every filter."""

    metric_id: str = Field(description="An id of GET /api/metrics.")
    metric_filters: list[GroupFilter] | None = Field(
        None, description="All of them must hold.", max_length=rules.FILTERS_MAX
    )
    value_property: str | None = Field(
        None, description="What `value` adds; absent or null: `$value`."
    )


class MetricDefinition(Described):
    """What is counted; the groups are added."""

    aggregation_method: str = Field(
        description="count: events; value: a property of them, added.",
        json_schema_extra={"enum": [*rules.METHODS]},
    )
    metric_groups: list[DefinitionGroup] = Field(min_length=1, max_length=rules.GROUPS_MAX)


class NewMetricAttributes(Described):
    """A custom metric."""

    name: str = Field(description="Unique; not blank.", json_schema_extra=_NAMED)
    definition: MetricDefinition


class NewMetricData(Described):
    """A resource without an id yet."""

    type: Literal["custom-metric"]
    attributes: NewMetricAttributes


class NewCustomMetric(Described):
    """A custom metric that is made."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "data": {
                        "type": "custom-metric",
                        "attributes": {
                            "name": "Placed Order - Online",
                            "definition": _DEFINITION,
                        },
                    }
                }
            ]
        }
    )

    data: NewMetricData


class ChangedAttributes(Described):
    """What changes; null is as good as absent."""

    name: str | None = Field(None, json_schema_extra=_NAMED)
    definition: MetricDefinition | None = Field(
        None, description="It takes the place of the whole old one."
    )


class ChangedData(Described):
    """The resource that changes."""

    type: Literal["custom-metric"]
    id: str = Field(description="The same as in the path.")
    attributes: ChangedAttributes


class ChangedCustomMetric(Described):
    """A change of a custom metric."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "data": {
                        "type": "custom-metric",
                        "id": "0b1c8a3e-6f0f-4b1e-9a7c-2f6f5f3a8b11",
                        "attributes": {"name": "Placed Order - Web"},
                    }
                }
            ]
        }
    )

    data: ChangedData


# -- metric aggregates ------------------------------------------------------------------------


class QueryAttributes(Described):
    """A question; null of what may be absent asks nothing."""

    metric_id: str = Field(description="Of a metric or of a custom metric.")
    measurements: list[Annotated[str, Field(json_schema_extra=_MEASURED)]] = Field(min_length=1)
    filter: list[str] = Field(
        description="`greater-or-equal(datetime,…)` and `less-than(datetime,…)`, at most one year "
        "apart; without an offset they are of the timezone."
    )
    interval: str | None = Field("day", json_schema_extra={"enum": [*shapes.INTERVALS, None]})
    timezone: str | None = Field("UTC", description="An IANA name.")
    by: list[str] | None = Field(None, description="The properties to group by.")
    return_fields: list[str] | None = Field(None, description="Of no effect here.")
    sort: str | None = Field(None, description="A measurement or one of `by`; `-` is backwards.")
    page_size: int | None = Field(shapes.PAGE_SIZE_MAX, ge=1, le=shapes.PAGE_SIZE_MAX)
    page_cursor: str | None = Field(None, description="Of an earlier answer's link.")


class QueryData(Described):
    """A question."""

    type: Literal["metric-aggregate"]
    attributes: QueryAttributes


class AggregatesQuery(Described):
    """A question for counts, sums and distinct profiles, window by window."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "data": {
                        "type": "metric-aggregate",
                        "attributes": {
                            "metric_id": "Placed Order",
                            "measurements": ["count", "sum_value", "unique"],
                            "interval": "day",
                            "timezone": "UTC",
                            "filter": [
                                "greater-or-equal(datetime,2026-11-19T00:00:00)",
                                "less-than(datetime,2026-11-20T00:00:00)",
                            ],
                        },
                    }
                }
            ]
        }
    )

    data: QueryData
