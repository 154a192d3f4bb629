"""A question about a meter, in our words, and its answer in OpenMeter's.

Rule 1: what OpenMeter adds up over subjects or over group keys that were not asked for is added up
here only where that is exact: counts, sums, and the greatest and the least value.
Rule 2: whatever of a question has no meaning here is refused with its name.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final

from fastapi import Request

from definitions.metric import Aggregation, ResultKind, Scope
from definitions.times import rfc3339

from ...control.entities import Metric
from ...core.windows import Window
from ...errors import BadParameter
from ...reads.answers import Usage, joined
from ...reads.asked import worked
from ...reads.lines import as_of_line
from ...reads.query import Query
from ...reads.results import sum_of
from ..http.errors import Refused
from ..http.service import Service
from .models import SUBJECTS_MAX, VALUES_MAX, MeterQuery

_SUBJECT: Final = "subject"
_ANYBODY: Final = "-"  # a customer who is asked for, whether there is one or not
_SIZES: Final = {"HOUR": "hour", "DAY": "day", "MONTH": "month"}
_BEGIN: Final = datetime(1, 1, 1, tzinfo=UTC)
_LISTS: Final = ("subject", "groupBy")
_FILTER: Final = "filterGroupBy["
# Our names of what a reader refuses → the question's own.
_THEIRS: Final = {
    "starting_on": "from",
    "ending_before": "to",
    "window_size": "windowSize",
    "timezone": "windowTimeZone",
}
_Combined = Callable[[Sequence[Decimal]], Decimal]
_COMBINED: Final[dict[Aggregation, _Combined]] = {
    Aggregation.COUNT: sum_of,
    Aggregation.SUM: sum_of,
    Aggregation.MAX: max,
    Aggregation.MIN: min,
}
# Where nothing was counted these are zero, others have no value.
_ZERO_IS_NONE: Final = {Aggregation.COUNT, Aggregation.SUM, Aggregation.UNIQUE}
_Place = tuple[Window, str | None, tuple[str | None, ...]]


def asked_by_url(request: Request) -> dict[str, Any]:
    """Return the body of the question that a URL asks."""
    body: dict[str, Any] = {}
    for name in dict.fromkeys(request.query_params.keys()):
        values = request.query_params.getlist(name)
        if name in _LISTS:
            body[name] = values
        elif name.startswith(_FILTER) and name.endswith("]"):
            body.setdefault("filterGroupBy", {})[name[len(_FILTER) : -1]] = values
        elif name == "filterGroupBy":
            raise Refused(400, "write filterGroupBy[NAME]=VALUE", parameter=name)
        else:
            body[name] = values[0]
    return body


async def answered(service: Service, metric: Metric, asked: MeterQuery) -> dict[str, Any]:
    """Return the answer.

    Raises:
        Refused, UsageError: what cannot be answered exactly, with the reason.
    """
    subjects: list[str | None] = [*dict.fromkeys(asked.subject or ())] or [None]
    names = [name for name in dict.fromkeys(asked.groupBy or ()) if name != _SUBJECT]
    by_subject = bool(asked.subject) or _SUBJECT in (asked.groupBy or ())
    filters = asked.filterGroupBy or {}
    _check(asked, filters)
    hidden = [name for name in filters if name not in names]
    of_all = not by_subject and _is_of_customers(metric)
    adds = of_all or any(len(filters[name]) != 1 for name in hidden)
    combined = _combined(metric) if adds else None
    if adds and combined is None:
        what = "all subjects" if of_all else "several values of filterGroupBy"
        raise Refused(400, f"{metric.name!r} cannot be added up over {what}: group by them")
    base = partial(_query_of, service, metric, asked)
    # A window without usage has no row that says so: one is asked for each window, and first.
    anybody = _ANYBODY if _is_of_customers(metric) else None
    first = await service.reader.usage(base(customer=anybody))
    base = partial(base, group_key=(*names, *hidden) or None, group_filters=filters)
    usages = [await service.reader.usage(base(customer=who)) for who in subjects]
    read = list(zip(subjects, usages, strict=True))
    size = sum(len(usage.rows) for usage in usages)
    rows = await worked(size, partial(_rows, metric, names, read, by_subject, combined))
    told = {"from": asked.since, "to": asked.to, "windowSize": asked.windowSize}
    return {
        **{name: text for name, text in told.items() if text is not None},
        "data": rows,
        "complete": all(row.complete for row in first.rows),
        "as_of": as_of_line(joined(usage.as_of for usage in usages)),
    }


def _rows(
    metric: Metric,
    names: Sequence[str],
    read: Sequence[tuple[str | None, Usage]],
    by_subject: bool,
    combined: _Combined | None,
) -> list[dict[str, Any]]:
    """The rows of an answer. A window without usage is not told, as at OpenMeter."""
    found: dict[_Place, list[Decimal]] = {}
    for who, usage in read:
        for row in usage.rows:
            if row.value is not None:
                owner = (row.customer or who) if by_subject else None
                group = tuple((row.group or {})[name] for name in names)
                found.setdefault((row.window, owner, group), []).append(row.value)
    body = metric.latest.body
    kinds = {each.aggregation for each in body.definition.measures} if body else set()
    rows = []
    for (window, owner, group), values in found.items():
        assert combined is not None or len(values) == 1
        value = values[0] if combined is None else combined(values)
        if value or not kinds <= _ZERO_IS_NONE:
            rows.append(
                {
                    "value": value,
                    "windowStart": rfc3339(window.starting_on),
                    "windowEnd": rfc3339(window.ending_before),
                    "subject": owner,
                    "groupBy": dict(zip(names, group, strict=True)),
                }
            )
    return rows


def _check(asked: MeterQuery, filters: dict[str, list[str]]) -> None:
    """Refuse what has no meaning here, and what is too much."""
    if asked.windowSize is not None and asked.windowSize not in _SIZES:
        message = "windowSize is HOUR, DAY or MONTH; less than an hour is not kept here"
        raise Refused(400, message, parameter="windowSize")
    if asked.windowSize is not None and asked.since is None:
        raise Refused(400, "windowSize needs from", parameter="from")
    if len(asked.subject or ()) > SUBJECTS_MAX:
        raise Refused(400, f"at most {SUBJECTS_MAX} subjects", parameter=_SUBJECT)
    for name, values in filters.items():
        if not 1 <= len(values) <= VALUES_MAX:
            message = f"filterGroupBy[{name[:100]}] has 1 to {VALUES_MAX} values"
            raise Refused(400, message, parameter="filterGroupBy")


def _is_of_customers(metric: Metric) -> bool:
    body = metric.latest.body
    return body is None or body.definition.scope is Scope.CUSTOMER


def _combined(metric: Metric) -> _Combined | None:
    """How values of several customers or groups become one; None where nothing exact does."""
    found: set[_Combined | None] = set()
    for version in metric.versions:
        definition = None if version.body is None else version.body.definition
        if definition is None or definition.result is None:
            return None
        kinds = {measure.aggregation for measure in definition.measures}
        plain = definition.result.op is ResultKind.ADD and definition.result.cap is None
        ways = {_COMBINED.get(kind) for kind in kinds}
        single = len(definition.measures) == 1 or ways == {sum_of}
        found.add(ways.pop() if plain and single and len(ways) == 1 else None)
    return found.pop() if len(found) == 1 else None


def _query_of(
    service: Service, metric: Metric, asked: MeterQuery, *, customer: str | None, **more: Any
) -> Query:
    try:
        return Query.of(
            metric,
            customer=customer,
            starting_on=_BEGIN if asked.since is None else asked.since,
            ending_before=_now(service) if asked.to is None else asked.to,
            window_size=_SIZES.get(asked.windowSize or "", "none"),
            timezone=asked.windowTimeZone or "UTC",
            find=service.control.state.find_typed,
            **more,
        )
    except BadParameter as error:
        name = _THEIRS.get(error.parameter, error.parameter)
        raise Refused(400, f"{name}: {error.why}", parameter=name) from error


def _now(service: Service) -> datetime:
    """The end of the base bucket that is open now."""
    bucket = timedelta(seconds=service.identity.deployment.base_bucket_s)
    passed = service.clock.now() - _BEGIN
    return _BEGIN + (passed // bucket + 1) * bucket
