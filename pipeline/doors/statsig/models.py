"""Statsig's request bodies, as the OpenAPI page tells of them (docs/formats.md 2.2 to 2.7).

Their rules are held by definitions/formats/statsig.py and definitions/events/statsig.py.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, create_model

from definitions.formats import statsig as rules
from definitions.formats.bodies import BOOLEAN, NUMBER_OR_NULL, TEXT_OR_NULL, TEXTS, Kind
from definitions.formats.statsig_members import WAREHOUSE

from ..http.described import Absent, Described, Open

EVENTS_MAX: Final = 20_000  # of a body of log_event
_NAME: Final[dict[str, Any]] = {"pattern": f"^{rules.NAME.pattern}$"}
_AGGREGATION: Final[dict[str, Any]] = {"enum": [*rules.WAREHOUSE_AGGREGATIONS]}
_MEMBERS: Final[dict[Kind, Any]] = {
    TEXT_OR_NULL: str | None,
    NUMBER_OR_NULL: float | None,
    TEXTS: list[str] | Absent,
    BOOLEAN: bool | Absent,
}


class EventCriterion(Described):
    """What a member of an event must be."""

    type: str = Field(
        description="Where the member lies.", json_schema_extra={"enum": [*rules.CRITERION_TYPES]}
    )
    condition: str = Field(json_schema_extra={"enum": [*rules.CONDITIONS]})
    column: str | None = Field(None, description="The member's name; not of `value`.")
    values: list[str] | Absent = Field(None, description="Texts, of numbers too.")
    nullVacuousOverride: bool | Absent = None  # noqa: N815  Statsig's names, here and below


class MetricEvent(Described):
    """An event that a metric is made of."""

    name: str
    type: Literal["count", "count_distinct", "value", "metadata"] | None = None
    metadataKey: str | None = Field(None, description="What is added, or counted once.")  # noqa: N815
    criteria: list[EventCriterion] | Absent = Field(None, description="All of them must hold.")


class ComponentMetric(Described):
    """A metric that another one is made of."""

    name: str
    type: str


class FunnelStep(Described):
    """A step of a funnel."""

    name: str
    type: str = Field(
        json_schema_extra={"enum": [word for words in rules.STEPS.values() for word in words]}
    )


class FunnelEvent(Described):
    """A step of a warehouse funnel."""

    criteria: list[EventCriterion] | Absent = None
    metricSourceName: str | None = None  # noqa: N815
    name: str | None = None
    sessionIdentifierField: str | None = None  # noqa: N815


# Of every member its type; those with types of their own stand below.
_OF_WAREHOUSE: Final[dict[str, Any]] = {
    **{name: (_MEMBERS[kind], None) for name, kind in WAREHOUSE.items() if kind in _MEMBERS},
    **{
        name: (str | Absent, Field(None, json_schema_extra=_AGGREGATION))
        for name in ("aggregation", "numeratorAggregation", "denominatorAggregation")
    },
    **dict.fromkeys(("criteria", "denominatorCriteria"), (list[EventCriterion] | Absent, None)),
    **{
        name: (Annotated[float, Field(ge=0, le=1)] | None, None)
        for name in WAREHOUSE
        if name.startswith("winsorization")
    },
    "funnelEvents": (list[FunnelEvent] | Absent, None),
}
WarehouseNative: Any = create_model(
    "WarehouseNative",
    __base__=Described,
    __doc__="A metric of a warehouse table; computed where a setting maps its source to an event.",
    **_OF_WAREHOUSE,
)


class MetricAnnotations(Described):
    """What may change; it has no effect on numbers but for unitTypes and warehouseNative."""

    unitTypes: list[str] | Absent = Field(None, description="Whom values are kept for.")  # noqa: N815
    description: str | Absent = Field(None, max_length=rules.DESCRIPTION_CHARS_MAX)
    directionality: Literal["increase", "decrease"] | Absent = None
    tags: str | list[str] | Absent = None
    isPermanent: bool | Absent = None  # noqa: N815
    isReadOnly: bool | Absent = None  # noqa: N815
    isVerified: bool | Absent = None  # noqa: N815
    team: str | None = None
    teamID: str | None = None  # noqa: N815
    dryRun: bool | Absent = Field(None, description="true: it is checked, nothing is stored.")  # noqa: N815
    warehouseNative: WarehouseNative | Absent = None  # noqa: N815


class NewMetric(MetricAnnotations):
    """A metric; which members it needs is its type's."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "plays per day",
                    "type": "event_count_custom",
                    "unitTypes": ["userID"],
                    "metricEvents": [{"name": "play_song", "criteria": []}],
                }
            ]
        }
    )

    name: str = Field(json_schema_extra=_NAME)
    type: str = Field(json_schema_extra={"enum": [*rules.TYPES]})
    metricEvents: list[MetricEvent] | Absent = None  # noqa: N815
    metricComponentMetrics: list[ComponentMetric] | Absent = None  # noqa: N815
    funnelEventList: list[FunnelStep] | Absent = None  # noqa: N815
    funnelCountDistinct: str | Absent = Field(None, json_schema_extra={"enum": [*rules.STEPS]})  # noqa: N815
    rollupTimeWindow: str | Absent = Field(None, description="`custom`, `daily` or `max`.")  # noqa: N815
    customRollUpStart: float | Absent = Field(None, description="Days since exposure.")  # noqa: N815
    customRollUpEnd: float | Absent = Field(None, description="Days since exposure.")  # noqa: N815


class MetricChange(MetricAnnotations):
    """What changes; the type, the events, components and windows of a metric are fixed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"description": "new"}]})

    name: str | Absent = Field(None, json_schema_extra=_NAME)
    owner: Any = Field(None, description="Kept as it is given.")


class LogUser(Open):
    """Who it was; what is of another type says nothing."""

    userID: str | None = Field(None, description="The customer.")  # noqa: N815
    customIDs: dict[str, Any] | None = Field(  # noqa: N815
        None, description="Other ids by name; without userID the first that is a text."
    )
    stableID: str | None = Field(None, description="The last id that is looked at.")  # noqa: N815
    custom: dict[str, Any] | None = Field(None, description="What `user_custom` criteria read.")
    email: str | None = None
    ip: str | None = None
    userAgent: str | None = None  # noqa: N815
    country: str | None = None
    locale: str | None = None
    appVersion: str | None = None  # noqa: N815
    statsigEnvironment: dict[str, Any] | None = Field(  # noqa: N815
        None, description="Its `tier`: an event counts if that is an environment that counts."
    )
    privateAttributes: dict[str, Any] | None = Field(None, description="Never stored.")  # noqa: N815


class LogEvent(Open):
    """An event; other members are kept beside it and change nothing."""

    eventName: str = Field(min_length=1)  # noqa: N815
    value: str | float | None = Field(None, description="A number, as text too.")
    time: str | float | None = Field(
        None, description="Unix milliseconds or ISO 8601; else the time of arrival."
    )
    user: LogUser | None = Field(None, description="Else the body's.")
    metadata: dict[str, Any] | None = None


class LogBody(Open):
    """Events: all of them are taken, or none."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [
                {"events": [{"eventName": "play_song", "user": {"userID": "u1"}, "value": 1}]}
            ]
        },
    )

    events: list[LogEvent] = Field(min_length=1, json_schema_extra={"maxItems": EVENTS_MAX})
    user: LogUser | None = Field(None, description="Of events without one.")


class ClientState(Open):
    """What a client says when it asks for a configuration. Nothing of it is read."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={"examples": [{"user": {"userID": "u1"}, "statsigMetadata": {}}]},
    )

    user: Any = Field(None, description="Whose values it asks for.")
    statsigMetadata: Any = Field(None, description="Which client it is.")  # noqa: N815
