"""Metronome's search of events by their transaction ids."""

from typing import Any

from ..http.looking import looked_up
from ..http.service import Service


async def search(service: Service, ids: frozenset[str]) -> list[dict[str, Any]]:
    """Return what lies on the log with these ids. Raises: see looked_up()."""
    return [_shown(line) for line in await looked_up(service, ids) if "voids" not in line]


def _shown(line: dict[str, Any]) -> dict[str, Any]:
    matched = [each for each in line["metrics"] if each["matched"] and each["active"]]
    return {
        "id": f"{line['partition']}@{line['offset']}",
        "transaction_id": line.get("amends", line)["transaction_id"],
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
