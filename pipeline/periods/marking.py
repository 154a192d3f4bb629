"""Lines of live usage with what closed periods say of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..control.entities import Metric
from ..core.windows import Window
from ..errors import ConflictError
from ..reads.answers import UsageRow
from ..reads.together import MetricRow, canonical_group
from .closed import Since
from .period import Periods


class Marking:
    """Adds to lines of live usage what closed periods say of them.

    strict: files that are not what they were are told of. Otherwise nothing is compared with them:
    a server answers live numbers, whatever somebody does to a folder.
    """

    def __init__(self, periods: Periods, root: Path, *, strict: bool) -> None:
        self._periods = periods
        self._since = Since(periods, root)
        self._strict = strict

    def of_one(
        self,
        metric: Metric,
        customer: str | None,
        rows: Sequence[UsageRow],
        lines: Sequence[dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """The lines of one metric. customer: whose; None where the rows say it."""
        if not self._periods:
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
        if not self._periods:
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
        try:
            return self._since.members(metric, customer, window, named, value)
        except ConflictError:
            if self._strict:
                raise
        self._since = Since(self._periods, None)
        return self._since.members(metric, customer, window, named, value)
