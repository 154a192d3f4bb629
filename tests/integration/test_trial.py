"""`recount metrics try` and its HTTP twin: what a metric would be, and nothing is written."""

import asyncio
import json
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import httpx
import redis

from pipeline.edges.clock import SystemClock
from pipeline.edges.kafka import KafkaLog
from pipeline.errors import ExitCode

from ..services import Recount
from .doors import serving

NOW = SystemClock().now().astimezone(UTC).replace(minute=0, second=0, microsecond=0)
HOURLY = {
    "starting_on": (NOW - timedelta(hours=6)).isoformat(),
    "ending_before": (NOW + timedelta(hours=1)).isoformat(),
    "window_size": "hour",
}
PERIOD = [f"--{name.replace('_', '-')}={text}" for name, text in HOURLY.items()]
OLD: dict[str, Any] = {
    "name": "tokens",
    "aggregation_type": "SUM",
    "aggregation_key": "v",
    "property_filters": [{"name": "v"}],
}
OF_X = [{"name": "v"}, {"name": "g", "in_values": ["x"]}]
NEW: dict[str, Any] = {**OLD, "property_filters": OF_X}


def event(number: int) -> dict[str, Any]:
    """An event of the last five hours; every fifth repeats another one, every third is of g=y."""
    number -= number % 5 == 4
    return {
        "transaction_id": f"t{number}",
        "customer_id": f"c{number % 7}",
        "event_type": "use",
        "timestamp": (NOW - timedelta(minutes=number % 300)).isoformat(),
        "properties": {"v": f"{number}.5", "g": "y" if number % 3 == 0 else "x"},
    }


def held(recount: Recount) -> tuple[dict[bytes, Any], dict[str, Any]]:
    """All that Redis holds of a deployment, and where its topics end."""
    with redis.Redis.from_url(recount.services.redis) as store:
        keys = store.keys(f"recount:*{recount.deployment}*")
        kept = {key: store.dump(key) for key in keys}
    return kept, asyncio.run(_ends(recount))


async def _ends(recount: Recount) -> dict[str, Any]:
    found = {}
    for topic in ("usage.events", "metrics.control", "usage.rejected"):
        name = f"{recount.deployment}.{topic}"
        log = KafkaLog(recount.services.address, events=name, rejected=name)
        try:
            found[topic] = await log.spans()
        finally:
            await log.close()
    return found


def keyed(lines: list[Any]) -> dict[tuple[str, str], str]:
    """Customer and window → value."""
    return {
        (line["customer_id"], line["starting_on"]): line["value"]
        for line in lines
        if "starting_on" in line
    }


def test_a_trial_says_what_the_metric_will_say_and_writes_nothing(
    recount: Recount, tmp_path: Path
) -> None:
    """Both ways say the same; Redis and Kafka stay as they are; once created, usage says it."""
    recount.run("init", "--partitions", "2")
    recount.create(OLD)
    recount.publish([event(number) for number in range(500)])
    recount.catch_up()
    body = json.dumps(NEW).encode()
    with serving(recount, tmp_path / "serve.log") as server:
        before = held(recount)
        told = recount.run("metrics", "try", "-", "--against", "tokens", *PERIOD, stdin=body)
        table = recount.ended("metrics", "try", "-", "--table", *PERIOD, stdin=body)
        asked = {
            "format": "metronome",
            "against": "tokens",
            **HOURLY,
        }

        def ask(role: str = "read", content: bytes = body, **changes: Any) -> httpx.Response:
            return httpx.post(
                f"{server.url}/recount/v1/metrics/try",
                params={**asked, **changes},
                content=content,
                headers={"Authorization": f"Bearer {server.keys[role]}"},
                timeout=60,
            )

        answer = ask()
        assert held(recount) == before

        assert ask("ingest").status_code == 403
        wrongs: tuple[dict[str, Any], ...] = (
            {"format": "xml"},
            {"sample": "2/1"},
            {"starting_on": "yesterday"},
            {"window_size": "year"},
        )
        for wrong in wrongs:
            refused = ask(**wrong)
            assert refused.status_code == 400
            assert next(iter(wrong)) in refused.text
        assert ask(against="nobody").status_code == 404
        assert ask(content=b'{"name": "a"}').status_code == 400
    *rows, end = [line for line in told if "field" not in line]
    clauses = [line for line in told if "field" in line]
    assert answer.status_code == 200
    by_http = answer.json()
    for each in (by_http, end):
        assert each["as_of"].pop("applied_through")  # when each was asked
    assert by_http == {"data": rows, "clauses": clauses, **end}
    assert table.returncode == 0
    assert b"difference" not in table.stdout
    assert b"customer_id" in table.stdout

    assert all(row["exact"] for row in rows)
    usage = recount.run("usage", "tokens", "--each-customer", *PERIOD)
    against = {(row["customer_id"], row["starting_on"]): row["against"] for row in rows}
    assert against == keyed(usage)
    assert end["as_of"]["offsets"] == usage[-1]["as_of"]["offsets"]
    assert end["totals"]["differing_rows"] > 0
    assert clauses[0]["field"] == "property g"
    assert clauses[0]["seen"] == ["y"]
    recount.create({**NEW, "name": "narrow"})
    recount.catch_up()
    assert keyed(recount.run("usage", "narrow", "--each-customer", *PERIOD)) == keyed(rows)
    created = recount.run("metrics", "try", "-", "--against", "narrow", *PERIOD, stdin=body)
    assert created[-1]["totals"]["differing_rows"] == 0


def test_what_cannot_be_tried_is_said(recount: Recount) -> None:
    """Wrong bodies, formats, shares and names, each with its exit code."""
    recount.run("init", "--partitions", "1")
    body = json.dumps(NEW).encode()
    for more, code in (
        (("--format", "xml"), ExitCode.USAGE),
        (("--sample", "3/2"), ExitCode.USAGE),
        (("--against", "nobody"), ExitCode.DEFINITION),
        (("--format", "klaviyo"), ExitCode.USAGE),
    ):
        ended = recount.ended("metrics", "try", "-", *PERIOD, *more, stdin=body)
        assert ended.returncode == code, ended.stderr
    wrong = recount.ended("metrics", "try", "-", *PERIOD, stdin=b'{"name": "a"}')
    assert wrong.returncode == ExitCode.DEFINITION
    empty = recount.run("metrics", "try", "-", *PERIOD, stdin=body)
    assert empty[-1]["backfill"]["cells"] == 0
