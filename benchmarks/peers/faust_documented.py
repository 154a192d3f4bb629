"""Faust as its documentation shows: an agent that changes a table, or Redis, for every event."""

import asyncio
import os
import sys
from typing import Any
from uuid import uuid4

import faust
from common import EMPTY, REGIONS, Cell, Decimal, Timer, add, decode, hour_of
from redis import asyncio as aredis


def main() -> None:
    """Apply the topic: bootstrap, topic, events, path of the cells, mode, Redis, folder."""
    bootstrap, name, events, path, mode, url, folder = sys.argv[1:]
    timer = Timer(int(events))
    app = faust.App(
        f"faust-{uuid4().hex}",
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=folder,
        topic_partitions=4,
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
    )
    topic = app.topic(name, key_type=bytes, value_type=bytes, value_serializer="raw")
    table = app.Table("cells", default=lambda: ["0", "0", None]) if mode == "tables" else None
    store = aredis.Redis.from_url(url, decode_responses=True)
    prefix = f"faust:{name}:"
    keys: set[str] = set()

    async def tell() -> None:
        cells: dict[tuple[str, int], Cell] = {}
        if table is not None:
            for key, held in table.items():
                customer, hour = key.rsplit(":", 1)
                cells[customer, int(hour)] = _cell(held)
        for key in keys:
            held = await store.hgetall(key)
            customer, hour = key.removeprefix(prefix).rsplit(":", 1)
            peak = Decimal(held["max"]) if "max" in held else None
            cells[customer, int(hour)] = (int(held["count"]), Decimal(held["sum"]), peak)
        timer.tell(cells, path)
        os._exit(0)

    @app.agent(topic)
    async def apply(stream: Any) -> None:
        async for line in stream:
            event = decode(line)
            key = f"{event['customer_id']}:{hour_of(event['timestamp'])}"
            if table is not None:
                count, total, peak = add(_cell(table[key]), event)
                table[key] = [str(count), str(total), None if peak is None else str(peak)]
            else:
                await _increment(store, prefix + key, event["properties"])
                keys.add(prefix + key)
            if timer.tick():
                await asyncio.shield(tell())

    sys.argv = ["faust", "worker", "-l", "error"]
    app.main()


async def _increment(store: Any, key: str, properties: dict[str, Any]) -> None:
    await store.hincrby(key, "count", 1)
    await store.hincrbyfloat(key, "sum", float(properties["tokens"]))
    if properties["region"] in REGIONS:
        held = await store.hget(key, "max")
        if held is None or properties["latency"] > Decimal(held):
            await store.hset(key, "max", str(properties["latency"]))


def _cell(held: Any) -> Cell:
    if held is None:
        return EMPTY
    count, total, peak = held
    return int(count), Decimal(total), None if peak is None else Decimal(peak)


if __name__ == "__main__":
    main()
