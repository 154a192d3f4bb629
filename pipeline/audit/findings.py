"""What an audit found."""

from dataclasses import dataclass, field
from typing import Any, Final

from ..recount.ledger import WHOLE, Share

SHOWN_MAX: Final = 1_000
# What belongs to no customer, or to many at once: a share of the customers says nothing of it.
NOT_OF_A_SHARE: Final = ("counters", "verdicts", "clock", "ids", "cells of many customers")


@dataclass(slots=True)
class Findings:
    """Counts, and a line for each mismatch, the first SHOWN_MAX of them kept.

    share: whose cells were audited.
    """

    cells: int = 0
    mismatches: int = 0
    unverifiable_cells: int = 0
    stale_cells: int = 0
    events: int = 0
    duplicate_conflicts: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)
    share: Share = WHOLE
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
        self.stale_cells += other.stale_cells
        self.events += other.events
        self.duplicate_conflicts += other.duplicate_conflicts
        self.offsets |= other.offsets
        self.lines += other.lines[: SHOWN_MAX - len(self.lines)]

    def summary(self) -> dict[str, Any]:
        """The last line of the command; that of a share says what it is, and what it is not."""
        found = {
            "cells": self.cells,
            "mismatches": self.mismatches,
            "unverifiable_cells": self.unverifiable_cells,
            "events": self.events,
            "duplicate_conflicts": self.duplicate_conflicts,
            "offsets": self.offsets,
        }
        if self.stale_cells:
            found["stale_cells"] = self.stale_cells
        if not self.not_checked:
            return found
        return {
            **found,
            "customers": f"{self.share.number + 1}/{self.share.of}",
            "not_checked": list(self.not_checked),
        }

    @property
    def not_checked(self) -> tuple[str, ...]:
        """What an audit of this share says nothing of."""
        return () if self.share.of == 1 else NOT_OF_A_SHARE
