"""OpenMeter's request bodies: events as the OpenAPI page tells of them, and the question."""

from datetime import datetime
from typing import Any, Final

from pydantic import ConfigDict, Field, RootModel

from ..http.bodies import Body
from ..http.described import Described

EVENTS_MAX: Final = 20_000  # of a batch
SUBJECTS_MAX: Final = 100  # of a question
VALUES_MAX: Final = 1_000  # of one filter
_EXAMPLE: Final[dict[str, Any]] = {
    "specversion": "1.0",
    "id": "5c10fade-1c9e-4d6c-8275-c52c36731d3c",
    "source": "/service",
    "type": "prompt",
    "subject": "acme",
    "time": "2026-11-29T10:00:00Z",
    "data": {"tokens": 123, "model": "large"},
}


class CloudEvent(Described):
    """An event. Other attributes are kept beside it."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [_EXAMPLE]})

    specversion: str = Field(min_length=1)
    id: str = Field(min_length=1, description="With source, its identity for its subject.")
    source: str = Field(min_length=1)
    type: str = Field(min_length=1, description="The event type.")
    subject: str = Field(min_length=1, description="The customer.")
    time: datetime | None = Field(None, description="RFC 3339; else the time of arrival.")
    data: dict[str, Any] | None = Field(None, description="The properties.")


class CloudEvents(RootModel[list[CloudEvent]]):
    """Events of a batch: all of them are taken, or none."""

    model_config = ConfigDict(json_schema_extra={"maxItems": EVENTS_MAX, "examples": [[_EXAMPLE]]})


class MeterQuery(Body):
    """A question about a meter. What cannot be answered is refused, never passed over."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "from": "2026-11-01T00:00:00Z",
                    "to": "2026-12-01T00:00:00Z",
                    "windowSize": "DAY",
                    "subject": ["acme"],
                    "groupBy": ["model"],
                }
            ]
        },
    )

    clientId: str | None = Field(None, description="Taken, without effect.")  # noqa: N815
    since: str | None = Field(
        None, alias="from", description="RFC 3339, inclusive; none: all, where no window is asked."
    )
    to: str | None = Field(None, description="RFC 3339, exclusive; none: now.")
    windowSize: str | None = Field(None, description="HOUR, DAY or MONTH; none: one window.")  # noqa: N815
    windowTimeZone: str | None = Field(None, description="IANA name; none: UTC.")  # noqa: N815
    subject: list[str] | None = Field(
        None, max_length=SUBJECTS_MAX, description="Of these customers, each by itself."
    )
    groupBy: list[str] | None = Field(None, description="`subject`, and group keys.")  # noqa: N815
    filterGroupBy: dict[str, list[str]] | None = Field(  # noqa: N815
        None, description="Group key → values that are counted."
    )
