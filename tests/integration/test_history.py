"""A metric that is created later answers for what was published before, through every door."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.edges.clock import SystemClock

from ..services import Recount

EVENTS = 3_000
BODY: dict[str, Any] = {
    "aggregation_type": "SUM",
    "aggregation_key": "v",
    "event_type_filter": {"in_values": ["use"]},
    "property_filters": [{"name": "v"}, {"name": "g", "exists": True}],
    "group_keys": [["g"]],
}


def hour(number: int) -> datetime:
    """The full hour so many hours from now."""
    now = SystemClock().now().astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return now + timedelta(hours=number)


def event(number: int, **members: Any) -> dict[str, Any]:
    """An event of the last three days; every seventh repeats another one."""
    number -= number % 7 == 6
    made = {
        "transaction_id": f"t{number}",
        "customer_id": f"c{number % 5}",
        "event_type": "use",
        "timestamp": (hour(0) - timedelta(minutes=number % 4_000)).isoformat(),
        "properties": {"v": number % 11, "g": "xy"[number % 2]},
    }
    return {**made, **members}


def usage(recount: Recount, metric: str, since: int = -96) -> list[Any]:
    """Every hour of every customer and group from an hour on, without where it stands."""
    period = ("--starting-on", hour(since).isoformat(), "--ending-before", hour(2).isoformat())
    sizes = ("--window-size", "hour", "--group-key", "g")
    lines = recount.run("usage", metric, "--each-customer", *period, *sizes)
    return sorted(
        json.dumps({name: line[name] for name in ("customer_id", "starting_on", "group", "value")})
        for line in lines[:-1]
    )


def is_ready(recount: Recount, metric: str) -> Any:
    """Whether all of its past is counted."""
    return recount.run("metrics", "show", metric)[0]["ready"]


@contextmanager
def worker(recount: Recount) -> Iterator[None]:
    """A worker that runs."""
    process = recount.start("worker")
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_later_metric_has_the_past_of_the_log(recount: Recount) -> None:
    """It equals one that was there from the first event, with effective_from and without."""
    recount.run("init", "--partitions", "3")
    recount.create({**BODY, "name": "first"})
    recount.publish([event(number) for number in range(EVENTS)])
    recount.catch_up()

    later = recount.create({**BODY, "name": "later"})
    some = recount.create({**BODY, "name": "some"}, "--effective-from", hour(-20).isoformat())
    shown = recount.run("metrics", "show", later)[0]
    assert (shown["history"], shown["percent"], shown["ready"]) == ("backfilling", 0, False)
    recount.publish([event(number) for number in range(EVENTS, EVENTS + 500)])
    recount.catch_up()  # waits until their past is counted

    assert usage(recount, "later") == usage(recount, "first")
    assert usage(recount, "some", -20) == usage(recount, "first", -20)
    for metric in (later, some):
        shown = recount.run("metrics", "show", metric)[0]
        assert (shown["history"], shown["ready"]) == ("complete", True)
    total = recount.run("status")[-1]
    assert (total["history"], total["balanced"]) == ("complete", True)
    audit = recount.run("audit")[-1]
    assert (audit["mismatches"], audit["unverifiable_cells"]) == (0, 0)
