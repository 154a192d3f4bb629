"""One metric of every computed type through real Kafka and Redis, against a naive count."""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ..services import Recount

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251  a test's clock
START, END = NOW - timedelta(days=4), NOW
DAY = timedelta(hours=-8)  # Statsig's day
QUOTIENT = Context(prec=34)
CONFIG = {
    "klaviyo": {"metrics": {"M1": "Placed Order"}},
    "statsig": {"sources": {"orders": "order", "visits": "visit"}},
}


class Seen(NamedTuple):
    """A Statsig event as the test made it."""

    name: str
    user: str
    at: datetime
    value: Decimal | None
    quantity: str

    @property
    def day(self) -> tuple[str, int]:
        """The unit and its day."""
        return self.user, (self.at + DAY).toordinal()


def statsig_events() -> list[Seen]:
    """Events of six users over four days, some late, in no order."""
    draw = random.Random(7)
    return [
        Seen(
            name=draw.choice(["visit", "order", "signup"]),
            user=f"u{draw.randrange(6)}",
            at=START + timedelta(milliseconds=draw.randrange(4 * 86_400_000)),
            value=draw.choice([None, Decimal(draw.randrange(10_000)).scaleb(-2)]),
            quantity=str(draw.randrange(5)),
        )
        for _ in range(400)
    ]


def as_line(event: Seen) -> str:
    """The log_event body of one event; numbers as text, which Statsig reads as numbers."""
    body: dict[str, Any] = {
        "eventName": event.name,
        "time": int(event.at.timestamp() * 1000),
        "user": {"userID": event.user, "custom": {"plan": "pro"}},
        "metadata": {"qty": event.quantity},
    }
    if event.value is not None:
        body["value"] = str(event.value)
    return json.dumps({"events": [body]})


def quotient(above: Decimal | int, below: Decimal | int) -> Decimal | None:
    """An exact quotient of 34 digits."""
    return QUOTIENT.divide(Decimal(above), Decimal(below)) if below else None


def values(events: Iterable[Seen]) -> list[Decimal]:
    """The event values that there are."""
    return [event.value for event in events if event.value is not None]


def by_day(events: Iterable[Seen]) -> dict[tuple[str, int], list[Seen]]:
    """Events by unit and day."""
    found = defaultdict(list)
    for event in events:
        found[event.day].append(event)
    return found


def by_user(events: Iterable[Seen]) -> dict[str, list[Seen]]:
    """Events by unit."""
    found = defaultdict(list)
    for event in events:
        found[event.user].append(event)
    return found


def mean(numbers: Sequence[Decimal | int]) -> Decimal | None:
    """Their mean."""
    return quotient(sum(map(Decimal, numbers)), len(numbers))


Naive = Callable[[list[Seen]], Decimal | int | None]


def named(name: str, count: Callable[[list[Seen]], Any]) -> Naive:
    """Look at events of one name only."""
    return lambda events: count([event for event in events if event.name == name])


def warehouse(aggregation: str, **members: Any) -> dict[str, Any]:
    """A warehouse-native body over the mapped source."""
    native = {"aggregation": aggregation, "metricSourceName": "orders", **members}
    return {"type": "user_warehouse", "unitTypes": ["userID"], "warehouseNative": native}


def cloud(type_: str, *events: dict[str, Any], **members: Any) -> dict[str, Any]:
    """A cloud body."""
    return {"type": type_, "unitTypes": ["userID"], "metricEvents": list(events), **members}


def same_day_ratio(
    side: Callable[[list[Seen]], Decimal | int],
) -> Naive:
    """Orders ÷ visits, an order counting only on a day with a visit of its unit."""

    def count(events: list[Seen]) -> Decimal | None:
        below = by_day(event for event in events if event.name == "visit")
        above = by_day(event for event in events if event.name == "order")
        top = sum((Decimal(side(above[at])) for at in above if at in below), Decimal(0))
        return quotient(top, sum((Decimal(side(each)) for each in below.values()), Decimal(0)))

    return count


def last_first(events: list[Seen]) -> Decimal | None:
    """Users' funnel visit → order → signup in a day."""
    days = by_day(events)
    steps = ["visit", "order", "signup"]
    names = {at: {event.name for event in held} for at, held in days.items()}
    passed = [sum(set(steps[: n + 1]) <= held for held in names.values()) for n in range(3)]
    return quotient(passed[2], passed[0])


def edge(newest: bool) -> Naive:
    """The mean over units and days of their newest or oldest value."""

    def count(events: list[Seen]) -> Decimal | None:
        picked = []
        for held in by_day(event for event in events if event.value is not None).values():
            ordered = sorted(held, key=lambda event: event.at)
            picked.append(ordered[-1 if newest else 0].value)
        return mean([value for value in picked if value is not None])

    return named("order", count)


def per_user(pick: Callable[[list[Decimal]], Decimal]) -> Naive:
    """The mean over units of one number of each."""
    return named(
        "order",
        lambda events: mean(
            [pick(values(held)) for held in by_user(events).values() if values(held)]
        ),
    )


def capped(events: list[Seen]) -> Decimal:
    """Daily totals of units, each at most 50."""
    return sum(
        (min(sum(values(held), Decimal(0)), Decimal(50)) for held in by_day(events).values()),
        Decimal(0),
    )


def reached(events: list[Seen]) -> int:
    """Units whose total reaches 900."""
    return sum(sum(values(held), Decimal(0)) >= 900 for held in by_user(events).values())


VISIT, ORDER = {"name": "visit", "type": "count"}, {"name": "order", "type": "count"}
STEPS = ("visit", "order", "signup")
STATSIG: dict[str, tuple[dict[str, Any], Naive]] = {
    "count of visits": (cloud("event_count_custom", VISIT), named("visit", len)),
    "pro orders over 20": (
        cloud(
            "event_count_custom",
            {
                "name": "order",
                "criteria": [
                    {"type": "value", "condition": ">", "values": ["20"]},
                    {
                        "type": "user_custom",
                        "column": "plan",
                        "condition": "in",
                        "values": ["pro"],
                    },
                ],
            },
        ),
        named("order", lambda events: sum(value > 20 for value in values(events))),
    ),
    "sum of values": (
        cloud("sum", {"name": "order", "type": "value"}, {"name": "visit", "type": "value"}),
        lambda events: sum(
            values(event for event in events if event.name != "signup"), Decimal(0)
        ),
    ),
    "sum of metadata": (
        cloud("sum", {"name": "order", "type": "metadata", "metadataKey": "qty"}),
        named("order", lambda events: sum(int(event.quantity) for event in events)),
    ),
    "mean of values": (
        cloud("mean", {"name": "order", "type": "value"}),
        named("order", lambda events: mean(values(events))),
    ),
    "composite of two": (
        {
            "type": "composite_sum",
            "unitTypes": ["userID"],
            "metricComponentMetrics": [
                {"name": "count of visits", "type": "event_count_custom"},
                {"name": "sum of values", "type": "sum"},
            ],
        },
        lambda events: (
            sum(values(event for event in events if event.name != "signup"), Decimal(0))
            + sum(event.name == "visit" for event in events)
        ),
    ),
    "ratio of counts": (cloud("ratio", VISIT, ORDER), same_day_ratio(len)),
    "ratio of users": (
        cloud(
            "ratio",
            {"name": "visit", "type": "count_distinct"},
            {"name": "order", "type": "count_distinct"},
        ),
        same_day_ratio(lambda _: 1),
    ),
    "ratio of kinds": (
        cloud(
            "ratio",
            {"name": "visit", "type": "count_distinct", "metadataKey": "qty"},
            {"name": "order", "type": "count_distinct", "metadataKey": "qty"},
        ),
        same_day_ratio(lambda held: len({event.quantity for event in held})),
    ),
    "active daily": (
        cloud("event_user", {"name": "visit", "criteria": []}),
        named("visit", lambda events: len(by_day(events))),
    ),
    "active ever": (
        cloud("event_user", {"name": "visit", "criteria": []}, rollupTimeWindow="max"),
        named("visit", lambda events: len(by_user(events))),
    ),
    "funnel of users": (
        {
            "type": "funnel",
            "funnelCountDistinct": "users",
            "funnelEventList": [{"name": name, "type": "event_user"} for name in STEPS],
        },
        last_first,
    ),
    "funnel of events": (
        {
            "type": "funnel",
            "funnelCountDistinct": "events",
            "funnelEventList": [{"name": name, "type": "event_count"} for name in STEPS],
        },
        lambda events: quotient(
            sum(event.name == "signup" for event in events),
            sum(event.name == "visit" for event in events),
        ),
    ),
    "wh count": (warehouse("count"), named("order", len)),
    "wh sum": (
        warehouse("sum", valueColumn="value"),
        named("order", lambda events: sum(values(events), Decimal(0))),
    ),
    "wh mean": (
        warehouse("mean", valueColumn="value"),
        named("order", lambda events: mean(values(events))),
    ),
    "wh ratio": (
        warehouse(
            "ratio",
            numeratorAggregation="sum",
            valueColumn="value",
            denominatorAggregation="count",
            denominatorMetricSourceName="visits",
            allowNullRatioDenominator=True,
        ),
        lambda events: quotient(
            sum(values(event for event in events if event.name == "order"), Decimal(0)),
            sum(event.name == "visit" for event in events),
        ),
    ),
    "wh distinct": (
        warehouse("count_distinct", valueColumn="qty"),
        named(
            "order",
            lambda events: mean(
                [len({event.quantity for event in held}) for held in by_user(events).values()]
            ),
        ),
    ),
    "wh max": (warehouse("max", valueColumn="value"), per_user(max)),
    "wh min": (warehouse("min", valueColumn="value"), per_user(min)),
    "wh first": (warehouse("first_value", valueColumn="value"), edge(newest=False)),
    "wh latest": (warehouse("latest_value", valueColumn="value"), edge(newest=True)),
    "wh capped": (warehouse("sum", valueColumn="value", cap=50), named("order", capped)),
    "wh threshold": (
        warehouse("sum", valueColumn="value", valueThreshold=900),
        named("order", reached),
    ),
    "wh participation": (
        warehouse("daily_participation"),
        named("order", lambda events: len(by_day(events))),
    ),
}


def usage(recount: Recount, metric: str, *options: str) -> list[dict[str, Any]]:
    """The lines of a metric of the whole deployment over the whole period."""
    period = ("--starting-on", START.isoformat(), "--ending-before", END.isoformat())
    return recount.run("usage", metric, *period, *options)[:-1]


@pytest.mark.timeout(150)  # some eighty commands
def test_every_computed_type_of_statsig(recount: Recount, tmp_path: Path) -> None:
    """Over the period, and day by day in the zone of Statsig's day, each type is as counted."""
    make(recount, tmp_path)
    for name, (body, _) in STATSIG.items():
        create(recount, "statsig", {"name": name, **body})
    events = statsig_events()
    text = "\n".join(map(as_line, events)).encode()
    assert recount.run("publish", "-", "--format", "statsig", stdin=text) == [{"published": 400}]
    recount.catch_up()

    for name, (_, naive) in STATSIG.items():
        (line,) = usage(recount, name)
        wanted = naive(events)
        assert (name, as_number(line["value"])) == (name, wanted)
        days = usage(recount, name, "--window-size", "day", "--timezone", "Etc/GMT+8")
        for each in days:
            lo, hi = (datetime.fromisoformat(each[n]) for n in ("starting_on", "ending_before"))
            seen = as_number(each["value"])
            own = [event for event in events if lo <= event.at < hi]
            assert (name, each["starting_on"], seen) == (name, each["starting_on"], naive(own))
    audit = recount.run("audit")[-1]
    assert (audit["mismatches"], audit["events"]) == (0, 400)


def test_every_computed_type_of_klaviyo(recount: Recount, tmp_path: Path) -> None:
    """Groups are added; $value is the event's value; filters read lists; repeats count once."""
    make(recount, tmp_path)
    over = {"type": "numeric", "operator": "greater-than", "value": 5}
    tagged = {"type": "list", "operator": "contains", "value": "a"}
    groups = {
        "two groups": ("count", [group("M1", ("n", over)), group("Refunded", ("tags", tagged))]),
        "default value": ("value", [group("M1")]),
        "own value": ("value", [{**group("M1"), "value_property": "n"}, group("Refunded")]),
        "patterns": (
            "count",
            [group("M1", ("who", {"type": "string", "operator": "regex", "value": "^a.*e$"}))],
        ),
    }
    for name, (method, listed) in groups.items():
        definition = {"aggregation_method": method, "metric_groups": listed}
        attributes = {"name": name, "definition": definition}
        body = {"data": {"type": "custom-metric", "attributes": attributes}}
        create(recount, "klaviyo", body)
    draw = random.Random(3)
    events: list[dict[str, Any]] = [
        {
            "name": draw.choice(["Placed Order", "Refunded", "Other"]),
            "n": draw.choice([None, draw.randrange(10), "7"]),
            "tags": draw.choice([[], ["a", "b"], ["a"], ["A"]]),
            "who": draw.choice(["alice", "bob", "ae"]),
            "value": draw.choice([None, 1.25, 3]),
            "id": str(number),
        }
        for number in range(200)
    ]
    lines = [klaviyo_line(event) for event in events]
    text = "\n".join([*lines, *lines[:20]]).encode()
    assert recount.run("publish", "-", "--format", "klaviyo", stdin=text) == [{"published": 220}]
    recount.catch_up()

    orders = [event for event in events if event["name"] == "Placed Order"]
    refunds = [event for event in events if event["name"] == "Refunded"]
    numbers = [event["n"] for event in orders if isinstance(event["n"], int)]
    wanted = {
        "two groups": sum(number > 5 for number in numbers)
        + sum("a" in event["tags"] for event in refunds),
        "default value": sum(Decimal(str(event["value"] or 0)) for event in orders),
        "own value": sum(numbers) + sum(Decimal(str(event["value"] or 0)) for event in refunds),
        "patterns": sum(event["who"] in {"alice", "ae"} for event in orders),
    }
    assert {name: as_number(usage(recount, name)[0]["value"]) for name in groups} == wanted
    assert recount.run("status")[-1]["duplicate"] == 20
    assert recount.run("audit")[-1]["mismatches"] == 0


def plain_metric(kind: str) -> dict[str, Any]:
    """A streaming metric of n, by region."""
    filters = [{"name": "n", "exists": True}, {"name": "r", "exists": True}]
    made = {"aggregation_type": kind, "property_filters": filters, "group_keys": [["r"]]}
    return made if kind == "COUNT" else {**made, "aggregation_key": "n"}


Fold = Callable[[list[Decimal]], Any]
SQL: dict[str, Fold] = {
    "COUNT(*)": len,
    "COUNT(DISTINCT properties.n)": lambda seen: len(set(seen)),
    "SUM(properties.n)": sum,
    "MIN(properties.n)": min,
    "MAX(properties.n)": max,
    "AVG(properties.n)": mean,
    "LATEST(properties.n)": lambda seen: seen[-1],
    "EARLIEST(properties.n)": lambda seen: seen[0],
}
METRONOME: dict[str, tuple[dict[str, Any], Fold]] = {
    "count": (plain_metric("COUNT"), len),
    "sum": (plain_metric("SUM"), sum),
    "max": (plain_metric("MAX"), max),
    "latest": (plain_metric("LATEST"), lambda seen: seen[-1]),
    "unique": (plain_metric("UNIQUE"), lambda seen: len(set(seen))),
}
for kind, naive_sql in SQL.items():
    sql = f"SELECT {kind} AS value, properties.r FROM events GROUP BY properties.r"
    METRONOME[f"sql {kind}"] = ({"sql": sql}, naive_sql)


@pytest.mark.timeout(120)  # some thirty commands
def test_every_computed_type_of_metronome(recount: Recount) -> None:
    """Streaming and SQL metrics, in total and by group."""
    recount.run("init", "--partitions", "2")
    for name, (body, _) in METRONOME.items():
        text = json.dumps({"name": name, **body}).encode()
        made = recount.run("metrics", "create", "--format", "metronome", "-", stdin=text)[0]
        assert (made["status"], made["reasons"]) == ("active", [])
    draw = random.Random(11)
    events: list[dict[str, Any]] = [
        {
            "transaction_id": str(number),
            "customer_id": "acme",
            "event_type": "use",
            "timestamp": (START + timedelta(minutes=number)).isoformat(),
            "properties": {"n": str(draw.randrange(90)), "r": draw.choice(["eu", "us"])},
        }
        for number in range(120)
    ]
    recount.publish(draw.sample(events, len(events)))
    recount.catch_up()

    for name, (_, naive) in METRONOME.items():
        for group in ("eu", "us"):
            seen = [
                Decimal(each["properties"]["n"])
                for each in events
                if each["properties"]["r"] == group
            ]
            options = ["--customer", "acme", "--group-key", "r", "--group-filter", f"r={group}"]
            (line,) = usage(recount, name, *options)
            assert (name, group, as_number(line["value"])) == (name, group, naive(seen))
    assert recount.run("audit")[-1]["mismatches"] == 0


def test_cloudevents_are_published(recount: Recount) -> None:
    """The subject is the customer; source and id are the identity; a bad line has its number."""
    recount.run("init", "--partitions", "2")
    recount.create({"name": "calls", "aggregation_type": "COUNT"})
    base = {"specversion": "1.0", "type": "call", "subject": "acme", "time": END.isoformat()}
    lines = [
        {**base, "id": "1", "source": "/a", "data": {"n": 1}},
        {**base, "id": "1", "source": "/b"},
        {**base, "id": "1", "source": "/a"},
    ]
    text = "\n".join(map(json.dumps, lines)).encode()
    recount.run("publish", "-", "--format", "cloudevents", stdin=text)
    recount.catch_up()

    until = (END + timedelta(hours=1)).isoformat()
    period = ("--starting-on", END.isoformat(), "--ending-before", until)
    assert recount.run("usage", "calls", "--customer", "acme", *period)[0]["value"] == "2"
    assert recount.run("status")[-1]["duplicate"] == 1
    bad = recount.ended("publish", "-", "--format", "cloudevents", stdin=text + b"\n{}")
    assert bad.returncode == 2
    assert b"line 4: CE-REQ" in bad.stderr


def make(recount: Recount, folder: Path) -> None:
    """A deployment with the formats' settings."""
    file = folder / "formats.json"
    file.write_text(json.dumps(CONFIG))
    lines = recount.run("init", "--partitions", "3", "--config", str(file))
    assert lines[0]["settings"]["formats"] == CONFIG


def create(recount: Recount, format_: str, body: dict[str, Any]) -> None:
    """Create a metric."""
    line = recount.run(
        "metrics", "create", "--format", format_, "-", stdin=json.dumps(body).encode()
    )[0]
    assert (line["status"], line["reasons"]) == ("active", [])


def group(metric_id: str, *filters: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """A metric group."""
    listed = [{"property": name, "filter": filter_} for name, filter_ in filters]
    return {"metric_id": metric_id, "metric_filters": listed}


def klaviyo_line(event: dict[str, Any]) -> str:
    """The create-event body of one event."""
    properties = {name: event[name] for name in ("n", "tags", "who") if event[name] is not None}
    attributes: dict[str, Any] = {
        "properties": properties,
        "metric": {"data": {"type": "metric", "attributes": {"name": event["name"]}}},
        "profile": {"data": {"type": "profile", "attributes": {"email": "A@example.com"}}},
        "time": (END - timedelta(hours=1)).isoformat(),
        "unique_id": event["id"],
    }
    if event["value"] is not None:
        attributes["value"] = event["value"]
    return json.dumps({"data": {"type": "event", "attributes": attributes}})


def as_number(text: str | None) -> Decimal | None:
    """A value of a line."""
    return None if text is None else Decimal(text)
