"""Times of versions: what was asked for is obeyed exactly, or refused with what can be had."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.edges.clock import SystemClock

from ..services import Recount


def _body(name: str, method: str, **more: Any) -> bytes:
    group = {"metric_id": "Order", **more}
    definition = {"aggregation_method": method, "metric_groups": [group]}
    attributes = {"name": name, "definition": definition}
    return json.dumps({"data": {"type": "custom-metric", "attributes": attributes}}).encode()


def _patch(method: str, **more: Any) -> bytes:
    body = json.loads(_body("orders", method, **more))
    body["data"]["id"] = "any"
    return json.dumps(body).encode()


def _hours(number: int) -> str:
    """The full hour so many hours from now."""
    now = SystemClock().now().astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return (now + timedelta(hours=number)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _same(left: str, right: str) -> bool:
    return datetime.fromisoformat(left) == datetime.fromisoformat(right)


def _refused(recount: Recount, *arguments: str, stdin: bytes = b"") -> str:
    done = recount.ended(*arguments, stdin=stdin)
    assert done.returncode == 2, done.stderr.decode()
    assert done.stdout == b""
    return done.stderr.decode()


def test_an_update_begins_when_it_was_told_to_or_not_at_all(recount: Recount) -> None:
    """After an earlier update a time is obeyed exactly, or refused with the first that works."""
    recount.run("init", "--partitions", "1")
    recount.run("metrics", "create", "--format", "klaviyo", "-", stdin=_body("orders", "count"))
    update = ("metrics", "update", "orders", "-", "--effective-from")
    value = _patch("value")
    second = recount.run(*update, _hours(30), stdin=value)[0]
    assert (second["version"], _same(second["effective_from"], _hours(30))) == (2, True)

    repeated = _refused(recount, *update, _hours(40), stdin=value)
    early = _refused(recount, *update, _hours(20), stdin=_patch("count"))
    equal = _refused(recount, *update, _hours(30), stdin=_patch("count"))

    assert "counts just this already" in " ".join(repeated.split())
    assert _hours(31)[:19] in early
    assert "can begin on" in " ".join(equal.split())
    assert recount.run("metrics", "show", "orders")[0]["version"] == 2
    again = recount.run(*update, _hours(30), stdin=value)[0]
    assert (again["version"], _same(again["effective_from"], _hours(30))) == (2, True)
    third = recount.run(*update, _hours(31), stdin=_patch("count"))[0]
    assert (third["version"], _same(third["effective_from"], _hours(31))) == (3, True)


def test_an_archive_ends_when_it_was_told_to_or_not_at_all(recount: Recount) -> None:
    """Where the next version begins later, a metric ends then, or later if it is told so."""
    recount.run("init", "--partitions", "1")
    recount.run("metrics", "create", "--format", "klaviyo", "-", stdin=_body("orders", "count"))
    later = ("--effective-from", _hours(30))
    recount.run("metrics", "update", "orders", "-", *later, stdin=_patch("value"))

    refused = _refused(recount, "metrics", "archive", "orders", "--at", _hours(20))

    assert "begins on" in refused
    archived = recount.run("metrics", "archive", "orders", "--at", _hours(35))[0]
    assert _same(archived["archived_at"], _hours(35))


def test_a_name_that_is_taken_is_refused_before_anything_is_written(recount: Recount) -> None:
    """A rename to another metric's name names that metric, and the control log stays as it was."""
    recount.run("init", "--partitions", "1")
    made = [
        recount.run("metrics", "create", "--format", "klaviyo", "-", stdin=_body(name, "count"))[0]
        for name in ("orders", "refunds")
    ]

    done = recount.ended("metrics", "rename", "orders", "refunds")

    assert done.returncode == 3
    assert made[1]["id"] in done.stderr.decode()
    assert recount.run("metrics", "show", "orders")[0]["id"] == made[0]["id"]


def test_a_deployment_too_near_to_another_is_refused(recount: Recount) -> None:
    """Names that differ by `.` and `_` only are one name in Kafka's metrics: exit 2, no topic."""
    dotted = Recount(recount.services, f"{recount.deployment}.x")
    lined = Recount(recount.services, f"{recount.deployment}_x")
    dotted.run("init", "--partitions", "1")

    said = _refused(lined, "init", "--partitions", "1")

    assert f"{dotted.deployment}.usage.events" in said
    assert lined.ended("status").returncode == 2
    dotted.run("init", "--partitions", "1")
