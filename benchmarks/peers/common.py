"""What the Python peers share: the job, the clock around it, and how the answer is told.

The job: of every customer and hour, how many events, the sum of `tokens`, and the greatest
`latency` of two regions, as exact decimals. Standard library only: each peer's environment holds
that peer and nothing of ours.
"""

import json
import time
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

REGIONS = frozenset({"eu-central-1", "us-east-1"})
# count, sum, max or None
Cell = tuple[int, Decimal, Decimal | None]
EMPTY: Cell = (0, Decimal(0), None)


def hour_of(timestamp: str) -> int:
    """The hour since 1970 of an RFC 3339 time."""
    return int(datetime.fromisoformat(timestamp).timestamp()) // 3600


def add(cell: Cell, event: dict[str, Any]) -> Cell:
    """Add one event, decoded with exact numbers."""
    count, total, peak = cell
    properties = event["properties"]
    tokens, latency = properties.get("tokens"), properties.get("latency")
    if tokens is not None:
        total += Decimal(tokens)
    if latency is not None and properties.get("region") in REGIONS:
        latency = Decimal(latency)
        peak = latency if peak is None or latency > peak else peak
    return count + 1, total, peak


def merge(left: Cell, right: Cell) -> Cell:
    """Merge two cells."""
    peaks = [peak for peak in (left[2], right[2]) if peak is not None]
    return left[0] + right[0], left[1] + right[1], max(peaks, default=None)


def decode(line: bytes) -> dict[str, Any]:
    """Decode an event with exact numbers."""
    event: dict[str, Any] = json.loads(line, parse_float=Decimal)
    return event


@dataclass
class Timer:
    """Time and CPU from the first event on, and those of the second half."""

    events: int
    done: int = 0
    began: tuple[float, float] = (0.0, 0.0)
    half: tuple[float, float] = (0.0, 0.0)
    ended: tuple[float, float] | None = None

    def start(self) -> None:
        """Begin now, if not begun: for a peer that notes events after its work on them."""
        if not self.done and self.began == (0.0, 0.0):
            self.began = _now()

    def tick(self, count: int = 1) -> bool:
        """Note events; return whether they were the last."""
        if not count:
            return False
        self.start()
        before, self.done = self.done, self.done + count
        if before < self.events // 2 <= self.done:
            self.half = _now()
        return self.done >= self.events

    def stop(self) -> None:
        """Stop the clock before tell() does: what follows is not part of the job."""
        self.ended = _now()

    def tell(self, cells: dict[tuple[str, int], Cell], path: str) -> None:
        """Write the cells, one a line, and the times beside them."""
        now = self.ended or _now()
        with Path(path).open("w") as file:
            for (customer, hour), (count, total, peak) in cells.items():
                line = [customer, hour, count, str(total), None if peak is None else str(peak)]
                file.write(json.dumps(line) + "\n")
        told = {
            "events": self.done,
            "seconds": now[0] - self.began[0],
            "cpu": now[1] - self.began[1],
            "half_seconds": now[0] - self.half[0],
            "half_cpu": now[1] - self.half[1],
        }
        Path(f"{path}.json").write_text(json.dumps(told))


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()
