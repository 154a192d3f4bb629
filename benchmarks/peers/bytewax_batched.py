"""Bytewax by hand: whole batches decoded by msgspec and folded in one step, then merged by key."""

import sys
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

import msgspec
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, run_main
from common import EMPTY, REGIONS, Cell, Timer, merge

Part = dict[int, Cell]


class Usage(msgspec.Struct, gc=False):
    """What is read of the properties."""

    tokens: str | None = None
    latency: Decimal | None = None
    region: str | None = None


class Event(msgspec.Struct, gc=False):
    """What is read of an event."""

    customer_id: str
    timestamp: str
    properties: Usage


@lru_cache(1 << 16)
def hour_of_minute(text: str, offset: str) -> int:
    """The hour since 1970 of a minute with an offset."""
    return int(datetime.fromisoformat(f"{text}:00{offset}").timestamp()) // 3600


def main() -> None:
    """Apply the topic: bootstrap, topic, events, path of the cells."""
    bootstrap, topic, events, path = sys.argv[1:5]
    timer = Timer(int(events))
    read = msgspec.json.Decoder(Event).decode
    out: list[tuple[str, Part]] = []

    def fold(batch: list[KafkaSourceMessage[bytes, bytes]]) -> list[tuple[str, Part]]:
        timer.tick(len(batch))
        cells: dict[str, Part] = {}
        for message in batch:
            event = read(message.value)
            text, usage = event.timestamp, event.properties
            hour = hour_of_minute(text[:16], text[-6:])
            mine = cells.setdefault(event.customer_id, {})
            count, total, peak = mine.get(hour, EMPTY)
            if usage.tokens is not None:
                total += Decimal(usage.tokens)
            latency = usage.latency
            if (
                latency is not None
                and usage.region in REGIONS
                and (peak is None or latency > peak)
            ):
                peak = latency
            mine[hour] = (count + 1, total, peak)
        return list(cells.items())

    def join(left: Part, right: Part) -> Part:
        for hour, cell in right.items():
            left[hour] = merge(left[hour], cell) if hour in left else cell
        return left

    flow = Dataflow("peer")
    stream = kop.input(
        "in", flow, brokers=[bootstrap], topics=[topic], tail=False, batch_size=5_000
    )
    parts = op.flat_map_batch("fold", stream.oks, fold)
    merged = op.fold_final("merge", parts, dict, join)
    op.output("out", merged, TestingSink(out))
    run_main(flow)
    timer.tell(
        {(customer, hour): cell for customer, part in out for hour, cell in part.items()}, path
    )


if __name__ == "__main__":
    main()
