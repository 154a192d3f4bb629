"""A metric that is created later answers for what was published before, through every door."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from pipeline.edges.clock import SystemClock

from ..services import Recount
from ..waiting import eventually
from .doors import serving

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


METRONOME: dict[str, Any] = {**BODY, "name": "by metronome"}
KLAVIYO: dict[str, Any] = {
    "data": {
        "type": "custom-metric",
        "attributes": {
            "name": "by klaviyo",
            "definition": {
                "aggregation_method": "count",
                "metric_groups": [{"metric_id": "use", "metric_filters": []}],
            },
        },
    }
}
STATSIG: dict[str, Any] = {
    "name": "by statsig",
    "type": "event_count_custom",
    "unitTypes": ["userID"],
    "metricEvents": [{"name": "use"}],
}


def test_every_door_counts_the_past_and_says_so_meanwhile(
    recount: Recount, tmp_path: Path
) -> None:
    """While no worker runs nothing of a new metric is final; afterwards its past is there."""
    recount.run("init", "--partitions", "2")
    recount.create({**BODY, "name": "first"})
    recount.publish([event(number) for number in range(300)])
    recount.catch_up()
    counted = recount.run("status")[-1]["counted"]

    with serving(recount, tmp_path / "serve.log") as server:
        key = server.keys["manage"]
        bearer, statsig = {"Authorization": f"Bearer {key}"}, {"STATSIG-API-KEY": key}
        klaviyo = {"Authorization": f"Klaviyo-API-Key {key}", "revision": "2025-04-15"}
        made = _posted(f"{server.url}/v1/billable-metrics/create", bearer, METRONOME)
        metronome = made["data"]["id"]
        _posted(f"{server.url}/api/custom-metrics", klaviyo, KLAVIYO)
        _posted(f"{server.url}/console/v1/metrics", statsig, STATSIG)
        read = {"Authorization": f"Bearer {server.keys['read']}"}
        period = {"starting_on": hour(-96).isoformat(), "ending_before": hour(1).isoformat()}
        question = {"billable_metrics": [{"id": metronome}], "window_size": "none", **period}

        before = _posted(f"{server.url}/v1/usage", read, question)["as_of"]
        assert (before["complete"], before["history"]) == (False, "backfilling")
        day = {"id": "by statsig::event_count_custom", "date": hour(-30).date().isoformat()}
        console = {"STATSIG-API-KEY": server.keys["read"]}
        values = httpx.get(f"{server.url}/console/v1/metrics", headers=console, params=day).json()
        assert values["as_of"]["history"] == "backfilling"
        lines = httpx.get(
            f"{server.url}/recount/v1/usage/by klaviyo", headers=read, params=period
        ).json()["data"]
        assert [(line["history"], line["complete"]) for line in lines] == [("backfilling", False)]
        with worker(recount):
            for name in ("by metronome", "by klaviyo", "by statsig"):
                eventually(
                    lambda name=name: is_ready(recount, name),  # type: ignore[misc]
                    within_s=60,
                    because="its past is counted",
                )

        after = _posted(f"{server.url}/v1/usage", read, question)["as_of"]
        assert "history" not in after
        values = httpx.get(f"{server.url}/console/v1/metrics", headers=console, params=day).json()
        assert "as_of" not in values
    assert usage(recount, "by metronome") == usage(recount, "first")
    for name in ("by klaviyo", "by statsig"):
        line = recount.run("usage", name, *_options(period))[0]
        assert (int(line["value"]), line["history"]) == (counted, "complete")
    assert recount.run("audit")[-1]["mismatches"] == 0


def _options(period: dict[str, str]) -> list[str]:
    return [f"--{name.replace('_', '-')}={text}" for name, text in period.items()]


def _posted(url: str, headers: dict[str, str], body: Any) -> Any:
    answer = httpx.post(url, headers=headers, json=body, timeout=30)
    assert answer.is_success, answer.text
    return answer.json()


def test_waiting_for_a_past_and_giving_it_up(recount: Recount) -> None:
    """Create --wait ends when the past is counted; archive --drop-history leaves it as it is."""
    recount.run("init", "--partitions", "2")
    recount.create({**BODY, "name": "first"})
    recount.publish([event(number) for number in range(2_000) if number % 7 != 6])  # none repeats
    recount.catch_up()
    dropped = recount.create({**BODY, "name": "dropped"})
    recount.run("metrics", "archive", dropped, "--drop-history")
    with worker(recount):
        text = json.dumps({**BODY, "name": "waited"}).encode()
        made = recount.run(
            "metrics", "create", "--format", "metronome", "-", "--wait", stdin=text
        )[0]
        assert made["history"] == "complete"
    shown = recount.run("metrics", "show", dropped)[0]
    assert (shown["history"], shown["percent"], shown["ready"]) == ("partial", 0, False)
    assert usage(recount, "waited") == usage(recount, "first")
    line = recount.run("usage", dropped, "--customer", "c1", *_options(_PERIOD))[0]
    assert (line["history"], line["complete"]) == ("partial", False)
    assert recount.run("status")[-1]["history"] == "complete"
    assert recount.run("audit")[-1]["mismatches"] == 0


_PERIOD = {"starting_on": hour(-96).isoformat(), "ending_before": hour(-2).isoformat()}
