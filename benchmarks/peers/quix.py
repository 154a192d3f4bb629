"""Quix Streams as its documentation shows: hourly tumbling windows, final or current results.

The topic ends with an event of each partition three days ahead, so that final windows close.
"""

import sys
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from common import EMPTY, Cell, Decimal, Timer, add, decode
from quixstreams import Application
from quixstreams.models import Deserializer


class Exact(Deserializer):
    """JSON with exact numbers."""

    def __call__(self, value: bytes, ctx: Any) -> Any:  # noqa: ARG002  Quix' signature
        """Decode an event; its decimals travel as text, for state is stored as JSON."""
        event = decode(value)
        event["properties"]["latency"] = str(event["properties"]["latency"])
        return event


def main() -> None:
    """Apply the topic: bootstrap, topic, events, path of the cells, final or current, folder."""
    bootstrap, name, events, path, mode, folder = sys.argv[1:]
    timer = Timer(int(events))
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"quix-{uuid4().hex}",
        auto_offset_reset="earliest",
        state_dir=folder,
        loglevel="WARNING",
    )

    def at_ms(value: Any, _headers: Any, _timestamp: float, _kind: Any) -> int:
        return int(datetime.fromisoformat(value["timestamp"]).timestamp() * 1000)

    topic = app.topic(
        name, key_deserializer="str", value_deserializer=Exact(), timestamp_extractor=at_ms
    )
    cells: dict[tuple[str, int], Cell] = {}

    def reduce(held: list[Any], event: dict[str, Any]) -> list[Any]:
        count, total, peak = held
        cell = (count, Decimal(total), None if peak is None else Decimal(peak))
        return _plain(add(cell, event))

    def keep(result: dict[str, Any], key: str, _timestamp: int, _headers: Any) -> None:
        count, total, peak = result["value"]
        cell = (count, Decimal(total), None if peak is None else Decimal(peak))
        cells[key, result["start"] // 3_600_000] = cell

    def count(_: Any) -> None:
        if timer.tick():
            timer.stop()
            app.stop()  # after this event

    windows = (
        app.dataframe(topic)
        .update(count)
        .tumbling_window(timedelta(hours=1), grace_ms=timedelta(hours=24))
        .reduce(reduce, lambda event: _plain(add(EMPTY, event)))
    )
    found = windows.final(closing_strategy="partition") if mode == "final" else windows.current()
    found.update(keep, metadata=True)
    app.run()
    timer.tell(cells, path)


def _plain(cell: Cell) -> list[Any]:
    count, total, peak = cell
    return [count, str(total), None if peak is None else str(peak)]


if __name__ == "__main__":
    main()
