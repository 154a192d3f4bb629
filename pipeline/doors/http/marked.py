"""Live lines of a server with what closed periods say of them (docs/billing.md).

Rule: one answer at a time reads files, in a thread, so other questions go on meanwhile.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...periods.marking import Marking
from ...reads.answers import UsageRow
from ...reads.asked import worked
from ...reads.query import Query
from ...reads.together import MetricRow, row_line
from .service import Service


def _marking(service: Service) -> Marking:
    root = Path(service.settings.periods_dir)
    return Marking(service.control.state.periods, root, strict=False)


async def marked(
    service: Service, query: Query, rows: Sequence[UsageRow], lines: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the lines of one metric, marked; the files of a period are read in a thread."""
    if not service.control.state.periods:
        return lines
    marking = _marking(service)
    async with service.comparing:
        return await asyncio.to_thread(marking.of_one, query.metric, query.customer, rows, lines)


async def marked_together(service: Service, rows: Sequence[MetricRow]) -> list[dict[str, Any]]:
    """Return the line of each row of all metrics, marked, likewise."""
    topic = service.reader.topic
    if not service.control.state.periods:
        return await worked(len(rows), lambda: [row_line(topic, row) for row in rows])
    marking = _marking(service)

    def made() -> list[dict[str, Any]]:
        return [marking.of_all(row, row_line(topic, row)) for row in rows]

    async with service.comparing:
        return await asyncio.to_thread(made)
