"""The values of a Statsig metric on a day: a row for everybody, one for each unit type (2.5)."""

from dataclasses import replace
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

from definitions.formats import native_body

from ...control.entities import Metric
from ...control.terms import terms_of
from ...reads.query import Query
from ..http.errors import Refused
from ..http.service import Service


async def rows_of(service: Service, metric: Metric, day: date) -> list[dict[str, Any]]:
    """One row for everybody, and one for each unit type; null where none is kept for it."""
    offset = timedelta(minutes=terms_of(service.identity.formats).statsig_day_minutes)
    try:
        starts = datetime.combine(day, time(), timezone(offset))
        query = Query.of(
            metric,
            starting_on=starts,
            ending_before=starts + timedelta(days=1),
            find=service.control.state.find_typed,
        )
        (overall,) = (await service.reader.usage(query)).rows
    except OverflowError as error:
        raise Refused(400, "the day lies outside the calendar") from error
    own = native_body(metric.origin, metric.name)
    lines = {"overall": overall}
    body = metric.latest.body
    followed = body is not None and any(each.unit for each in body.definition.measures)
    older = followed and body is not None and not body.definition.unit_types
    for at, unit in enumerate(own.get("unitTypes") or ()):
        if older and at == 0:  # written by a release that kept the first unit type alone
            lines[unit] = overall
        else:
            (lines[unit],) = (await service.reader.usage(replace(query, unit=unit))).rows
    return [
        {
            "value": line.value,
            "numerator": line.more.get("numerator"),
            "denominator": line.more.get("denominator"),
            "metric_name": own["name"],
            "metric_type": own["type"],
            "unit_type": unit,
        }
        for unit, line in lines.items()
    ]
