"""Polars by hand: micro-batches of 50,000 events, read_ndjson, a set of ids, group_by, a dict.

Sums are whole numbers and latencies hundredths, as these events have them: not exact in general.
No commits, no state outside the process.
"""

import sys
from collections.abc import Iterator
from decimal import Decimal

import polars as pl
from common import Timer
from confluent_kafka import Consumer, TopicPartition

BATCH = 50_000
SCHEMA = {
    "transaction_id": pl.String,
    "customer_id": pl.String,
    "timestamp": pl.String,
    "properties": pl.Struct({"tokens": pl.String, "latency": pl.Float64, "region": pl.String}),
}
TOKENS, LATENCY, REGION = (
    pl.col("properties").struct.field(name) for name in ("tokens", "latency", "region")
)
AT = pl.col("timestamp").str.to_datetime("%Y-%m-%dT%H:%M:%S%.3f%z", time_zone="UTC")
Part = tuple[int, int, int | None]


def batches(bootstrap: str, topic: str, partitions: int, timer: Timer) -> Iterator[bytes]:
    """Yield batches of the topic, one event a line, until the last event."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "polars",
            "enable.auto.commit": False,
            "fetch.message.max.bytes": 4 << 20,
            "queued.min.messages": 200_000,
        }
    )
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    while timer.done < timer.events:
        messages = consumer.consume(BATCH, 0.3)
        if messages:
            timer.start()
            yield b"\n".join([each.value() for each in messages])
            timer.tick(len(messages))


def fold(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the cells of some events."""
    hour = (AT.dt.epoch("s") // 3600).alias("hour")
    near = LATENCY.filter(REGION.is_in(["eu-central-1", "us-east-1"]))
    return frame.group_by(pl.col("customer_id"), hour).agg(
        pl.len().alias("count"),
        TOKENS.cast(pl.Int64).sum().alias("total"),
        (near.max() * 100).round().cast(pl.Int64).alias("peak"),
    )


def main() -> None:
    """Apply the topic: bootstrap, topic, events, path of the cells, partitions."""
    bootstrap, topic, events, path, partitions = sys.argv[1:6]
    timer, seen = Timer(int(events)), set()
    cells: dict[tuple[str, int], Part] = {}
    for lines in batches(bootstrap, topic, int(partitions), timer):
        frame = pl.read_ndjson(lines, schema=SCHEMA).unique("transaction_id")
        ids = frame["transaction_id"].to_list()
        fresh = pl.Series([each not in seen for each in ids], dtype=pl.Boolean)
        seen.update(ids)
        for customer, hour, count, total, peak in fold(frame.filter(fresh)).iter_rows():
            held = cells.get((customer, hour), (0, 0, None))
            peaks = [each for each in (held[2], peak) if each is not None]
            at = customer, hour
            cells[at] = held[0] + count, held[1] + total, max(peaks, default=None)
    timer.stop()
    exact = {
        at: (count, Decimal(total), None if peak is None else Decimal(peak) / 100)
        for at, (count, total, peak) in cells.items()
    }
    timer.tell(exact, path)


if __name__ == "__main__":
    main()
