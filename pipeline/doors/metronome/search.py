"""Events by transaction_id: a bounded look into the log, nothing is kept for it."""

import asyncio
from contextlib import aclosing
from typing import Any, Final

from ...reads.explain import Explainer
from ..http.errors import Refused
from ..http.service import Service

FOUND_MAX: Final = 1_000
SEARCH_S_MAX: Final = 30.0
_TOO_LONG: Final = (
    f"the log cannot be looked through within {SEARCH_S_MAX:.0f} s; `recount explain` can"
)

_TOO_MANY: Final = (
    f"more than {FOUND_MAX} records have these ids; ask for fewer ids, or use `recount explain`"
)


async def search(service: Service, ids: frozenset[str]) -> list[dict[str, Any]]:
    """Return what lies on the log with these ids, each record with its fate and its metrics.

    Raises:
        Refused: the log is too long to be looked through while somebody waits, or holds more
            records of these ids than one answer: none is left out in silence.
    """
    state = await service.fresh()
    explainer = Explainer(service.identity, state, service.store, service.log)
    found: list[dict[str, Any]] = []
    lines = explainer.find_all(ids, None, lambda _: None, lambda _: None)
    try:
        async with asyncio.timeout(SEARCH_S_MAX), aclosing(lines):
            async for line in lines:
                if len(found) >= FOUND_MAX:
                    raise Refused(400, _TOO_MANY)
                found.append(_shown(line))
    except TimeoutError as error:
        raise Refused(400, _TOO_LONG) from error
    return found


def _shown(line: dict[str, Any]) -> dict[str, Any]:
    matched = [each for each in line["metrics"] if each["matched"] and each["active"]]
    return {
        "id": f"{line['partition']}@{line['offset']}",
        "transaction_id": line["transaction_id"],
        "customer_id": line["customer_id"],
        "event_type": line["event_type"],
        "timestamp": line["timestamp"],
        "properties": line["properties"],
        "is_duplicate": line["fate"] == "duplicate",
        "processed_at": line["append_time"],
        "matched_billable_metrics": [
            {"id": each["id"], "name": each["metric"]} for each in matched
        ],
    }
