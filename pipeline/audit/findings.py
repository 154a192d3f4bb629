"""What an audit found."""

from dataclasses import dataclass, field
from typing import Any, Final

SHOWN_MAX: Final = 1_000


@dataclass(slots=True)
class Findings:
    """Counts, and a line for each mismatch, the first SHOWN_MAX of them kept."""

    cells: int = 0
    mismatches: int = 0
    unverifiable_cells: int = 0
    events: int = 0
    duplicate_conflicts: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    _strays: set[tuple[int, str]] = field(default_factory=set)

    def differ(self, partition: int, what: dict[str, Any], stored: Any, recounted: Any) -> None:
        """Note a mismatch."""
        self.mismatches += 1
        if len(self.lines) < SHOWN_MAX:
            line = {"partition": partition, **what, "stored": stored, "recounted": recounted}
            self.lines.append(line)

    def stray(self, partition: int, what: str) -> None:
        """Note something in Redis that no deployment of ours writes, once."""
        if (partition, what) in self._strays:
            return
        if len(self._strays) < SHOWN_MAX:
            self._strays.add((partition, what))
        self.differ(partition, {"foreign": what}, what, None)

    def add(self, other: "Findings") -> None:
        """Take the findings of another partition."""
        self.cells += other.cells
        self.mismatches += other.mismatches
        self.unverifiable_cells += other.unverifiable_cells
        self.events += other.events
        self.duplicate_conflicts += other.duplicate_conflicts
        self.offsets |= other.offsets
        self.lines += other.lines[: SHOWN_MAX - len(self.lines)]

    def summary(self) -> dict[str, Any]:
        """The last line of the command."""
        return {
            "cells": self.cells,
            "mismatches": self.mismatches,
            "unverifiable_cells": self.unverifiable_cells,
            "events": self.events,
            "duplicate_conflicts": self.duplicate_conflicts,
            "offsets": self.offsets,
        }
