"""Bodies of Metronome's door with something wrong, and the answer to each (a recorded table).

tests/data/doors/metronome.jsonl: a row is {call, changes, status, message?, problems?}. changes:
[pointer, value] puts a value, [pointer] takes a member out, of the call's body below. problems:
"RULE pointer" of each, where the body itself is at fault.
"""

import json
from typing import Any, Final

from .services import ROOT

TABLE: Final = ROOT / "tests/data/doors/metronome.jsonl"
METRIC: Final = "{metric}"  # stands for the id of a metric that is there
TIME: Final = "{time}"  # and for a time that an event may have
NOBODY: Final = "0b1c8a3e-6f0f-4b1e-9a7c-2f6f5f3a8b11"
_PERIOD: Final = {"starting_on": "2026-11-19T00:00:00Z", "ending_before": "2026-11-20T00:00:00Z"}
_GROUPS: Final = {
    **_PERIOD,
    "window_size": "DAY",
    "customer_id": "c1",
    "billable_metric_id": METRIC,
}
CREATED: Final = {
    "name": "Tokens",
    "aggregation_type": "SUM",
    "aggregation_key": "tokens",
    "event_type_filter": {"in_values": ["call"]},
    "property_filters": [
        {"name": "tokens", "exists": True},
        {"name": "region", "in_values": ["eu"], "not_in_values": ["us"]},
    ],
    "group_keys": [["region"]],
    "custom_fields": {"owner": "a"},
}
# call → method, path, a body that is taken
CALLS: Final[dict[str, tuple[str, str, Any]]] = {
    "usage": (
        "POST",
        "/v1/usage",
        {
            **_PERIOD,
            "window_size": "DAY",
            "customer_ids": ["c1"],
            "billable_metrics": [
                {"id": METRIC, "group_by": {"key": "region", "values": ["eu"]}},
                {"id": METRIC},
            ],
        },
    ),
    "groups": (
        "POST",
        "/v1/usage/groups",
        {
            **_GROUPS,
            "current_period": False,
            "group_key": ["region"],
            "group_filters": {"region": ["eu"]},
        },
    ),
    "older groups": (
        "POST",
        "/v1/usage/groups",
        {**_GROUPS, "group_by": {"key": "region", "values": ["eu"]}},
    ),
    "search": ("POST", "/v1/events/search", {"transactionIds": ["t1"]}),
    "rename": ("PUT", f"/v1/billable-metrics/{METRIC}", {"name": "Calls"}),
    "archive": ("POST", "/v1/billable-metrics/archive", {"id": NOBODY}),
    "ingest": (
        "POST",
        "/v1/ingest",
        [
            {
                "transaction_id": "t1",
                "customer_id": "c1",
                "event_type": "call",
                "timestamp": TIME,
                "properties": {"tokens": "1"},
            }
        ],
    ),
    "create": ("POST", "/v1/billable-metrics/create", CREATED),
}


def rows() -> list[dict[str, Any]]:
    """Every row of the table."""
    return [json.loads(line) for line in TABLE.read_text().splitlines()]


def changed(body: Any, changes: list[Any]) -> Any:
    """A body with its changes; pointers are of names and numbers without a slash."""
    holder = {"": json.loads(json.dumps(body))}
    for pointer, *put in changes:
        place: Any = holder
        names = pointer.split("/")
        for name in names[:-1]:
            place = place[int(name) if isinstance(place, list) else name]
        last: Any = int(names[-1]) if isinstance(place, list) else names[-1]
        if put:
            place[last] = put[0]
        else:
            del place[last]
    return holder[""]


def text_of(row: dict[str, Any], metric: str, time: str) -> tuple[str, str, str]:
    """The method, the path and the text of a row's request."""
    method, path, body = CALLS[row["call"]]
    text = json.dumps(changed(body, row["changes"]))
    return (
        method,
        path.replace(METRIC, metric),
        text.replace(METRIC, metric).replace(TIME, time),
    )
