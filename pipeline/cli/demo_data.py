"""The demo's metrics and its seeded mix: good, repeated, late, too old and malformed events."""

import json
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from definitions.times import rfc3339

EVENTS: Final = 20_000
_SEED: Final = 2013
_REGIONS: Final = ("eu", "us", "ap")
_MODELS: Final = ("small", "large")
METRICS: Final[tuple[dict[str, Any], ...]] = (
    {
        "name": "API calls",
        "aggregation_type": "COUNT",
        "event_type_filter": {"in_values": ["api_call"]},
    },
    {
        "name": "Tokens",
        "aggregation_type": "SUM",
        "aggregation_key": "tokens",
        "event_type_filter": {"in_values": ["api_call"]},
        "property_filters": [
            {"name": "tokens", "exists": True},
            {"name": "region", "exists": True},
            {"name": "model", "exists": True},
        ],
        "group_keys": [["region", "model"]],
    },
    {
        "name": "Peak disk",
        "aggregation_type": "MAX",
        "aggregation_key": "gigabytes",
        "event_type_filter": {"in_values": ["disk"]},
        "property_filters": [{"name": "gigabytes", "exists": True}],
    },
    {
        "name": "Seats now",
        "aggregation_type": "LATEST",
        "aggregation_key": "seats",
        "event_type_filter": {"in_values": ["seats"]},
        "property_filters": [{"name": "seats", "exists": True}],
    },
    {
        "name": "Users",
        "aggregation_type": "UNIQUE",
        "aggregation_key": "user",
        "event_type_filter": {"in_values": ["api_call"]},
        "property_filters": [
            {"name": "user", "exists": True},
            {"name": "region", "not_in_values": ["ap"]},
        ],
    },
)


KLAVIYO: Final[dict[str, Any]] = {
    "data": {
        "type": "custom-metric",
        "attributes": {
            "name": "Revenue of shoes",
            "definition": {
                "aggregation_method": "value",
                "metric_groups": [
                    {
                        "metric_id": "Placed Order",
                        "metric_filters": [
                            {
                                "property": "Categories",
                                "filter": {
                                    "type": "list",
                                    "operator": "contains",
                                    "value": "Shoes",
                                },
                            }
                        ],
                    }
                ],
            },
        },
    }
}
STATSIG: Final[dict[str, Any]] = {
    "name": "Checkout conversion",
    "type": "ratio",
    "unitTypes": ["userID"],
    "metricEvents": [{"name": "visit", "type": "count"}, {"name": "checkout", "type": "count"}],
}
OTHERS: Final = 1_000  # events of each of the other two formats


def klaviyo_events(now: datetime) -> Iterator[str]:
    """Yield create-event bodies."""
    draw = random.Random(_SEED)  # noqa: S311  a seed, not a secret
    for number in range(OTHERS):
        attributes = {
            "properties": {"Categories": draw.sample(("Shoes", "Hats", "Bags"), 2)},
            "metric": {"data": {"type": "metric", "attributes": {"name": "Placed Order"}}},
            "profile": {
                "data": {"type": "profile", "attributes": {"email": f"p{number % 90}@example.com"}}
            },
            "time": rfc3339(now - timedelta(seconds=draw.randrange(172_800))),
            "value": draw.randrange(100, 20_000) / 100,
            "unique_id": str(number),
        }
        yield json.dumps({"data": {"type": "event", "attributes": attributes}})


def statsig_events(now: datetime) -> Iterator[str]:
    """Yield log_event bodies."""
    draw = random.Random(_SEED)  # noqa: S311  a seed, not a secret
    for _ in range(OTHERS):
        event = {
            "eventName": draw.choice(("visit", "visit", "checkout")),
            "time": int((now - timedelta(seconds=draw.randrange(172_800))).timestamp() * 1000),
            "user": {"userID": f"u{draw.randrange(200)}"},
        }
        yield json.dumps({"events": [event]})


def events(now: datetime) -> Iterator[str]:
    """Yield the lines of the mix; the same for the same moment."""
    draw = random.Random(_SEED)  # noqa: S311  a seed, not a secret
    sent: list[str] = []
    for number in range(EVENTS):
        kind = draw.random()
        if kind < 0.03 and sent:
            yield draw.choice(sent)  # a retry
            continue
        if kind < 0.031:
            yield draw.choice(('{"transaction_id": ', "not json", '{"customer_id": "acme"}', ""))
            continue
        late = timedelta(days=90) if kind < 0.032 else timedelta(seconds=draw.randrange(172_800))
        sent.append(json.dumps(_event(draw, number, rfc3339(now - late))))
        yield sent[-1]


def live_events(first: int, most: int, now: datetime) -> list[dict[str, Any]]:
    """Return events of this moment with numbers from `first` on; every 40th repeats another."""
    draw = random.Random(first)  # noqa: S311  a seed, not a secret
    made = [_event(draw, number, rfc3339(now)) for number in range(first, first + most)]
    return [made[at - 1] if at % 40 == 39 else event for at, event in enumerate(made)]


def _event(draw: random.Random, number: int, timestamp: str) -> dict[str, Any]:
    event_type = draw.choice(("api_call", "api_call", "api_call", "disk", "seats", "login"))
    values: dict[str, dict[str, Any]] = {
        "api_call": {
            "tokens": str(draw.randrange(1, 100_000) / 1000),
            "region": draw.choice(_REGIONS),
            "model": draw.choice(_MODELS),
            "user": f"user-{draw.randrange(400)}",
        },
        "disk": {"gigabytes": draw.randrange(1, 4_000) / 8},
        "seats": {"seats": draw.randrange(1, 60)},
        "login": {},
    }
    return {
        "transaction_id": f"tx-{number}",
        "customer_id": draw.choice(("acme", "globex", "initech", "hooli")),
        "event_type": event_type,
        "timestamp": timestamp,
        "properties": values[event_type],
    }
