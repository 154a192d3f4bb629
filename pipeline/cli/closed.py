"""Numbers as they were invoiced."""

import json
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from ..errors import UsageError
from ..periods.closed import ClosedPeriod, closed_line
from ..periods.period import revisions_of
from ..periods.reading import ClosedRow
from ..periods.shapes import told_of
from .open import opened
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
