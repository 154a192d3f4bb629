"""Which corrections reach into a closed period: the causes of its next revision.

Rule 1: the manifest names every correction whose event is of the period. Rule 2: a row names those
that reached its cells. Which cells these are is computed from the two records, by the rules of the
versions that count them, as the owner did; nothing is guessed from differences.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from definitions.matcher import Matcher, compile_matcher
from definitions.times import NS_PER_MS

from ..control.entities import DeploymentRecord, Revision
from ..control.records import ControlState
from ..core.aggregations import encode_partial
from ..core.buckets import moment_of
from ..core.cells import CellKey
from ..core.correction import TakenBack
from ..core.fold.correct import reached_by
from ..core.mending import counting_at
from ..core.records import LogRecord
from ..core.state import PartitionState
from ..core.voids import Voids
from ..core.windows import Window
from ..deploy.checks import check_open
from ..ports import Book, EventLog, RollupStore
from ..reads.asked import worked
from ..reads.together import TogetherReading
from ..reads.verdicts import corrections_of
from ..recount.events import NotCounted, Void, read_event
from .reading import Key, Place

CAUSES_MAX: Final = 10_000  # that a manifest names


@dataclass(slots=True)
class Traced:
    """What was found. told: what a manifest says. reached: by each correction, whose cells.

    states: where the partitions stood.
    """

    told: dict[str, Any] = field(default_factory=dict)
    reached: dict[Place, Mapping[CellKey, str]] = field(default_factory=dict)
    sets: dict[Place, Mapping[CellKey, frozenset[str]]] = field(default_factory=dict)
    states: dict[int, PartitionState] = field(default_factory=dict)


class Causes:
    """Finds them on the log, by what the store keeps of corrections."""

    def __init__(
        self,
        identity: DeploymentRecord,
        control: ControlState,
        store: RollupStore,
        log: EventLog,
    ) -> None:
        self._identity = identity
        self._control = control
        self._store = store
        self._log = log
        self._matchers: dict[frozenset[str], Matcher] = {}

    async def since(self, revision: Revision, window: Window) -> Traced:
        """Return those that were applied since a revision was read.

        From the least offset on at which a row of a partition stood: so the first of them may be
        in that revision already.
        """
        found = Traced()
        told: list[dict[str, Any]] = []
        more = 0
        for number in sorted(self._identity.starts):
            state = check_open(await self._store.state(number), self._identity, number)
            kept = await corrections_of(self._store, self._identity, number)
            found.states[number] = state
            low = revision.offsets.get(number, (0, 0))[0]
            for taken in kept.since(low):
                if taken.by >= state.next:
                    break
                if len(told) >= CAUSES_MAX:
                    more += 1
                    continue
                cause = await self._cause(number, taken, window)
                if cause is not None:
                    told.append(cause)
                    await self._reach(found, number, taken, kept, revision)
        if told:
            found.told["corrections"] = told
        if more:
            found.told["more_corrections"] = more
        return found

    async def _cause(self, number: int, taken: TakenBack, window: Window) -> dict[str, Any] | None:
        """What is said of a correction; None: its event is not of the window, or is lost."""
        record = await self._at(number, taken.by)
        void = None if record is None else _void_in(record.value)
        if void is None:
            return None
        original = await self._at(number, taken.original)
        at = None if original is None else _time_of(original)
        if void.event is not None:
            at = void.event.at
        if at is None or not window.starting_on <= moment_of(at) < window.ending_before:
            return None
        kind, reason = void.told
        return {
            "at": f"{number}@{taken.by}",
            "kind": kind,
            "customer_id": void.customer_id,
            "transaction_id": void.original,
            **({} if reason is None else {"reason": reason}),
        }

    async def _reach(
        self, found: Traced, number: int, taken: TakenBack, kept: Voids, revision: Revision
    ) -> None:
        """Add the cells of the original, and of what an amend says instead."""
        texts, sets = dict[CellKey, str](), dict[CellKey, frozenset[str]]()
        root = kept.root_of(taken.original)
        for offset in taken:
            record = await self._at(number, offset)
            if record is None or _time_of(record) is None:
                continue  # a void has no event of its own
            state = found.states[number]
            counting = counting_at(state, offset, root)
            mine = {key for key in counting if key.rpartition("#")[0] in revision.metric_ids}
            reached = reached_by(
                record,
                self._clock_of(record),
                partition=number,
                state=state,
                deployment=self._identity.deployment,
                matcher=self._matcher(frozenset(mine)),
            )
            if reached is not None:
                texts |= {cell: encode_partial(*each) for cell, each in reached.texts.items()}
                sets |= reached.elements
        found.reached[number, taken.by], found.sets[number, taken.by] = texts, sets

    def _clock_of(self, record: LogRecord) -> int:
        """A log clock by which an event that was accepted is neither too old nor ahead."""
        ahead = (_time_of(record) or 0) // NS_PER_MS - self._identity.deployment.max_ahead_ms
        return max(record.timestamp, ahead)

    def _matcher(self, versions: frozenset[str]) -> Matcher:
        """The rules of some versions, compiled once."""
        if versions not in self._matchers:
            known = self._control.versions
            bodies = [known[key].body for key in sorted(versions) if key in known]
            self._matchers[versions] = compile_matcher(
                [body for body in bodies if body is not None]
            )
        return self._matchers[versions]

    async def _at(self, number: int, offset: int) -> LogRecord | None:
        """The record at an offset; None: the log lost it."""
        record = await self._log.probe(number, offset)
        return None if record is None or record.offset != offset else record


async def rows_reached(found: Traced, reading: TogetherReading) -> dict[Key, list[Place]]:
    """Return which rows of a period corrections reached: the keys of rows, and by whom.

    The cells of each correction are read as those of a customer of its own are.
    """
    cells: dict[int, dict[CellKey, str]] = {number: {} for number in found.states}
    sets: dict[int, dict[CellKey, frozenset[str]]] = {number: {} for number in found.states}
    whose: dict[str, tuple[Place, str]] = {}
    for place in found.reached:
        number, by = place
        name = f"{number}@{by}"
        for cell, text in found.reached[place].items():
            if cell.measure in reading.measures:
                whose[name] = place, cell.customer
                cells[number][cell._replace(customer=name)] = text
        for cell, members in found.sets[place].items():
            if cell.measure in reading.measures:
                whose[name] = place, cell.customer
                sets[number][cell._replace(customer=name)] = members
    books = {at: Book(state, cells[at], sets[at]) for at, state in found.states.items()}
    count = sum(len(book.cells) + len(book.elements) for book in books.values())
    rows = await worked(count, partial(reading.rows_in, list(whose), books))
    by_row: dict[Key, list[Place]] = {}
    for row in rows:
        place, customer = whose[row.customer]
        key = (customer, row.metric.id, *row.window, row.group or "")
        by_row.setdefault(key, []).append(place)
    return by_row


def _void_in(value: bytes | None) -> Void | None:
    try:
        read_event(value)
    except Void as void:
        return void
    except NotCounted:
        return None
    return None


def _time_of(record: LogRecord) -> int | None:
    """The time of an event, or of what an amend says."""
    try:
        return read_event(record.value).at
    except Void as void:
        return None if void.event is None else void.event.at
    except NotCounted:
        return None
