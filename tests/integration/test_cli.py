"""The commands, as they are driven from outside."""

import json
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ..services import Recount, Services
from ..waiting import eventually

SUM: dict[str, Any] = {
    "name": "Tokens",
    "aggregation_type": "Sum",
    "aggregation_key": "v",
    "property_filters": [{"name": "v", "exists": True}, {"name": "a,b", "exists": True}],
    "group_keys": [["a,b"]],
    "custom_fields": {},
}
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)  # noqa: TID251  tests' clock
HOUR = timedelta(hours=1)


def event(number: int, **members: Any) -> dict[str, Any]:
    """An event of the running hour."""
    made = {
        "transaction_id": f"t{number}",
        "customer_id": "c",
        "event_type": "use",
        "timestamp": NOW.isoformat(),
        "properties": {"v": "0.1", "a,b": "x=1"},
    }
    return {**made, **members}


def period(starts: datetime, ends: datetime) -> list[str]:
    """The options of a period."""
    return ["--starting-on", starts.isoformat(), "--ending-before", ends.isoformat()]


def test_life_of_a_metric(recount: Recount) -> None:
    """Create, list, show native and neutral, rename, use by either name or id, archive."""
    recount.run("init", "--partitions", "2")
    metric = recount.create(SUM)
    assert recount.run("metrics", "show", metric, "--format", "metronome") == [SUM]
    recount.run("metrics", "rename", "Tokens", "New")
    assert recount.run("metrics", "show", "New", "--format", "metronome") == [
        {**SUM, "name": "New"}
    ]
    assert recount.run("metrics", "show", "New", "--format", "neutral")[0]["version"] == 1
    unknown = recount.ended("metrics", "show", "new")
    assert unknown.returncode == 3
    assert b"did you mean 'New'?" in unknown.stderr
    recount.run("metrics", "show", "Tokens", exits=3)
    recount.publish([event(1), event(2, customer_id="d"), event(1)])
    recount.catch_up()
    summary = recount.run("metrics", "list")[0]
    assert (summary["ready"], summary["history"], summary["status"]) == (
        True,
        "complete",
        "active",
    )
    assert (summary["fast_path"], summary["slow_because"]) == (True, [])

    rows = recount.run("usage", "New", "--each-customer", *period(NOW, NOW + HOUR))
    grouped = recount.run(
        "usage",
        metric,
        "--customer",
        "c",
        *period(NOW, NOW + HOUR),
        "--group-key",
        '["a,b"]',
        "--group-filter",
        '{"a,b": "x=1"}',
    )
    ended = recount.run("metrics", "archive", metric)[0]

    assert [(row["customer_id"], row["value"]) for row in rows[:-1]] == [
        ("c", "0.1"),
        ("d", "0.1"),
    ]
    assert sum(rows[-1]["as_of"]["offsets"].values()) == 3
    assert grouped[0]["group"] == {"a,b": "x=1"}
    assert grouped[0]["value"] == "0.1"
    assert ended["archived_at"] is not None
    assert recount.run("metrics", "list") == []
    assert len(recount.run("metrics", "list", "--all")) == 1
    recount.run("metrics", "archive", metric, exits=3)


def test_complete_windows(recount: Recount) -> None:
    """A past window is complete once lateness has passed; a running one is not."""
    recount.run("init", "--partitions", "1")
    metric = recount.create({"name": "n", "aggregation_type": "COUNT"})
    recount.publish([event(1, timestamp=(NOW - 3 * HOUR).isoformat())])
    span = period(NOW - 3 * HOUR, NOW + HOUR)
    before = recount.run("usage", metric, "--customer", "c", *span, "--window-size", "hour")
    recount.catch_up()
    after = recount.run("usage", metric, "--customer", "c", *span, "--window-size", "hour")

    assert [line["complete"] for line in before[:-1]] == [False] * 4
    assert before[-1]["as_of"]["applied_through"] is None
    assert [line["value"] for line in after[:-1]] == ["1", "0", "0", "0"]
    assert [line["complete"] for line in after[:-1]][::3] == [True, False]


def test_a_metric_created_while_the_worker_runs(recount: Recount) -> None:
    """The worker follows the control log; the version counts what came before it too."""
    recount.run("init", "--partitions", "1")
    recount.publish([event(1)])
    worker = recount.start("worker")
    try:
        eventually(
            lambda: recount.run("status")[-1]["lag"] == 0, within_s=30, because="it catches up"
        )
        metric = recount.create({"name": "late", "aggregation_type": "COUNT"})
        eventually(
            lambda: recount.run("metrics", "show", metric)[0]["ready"],
            within_s=10,
            because="an idle partition activates the version",
        )
        recount.publish([event(2)])
        eventually(
            lambda: recount.run("status")[-1]["counted"] == 1, within_s=20, because="it counts"
        )
        eventually(
            lambda: recount.run("metrics", "show", metric)[0]["ready"],
            within_s=20,
            because="the past is counted",
        )
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0

    line = recount.run("usage", "late", "--customer", "c", *period(NOW, NOW + HOUR))[0]
    assert (line["value"], line["history"], line["complete"]) == ("2", "complete", False)
    assert recount.run("audit")[-1]["mismatches"] == 0


def test_explain(recount: Recount) -> None:
    """Each record of an id with its fate, and per metric the clauses that fail."""
    recount.run("init", "--partitions", "1")
    recount.create(
        {
            "name": "eu",
            "aggregation_type": "COUNT",
            "event_type_filter": {"in_values": ["call"]},
            "property_filters": [{"name": "region", "in_values": ["eu"]}, {"name": "n"}],
        }
    )
    recount.publish(
        [
            event(1, event_type="call", properties={"region": "eu"}),
            event(1, event_type="call", properties={"region": "eu"}),
            event(2, event_type="chat", properties={"region": "us", "n": 1.5}),
            event(3, event_type="chat", timestamp="2001-01-01T00:00:00Z"),
        ]
    )
    recount.catch_up()
    recount.publish([event(1, event_type="call")])

    first = recount.run("explain", "t1")
    assert [(line["offset"], line["fate"]) for line in first] == [
        (0, "counted"),
        (1, "duplicate"),
        (4, "pending"),
    ]
    assert first[0]["metrics"][0]["matched"]
    (second,) = recount.run("explain", "t2", "--customer", "c")
    assert second["fate"] == "unmatched"
    (told,) = second["metrics"][0]["measures"]
    assert not told["matched"]
    assert [(each["field"], each["operator"], each["seen"]) for each in told["failing"]] == [
        ("event_type", "in", "chat"),
        ("property region", "in", "us"),
    ]
    assert recount.run("explain", "t3")[0]["fate"] == "rejected: too_old"
    other = recount.ended("explain", "t2", "--customer", "other")
    assert other.returncode == 3
    assert b"is on the log for 'c', not for customer 'other'" in other.stderr
    assert recount.ended("explain", "t9").returncode == 3


def test_update_ends_the_old_version_where_the_new_one_begins(recount: Recount) -> None:
    """Each bucket is read from exactly one version (C12); the name and the body follow."""
    recount.run("init", "--partitions", "1", "--base-bucket", "15m")
    filters = [{"property": "n", "filter": {"type": "numeric", "operator": "equals", "value": 2}}]
    old = {"aggregation_method": "count", "metric_groups": [{"metric_id": "Order"}]}
    new = {
        "aggregation_method": "value",
        "metric_groups": [{"metric_id": "Order", "metric_filters": filters}],
    }

    def body(name: str, definition: dict[str, Any]) -> dict[str, Any]:
        attributes = {"name": name, "definition": definition}
        return {"data": {"type": "custom-metric", "attributes": attributes}}

    made = json.dumps(body("orders", old)).encode()
    created = recount.run("metrics", "create", "--format", "klaviyo", "-", stdin=made)[0]
    patch = {"data": {"type": "custom-metric", "id": "x", "attributes": {"name": "paid"}}}
    renamed = recount.run("metrics", "update", "orders", "-", stdin=json.dumps(patch).encode())[0]
    assert (renamed["name"], renamed["version"]) == ("paid", 1)
    patch["data"]["attributes"] = {"name": "no", "definition": new}
    past = ("--effective-from", "2020-01-01T00:00:00Z")
    text = json.dumps(patch).encode()
    recount.run("metrics", "update", "paid", "-", *past, stdin=text, exits=2)
    assert recount.run("metrics", "show", "paid")[0]["version"] == 1  # and its name is its own
    patch["data"]["attributes"] = {"definition": new}
    changed = recount.run("metrics", "update", "paid", "-", stdin=json.dumps(patch).encode())[0]
    assert (changed["id"], changed["version"]) == (created["id"], 2)
    assert recount.run("metrics", "show", "paid", "--format", "klaviyo") == [body("paid", new)]

    starts = datetime.fromisoformat(changed["effective_from"])
    quarter = timedelta(minutes=15)
    recount.publish(
        [
            event(number, event_type="Order", timestamp=at.isoformat(), properties=properties)
            for number, (at, properties) in enumerate(
                [
                    (starts - quarter, {"n": 1}),
                    (starts - quarter, {"n": 2}),
                    (starts, {"n": 1, "$value": 5}),
                    (starts, {"n": 2, "$value": 7.5}),
                ]
            )
        ]
    )
    recount.catch_up()

    before = recount.run("usage", "paid", *period(starts - quarter, starts))[0]
    after = recount.run("usage", "paid", *period(starts, starts + quarter))[0]
    assert (before["value"], after["value"]) == ("2", "7.5")
    across = recount.ended("usage", "paid", *period(starts - quarter, starts + quarter))
    assert across.returncode == 2
    assert b"counts something else from" in across.stderr
    assert recount.run("audit")[-1]["mismatches"] == 0


def test_check_tells_every_problem_of_every_file(recount: Recount, tmp_path: Path) -> None:
    """Rule and place of each, all at once; exit 3 if there is any."""
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('{"name": "m", "aggregation_type": "COUNT"}')
    bad.write_text('{"name": "m", "type": "sum", "metricEvents": [], "extra": 1}')
    assert recount.run("metrics", "check", str(good))[0]["class"] == "incremental"

    lines = recount.run("metrics", "check", str(good), str(bad), exits=3)

    assert [(line["format"], line.get("rule"), line.get("pointer")) for line in lines] == [
        ("metronome", None, None),
        ("statsig", "S-UNKNOWN", "/extra"),
        ("statsig", "S-NAME", "/name"),
        ("statsig", "S-UNIT-TYPES", "/unitTypes"),
        ("statsig", "S-METRIC-EVENTS", "/metricEvents"),
    ]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["worker"], 2),
        (["status"], 2),
        (["init", "--keying", "exact"], 2),
        (["init", "--base-bucket", "7m"], 2),
        (["init", "--dedup-window-days", "1"], 2),
        (["init", "--config", "x"], 2),
        (["metrics", "create", "--format", "klaviyo", "-"], 3),
        (["metrics", "create", "--format", "stripe", "-"], 2),
        (["metrics", "create", "--format", "metronome", "-"], 3),
        (["metrics", "create", "--format", "metronome", "/no/such/file"], 2),
        (["publish", "-", "--format", "statsig"], 2),
        (["rebuild", "--partition", "99"], 2),
        (["explain", "t"], 2),
        (["metrics", "check", "/no/such/file"], 2),
        (["serve"], 2),
        (["keys", "create", "--name", "n"], 2),
        (["rejected", "redrive", "--reason", "too_old"], 2),
        (["rejected", "redrive", "--at", "0"], 2),
        (["rejected", "list", "--reason", "x"], 2),
        (["metrics", "update", "a", "-"], 2),
        (["publish", "-", "--format", "stripe"], 2),
        (["metrics", "check", "a"], 2),
        (["no-such-command"], 2),
    ],
)
def test_refusals_have_exit_codes(recount: Recount, arguments: list[str], code: int) -> None:
    """Wrong usage and what is not there yet exit 2, an invalid definition 3, with one message."""
    done = recount.ended(*arguments)

    assert done.returncode == code, done.stderr.decode()
    assert done.stderr
    assert b"Traceback" not in done.stderr


def test_usage_refuses_what_it_cannot_answer(recount: Recount) -> None:
    """Unknown names exit 3; bad periods, zones, sizes and groups exit 2 with the reason."""
    recount.run("init", "--partitions", "1")
    recount.create(SUM)
    good = period(NOW, NOW + HOUR)
    mine = ["usage", "Tokens", "--customer", "c"]
    kolkata = ["--window-size", "day", "--timezone", "Asia/Kolkata"]
    refused = (
        (["usage", "nobody", "--customer", "c", *good], 3),
        (["usage", "Tokens", *good], 2),
        ([*mine, "--each-customer", *good], 2),
        ([*mine, *period(NOW + timedelta(minutes=1), NOW + HOUR)], 2),
        ([*mine, *period(NOW + HOUR, NOW)], 2),
        ([*mine, *good, "--timezone", "Mars/Olympus"], 2),
        ([*mine, *period(NOW, NOW + 48 * HOUR), *kolkata], 2),
        ([*mine, *good, "--window-size", "minute"], 2),
        ([*mine, *good, "--group-key", "region"], 2),
        ([*mine, *good, "--group-filter", "a=b"], 2),
    )
    for arguments, code in refused:
        assert recount.ended(*arguments).returncode == code, arguments


def test_services_away(recount: Recount) -> None:
    """A service that does not answer is exit 4, with a message and no traceback."""
    recount.run("init", "--partitions", "1")
    there = recount.services
    for services in (
        Services("127.0.0.1:1", there.redis),
        Services(there.kafka, "redis://127.0.0.1:1/0"),
    ):
        away = Recount(services, recount.deployment)
        done = away.ended("status")
        assert done.returncode == 4, done.stderr.decode()
        assert b"Traceback" not in done.stderr
