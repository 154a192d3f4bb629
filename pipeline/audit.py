"""`recount audit`: the log recounted independently, every cell compared, while the stream runs.

One atomic read a partition fixes the offset; the log is then recounted from the partition's start
to just that offset. Cells whose part of the log is gone are unverifiable, never equal.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from definitions.metric import MetricVersion

from .control.records import ControlState, Identity
from .core.state import PartitionState
from .core.windows import ns_of
from .deploy.checks import check_state
from .ports import Book, EventLog, RollupStore, Span
from .reads.recounting import active_of, terms_of
from .recount.ledger import Cell, Ledger

SHOWN_MAX: Final = 1_000
_NOTHING: Final = (None, None)
Progress = Callable[[int], None]


@dataclass(slots=True)
class Findings:
    """What an audit found. mismatches: one line for each, the first SHOWN_MAX of them kept."""

    cells: int = 0
    mismatches: int = 0
    unverifiable_cells: int = 0
    events: int = 0
    duplicate_conflicts: int = 0
    offsets: dict[str, int] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)

    def differ(self, line: dict[str, Any]) -> None:
        """Note a mismatch."""
        self.mismatches += 1
        if len(self.lines) < SHOWN_MAX:
            self.lines.append(line)

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


class Auditor:
    """Compares one deployment with a recount of its log."""

    def __init__(
        self, identity: Identity, control: ControlState, store: RollupStore, log: EventLog
    ) -> None:
        self._identity = identity
        self._control = control
        self._store = store
        self._log = log
        self._terms = terms_of(identity)

    async def run(self, started: Callable[[int], None], progress: Progress) -> Findings:
        """Audit every partition.

        Args:
            started: Told once how many offsets will be read. progress: told records as they go.
        """
        findings = Findings()
        books: dict[int, Book] = {}
        for number in self._identity.starts:
            book = await self._store.read_all(number)
            check_state(None if book is None else book.state, self._identity, number)
            assert book is not None
            books[number] = book
        spans = await self._log.spans()
        started(sum(book.state.next - book.state.start for book in books.values()))
        for number, book in books.items():
            await self._partition(number, book, spans[number], findings, progress)
        return findings

    async def _partition(
        self, number: int, book: Book, span: Span, findings: Findings, progress: Progress
    ) -> None:
        state = book.state
        topic = self._identity.topics["events"][0]
        findings.offsets[f"{topic}/{number}"] = state.next
        if span.start > state.start:
            findings.unverifiable_cells += len(book.cells) + len(book.elements)
            findings.cells += len(book.cells) + len(book.elements)
            return
        ledger = Ledger(number, self._terms, active_of(self._control, state))
        async for records in self._records(number, state):
            for record in records:
                ledger.feed(record.offset, record.timestamp, record.value)
            progress(len(records))
        findings.events += ledger.fates["consumed"]
        findings.duplicate_conflicts += ledger.conflicts
        self._compare_counters(number, state, ledger, findings)
        self._compare_cells(number, book, ledger, findings)

    async def _records(self, number: int, state: PartitionState) -> AsyncIterator[Any]:
        if state.next > state.start:
            async for records in self._log.read(number, state.start, state.next):
                yield records

    def _compare_counters(
        self, number: int, state: PartitionState, ledger: Ledger, findings: Findings
    ) -> None:
        for name, stored in state.counters.items():
            if stored != ledger.fates[name]:
                findings.differ(
                    {
                        "partition": number,
                        "counter": name,
                        "stored": stored,
                        "recounted": ledger.fates[name],
                    }
                )
        if dict(state.rejected) != dict(ledger.reasons):
            findings.differ(
                {
                    "partition": number,
                    "counter": "rejected_by_reason",
                    "stored": dict(state.rejected),
                    "recounted": dict(ledger.reasons),
                }
            )
        if state.clock_ms != ledger.clock_ms:
            findings.differ(
                {
                    "partition": number,
                    "counter": "clock",
                    "stored": state.clock_ms,
                    "recounted": ledger.clock_ms,
                }
            )

    def _compare_cells(self, number: int, book: Book, ledger: Ledger, findings: Findings) -> None:
        living = _Living(self._control)
        expected = ledger.texts()
        held = {
            Cell(*cell): (book.cells.get(cell), book.elements.get(cell))
            for cell in {**book.cells, **book.elements}
        }
        for cell in {**held, **expected}:
            if not living.covers(cell, self._terms.bucket_s):
                continue
            findings.cells += 1
            stored, wanted = held.get(cell, _NOTHING), expected.get(cell, _NOTHING)
            if stored != wanted:
                findings.differ(
                    {
                        "partition": number,
                        "cell": cell._asdict(),
                        "stored": _shown(*stored),
                        "recounted": _shown(*wanted),
                    }
                )


class _Living:
    """Which cells are read: those between a version's effective times (DESIGN 6)."""

    def __init__(self, control: ControlState) -> None:
        self._bounds: dict[str, tuple[int | None, int | None]] = {}
        for key, version in control.versions.items():
            body: MetricVersion | None = version.body
            starts = None if body is None else body.effective_from
            self._bounds[key] = (_ns(starts), _ns(version.effective_to))

    def covers(self, cell: Cell, bucket_s: int) -> bool:
        """Whether a reader may look at a cell; one of an unknown version must not exist."""
        starts, ends = self._bounds.get(cell.measure.rpartition(".")[0], (None, None))
        opens = cell.bucket * bucket_s * 10**9
        return (starts is None or opens >= starts) and (ends is None or opens < ends)


def _ns(moment: datetime | None) -> int | None:
    return None if moment is None else ns_of(moment)


def _shown(text: str | None, elements: frozenset[str] | None) -> Any:
    if elements is None:
        return text
    return {"text": text, "elements": sorted(elements)[:20], "size": len(elements)}
