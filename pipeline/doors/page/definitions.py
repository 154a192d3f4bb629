"""Metrics on the page: what they count, how much of the past, and what a draft would say."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from definitions.errors import DefinitionError, Problem
from definitions.explain import name_of
from definitions.formats import FORMATS, guess
from definitions.metric import Definition

from ...control.entities import Metric
from ...control.writer import Writer
from ...errors import BadParameter, ConflictError
from ...reads.history import history_of
from ...reads.known import no_metric
from ...reads.standing import Standing
from ...reads.summary import native_of, summary_of
from ...reads.trial_lines import clause_lines, end_lines, row_lines
from ..http.looking import tried
from ..http.paths import segment
from ..http.service import Service
from .periods import period_of
from .showing import redirect, rendered
from .visits import Visit, visiting

router = APIRouter(include_in_schema=False)
Reads = Annotated[Visit, Depends(visiting("read"))]
Manages = Annotated[Visit, Depends(visiting("manage"))]
ROWS_MAX: Final = 500  # of a trial that the page shows; the command line shows all
_DRAFT: Final = """\
{
  "name": "API calls",
  "aggregation_type": "COUNT",
  "event_type_filter": {"in_values": ["api_call"]}
}"""


async def summaries(service: Service, metrics: list[Metric]) -> list[dict[str, Any]]:
    """Return the line of each metric, as the other readers tell it, without a second look."""
    reader, now = service.reader, service.clock.now()
    standings = await reader.standings()
    unresolved = await reader.unresolved(metrics, service.control.state.find_typed)
    return [_summary(metric, standings, now, unresolved[metric.id]) for metric in metrics]


def _summary(
    metric: Metric, standings: dict[int, Standing], now: Any, unresolved: list[str]
) -> dict[str, Any]:
    is_open = all(each.closed is None for each in standings.values())
    states = [each.state for each in standings.values()]
    history = history_of(metric, states) if is_open else None
    return summary_of(metric, history, standings, now, unresolved)


async def found_metric(service: Service, name: str) -> Metric:
    """Return a metric by id or name. Raises UnknownNameError: there is none."""
    state = await service.fresh()
    found = state.find(segment(name))
    if found is None:
        raise no_metric(segment(name), state.names, "the view Metrics")
    return found


@dataclass(frozen=True, slots=True)
class Card:
    """A measure as a card shows it."""

    name: str
    aggregation: str
    of: str | None
    events: str
    conditions: list[tuple[str, str, list[Any]]]
    unit: str | None


def cards_of(definition: Definition) -> list[Card]:
    """Return a definition's measures as cards show them."""
    found = []
    for measure in definition.measures:
        include, exclude = measure.events.include, measure.events.exclude
        events = "every event"
        if include is not None:
            events = "events " + ", ".join(include)
        elif exclude is not None:
            events = "every event but " + ", ".join(exclude)
        found.append(
            Card(
                measure.name,
                measure.aggregation.name,
                None if measure.field is None else name_of(measure.field),
                events,
                [
                    (name_of(each.field), str(each.operator), list(each.operands))
                    for each in measure.where
                ],
                None if measure.unit is None else name_of(measure.unit),
            )
        )
    return found


@router.get("/page/metrics")
async def metrics(request: Request, visit: Reads) -> Response:
    """Every metric, archived ones last."""
    found = [*(await visit.service.fresh()).metrics.values()]
    lines = await summaries(visit.service, found)
    lines.sort(key=lambda line: (line["status"] == "archived", line["name"].casefold()))
    return rendered(request, "metrics.html", lines=lines)


@router.get("/page/metrics/new")
async def draft(request: Request, visit: Reads, of: str | None = None) -> Response:
    """The form of a metric that is to be made; of: one to begin from."""
    text, format_ = _DRAFT, "metronome"
    if of is not None:
        metric = await found_metric(visit.service, of)
        text, format_ = metric.origin.text, metric.format or format_
    others = [each.name for each in visit.service.control.state.metrics.values()]
    period = period_of({}, visit.service.clock.now())
    return rendered(
        request,
        "draft.html",
        text=text,
        format=format_,
        formats=sorted(FORMATS),
        others=sorted(others),
        period=period,
    )


async def _candidate(visit: Visit) -> tuple[str, str, str, Definition]:
    """The format, the text, the name and the definition of a draft."""
    format_, text = visit.form.get("format", ""), visit.form.get("text", "")
    if format_ not in FORMATS:
        raise BadParameter("format", f"one of {', '.join(sorted(FORMATS))}")
    await visit.service.fresh()
    service = visit.service
    parse = Writer(service.control, service.identity, service.clock).parse
    name, definition = await asyncio.to_thread(parse, format_, text)  # SQL takes time to read
    return format_, text, name, definition


@router.post("/page/metrics/check")
async def check(request: Request, visit: Reads) -> Response:
    """Whether a draft could be created: every problem, or what it would count."""
    try:
        _, _, name, definition = await _candidate(visit)
    except ConflictError as error:
        taken = [Problem("NAME", "/name", str(error))]
        return rendered(request, "draft_wrong.html", problems=taken, hint=None)
    except DefinitionError as error:
        other = guess(visit.form.get("text", ""))
        hint = other if other != visit.form.get("format") else None
        return rendered(request, "draft_wrong.html", problems=error.problems, hint=hint)
    return rendered(
        request, "draft_right.html", name=name, definition=definition, cards=cards_of(definition)
    )


@router.post("/page/metrics/try")
async def trial(request: Request, visit: Reads) -> Response:
    """What a draft would say, beside what another metric says; nothing is written."""
    service, form = visit.service, visit.form
    other = form.get("against") or None
    against = None if other is None else await found_metric(service, other)
    period = period_of(form, service.clock.now())
    given = {
        "customer": form.get("customer") or None,
        "starting_on": period.starting_on,
        "ending_before": period.ending_before,
        "window_size": period.window_size,
        "timezone": period.timezone,
        "sample": form.get("sample") or None,
    }
    answer = await tried(service, form.get("format", ""), form.get("text", ""), against, given)
    rows = row_lines(answer)
    if against is not None:
        rows.sort(key=lambda row: row["difference"] in {"0", None})
    end = end_lines(answer)
    return rendered(
        request,
        "trial.html",
        rows=rows[:ROWS_MAX],
        count=len(rows),
        clauses=clause_lines(answer),
        against=against,
        totals=end["totals"],
        events=end["events"],
        as_of=end["as_of"],
    )


@router.post("/page/metrics")
async def create(request: Request, visit: Manages) -> Response:
    """Create the metric of a draft."""
    _, _, name, definition = await _candidate(visit)
    starts = visit.form.get("effective_from") or None
    async with visit.service.writing() as writer:
        made = await writer.create(name, definition, writer.boundary(starts))
    return redirect(request, f"/page/metrics/{made.id}")


@router.get("/page/metrics/{metric}")
async def show(request: Request, metric: str, visit: Reads) -> Response:
    """A metric: its definition, its versions, and how much of the log it has seen."""
    found = await found_metric(visit.service, metric)
    return await _shown(request, visit, found, "metric.html")


@router.get("/page/metrics/{metric}/past")
async def past(request: Request, metric: str, visit: Reads) -> Response:
    """How much of the log it has seen: what changes while its past is counted."""
    found = await found_metric(visit.service, metric)
    return await _shown(request, visit, found, "metric_past.html")


async def _shown(request: Request, visit: Visit, found: Metric, name: str) -> Response:
    (line,) = await summaries(visit.service, [found])
    body = found.latest.body
    definition = None if body is None else body.definition
    return rendered(
        request,
        name,
        metric=found,
        line=line,
        definition=definition,
        cards=[] if definition is None else cards_of(definition),
        native=native_of(found),
        neutral=None if body is None else body.model_dump(mode="json"),
    )


@router.post("/page/metrics/{metric}/rename")
async def rename(request: Request, metric: str, visit: Manages) -> Response:
    """Give a metric another name."""
    name = visit.form.get("name", "").strip()
    if not name:
        raise BadParameter("name", "must not be blank")
    async with visit.service.writing() as writer:
        await writer.rename(await _again(visit, metric), name)
    return redirect(request, f"/page/metrics/{segment(metric)}")


@router.post("/page/metrics/{metric}/archive")
async def archive(request: Request, metric: str, visit: Manages) -> Response:
    """End a metric at the next base bucket; its numbers stay readable."""
    async with visit.service.writing() as writer:
        await writer.archive(await _again(visit, metric), "now")
    return redirect(request, f"/page/metrics/{segment(metric)}")


async def _again(visit: Visit, metric: str) -> Metric:
    """The metric as it stands inside of writing()."""
    state = visit.service.control.state
    found = state.find(segment(metric))
    if found is None:
        raise no_metric(segment(metric), state.names, "the view Metrics")
    return found
