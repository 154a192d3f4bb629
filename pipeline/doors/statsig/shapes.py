"""Statsig: answers of the console and of log_event (docs/formats.md 2.1, 2.2, 2.8)."""

from typing import Any, Final

from ..model import AnswerModel, Number


class Lineage(AnswerModel):
    """The events and the metrics that a metric uses."""

    events: list[str]
    metrics: list[str]


class ConsoleMetric(AnswerModel):
    """A metric as it was given, with what reading adds."""

    id: str
    name: str
    type: str
    directionality: str
    lineage: Lineage
    description: str | None = None
    isPermanent: bool | None = None  # noqa: N815  Statsig's names, here and below
    isReadOnly: bool | None = None  # noqa: N815
    isHidden: bool | None = None  # noqa: N815
    isVerified: bool | None = None  # noqa: N815
    tags: list[str] | None = None
    creatorName: str | None = None  # noqa: N815
    creatorEmail: str | None = None  # noqa: N815
    createdTime: int | None = None  # noqa: N815
    lastModifierID: str | None = None  # noqa: N815
    lastModifiedTime: int | None = None  # noqa: N815
    lastModifierEmail: str | None = None  # noqa: N815
    lastModifierName: str | None = None  # noqa: N815
    owner: dict[str, Any] | None = None
    team: str | None = None
    teamID: str | None = None  # noqa: N815
    unitTypes: list[str] | None = None  # noqa: N815
    metricEvents: list[dict[str, Any]] | None = None  # noqa: N815
    metricComponentMetrics: list[dict[str, Any]] | None = None  # noqa: N815
    funnelEventList: list[dict[str, Any]] | None = None  # noqa: N815
    funnelCountDistinct: str | None = None  # noqa: N815
    rollupTimeWindow: str | None = None  # noqa: N815
    customRollUpStart: Number | None = None  # noqa: N815
    customRollUpEnd: Number | None = None  # noqa: N815
    warehouseNative: dict[str, Any] | None = None  # noqa: N815


class ListedValue(AnswerModel):
    """The same in the list of all metrics' values, which has other names for its members."""

    value: Number | None
    unitType: str  # noqa: N815
    numerator: Number | None
    denominator: Number | None
    metricName: str  # noqa: N815
    metricType: str  # noqa: N815


class MetricValue(AnswerModel):
    """One metric's value of one day."""

    value: Number | None
    unit_type: str
    numerator: Number | None
    denominator: Number | None
    metric_name: str
    metric_type: str


class Pagination(AnswerModel):
    """Where a page stands."""

    itemsPerPage: int  # noqa: N815
    pageNumber: int  # noqa: N815
    totalItems: int  # noqa: N815
    nextPage: str | None  # noqa: N815
    previousPage: str | None  # noqa: N815
    all: str


class Stood(AnswerModel):
    """Where values stand: our own member. offsets: topic/partition → offset.

    complete and kafka: only while Kafka is away (False, `unreachable`). history, percent and
    exact_from: only where the past of a metric is not all counted; complete is False meanwhile.
    """

    offsets: dict[str, int]
    halted_partitions: list[int] | None = None
    complete: bool | None = None
    kafka: str | None = None
    history: str | None = None
    percent: int | None = None
    exact_from: str | None = None


class Envelope(AnswerModel):
    """Every answer of the console; archive and delete have no data."""

    message: str
    data: ConsoleMetric | list[ConsoleMetric] | list[MetricValue] | list[ListedValue] | None = None
    pagination: Pagination | None = None
    as_of: Stood | None = None


class PropertyError(AnswerModel):
    """One problem of a definition; property is a dotted path."""

    property: str
    errorMessage: str  # noqa: N815


class Refusal(AnswerModel):
    """Every error."""

    status: int
    message: str
    errors: list[PropertyError] | None = None


class Logged(AnswerModel):
    """The answer of log_event."""

    success: bool


class Configuration(AnswerModel):
    """What a client starts with; lists and maps in it are empty."""

    has_updates: bool | None = None
    time: int | None = None
    hash_used: str | None = None
    feature_gates: list[Any] | dict[str, Any] | None = None
    dynamic_configs: list[Any] | dict[str, Any] | None = None
    layer_configs: list[Any] | dict[str, Any] | None = None
    layers: dict[str, Any] | None = None
    id_lists: dict[str, Any] | None = None
    experiment_to_layer: dict[str, Any] | None = None
    condition_map: dict[str, Any] | None = None
    param_stores: dict[str, Any] | None = None
    sdkParams: dict[str, Any] | None = None  # noqa: N815
    evaluated_keys: dict[str, Any] | None = None


ANSWERS: Final = (Envelope, Refusal, Logged, Configuration)
