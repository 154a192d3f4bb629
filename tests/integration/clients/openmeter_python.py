"""`openmeter` of PyPI: events by each of its calls, or usage by each of its calls."""

import json
import sys
from datetime import datetime
from typing import Any

from corehttp.exceptions import HttpResponseError
from openmeter import Client
from openmeter.models import Event, MeterQueryRequest

told = json.loads(sys.argv[1])
client: Any = Client(endpoint=told["url"], token=told["key"])


def send() -> list[Any]:
    """Send each event, one and several at a time, some more than once."""
    events = [
        Event(**{**each, "time": datetime.fromisoformat(each["time"])}) for each in told["events"]
    ]
    client.events.ingest_event(events[0])
    client.events.ingest_events(events[:-1])
    client.events.ingest_events_json(events[-1])
    return []


def ask() -> list[Any]:
    """Ask by a URL and by a body; say how what cannot be answered is refused."""
    since, to = (datetime.fromisoformat(told[name]) for name in ("from", "to"))
    by_url = client.meters.query_json(
        told["meter"],
        from_parameter=since,
        to=to,
        window_size="HOUR",
        subject=["ann", "bob"],
        group_by=["model"],
    )
    body = MeterQueryRequest(from_property=since, to=to, filter_group_by={"model": ["large"]})
    by_body = client.meters.query(told["meter"], body)
    try:
        client.meters.query_json(told["meter"], from_parameter=since, window_size="MINUTE")
    except HttpResponseError as error:
        problem: Any = error.model
        refused = [error.status_code, problem.detail]
    return [
        [[row.value, row.subject, row.group_by] for row in by_url.data],
        [[row.value, row.subject, row.group_by] for row in by_body.data],
        refused,
    ]


sys.stdout.write(json.dumps(send() if "events" in told else ask()))
