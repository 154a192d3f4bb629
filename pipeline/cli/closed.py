"""Numbers as they were invoiced, and what live numbers say of closed periods."""

import json
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from ..control.entities import Metric
from ..core.windows import Window
from ..errors import UsageError
from ..periods.closed import ClosedPeriod, Since, closed_line
from ..periods.period import revisions_of
from ..periods.reading import ClosedRow
from ..periods.shapes import told_of
from ..reads.answers import UsageRow
from ..reads.together import MetricRow, canonical_group
from .open import Opened, opened
from .output import show

_AT_ONCE: Final = 1_000


async def show_as_closed(
    text: str,
    timezone: str,
    metric: str | None,
    customer: str | None,
    *,
    group_key: Sequence[str] | None,
    groups: bool,
    table: bool,
) -> None:
    """Print the rows of a closed period, from its files.

    text: PERIOD or PERIOD#REVISION. group_key: of one metric; groups: of all of them.
    """
    async with opened(reads=True) as deployment:
        known = revisions_of(deployment.control.state.periods, text, timezone)
        found = None if metric is None else deployment.metric(metric)
        closed = ClosedPeriod(Path(deployment.settings.periods_dir), known)
        topic = deployment.reader.topic
    names = None if group_key is None else frozenset(group_key)
    if names and not known[0].groups:
        raise UsageError(f"{text} was closed without groups")
    rows = (
        row
        for row in closed.rows(customer)
        if (found is None or row.metric_id == found.id)
        and (_is_of(row, names) if found is not None else groups or row.group is None)
    )
    lines = (closed_line(topic, row) for row in rows)
    last = {"as_closed": told_of(known[-1])}
    if table:
        show([*lines], table=True)
        return
    while some := list(islice(lines, _AT_ONCE)):
        show(some)
    show([last])


def _is_of(row: ClosedRow, names: Collection[str] | None) -> bool:
    if row.group is None or names is None:
        return row.group is None and names is None
    return frozenset(json.loads(row.group)) == names


class Marking:
    """Adds to lines of live usage what closed periods say of them."""

    def __init__(self, deployment: Opened) -> None:
        periods = deployment.control.state.periods
        self._since = Since(periods, Path(deployment.settings.periods_dir))
        self._has_any = bool(periods)

    def of_one(
        self,
        metric: Metric,
        customer: str | None,
        rows: Sequence[UsageRow],
        lines: Sequence[dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """The lines of one metric. customer: whose; None where the rows say it."""
        if not self._has_any:
            return list(lines)
        return [
            {
                **line,
                **self._of(
                    metric,
                    customer or row.customer,
                    row.window,
                    None if row.group is None else canonical_group(row.group),
                    line["value"],
                ),
            }
            for row, line in zip(rows, lines, strict=True)
        ]

    def of_all(self, row: MetricRow, line: dict[str, Any]) -> dict[str, Any]:
        """A line of all metrics together."""
        if not self._has_any:
            return line
        return {**line, **self._of(row.metric, row.customer, row.window, row.group, row.value)}

    def _of(
        self,
        metric: Metric,
        customer: str | None,
        window: Window,
        group: str | None,
        value: str | None,
    ) -> dict[str, Any]:
        named = None if group is None else (group, [*json.loads(group)])
        return self._since.members(metric, customer, window, named, value)
