"""Bad and odd input: each rejected event once in the dead letters, the partition goes on."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaProducer

from ..recount import Terms
from ..services import Recount
from .harness import DAY_MS, assert_exact

COUNT: dict[str, Any] = {"name": "n", "aggregation_type": "COUNT"}
SUM: dict[str, Any] = {
    "name": "s",
    "aggregation_type": "SUM",
    "aggregation_key": "v",
    "property_filters": [{"name": "v"}],
}


def good(number: int, **members: Any) -> dict[str, Any]:
    """An event that counts."""
    now = datetime.now(UTC)  # noqa: TID251  a test's own clock
    made = {
        "transaction_id": f"t{number}",
        "customer_id": "c",
        "event_type": "use",
        "timestamp": now.isoformat(),
        "properties": {"v": 1},
    }
    return {**made, **members}


def raw(text: str) -> bytes:
    """An event with this text as its properties' value v."""
    return json.dumps(good(0)).replace('"v": 1', f'"v": {text}').encode()


POISON: dict[str, bytes] = {
    "rubbish": b"not json",
    "empty": b"",
    "nan": raw("NaN"),
    "infinity": raw("-Infinity"),
    "surrogate": raw('"\\ud800"'),
    "bad utf-8": raw('"')[:-3] + b"\xff\xfe",
    "utf-16": json.dumps(good(0)).encode("utf-16").replace(b"\n", b""),
    "deep": raw("[" * 40 + "]" * 40),
    "very deep": b"[" * 50_000,
    "list": b"[]",
    "number": b"7",
    "null": b"null",
    "no customer": json.dumps({**good(0), "customer_id": None}).encode(),
    "empty customer": json.dumps(good(0, customer_id="")).encode(),
    "number as id": json.dumps(good(0, transaction_id=7)).encode(),
    "long id": json.dumps(good(0, transaction_id="x" * 129)).encode(),
    "no time": json.dumps({**good(0), "timestamp": None}).encode(),
    "naive": json.dumps(good(0, timestamp="2026-01-01T00:00:00")).encode(),
    "no such day": json.dumps(good(0, timestamp="2026-02-30T00:00:00Z")).encode(),
    "properties": json.dumps(good(0, properties=[])).encode(),
    "kind": json.dumps(good(0, kind="void")).encode(),
    "too old": json.dumps(good(0, timestamp="2020-01-01T00:00:00Z")).encode(),
    "too far": json.dumps(good(0, timestamp="2040-01-01T00:00:00Z")).encode(),
    "too large": raw('"' + "x" * 1_048_600 + '"'),
}
UNREADABLE = {"1e400": "1e400", "digits": "9" * 5_000, "65 digits": "9" * 65, "exponent": "1e65"}


def test_f12_poison_pills(recount: Recount) -> None:
    """Each rejected event is listed once with a reason and its original; neighbours count."""
    recount.run("init", "--partitions", "2")
    metrics = {recount.create(body): body for body in (COUNT, SUM)}
    lines: list[Any] = []
    for number, value in enumerate(POISON.values()):
        lines += [good(number + 1), value]
    lines += [
        raw(text).replace(b'"t0"', f'"u{len(text)}"'.encode()) for text in UNREADABLE.values()
    ]
    recount.publish(lines)
    recount.catch_up()

    status = recount.run("status")[-1]
    assert status["rejected"] == len(POISON)
    assert status["counted"] == len(POISON) + len(UNREADABLE)
    letters = recount.run("rejected", "list")
    places = {(letter["partition"], letter["offset"]) for letter in letters}
    assert len(letters) == len(places) == len(POISON)
    originals = {letter["original"] for letter in letters if letter["original"] is not None}
    assert {value.decode() for value in POISON.values() if _is_text(value)} == originals
    for reason in {letter["reason"] for letter in letters}:
        some = recount.run("rejected", "list", "--reason", reason)
        assert {letter["reason"] for letter in some} == {reason}
    assert_exact(recount, metrics)
    metric = next(metric_id for metric_id, body in metrics.items() if body is SUM)
    usage = recount.run(
        "usage",
        metric,
        "--customer",
        "c",
        "--starting-on",
        "2026-01-01T00:00:00Z",
        "--ending-before",
        "2036-01-01T00:00:00Z",
    )[0]
    assert usage["unreadable"] == len(UNREADABLE)
    assert usage["value"] == str(len(POISON))


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_f10_duplicate_produce(recount: Recount) -> None:
    """A repeat counts once in its partition; under another customer it is another event (CM20)."""
    recount.run("init", "--partitions", "1")
    metrics = {recount.create(body): body for body in (COUNT, SUM)}
    recount.publish([good(1), good(1), good(1, customer_id="d"), good(2), good(1)])
    recount.catch_up()
    recount.publish([good(2), good(3)])
    recount.catch_up()

    status = recount.run("status")[-1]
    assert (status["counted"], status["duplicate"]) == (4, 3)
    assert_exact(recount, metrics)


def test_f11_ages_are_judged_by_the_log(recount: Recount) -> None:
    """The deployment's own limits decide, judged by the log clock."""
    hours = ["--max-age-days", "0.5", "--max-ahead-hours", "2", "--dedup-window-days", "1"]
    recount.run("init", "--partitions", "1", *hours)
    metrics = {recount.create(COUNT): COUNT}
    now = datetime.now(UTC)  # noqa: TID251  a test's own clock
    offsets = (-13, -11, 0, 1.9, 2.1)
    recount.publish(
        [
            good(number, timestamp=(now + timedelta(hours=hour)).isoformat())
            for number, hour in enumerate(offsets)
        ]
    )
    recount.catch_up()

    reasons = sorted(letter["reason"] for letter in recount.run("rejected", "list"))
    assert reasons == ["too_far_ahead", "too_old"]
    assert_exact(recount, metrics, Terms(DAY_MS, DAY_MS // 2, DAY_MS // 12, 3600))


def test_f10_beyond_the_window_and_away_from_home(recount: Recount) -> None:
    """Past the window a resend is too old; away from home it counts again, and status shows it."""
    day = ["--max-age-days", "0.5", "--max-ahead-hours", "2", "--dedup-window-days", "1"]
    recount.run("init", "--partitions", "4", *day)
    metrics = {recount.create(COUNT): COUNT}
    stale = datetime.now(UTC) - timedelta(hours=13)  # noqa: TID251  a test's own clock
    event = good(1)
    recount.publish([event, good(2, timestamp=stale.isoformat())])
    recount.publish([event] * 12, "--key", "none")
    recount.catch_up()

    status = recount.run("status")[-1]
    assert status["misplaced"] > 0
    assert 2 <= status["counted"] <= 4  # once in each partition that a copy lies in
    assert status["counted"] + status["duplicate"] == 13
    assert [letter["reason"] for letter in recount.run("rejected", "list")] == ["too_old"]
    assert_exact(recount, metrics, Terms(DAY_MS, DAY_MS // 2, DAY_MS // 12, 3600))


def test_f31_numeric_edges(recount: Recount) -> None:
    """Around every limit of C04, through the whole pipeline: exact to the last digit."""
    recount.run("init", "--partitions", "1")
    bodies = [{**SUM, "name": kind, "aggregation_type": kind} for kind in ("SUM", "MAX", "LATEST")]
    metrics = {recount.create(body): body for body in bodies}
    edges = [
        *(
            f"{sign}{2**power + more}"
            for sign in ("", "-")
            for power in (53, 63, 64)
            for more in (-1, 0, 1)
        ),
        "999999999999999999.999999999",
        "-999999999999999999.999999999",
        "0.000000000000000000000000000001",
        "1e64",
        "-1e-64",
        "9" * 64,
        "-0.0",
        "1e65",
        "9" * 65,
        "0x10",
    ]
    recount.publish(
        [
            raw(form).replace(b'"t0"', f'"t{number}"'.encode())
            for number, form in enumerate([*edges[:-3], *(f'"{edge}"' for edge in edges)])
        ]
    )
    recount.catch_up()

    assert assert_exact(recount, metrics) == 2 * len(edges) - 3


def test_f18_transactional_producer(recount: Recount) -> None:
    """Aborted records count nowhere, and a trailing marker does not keep the end out of reach."""
    recount.run("init", "--partitions", "1")
    metrics = {recount.create(body): body for body in (COUNT, SUM)}
    topic = f"{recount.deployment}.usage.events"

    async def send() -> None:
        client = AIOKafkaProducer(
            bootstrap_servers=recount.services.kafka, transactional_id=recount.deployment
        )
        await client.start()
        for number in range(12):
            await client.begin_transaction()
            for part in range(5):
                line = json.dumps(good(number * 5 + part)).encode()
                await client.send_and_wait(topic, line, partition=0)
            if number % 3 == 2:
                await client.abort_transaction()
            else:
                await client.commit_transaction()
        await client.stop()

    asyncio.run(send())
    recount.catch_up()

    status = recount.run("status")[-1]
    assert status["next"] == status["end"] == 72  # 60 records and 12 markers
    assert (status["counted"], status["consumed"]) == (40, 40)
    assert_exact(recount, metrics)
