"""What commands and doors say of mistakes, as a user sees it."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, TopicPartition

from ..services import Recount
from ..waiting import eventually
from .doors import serving
from .test_cli import HOUR, NOW, event, period

COUNT: dict[str, Any] = {
    "name": "Calls",
    "aggregation_type": "COUNT",
    "property_filters": [{"name": "region", "exists": True}],
    "group_keys": [["region"]],
}
PERIOD = period(NOW, NOW + HOUR)


def call(number: int, **members: Any) -> dict[str, Any]:
    """An event with a region."""
    return event(number, **{"properties": {"region": "eu"}, **members})


def test_what_nothing_has_is_told(recount: Recount) -> None:
    """A customer and a group that nothing counted are no bare 0; a bad event has a dead letter."""
    recount.run("init", "--partitions", "2")
    recount.create(COUNT)
    recount.publish([call(1), call(2, timestamp="soon"), b'{"transaction_id": "t3", '])
    recount.catch_up()

    stranger = recount.ended("usage", "Calls", "--customer", "x", *PERIOD)
    row, _ = [json.loads(line) for line in stranger.stdout.splitlines()]
    assert (row["value"], row["known"]) == ("0", False)
    assert b"no metric has counted an event of customer 'x'" in stranger.stderr
    both = ("--group-key", "region", "--group-filter", "region=EU")
    nowhere = recount.ended("usage", "Calls", "--customer", "c", *PERIOD, *both)
    (last,) = [json.loads(line) for line in nowhere.stdout.splitlines()]
    assert last["known"] is False
    assert b"did you mean 'eu'?" in nowhere.stderr
    idle = recount.run("usage", "Calls", "--customer", "c", *period(NOW - HOUR, NOW))
    assert (idle[0]["value"], "known" in idle[0]) == ("0", False)
    whole = recount.run("usage", "--all-metrics", "--customer", "x", *PERIOD)
    assert [line.get("known") for line in whole] == [False]

    for wrong, reason in (("t2", "invalid_timestamp"), ("t3", "not_json")):
        (told,) = recount.run("explain", wrong)
        assert told["fate"] == f"rejected: {reason}"
        assert (told["offset"] >= 0, bool(told["detail"])) == (True, True)


def test_status_says_who_counts(recount: Recount) -> None:
    """Without a worker a note says so; with one each partition has an owner."""
    recount.run("init", "--partitions", "2")
    recount.publish([call(1), call(2, customer_id="d")])
    told = recount.ended("status")
    assert [json.loads(line).get("owner") for line in told.stdout.splitlines()] == [None] * 3
    assert b"no worker has these partitions: 2 records wait; start one" in told.stderr
    worker = recount.start("worker")
    try:
        eventually(
            lambda: all(line["owner"] for line in recount.run("status")[:-1] if "owner" in line),
            within_s=40,
            because="it takes the partitions",
        )
        assert b"no worker" not in recount.ended("status").stderr
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(30)


def test_init_with_other_settings_tells_them_as_its_options_do(recount: Recount) -> None:
    """In days, and what to do instead."""
    recount.run("init", "--partitions", "1")

    told = recount.ended("init", "--max-age-days", "120", "--base-bucket", "15m")

    assert told.returncode == 5
    assert b"--max-age-days is 34 days, not 120 days" in told.stderr
    assert b"--base-bucket is 60 minutes, not 15 minutes" in told.stderr


def test_doors_name_what_there_is_not_and_how_a_key_is_sent(
    recount: Recount, tmp_path: Path
) -> None:
    """404 has the name that was asked for, 401 the form of a key."""
    recount.run("init", "--partitions", "1")
    recount.create(COUNT)
    with serving(recount, tmp_path / "log") as server:
        key = {"Authorization": f"Bearer {server.keys['read']}"}

        def message(path: str, headers: dict[str, str], status: int) -> str:
            answer = httpx.get(server.url + path, headers=headers, timeout=20)
            assert answer.status_code == status, answer.text
            return str(answer.json()["message"])

        missing = message("/recount/v1/metrics/calls", key, 404)
        assert "'calls'" in missing
        assert "did you mean 'Calls'?" in missing
        bare = message("/v1/billable-metrics", {"Authorization": server.keys["read"]}, 401)
        assert "`Authorization: Bearer KEY`" in bare
        assert server.keys["read"] not in bare
        usage = httpx.get(
            f"{server.url}/recount/v1/usage/Calls",
            params={
                "customer": "nobody",
                "starting_on": NOW.isoformat(),
                "ending_before": (NOW + HOUR).isoformat(),
            },
            headers=key,
            timeout=20,
        ).json()
        assert usage["known"] is False


def durable(recount: Recount) -> int:
    """How many records the events topic holds."""
    topic = f"{recount.deployment}.usage.events"
    consumer = Consumer({"bootstrap.servers": recount.services.kafka, "group.id": "look"})
    try:
        return sum(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10))
    finally:
        consumer.close()


def test_an_interrupted_publish_says_what_is_durable(recount: Recount, tmp_path: Path) -> None:
    """One line, exit 130; a second run adds nothing twice."""
    recount.run("init", "--partitions", "1")
    total, file = 400_000, tmp_path / "events.jsonl"
    line = json.dumps(call(0)).replace('"t0"', '"t%d"')
    file.write_text("".join(line % number + "\n" for number in range(total)))
    process = recount.start("publish", str(file), stdout=-1, stderr=-1)
    try:
        eventually(lambda: durable(recount) > 0, within_s=60, because="some are sent")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode == 130, told
    (text,) = told.decode().splitlines()
    assert text.startswith("recount: interrupted; ")
    assert f"of {total:,} events are durable" in text


@pytest.mark.parametrize("within_s", [0.4, 0.6, 0.8, 1.0, 1.3, 1.6])
def test_an_interrupted_command_is_one_line(recount: Recount, within_s: float) -> None:
    """Whenever Ctrl-C comes, also while modules are imported: no trace, nothing unclosed."""
    recount.run("init", "--partitions", "1")
    recount.publish([call(number) for number in range(20)])
    for command in (["audit"], ["audit", "--processes", "2"], ["explain", "t1"]):
        process = recount.start(*command, stdout=-1, stderr=-1)
        try:
            process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
        lines = told.decode().splitlines()
        assert process.returncode in {0, 130, -signal.SIGINT}, told
        assert len(lines) <= 1, told
        if process.returncode == 130:
            assert lines[0].startswith("recount: interrupted"), told
