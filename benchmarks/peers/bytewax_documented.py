"""Bytewax as its documentation shows: a Kafka source, a map, hourly tumbling windows folded."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from bytewax import operators as op
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing as win
from bytewax.testing import TestingSink, run_main
from common import EMPTY, Cell, Timer, add, decode, merge

ALIGNED = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> None:
    """Apply the topic: bootstrap, topic, events, path of the cells."""
    bootstrap, topic, events, path = sys.argv[1:5]
    timer = Timer(int(events))
    out: list[tuple[str, tuple[int, Cell]]] = []

    def read(message: Any) -> tuple[str, dict[str, Any]]:
        timer.tick()
        event = decode(message.value)
        return event["customer_id"], event

    flow = Dataflow("peer")
    stream = kop.input("in", flow, brokers=[bootstrap], topics=[topic], tail=False)
    keyed = op.map("read", stream.oks, read)
    clock = win.EventClock(
        lambda event: datetime.fromisoformat(event["timestamp"]),
        wait_for_system_duration=timedelta(hours=24),
    )
    windower = win.TumblingWindower(length=timedelta(hours=1), align_to=ALIGNED)
    folded = win.fold_window(
        "fold", keyed, clock, windower, lambda: EMPTY, add, merge, ordered=False
    )
    op.output("out", folded.down, TestingSink(out))
    run_main(flow)
    start = int(ALIGNED.timestamp()) // 3600
    timer.tell({(customer, start + window): cell for customer, (window, cell) in out}, path)


if __name__ == "__main__":
    main()
