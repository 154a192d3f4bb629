"""Klaviyo's events, one or many, as the OpenAPI page tells of them (docs/formats.md 1.6).

Their rules are held by definitions/events/klaviyo.py.
"""

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from definitions.events import klaviyo as events

from ..http.described import Described, Open

_EVENT: Final[dict[str, Any]] = {
    "properties": {"Source Name": "web"},
    "time": "2026-11-19T01:00:00+00:00",
    "value": 9.99,
    "unique_id": "order-1",
    "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
}
_PROFILE: Final[dict[str, Any]] = {
    "data": {"type": "profile", "attributes": {"email": "a@example.com"}}
}


class EventMetricAttributes(Open):
    """The metric's name."""

    name: str = Field(min_length=1, max_length=events.METRIC_NAME_CHARS_MAX)


class EventMetricData(Open):
    """The metric."""

    attributes: EventMetricAttributes


class EventMetric(Open):
    """What happened: a metric by its name."""

    data: EventMetricData


class ProfileAttributes(Open):
    """Who it was: the first that is given of these is the customer."""

    id: str | None = None
    external_id: str | None = None
    email: str | None = Field(None, description="Read in lower case.")
    phone_number: str | None = None


class ProfileData(Open):
    """A profile, by its id or by its attributes."""

    id: str | None = None
    attributes: ProfileAttributes | None = None


class EventProfile(Open):
    """Whose event it is."""

    data: ProfileData


class BulkEventAttributes(Described):
    """An event."""

    properties: dict[str, Any] = Field(
        description="At most ten levels deep.", max_length=events.PROPERTIES_MAX
    )
    metric: EventMetric
    time: str | None = Field(
        None,
        description="ISO 8601, after 1990, at most a year ahead; else the time of arrival.",
        json_schema_extra={"format": "date-time"},
    )
    value: float | None = Field(None, description="What `$value` is.")
    value_currency: str | None = None
    unique_id: str | None = Field(
        None, description="Its identity, beside profile and metric; else the second of its time."
    )
    backfill: bool = Field(default=False, description="Of no effect here.")


class NewEventAttributes(BulkEventAttributes):
    """An event and whose it is."""

    profile: EventProfile


class NewEventData(Described):
    """An event."""

    type: Literal["event"]
    attributes: NewEventAttributes


class NewEvent(Described):
    """One event."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"data": {"type": "event", "attributes": {**_EVENT, "profile": _PROFILE}}}
            ]
        }
    )

    data: NewEventData


class BulkEvent(Open):
    """An event of a profile."""

    attributes: BulkEventAttributes


class ProfileEvents(Open):
    """The events of a profile."""

    data: list[BulkEvent]


class BulkProfileAttributes(Open):
    """A profile and its events."""

    profile: EventProfile
    events: ProfileEvents


class BulkProfile(Open):
    """A profile and its events."""

    attributes: BulkProfileAttributes


class BulkProfiles(Open):
    """Profiles and their events."""

    data: list[BulkProfile] = Field(description=f"At most {events.BULK_MAX:,} events in all.")


class BulkAttributes(Open):
    """The job's events."""

    create: BulkProfiles = Field(alias="events-bulk-create")


class BulkData(Described):
    """A job of many events."""

    type: Literal["event-bulk-create-job"]
    attributes: BulkAttributes


class ManyEvents(Described):
    """Events of one or more profiles: all of them are taken, or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "data": {
                        "type": "event-bulk-create-job",
                        "attributes": {
                            "events-bulk-create": {
                                "data": [
                                    {
                                        "type": "event-bulk-create",
                                        "attributes": {
                                            "profile": _PROFILE,
                                            "events": {
                                                "data": [{"type": "event", "attributes": _EVENT}]
                                            },
                                        },
                                    }
                                ]
                            }
                        },
                    }
                }
            ]
        }
    )

    data: BulkData
