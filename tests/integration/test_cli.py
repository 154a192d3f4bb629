"""The commands of INTERFACES.md, as they are driven from outside."""

import signal
from datetime import UTC, datetime, timedelta
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
    recount.run("metrics", "show", "Tokens", exits=3)
    recount.publish([event(1), event(2, customer_id="d"), event(1)])
    recount.catch_up()
    summary = recount.run("metrics", "list")[0]
    assert (summary["ready"], summary["history"], summary["status"]) == (
        True,
        "complete",
        "active",
    )

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
    """The worker follows the control log; the version counts from its activation, and says so."""
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
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0

    line = recount.run("usage", "late", "--customer", "c", *period(NOW, NOW + HOUR))[0]
    assert (line["value"], line["history"], line["complete"]) == ("1", "from_activation", False)
    assert recount.run("audit")[-1]["mismatches"] == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["worker"], 2),
        (["status"], 2),
        (["init", "--keying", "strict"], 2),
        (["init", "--base-bucket", "7m"], 2),
        (["init", "--dedup-window-days", "1"], 2),
        (["init", "--config", "x"], 2),
        (["metrics", "create", "--format", "klaviyo", "-"], 3),
        (["metrics", "create", "--format", "stripe", "-"], 2),
        (["metrics", "create", "--format", "metronome", "-"], 3),
        (["metrics", "create", "--format", "metronome", "/no/such/file"], 2),
        (["publish", "-", "--format", "statsig"], 2),
        (["rebuild"], 2),
        (["explain", "t"], 2),
        (["serve"], 2),
        (["keys", "create", "--name", "n"], 2),
        (["rejected", "redrive"], 2),
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
