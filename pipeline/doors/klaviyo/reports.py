"""Klaviyo's reports of campaigns and flows, with a custom metric as conversions (formats.md 1.9).

What a message did is counted by plain metrics that are grouped by `$flow` and `$message`, and what
it led to by the conversion metric, grouped by `$attributed_flow` and `$attributed_message`. Both
are registered as metric-aggregates registers them: once, and with all of the log's past.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ...control.entities import Metric
from ...control.terms import terms_of
from ...reads.answers import AsOf, UsageRow
from ...reads.query import Query
from ..http.errors import JSON_API, Refused
from ..http.requests import body_json, needs, takes
from ..http.service import Pace, Service
from . import report_models, reporting
from .resources import DOCUMENTED, answer, base_of, known, revised, walk_of
from .usage import NUMBERS_MAX, may_write, measured_of, metric_of, told_of, watch

router = APIRouter(prefix="/api", tags=["Klaviyo"], dependencies=[Depends(revised)])
_REPORTS: Final = Pace("klaviyo-reports", ((1, 1), (2, 60), (225, 86_400)))
Reporting = Annotated[Service, Depends(needs("read", _REPORTS))]
_SENT: Final = ("$flow", "$message")
_LED: Final = ("$attributed_flow", "$attributed_message")
_ONE: Final[dict[str, Any]] = {**DOCUMENTED, "response_model": report_models.ReportDocument}
# (flow, message); a campaign's message has no flow
_Message = tuple[str, str]


@router.post("/campaign-values-reports", **_ONE, **takes(report_models.CampaignValues, JSON_API))
async def campaign_values(request: Request, service: Reporting) -> Response:
    """Statistics of campaigns in a timeframe."""
    return await _report(request, service, reporting.CAMPAIGNS)


@router.post("/flow-values-reports", **_ONE, **takes(report_models.FlowValues, JSON_API))
async def flow_values(request: Request, service: Reporting) -> Response:
    """Statistics of flows in a timeframe."""
    return await _report(request, service, reporting.FLOWS)


@router.post("/flow-series-reports", **_ONE, **takes(report_models.FlowSeries, JSON_API))
async def flow_series(request: Request, service: Reporting) -> Response:
    """Statistics of flows in a timeframe, interval by interval."""
    return await _report(request, service, reporting.FLOW_SERIES)


async def _report(request: Request, service: Service, kind: reporting.ReportKind) -> Response:
    body = await body_json(request)
    asked = reporting.check(body, kind, service.clock.now())
    await service.fresh()
    conversions = await metric_of(
        service, asked.conversion_metric_id, _LED, may_write=may_write(request)
    )
    reads: list[AsOf] = []
    lines, dates = await _rows(service, asked, measured_of(conversions, "count"), (), reads)
    counts = await _counts(request, service, asked, conversions, reads, len(dates))
    results = _results(service, kind, asked, counts, len(dates))
    if len(results) * len(dates) * len(asked.statistics) > NUMBERS_MAX:
        raise Refused(400, f"more than {NUMBERS_MAX} numbers; ask for a shorter timeframe")
    link = f"{base_of(request)}/api/{kind.type}s/"
    attributes: dict[str, Any] = {"results": results}
    if kind.is_series:
        attributes["date_times"] = [date.isoformat() for date in dates]
    told = told_of(conversions, lines, [read.unapplied for read in reads])
    meta = {**told, "as_of": walk_of(request, service, {}, None).stands(reads)}
    data = {"type": kind.type, "attributes": attributes}
    return answer({"data": data, "links": {"self": link}, "meta": meta})


async def _counts(
    request: Request,
    service: Service,
    asked: reporting.ReportQuery,
    conversions: Metric,
    reads: list[AsOf],
    places: int,
) -> dict[_Message, dict[reporting.Counted, list[Decimal]]]:
    """What was counted of each message, at each place."""
    plain = await _plain(request, service, asked)
    found: dict[_Message, dict[reporting.Counted, list[Decimal]]] = {}
    for source in sorted(asked.sources, key=str):
        metric = conversions if source.metric is None else plain.get(source.metric)
        if metric is None:
            continue  # no such event ever came
        by = _LED if source.metric is None else _SENT
        own = measured_of(metric, source.measurement)
        lines, dates = await _rows(service, asked, own, by, reads)
        place = {date: number for number, date in enumerate(dates)}
        for line in lines:
            flow, message = (str((line.group or {}).get(name) or "") for name in by)
            if message:
                numbers = found.setdefault((flow, message), {}).setdefault(
                    source, [Decimal(0)] * places
                )
                numbers[place[line.window.starting_on]] = line.value or Decimal(0)
    return found


async def _plain(
    request: Request, service: Service, asked: reporting.ReportQuery
) -> dict[str, Metric]:
    """What counts the events of messages that ever came, by flow and message."""
    seen = {name for name, _ in (await known(service)).values()}
    names = {each.metric for each in asked.sources if each.metric is not None} & seen
    found = await watch(service, names, _SENT) if may_write(request) else {}
    for name in names - found.keys():
        found[name] = await metric_of(service, name, _SENT, may_write=may_write(request))
    return found


async def _rows(
    service: Service,
    asked: reporting.ReportQuery,
    metric: Metric,
    by: tuple[str, ...],
    reads: list[AsOf],
) -> tuple[Sequence[UsageRow], list[Any]]:
    """The rows of a question, and the starts of all its windows; where they stand joins reads."""
    query = Query.of(
        metric,
        starting_on=asked.starting_on,
        ending_before=asked.ending_before,
        window_size=asked.interval,
        group_key=by,
    )
    found = await service.reader.usage(query)
    reads.append(found.as_of)
    spread = (await service.reader.asked(query)).spread
    return found.rows, [window.starting_on for window in spread]


def _results(
    service: Service,
    kind: reporting.ReportKind,
    asked: reporting.ReportQuery,
    counts: Mapping[_Message, Mapping[reporting.Counted, Sequence[Decimal]]],
    places: int,
) -> list[dict[str, Any]]:
    """A row for each message of the kind that the filter lets through."""
    campaigns = terms_of(service.identity.formats).klaviyo_campaigns
    rows = []
    for (flow, message), own in sorted(counts.items()):
        if bool(flow) is (kind is reporting.CAMPAIGNS):
            continue
        groupings = {
            kind.holder: flow or campaigns.get(message, message),
            kind.message: message,
            "send_channel": reporting.CHANNEL,
        }
        if not asked.shows(groupings):
            continue
        values = reporting.values_of(asked, own, places)
        statistics = values if kind.is_series else {name: held[0] for name, held in values.items()}
        shown = {name: groupings[name] for name in asked.group_by}
        rows.append({"groupings": shown, "statistics": statistics})
    return rows
