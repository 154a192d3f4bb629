"""`publish` says what workers would reject before it sends anything."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from pipeline.edges.clock import SystemClock

from ..services import Recount


def _event(number: int, age: timedelta = timedelta(0)) -> dict[str, Any]:
    return {
        "transaction_id": f"t{number}",
        "customer_id": "c",
        "event_type": "use",
        "timestamp": (SystemClock().now() - age).isoformat(),
        "properties": {},
    }


def _text(*events: dict[str, Any] | bytes) -> bytes:
    lines = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in events]
    return b"".join(line + b"\n" for line in lines)


def test_what_would_be_rejected_is_told_and_nothing_is_sent(
    recount: Recount, tmp_path: Path
) -> None:
    """How many, which reasons, the first line of each, what to do; from a file and from stdin."""
    recount.run("init", "--partitions", "1")
    old, cut = timedelta(days=400), json.dumps(_event(0)).encode()[:-20]
    ahead = timedelta(days=-3)
    text = _text(
        _event(1), cut, _event(2, old), cut, _event(3, ahead), {**_event(4), "timestamp": 1}
    )
    file = tmp_path / "events.jsonl"
    file.write_bytes(text)

    for arguments, stdin in ((("publish", "-"), text), (("publish", str(file)), b"")):
        done = recount.ended(*arguments, stdin=stdin)

        said = done.stderr.decode()
        assert done.returncode == 2, said
        assert done.stdout == b""
        assert "5 of 6 would be rejected" in said
        assert "2 not_json (first at line 2)" in said
        assert "1 too_old (first at line 3)" in said
        assert "1 too_far_ahead (first at line 5)" in said
        assert "1 not_an_event (first at line 6)" in said
        assert "--send-anyway" in said
        assert "--max-age-days 0" in said
        assert "34 days" in said
    assert recount.run("status")[-1]["end"] == 0


def test_send_anyway_sends_all_and_says_what_becomes_of_it(recount: Recount) -> None:
    """Every line goes out; the answer counts what will be rejected, and status counts it after."""
    recount.run("init", "--partitions", "1")
    text = _text(_event(1), b"rubbish", _event(2, timedelta(days=400)))

    sent = recount.run("publish", "-", "--send-anyway", stdin=text)

    assert sent == [{"published": 3, "will_be_rejected": {"not_json": 1, "too_old": 1}}]
    recount.catch_up()
    done = recount.ended("status")
    total = json.loads(done.stdout.splitlines()[-1])
    assert total["rejected_by_reason"] == {"not_json": 1, "too_old": 1}
    assert "2 events were rejected and are in no number" in done.stderr.decode()


def test_a_customer_of_any_length_is_sent_and_stops_nobody(recount: Recount) -> None:
    """An id that no event can have is no key: the record fits, and becomes a dead letter."""
    recount.run("init", "--partitions", "1")
    text = _text(*({**_event(at), "customer_id": "c" * at} for at in (257, 524_000, 1_048_000)))

    sent = recount.run("publish", "-", "--send-anyway", stdin=text + _text(_event(1)))

    assert sent == [{"published": 4, "will_be_rejected": {"not_an_event": 3}}]
    recount.catch_up()
    total = recount.run("status")[-1]
    assert (total["rejected"], total["unmatched"]) == (3, 1)
    assert [each["key"] for each in recount.run("rejected", "list")] == [None] * 3


def test_what_workers_take_is_published_as_before(recount: Recount) -> None:
    """Without an age limit history is taken; of other formats the translated events are judged."""
    recount.run("init", "--partitions", "1", "--max-age-days", "0")
    old = _event(1, timedelta(days=4_000))

    assert recount.run("publish", "-", stdin=_text(old)) == [{"published": 1}]
    statsig = {"events": [{"eventName": "e", "user": {"userID": "u"}}] * 3}
    arguments = ("publish", "-", "--format", "statsig")
    assert recount.run(*arguments, stdin=_text(statsig)) == [{"published": 3}]
    recount.catch_up()
    assert recount.run("status")[-1]["unmatched"] == 4
