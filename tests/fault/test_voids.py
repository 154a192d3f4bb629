"""Workers are killed while events are taken back and amended, under traffic: all is exact."""

import asyncio
import json
import random
import sys
from typing import Any

from confluent_kafka import Producer

from pipeline.edges.kafka import KafkaLog
from pipeline.edges.kafka_names import topic_names

from ..services import Recount
from ..waiting import eventually
from .harness import Workers, assert_exact, create_five, lag
from .test_history import PARTITIONS, states, streaming, workers
from .test_workers import Traffic

__all__ = ["workers"]  # a fixture
EVENTS = 20_000
VOIDS = 120
KILLS = 4


async def _records(recount: Recount) -> list[tuple[int, int, dict[str, Any]]]:
    """Partition, offset and body of every record that is a JSON object."""
    names = topic_names(recount.deployment)
    log = KafkaLog(recount.services.address, events=names["events"], rejected=names["rejected"])
    found = []
    try:
        for number, span in (await log.spans()).items():
            async for batch in log.read(number, span.start, span.end):
                for record in batch:
                    try:
                        body = json.loads(record.value or b"")
                    except ValueError:
                        continue
                    if isinstance(body, dict) and "transaction_id" in body:
                        found.append((number, record.offset, body))
    finally:
        await log.close()
    return found


def _take_back(recount: Recount, draw: random.Random, count: int) -> None:
    """Send voids and amends of random records, some twice, some of what cannot be taken back."""
    topic = topic_names(recount.deployment)["events"]
    producer = Producer({"bootstrap.servers": recount.services.kafka})
    records = asyncio.run(_records(recount))
    chosen = draw.choices(records, k=count)
    for number, offset, body in chosen + chosen[:10]:
        place = offset + draw.choice([0, 0, 0, 0, 0, 1])
        kind = draw.choice(["void", "amend"])
        named = body.get("amends", body)["transaction_id"]
        line = {
            "kind": kind,
            "transaction_id": f"{kind}{number}@{place}.{draw.randrange(2)}",
            "customer_id": body.get("customer_id"),
            "timestamp": body.get("timestamp"),
            f"{kind}s": {"transaction_id": named, "at": f"{number}@{place}"},
        }
        if kind == "amend":
            said = draw.choice(records)[2]
            line["event"] = {
                name: said.get("event", said).get(name) for name in ("event_type", "properties")
            }
        producer.produce(topic, json.dumps(line), partition=number)
    producer.flush()


def _waits(recount: Recount) -> bool:
    """Whether some cells wait to be counted again."""
    return any(state.stale for state in states(recount))


def test_voids_are_exact_after_kills_under_traffic(
    recount: Recount,
    workers: Workers,
) -> None:
    """Kills fall into flushes of voids and into the counting of cells; nothing is taken twice."""
    recount.run("init", "--partitions", str(PARTITIONS))
    metrics = create_five(recount)
    traffic = Traffic(recount, seed=40)
    traffic.publish(EVENTS)
    slowly = {"RECOUNT_BACKFILL_SHARE": "0.05", "RECOUNT_FLUSH_MS": "20"}
    process = workers.start(**slowly)
    eventually(lambda: lag(recount) == 0, within_s=120, because="it catches up")

    draw, partly = random.Random(41), 0
    with streaming(recount, traffic):
        for _ in range(KILLS):
            _take_back(recount, draw, VOIDS)
            eventually(lambda: _waits(recount), within_s=60, because="cells are stale")
            workers.kill(process)
            partly += _waits(recount)
            process = workers.start(**slowly)
    sys.stderr.write(f"killed while cells were stale: {partly} times\n")
    eventually(lambda: lag(recount) == 0, within_s=180, because="it catches up")
    eventually(lambda: not _waits(recount), within_s=180, because="all cells are right")

    status = recount.run("status")[-1]
    assert partly > 1
    assert status["corrected"] > VOIDS
    assert status["rejected_by_reason"]["already_voided"] > 0
    assert_exact(recount, metrics)
