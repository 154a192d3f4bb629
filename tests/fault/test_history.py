"""Workers are killed while they count the past of new metrics, under traffic: it stays exact."""

import asyncio
import json
import random
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from pipeline.core.state import PartitionState
from pipeline.edges.kafka_names import topic_names

from ..integration.doors import serving
from ..services import Recount
from ..soak.metrics import Metrics
from ..soak.traffic import Traffic as Stream
from ..stored import store_of
from ..waiting import eventually
from .harness import Workers, assert_exact, create_five, lag
from .stage import Stage
from .test_workers import Traffic

EVENTS = 60_000
PARTITIONS = 4
RATE = 5_000  # events a second
STREAMED = 60_000  # of them; then fewer come
CREATED = 18
KNOWN_MAX = 6  # metrics that the oracle counts beside the five


@pytest.fixture
def workers(recount: Recount, tmp_path: Path) -> Iterator[Workers]:
    """The workers of a test; none outlives it, and a failure shows what they said."""
    made = Workers(recount, tmp_path)
    yield made
    made.end()
    sys.stderr.write(made.logs())


def states(recount: Recount) -> list[PartitionState]:
    """What every partition stands on."""

    async def read() -> list[PartitionState | None]:
        store = store_of(recount.services.redis, recount.deployment)
        try:
            return [await store.state(number) for number in range(PARTITIONS)]
        finally:
            await store.close()

    return [state for state in asyncio.run(read()) if state is not None]


def is_whole(recount: Recount, metrics: dict[str, Any]) -> bool:
    """Whether every partition has all of every past."""
    return all(
        f"{metric}#1" in state.active and state.is_ready(f"{metric}#1")
        for state in states(recount)
        for metric in metrics
    )


def counted(recount: Recount) -> int:
    """How many offsets of all pasts are counted."""
    pasts = [past for state in states(recount) for past in state.hist.by_version.values()]
    return sum(past.next - past.start for past in pasts)


@contextmanager
def streaming(recount: Recount, traffic: Traffic) -> Iterator[None]:
    """Some hundred live events a second."""
    topic, stop = topic_names(recount.deployment)["events"], threading.Event()
    producer = Producer(
        {"bootstrap.servers": recount.services.kafka, "partitioner": "murmur2_random"}
    )

    def send() -> None:
        while not stop.wait(0.05):
            for _ in range(20):
                line = traffic.line()
                if isinstance(line, dict):
                    producer.produce(topic, json.dumps(line), key=line["customer_id"])
            producer.flush()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_past_is_exact_after_kills_under_traffic(recount: Recount, workers: Workers) -> None:
    """Metrics come while events do; kills fall into live flushes and into slices of the past."""
    recount.run("init", "--partitions", str(PARTITIONS))
    recount.create({"name": "first", "aggregation_type": "COUNT"})
    traffic = Traffic(recount, seed=20)
    traffic.publish(EVENTS)
    slowly = {"RECOUNT_BACKFILL_SHARE": "0.01", "RECOUNT_FLUSH_MS": "20"}
    process = workers.start(**slowly)
    eventually(lambda: lag(recount) == 0, within_s=120, because="it catches up")

    draw, partly = random.Random(21), 0
    with streaming(recount, traffic):
        metrics = create_five(recount)
        for _ in range(4):
            wanted = counted(recount) + draw.randrange(1, 2_000)
            eventually(
                lambda wanted=wanted: counted(recount) >= wanted,  # type: ignore[misc]
                within_s=60,
                because="a past is being counted",
            )
            workers.kill(process)
            partly += not is_whole(recount, metrics)
            process = workers.start(**slowly)
    sys.stderr.write(f"killed while a past was counted: {partly} times\n")
    eventually(lambda: is_whole(recount, metrics), within_s=120, because="its past is counted")
    eventually(lambda: lag(recount) == 0, within_s=120, because="it catches up")

    assert partly > 1
    assert_exact(recount, metrics, others=True)


@pytest.mark.timeout(600)
def test_metrics_come_and_go_under_traffic_and_kills(
    recount: Recount, workers: Workers, tmp_path: Path
) -> None:
    """Created, updated, replaced, archived in a random order; every version audits at any time."""
    recount.run("init", "--partitions", str(PARTITIONS))
    five = create_five(recount)
    topic = topic_names(recount.deployment)["events"]
    stream = Stream(recount.services.address, topic, partitions=PARTITIONS, seed=22, rate=RATE)
    with serving(recount, tmp_path / "serve.log") as server:
        metrics = Metrics(recount, server.url, server.keys["manage"], seed=24, most=CREATED)
        process = workers.start("--processes", "2")

        def created(upto: int) -> bool:
            if stream.sent > STREAMED:  # the oracle has to count them all
                stream.slow_down(RATE // 100)
            return metrics.done["create"] >= upto or not metrics.creates

        stream.start()
        metrics.start()
        for upto in (CREATED // 3, 2 * CREATED // 3, CREATED):
            eventually(
                lambda upto=upto: created(upto),  # type: ignore[misc]
                within_s=200,
                because="metrics are created",
            )
            workers.kill(process)
            process = workers.start("--processes", "2")
        assert recount.run("audit", within_s=300)[-1]["mismatches"] == 0
        eventually(
            lambda: {"update", "replace", "archive"} <= {*+metrics.done},
            within_s=200,
            because="everything was done to metrics",
        )
        metrics.stop()
        stream.stop()
    sys.stderr.write(f"{dict(metrics.done)}, {stream.sent} events\n")
    eventually(lambda: lag(recount) == 0, within_s=120, because="it catches up")
    eventually(lambda: is_counted(recount), within_s=120, because="every past is counted")

    known = dict([*metrics.plain.items()][:KNOWN_MAX])
    assert known
    assert_exact(recount, {**five, **known}, others=True)


def is_counted(recount: Recount) -> bool:
    """Whether no past is being counted any more."""
    return bool(recount.run("status")[-1]["history"] == "complete")


FILLER_BYTES = 40_000_000


def test_a_past_waits_for_memory_of_redis(stage: Stage) -> None:
    """Above 80 % of maxmemory no past is counted, live events are; it goes on by itself."""
    stage.running()
    stage.publish(5_000)
    stage.caught_up()
    client = stage.redis.client
    client.setrange("filler", FILLER_BYTES - 1, b"x")  # no long command, which counts for a while
    limit = int(client.info("memory")["used_memory"] * 1.1)
    client.config_set("maxmemory", limit)

    def told() -> Any:
        return stage.recount.run("status")[-1]

    def waits(metric: str) -> None:
        eventually(lambda: told().get("paused"), within_s=40, because="status says why it waits")
        assert re.fullmatch(r"memory: Redis uses \d\d % of its maxmemory", told()["paused"])
        before = told()
        assert before["history"] == "backfilling"
        stage.publish()
        stage.caught_up()
        assert told()["percent"] == before["percent"]
        (shown,) = stage.recount.run("metrics", "show", metric)
        assert shown["history"] == "backfilling"

    def goes_on(because: str) -> None:
        eventually(lambda: told()["history"] == "complete", within_s=60, because=because)
        assert "paused" not in told()

    one = {"name": "one", "aggregation_type": "COUNT"}
    stage.metrics[stage.recount.create(one)] = one
    waits("one")
    client.delete("filler")
    goes_on("the memory has fallen")

    two = {"name": "two", "aggregation_type": "COUNT"}
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.15))
    stage.metrics[stage.recount.create(two)] = two
    waits("two")
    client.config_set("maxmemory", limit)
    goes_on("the limit was raised")
    stage.exact()
