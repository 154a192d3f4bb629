"""Usage on the page: a metric's values by window and group, drawn, listed, and as CSV."""

import csv
import io
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse

from definitions.errors import DefinitionError
from definitions.formats.bodies import dump_json

from ...control.entities import Metric
from ...core.windows import RefusedPeriod, WindowSize
from ...errors import BadParameter, PipelineError, harmless
from ...reads.answers import End, UsageRow
from ...reads.lines import end_line, lines_of
from ...reads.query import Query
from ..http.errors import refused_of
from ..http.marked import marked
from ..http.service import Service
from .definitions import found_metric
from .periods import SIZES, AskedPeriod, period_of
from .showing import HEADERS, rendered
from .visits import Visit, visiting

router = APIRouter(include_in_schema=False)
Reads = Annotated[Visit, Depends(visiting("read"))]
CUSTOMERS_MAX: Final = 50  # of one view; the CSV has all
ROWS_MAX: Final = 1_000  # likewise
_SERIES_MAX: Final = 6
_PLAIN: Final = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_COLUMNS: Final = (
    "customer_id",
    "starting_on",
    "ending_before",
    "group",
    "value",
    "unreadable",
    "complete",
    "history",
)


@dataclass
class UsageView:
    """What a view of usage shows. drawn: the plot's numbers. wrong: why there is no answer."""

    rows: Sequence[Mapping[str, Any]] = ()
    count: int = 0
    drawn: Mapping[str, Any] | None = None
    end: Mapping[str, Any] = field(default_factory=dict)
    wrong: str | None = None


@router.get("/page/usage")
async def usage(request: Request, visit: Reads) -> Response:
    """The question, and its answer where there is one."""
    form = dict(request.query_params)
    service = visit.service
    state = await service.fresh()
    found = sorted(state.metrics.values(), key=lambda each: each.name.casefold())
    period, metric, answer = period_of({}, service.clock.now()), None, UsageView()
    try:
        period = period_of(form, service.clock.now())
        if form.get("metric"):
            metric = await found_metric(service, form["metric"])
            answer = await _answer(
                service, _query(service, metric, form, period), period, form.get("after")
            )
    except (PipelineError, DefinitionError, RefusedPeriod) as error:
        answer = UsageView(wrong=refused_of(error).message)
    return rendered(
        request,
        "usage.html",
        metrics=found,
        metric=metric,
        groups=_groups(metric),
        form=form,
        period=period,
        sizes=SIZES,
        answer=answer,
        query=request.url.query,
        next=urlencode({**form, "after": answer.end.get("after") or ""}),
    )


@router.get("/page/usage/groups")
async def groups(request: Request, visit: Reads, metric: str = "") -> Response:
    """The groups of a metric, for its field in the form."""
    found = await found_metric(visit.service, metric) if metric else None
    return rendered(request, "usage_groups.html", groups=_groups(found), form={})


def _groups(metric: Metric | None) -> list[tuple[str, ...]]:
    """What a metric can tell apart."""
    body = None if metric is None else metric.latest.body
    return [] if body is None else [*body.definition.dimensions]


def _query(
    service: Service, metric: Metric, form: Mapping[str, str], period: AskedPeriod
) -> Query:
    given, sets = form.get("group", ""), _groups(metric)
    group: tuple[str, ...] | None = None
    if given:
        if not given.isdecimal() or int(given[:9]) >= len(sets):
            raise BadParameter("group", "the metric has no such group; choose another one")
        group = sets[int(given)]
    return Query.of(
        metric,
        customer=form.get("customer") or None,
        starting_on=period.starting_on,
        ending_before=period.ending_before,
        window_size=period.window_size,
        timezone=period.timezone,
        group_key=group,
        find=service.control.state.find_typed,
    )


async def _answer(
    service: Service, query: Query, period: AskedPeriod, after: str | None
) -> UsageView:
    if query.each_customer:
        query = replace(query, limit=CUSTOMERS_MAX, after=after)
    reader = service.reader
    found = await reader.usage(query)
    rows = lines_of(reader.topic, found.rows[:ROWS_MAX])
    rows = await marked(service, query, found.rows[:ROWS_MAX], rows)
    drawn = None if query.size is WindowSize.NONE else _drawn(found.rows, period)
    end = end_line(End(found.as_of, found.after))
    return UsageView(rows, len(found.rows), drawn, end)


def _drawn(rows: Sequence[UsageRow], period: AskedPeriod) -> dict[str, Any] | None:
    """What the plot shows: the largest series of all; a value is text, and null where none is."""
    values: dict[tuple[str, str], dict[int, str | None]] = {}
    for row, line in zip(rows, lines_of("", rows), strict=True):
        name = (row.customer or "", "" if row.group is None else _group_text(row.group))
        at = int(row.window.starting_on.timestamp())
        values.setdefault(name, {})[at] = line["value"]
    x = sorted({at for found in values.values() for at in found})
    if len(x) < 2:
        return None
    largest = sorted(values, key=lambda name: -_weight(values[name]))[:_SERIES_MAX]
    series = [
        {
            "label": harmless(", ".join(filter(None, name))) or "value",
            "y": [values[name].get(at) for at in x],
        }
        for name in largest
    ]
    step = min(after - before for before, after in pairwise(x))
    left = len(values) - len(series)
    return {"x": x, "series": series, "step": step, "zone": period.timezone, "left": left}


def _weight(values: Mapping[int, str | None]) -> Decimal:
    return sum((abs(Decimal(each)) for each in values.values() if each is not None), Decimal(0))


def _group_text(group: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name} {value}" for name, value in group.items())


@router.get("/page/usage.csv")
async def usage_csv(request: Request, visit: Reads) -> Response:
    """The whole answer to the same question, for a spreadsheet."""
    form, service = dict(request.query_params), visit.service
    period = period_of(form, service.clock.now())
    metric = await found_metric(service, form.get("metric", ""))
    reader, query = service.reader, _query(service, metric, form, period)
    batches = reader.batches(query)
    first = await anext(batches)  # what is wrong with the question is told before anything is sent

    async def lines() -> AsyncIterator[bytes]:
        yield _csv([_COLUMNS])
        async with aclosing(batches):
            if not isinstance(first, End):
                yield _rows_csv(reader.topic, first)
            async for batch in batches:
                if not isinstance(batch, End):
                    yield _rows_csv(reader.topic, batch)

    headers = {**HEADERS, "Content-Disposition": 'attachment; filename="usage.csv"'}
    return StreamingResponse(lines(), media_type="text/csv; charset=utf-8", headers=headers)


def _rows_csv(topic: str, rows: Sequence[UsageRow]) -> bytes:
    found = []
    for line in lines_of(topic, rows):
        group = line["group"]
        told = {**line, "group": None if group is None else dump_json(group)}
        found.append([safe_cell(told.get(name)) for name in _COLUMNS])
    return _csv(found)


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def safe_cell(value: Any) -> str:
    """Return a cell that no spreadsheet computes.

    A text that begins as a formula does (=, +, -, @, a tab or a line break) gets an apostrophe
    before it; a plain number such as -5 is none, and stays as it is.
    """
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    acts = text[:1] in {"=", "+", "-", "@", "\t", "\r", "\n"}
    return f"'{text}" if acts and _PLAIN.fullmatch(text) is None else text
