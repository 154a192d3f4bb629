"""Statsig's lists: pages by number, and what the console spells otherwise than its callers.

Rule: items are in the order of the control log, so what is new comes last and moves no other one.
What is deleted or archived between two pages is gone, and those after it move up, as pages by
number do: `totalItems` shows it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from fastapi import Request

from ...control.entities import DeploymentRecord, Metric
from ...reads.history import History, history_of, joined_histories
from ...reads.standing import UNREACHABLE, Standing
from ..http.parameters import number_in

PAGE: Final = 100
PAGES: Final = {"limit": "1 to 1000", "page": "from 1 on"}
_LIST_NAMES: Final = {
    "metric_name": "metricName",
    "metric_type": "metricType",
    "unit_type": "unitType",
}


def paged(
    request: Request, items: list[Any], path: str, **more: str
) -> tuple[list[Any], dict[str, Any]]:
    """Return a page of items, and where it stands. more: what its links ask besides."""
    limit = number_in(request, "limit", PAGE, 1_000)
    page = number_in(request, "page", 1, 1_000_000)

    def link(**numbers: Any) -> str:
        query = urlencode({**more, **numbers}, quote_via=quote)
        return f"{path}?{query}" if query else path

    at = (page - 1) * limit
    return items[at : at + limit], {
        "itemsPerPage": limit,
        "pageNumber": page,
        "totalItems": len(items),
        "nextPage": link(page=page + 1, limit=limit) if at + limit < len(items) else None,
        "previousPage": link(page=page - 1, limit=limit) if page > 1 else None,
        "all": link(),
    }


def listing(own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a native body with its tags as a list: Statsig takes a text too, answers a list."""
    tags = own.get("tags")
    return {**own, "tags": [tags]} if isinstance(tags, str) else dict(own)


def in_list(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value as the list of all metrics spells it; the call for one spells otherwise."""
    return {_LIST_NAMES.get(name, name): held for name, held in row.items()}


def stands(
    standings: Mapping[int, Standing], identity: DeploymentRecord, metrics: Sequence[Metric]
) -> dict[str, Any]:
    """Return the offsets that numbers of metrics, read from now on, stand at, or later ones."""
    topic = identity.topics["events"][0]
    halted = [number for number, each in standings.items() if each.halted is not None]
    away = any(each.span is None for each in standings.values())
    return {
        "offsets": {f"{topic}/{number}": each.state.next for number, each in standings.items()},
        **({"halted_partitions": halted} if halted else {}),
        **seen_by(metrics, standings).warning,
        **(UNREACHABLE if away else {}),
    }


def seen_by(metrics: Sequence[Metric], standings: Mapping[int, Standing]) -> History:
    """Return what metrics have seen of the log, the worst of them."""
    states = [each.state for each in standings.values()]
    return joined_histories(history_of(metric, states) for metric in metrics)
