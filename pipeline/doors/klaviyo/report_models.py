"""Klaviyo's reports, as the OpenAPI page tells of them (docs/formats.md 1.9)."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from ..http.described import Described
from ..model import AnswerModel, Number
from . import reporting
from .shapes import Links

_WORD: Final[dict[str, Any]] = {"enum": [*reporting.STATISTICS]}
_EXAMPLE: Final[dict[str, Any]] = {
    "statistics": ["opens", "open_rate"],
    "timeframe": {"key": "last_12_months"},
    "conversion_metric_id": "Placed Order",
}


class PastTimeframe(Described):
    """A period by its name, in UTC."""

    key: str = Field(json_schema_extra={"enum": [*reporting.TIMEFRAMES]})


class OwnTimeframe(Described):
    """A period from its start on, up to its end."""

    start: str = Field(description="Its offset is ignored: it is of UTC.")
    end: str = Field(description="It is not part of the period; at most a year after the start.")


class AskedReport(Described):
    """A question for statistics of messages."""

    statistics: list[Annotated[str, Field(json_schema_extra=_WORD)]] = Field(min_length=1)
    timeframe: PastTimeframe | OwnTimeframe
    conversion_metric_id: str = Field(description="Of a metric or of a custom metric.")
    group_by: list[str] | None = Field(
        None, description="The ids of the campaign or flow and of its message; send_channel."
    )
    filter: str | None = Field(
        None, description="`equals(…)`, `contains-any(…)` of the same, joined by `and(…)`."
    )


class AskedSeries(AskedReport):
    """The same, interval by interval."""

    interval: str = Field(json_schema_extra={"enum": [*reporting.INTERVALS]})


class CampaignValuesData(Described):
    """A question about campaigns."""

    type: Literal["campaign-values-report"]
    attributes: AskedReport


class FlowValuesData(Described):
    """A question about flows."""

    type: Literal["flow-values-report"]
    attributes: AskedReport


class FlowSeriesData(Described):
    """A question about flows, interval by interval."""

    type: Literal["flow-series-report"]
    attributes: AskedSeries


def _example(kind: str, **more: Any) -> ConfigDict:
    data: dict[str, Any] = {"type": kind, "attributes": {**_EXAMPLE, **more}}
    return ConfigDict(json_schema_extra={"examples": [{"data": data}]})


class CampaignValues(Described):
    """Statistics of campaigns."""

    model_config = _example("campaign-values-report")

    data: CampaignValuesData


class FlowValues(Described):
    """Statistics of flows."""

    model_config = _example("flow-values-report")

    data: FlowValuesData


class FlowSeries(Described):
    """Statistics of flows, interval by interval."""

    model_config = _example(
        "flow-series-report", interval="weekly", timeframe={"key": "last_30_days"}
    )

    data: FlowSeriesData


class ReportRow(AnswerModel):
    """The statistics of a message."""

    groupings: dict[str, str]
    statistics: dict[str, Number | list[Number]]


class ReportAttributes(AnswerModel):
    """date_times: the starts of the intervals, of a series."""

    results: list[ReportRow]
    date_times: list[str] | None = None


class Report(AnswerModel):
    """An answer."""

    type: str
    attributes: ReportAttributes
    links: Links | None = None


class ReportDocument(AnswerModel):
    """A JSON:API document."""

    data: Report
    links: Links | None = None
    meta: dict[str, Any] | None = None
