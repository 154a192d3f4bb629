"""The loop that everybody writes first: poll, json.loads, a pipelined increment in floats."""

import json
import sys
from uuid import uuid4

import redis
from common import REGIONS, Cell, Decimal, Timer, hour_of
from confluent_kafka import Consumer

PIPELINED = 100


def main() -> None:
    """Apply the topic: bootstrap, topic, events, path of the cells, Redis."""
    bootstrap, topic, events, path, url = sys.argv[1:]
    store = redis.Redis.from_url(url, decode_responses=True)
    prefix = f"naive:{topic}:"
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"naive-{uuid4().hex}",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    timer, pipe, keys = Timer(int(events)), store.pipeline(transaction=False), set()
    last = False
    while not last:
        message = consumer.poll(1.0)
        if message is None or message.error():
            continue
        event = json.loads(message.value())
        properties = event["properties"]
        key = f"{prefix}{event['customer_id']}:{hour_of(event['timestamp'])}"
        keys.add(key)
        pipe.hincrby(key, "count", 1)
        pipe.hincrbyfloat(key, "sum", float(properties["tokens"]))
        if properties["region"] in REGIONS:
            pipe.eval(_MAX, 1, key, properties["latency"])
        last = timer.tick()
        if last or timer.done % PIPELINED == 0:
            pipe.execute()
    cells: dict[tuple[str, int], Cell] = {}
    for key in keys:
        found = store.hgetall(key)
        customer, hour = key.removeprefix(prefix).rsplit(":", 1)
        peak = Decimal(found["max"]) if "max" in found else None
        cells[customer, int(hour)] = (int(found["count"]), Decimal(found["sum"]), peak)
    timer.tell(cells, path)


_MAX = (
    "local held = redis.call('HGET', KEYS[1], 'max') "
    "if not held or tonumber(ARGV[1]) > tonumber(held) "
    "then redis.call('HSET', KEYS[1], 'max', ARGV[1]) end"
)


if __name__ == "__main__":
    main()
