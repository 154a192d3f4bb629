"""Questions whose answer lies behind their windows: who comes back (S-18).

A window of such a metric is asked by itself, with the days that follow it, and what starts there
is cut off at its end. So it is complete only once those days are over.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from definitions.metric import Retention

from ..control.entities import Metric
from ..core.buckets import ns_of
from ..core.windows import Window, WindowSize
from ..errors import UsageError
from .asked import Asked
from .names import components_of
from .query import SECONDS_PER_DAY, Part, Query

_WINDOWS_MAX: Final = 366
_NS: Final = 10**9


def retention_of(metric: Metric) -> Retention | None:
    """When units come back, of a metric that asks it."""
    body = metric.latest.body
    if body is None or not body.definition.computable or body.definition.result is None:
        return None
    return body.definition.result.retention


def is_asked_in_parts(metric: Metric) -> bool:
    """Whether a value is made of other questions: of other metrics, or of days behind a window."""
    return components_of(metric) is not None or retention_of(metric) is not None


@dataclass(frozen=True, slots=True)
class Followed:
    """A window, and the question that answers it."""

    window: Window
    query: Query

    def cut(self, asked: Asked) -> Asked:
        """Return the question understood, with nothing that starts after the window."""
        ends = ns_of(self.window.ending_before)
        return replace(asked, parts=[_ended(asked, part, ends) for part in asked.parts])


def followed(asked: Asked) -> Iterator[Followed]:
    """Return the questions of the windows of one.

    Raises:
        UsageError: too many of them, or a window that cuts a day of units.
    """
    query = asked.query
    retention, body = retention_of(query.metric), query.metric.latest.body
    assert retention is not None
    assert body is not None
    if len(asked.spread) > _WINDOWS_MAX:
        raise UsageError(f"a retention is answered in at most {_WINDOWS_MAX} windows at a time")
    offset_s = body.definition.day_offset_minutes * 60
    for window in asked.spread:
        if any((ns_of(each) // _NS + offset_s) % SECONDS_PER_DAY for each in window):
            raise UsageError(
                f"{query.metric.name!r} follows units from day to day, and their days begin at "
                f"UTC{-offset_s / 3600:+g} hours: ask for windows that are whole days of these"
            )
        until = window.ending_before + timedelta(days=retention.end_days)
        own = replace(query, starting_on=window.starting_on, ending_before=until)
        yield Followed(window, replace(own, size=WindowSize.NONE))


def _ended(asked: Asked, part: Part, ends: int) -> Part:
    body = asked.query.metric.latest.body
    assert body is not None
    result = body.definition.result_of(asked.query.unit)
    starting = () if result is None else result.denominator
    if body.definition.measures[part.number].name not in starting:
        return part
    return replace(part, to_ns=ends if part.to_ns is None else min(part.to_ns, ends))
