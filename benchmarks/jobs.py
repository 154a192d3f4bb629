"""What is counted in the benchmarks: three metrics of each system, and the events that they see.

An event is the body that a client of that system sends. What lies on the log is what our door for
that system makes of it (definitions/events/).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from definitions.events import translate
from definitions.events.common import Arrival
from pipeline.log.publish import line_of

Body = dict[str, Any]
# Not the place where they are used: growth and the peers have these three as well.
METRICS: tuple[Body, ...] = (
    {"name": "calls", "aggregation_type": "COUNT"},
    {
        "name": "tokens",
        "aggregation_type": "SUM",
        "aggregation_key": "tokens",
        "property_filters": [{"name": "tokens", "exists": True}],
    },
    {
        "name": "peak",
        "aggregation_type": "MAX",
        "aggregation_key": "latency",
        "property_filters": [
            {"name": "latency", "exists": True},
            {"name": "region", "in_values": ["eu-central-1", "us-east-1"]},
        ],
    },
)


@dataclass(frozen=True)
class Job:
    """Metrics of a system, as their users write them, and what a client of it sends.

    body: of an event's number, its customer and its time. It decides everything in the event, so
    that an event that comes twice has the same bytes.
    """

    system: str
    metrics: tuple[Body, ...]
    body: Callable[[int, str, datetime], Any]

    def event(self, own: int, customer: str, at: datetime) -> Body:
        """The event in our form, as the door of the system makes it.

        Statsig's events have no identity: the door gives each a random one. Here it follows from
        the number, so a duplicate is a record that came to the log twice.
        """
        arrival = Arrival(received_at=at, new_id=lambda: f"{own:032x}")
        (event,) = translate(self.system, self.body(own, customer, at), arrival)
        return event

    def line(self, event: Body) -> bytes:
        """The bytes on the log: Metronome's door keeps the client's, the others write anew."""
        return json.dumps(event).encode() if self.system == "metronome" else line_of(event)


# -- Klaviyo ----------------------------------------------------------------------------------

SHELVES = (["Books", "Kids"], ["Books"], ["Toys"], ["Garden", "Books", "Gifts"], ["Games"])


def _custom_metric(name: str, method: str, filters: list[Body], **more: str) -> Body:
    groups = [{"metric_id": "Placed Order", "metric_filters": filters, **more}]
    definition = {"aggregation_method": method, "metric_groups": groups}
    return {
        "data": {
            "type": "custom-metric",
            "attributes": {"name": name, "definition": definition},
        }
    }


def _filter(name: str, kind: str, operator: str, value: object) -> Body:
    return {"property": name, "filter": {"type": kind, "operator": operator, "value": value}}


def _order(own: int, customer: str, at: datetime) -> Body:
    return {
        "data": {
            "type": "event",
            "attributes": {
                "properties": {
                    "OrderId": f"order-{own}",
                    "Categories": SHELVES[own % len(SHELVES)],
                    "ItemCount": own % 7 + 1,
                    "Source Name": "web" if own % 3 else "retail",
                    "IsGift": own % 4 == 0,
                },
                "time": at.isoformat(timespec="milliseconds"),
                "value": Decimal(own * 37 % 20_000 + 99) / 100,
                "value_currency": "USD",
                "unique_id": f"order-{own:012d}",
                "metric": {
                    "data": {"type": "metric", "attributes": {"name": "Placed Order"}},
                },
                "profile": {
                    "data": {"type": "profile", "attributes": {"external_id": customer}},
                },
            },
        }
    }


KLAVIYO = Job(
    "klaviyo",
    (
        _custom_metric(
            "Revenue of books",
            "value",
            [_filter("Categories", "list", "contains", "Books")],
            value_property="$value",
        ),
        _custom_metric(
            "Orders of several items on the web",
            "count",
            [
                _filter("Source Name", "string", "equals", "web"),
                _filter("ItemCount", "numeric", "greater-than", 1),
            ],
        ),
        # What our door makes of each event's name; the measurement `unique` of metric-aggregates
        # is read from it: the distinct profiles that placed an order.
        _custom_metric("Klaviyo metric: Placed Order", "count", []),
    ),
    _order,
)


# -- Statsig ----------------------------------------------------------------------------------

AISLES = ("toys", "books", "garden", "games", "music")
COUNTRIES = ("DE", "US", "FR", "JP")


def _metric(name: str, kind: str, event: Body) -> Body:
    events = [{"name": "purchase", **event}]
    return {"name": name, "type": kind, "unitTypes": ["userID"], "metricEvents": events}


def _criterion(kind: str, condition: str, values: list[str], column: str | None = None) -> Body:
    made: Body = {"type": kind, "condition": condition, "values": values}
    return made if column is None else {**made, "column": column}


def _purchase(own: int, customer: str, at: datetime) -> Body:
    event = {
        "eventName": "purchase",
        "value": Decimal(own * 37 % 20_000 + 99) / 100,
        "time": int(at.timestamp() * 1000),
        "user": {"userID": customer, "country": COUNTRIES[own % len(COUNTRIES)]},
        "metadata": {
            "aisle": AISLES[own % len(AISLES)],
            "quantity": str(own % 9 + 1),
            "page": "/checkout/confirmed",
        },
    }
    return {"events": [event]}


STATSIG = Job(
    "statsig",
    (
        _metric(
            "Large purchases of toys and books",
            "event_count_custom",
            {
                "type": "value",
                "criteria": [
                    _criterion("metadata", "in", ["toys", "books"], "aisle"),
                    _criterion("value", ">=", ["10"]),
                ],
            },
        ),
        _metric("Items sold", "sum", {"type": "metadata", "metadataKey": "quantity"}),
        _metric(
            "Buyers a day in two countries",
            "event_user",
            {"criteria": [_criterion("user", "in", ["DE", "US"], "country")]},
        ),
    ),
    _purchase,
)


# -- Metronome --------------------------------------------------------------------------------


def _request(own: int, customer: str, at: datetime) -> list[Body]:
    event = {
        "transaction_id": f"{own:012d}-4bf92f3577b34da6",
        "customer_id": customer,
        "event_type": "api_request",
        "timestamp": at.isoformat(timespec="milliseconds"),
        "properties": {
            "tokens": str(own % 5000),
            "latency": own % 900 + 0.25,
            "region": "eu-central-1",
            "model": "large-2026",
            "request_path": "/v1/chat/completions",
        },
    }
    return [event]


METRONOME = Job("metronome", METRICS, _request)
JOBS = {job.system: job for job in (METRONOME, KLAVIYO, STATSIG)}
