"""What remembering an identity costs: `python -m benchmarks.identities --ids 10000000`.

Ten million ids of one partition, as flushes leave them: bytes in Redis and in the worker, the time
to load them, and what asking and remembering costs an event.
"""

import argparse
import asyncio
import json
import random
import time
from typing import Any

from pipeline.core.dedup import ID_BYTES, element_at, ids_in
from pipeline.core.id_index import IdIndex
from pipeline.edges.redis import RedisStore
from tests.services import fresh, services

FLUSH = 5_000  # ids of a flush
SLICE = 512  # ids asked for at once, as the fold does
GENERATIONS = 5


async def measure(url: str, count: int) -> dict[str, Any]:
    """Fill, load, ask."""
    store = RedisStore(url, fresh("ids"))
    client, draw = store._client, random.Random(1)  # noqa: S311, SLF001  a seed; Redis itself
    keys = store.keys(0)
    before = (await client.info("memory"))["used_memory"]
    per = count // GENERATIONS
    for generation in range(GENERATIONS):
        pipe = client.pipeline(transaction=False)
        for at in range(0, per, FLUSH):
            ids = draw.randbytes(ID_BYTES * min(FLUSH, per - at))
            pipe.rpush(keys.ids(generation), element_at(at, ids))
            if len(pipe) >= 100:
                await pipe.execute()
        await pipe.execute()
    held = (await client.info("memory"))["used_memory"] - before
    counts = dict.fromkeys(range(GENERATIONS), per)
    began = time.perf_counter()
    packed = await store.load_ids(0, counts)
    read = time.perf_counter() - began
    index = IdIndex(sum(counts.values()))
    for generation, elements in packed.items():
        index.record(ids_in(elements), generation)
    loaded = time.perf_counter() - began
    assert len(index) == count
    fresh_ids = [draw.randbytes(ID_BYTES * SLICE) for _ in range(400)]
    began = time.perf_counter()
    for ids in fresh_ids:
        assert not index.seen(ids).any()
    asked = (time.perf_counter() - began) / len(fresh_ids) / SLICE
    began = time.perf_counter()
    for at in range(0, len(fresh_ids), 10):
        index.record(b"".join(fresh_ids[at : at + 10]), GENERATIONS)
    recorded = (time.perf_counter() - began) / len(fresh_ids) / SLICE
    size = sum(array.nbytes for array in (index._high, index._low, index._tag, index._filled))  # noqa: SLF001
    await store.close()
    return {
        "ids": count,
        "redis_bytes_an_id": round(held / count, 1),
        "worker_bytes_an_id": round(size / count, 1),
        "read_s": round(read, 2),
        "read_and_index_s": round(loaded, 2),
        "ask_us": round(asked * 1e6, 2),
        "remember_us": round(recorded * 1e6, 2),
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.identities")
    parser.add_argument("--ids", type=int, default=10_000_000)
    count = parser.parse_args().ids
    with services() as found:
        print(json.dumps(asyncio.run(measure(found.redis, count))))


if __name__ == "__main__":
    main()
