"""Dead letters: written before the offset moves, once each, re-driven, with a limit."""

import json
from typing import Any

import pytest

from pipeline.core.dedup import home_of

from ..waiting import eventually
from .conftest import Staging
from .proxy import is_commit
from .stage import PARTITIONS, Stage


def test_f12_killed_while_it_dead_letters(stage: Stage) -> None:
    """Letters written, their flush not: they are written twice and listed once."""
    worker = stage.running()
    stage.proxy.hold(is_commit)
    stage.send([b"rubbish %d" % number for number in range(20)])
    eventually(lambda: stage.proxy.caught > 0, within_s=20, because="the flush is under way")
    stage.workers.kill(worker)
    stage.proxy.reset()
    stage.proxy.release()
    assert len(stage.recount.run("rejected", "list")) == 20
    stage.worker()
    stage.exact()

    letters = stage.recount.run("rejected", "list")
    assert len(letters) == 20
    assert len({(letter["partition"], letter["offset"]) for letter in letters}) == 20
    assert stage.recount.run("status")[-1]["rejected"] == 20


def test_strict_keying_and_redrive(staging: Staging) -> None:
    """Strict: away from home is rejected; re-drive sends home under the same id, once."""
    with staging() as stage:
        stage.prepare("--keying", "strict")
        events = stage.events(200)
        lines = [json.dumps(event).encode() for event in events]
        text = b"".join(line + b"\n" for line in lines)
        stage.recount.run("publish", "-", "--send-anyway", "--key", "none", stdin=text)
        stage.worker()
        stage.caught_up()
        status = stage.recount.run("status")[-1]
        letters = stage.recount.run("rejected", "list", "--reason", "misplaced")
        assert 0 < status["misplaced"] == status["rejected"] == len(letters) < 200
        for letter in letters:
            home = home_of(json.loads(letter["original"])["customer_id"], PARTITIONS)
            assert letter["partition"] != home

        one = f"{letters[0]['partition']}@{letters[0]['offset']}"
        assert stage.recount.run("rejected", "redrive", "--at", one)[0]["redriven"] == 1
        stage.recount.run("rejected", "redrive", "--at", one, exits=2)
        rest = stage.recount.run("rejected", "redrive", "--reason", "misplaced")[0]
        assert rest == {"redriven": len(letters) - 1, "refused": {"sent again already": 1}}
        stage.caught_up()

        status = stage.recount.run("status")[-1]
        distinct = {(event["customer_id"], event["transaction_id"]) for event in events}
        assert status["counted"] == len(distinct)
        assert stage.recount.run("audit")[-1]["mismatches"] == 0
        listed = stage.recount.run("rejected", "list")
        assert len(listed) == len(letters)
        assert all("redriven" in letter for letter in listed)
        stage.recount.run("rejected", "redrive", "--at", "0@99999", exits=3)


def test_redrive_refuses_what_would_only_repeat(stage: Stage) -> None:
    """Too old, not JSON, still too far ahead: told, with the reason, and not sent."""
    old, ahead = (
        {**event, "timestamp": stamp}
        for event, stamp in zip(
            stage.events(2), ("2020-01-01T00:00:00Z", "2090-01-01T00:00:00Z"), strict=True
        )
    )
    stage.send([b"rubbish", json.dumps(old).encode(), json.dumps(ahead).encode()])
    stage.worker()
    stage.caught_up()

    told = stage.recount.run("rejected", "redrive")[0]
    assert told["redriven"] == 0
    assert sorted(told["refused"]) == [
        "not_json: it would be rejected again",
        "too_far_ahead: it is still too_far_ahead",
        "too_old: it would be rejected again",
    ]
    stage.recount.run("rejected", "redrive", "--reason", "too_old", exits=2)


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("RECOUNT_REJECTED_CONSECUTIVE_MAX", "300", "events in a row were rejected"),
        ("RECOUNT_REJECTED_RATIO_MAX", "0.01", "events were rejected"),
    ],
)
def test_a_bad_deploy_does_not_dead_letter_a_day(
    stage: Stage, setting: str, value: str, says: str
) -> None:
    """Past a limit a partition halts before it writes; with the limit off it goes on."""
    flood = 600 if "CONSECUTIVE" in setting else 21_000
    good = [json.dumps(event).encode() for event in stage.events(flood // 2)]
    bad = [b'{"customer_id": "c1", "n": %d}' % number for number in range(flood)]
    lines = bad if "CONSECUTIVE" in setting else [*good, *bad]
    stage.send(lines)
    limits = {"RECOUNT_REJECTED_CONSECUTIVE_MAX": "0", "RECOUNT_REJECTED_RATIO_MAX": "0"}
    worker = stage.worker(**{**limits, setting: value})

    assert halted_lines(stage, says)
    assert worker.poll() is None, stage.workers.logs()
    assert "RECOUNT_REJECTED_CONSECUTIVE_MAX" in stage.workers.logs()
    rejected = stage.recount.run("status")[-1]["rejected"]
    assert rejected < flood
    assert len(stage.recount.run("rejected", "list")) == rejected
    stage.workers.end()
    stage.worker(**limits)
    stage.exact()


def halted_lines(stage: Stage, says: str) -> list[Any]:
    """The lines of `status` about partitions that have halted, once there are any."""

    def told() -> list[Any]:
        lines = stage.recount.run("status")[:-1]
        return [line for line in lines if says in line.get("reason", "")]

    return eventually(told, within_s=40, because=f"a partition has halted: {says}")
