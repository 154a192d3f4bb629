"""Events by content: those in a span of event time, of a customer or of all, each explained.

Only the part of the log is read in which such events can count: none is appended earlier than
max_ahead before its time, or later than max_age after it; what lies outside was rejected, and is
among the dead letters. Whether an event repeats one from before that part, the store's kept
verdicts say.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from definitions.times import NS_PER_MS, parse_timestamp, why_no_time

from ..core.dedup import home_of
from ..core.records import Span
from ..core.state import PartitionState
from ..deploy.checks import check_open
from ..errors import BadParameter, StoreUnavailable
from ..recount.events import Plain, Void
from ..recount.ledger import Ledger
from ..recount.matching import group_of, in_bounds
from .explain import Explainer, _fate, _read, voided_in
from .recounting import active_of
from .verdicts import WentBack, corrections_of, read_verdicts

_AT_ONCE: Final = 500  # records that are looked at before others have their turn
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Sought:
    """Events whose time is in [starting_ns, ending_ns).

    customer, event_type: only events of these; None: of all. properties: name → the text of the
    value that an event must have, as a group key spells it (2.50 is `2.5`, true is `true`).
    """

    customer: str | None
    starting_ns: int
    ending_ns: int
    event_type: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        customer: str | None,
        starting_on: str,
        ending_before: str,
        properties: Iterable[str] = (),
        **more: Any,
    ) -> "Sought":
        """Return a search of what a user gave; properties: of texts `name=value`.

        more: event_type.

        Raises:
            BadParameter: a time or a property that cannot be read.
        """
        low, high = _ns("starting_on", starting_on), _ns("ending_before", ending_before)
        wanted: dict[str, str] = {}
        for text in properties:
            name, equals, value = text.partition("=")
            if not name or not equals:
                raise BadParameter("property", f"{text!r} is not of the form name=value")
            if wanted.setdefault(name, value) != value:
                raise BadParameter("property", f"{name!r} can have one value only")
        return cls(customer, low, high, properties=wanted, **more)


def _ns(name: str, text: str) -> int:
    found = parse_timestamp(text)
    if found is None:
        raise BadParameter(name, why_no_time(text))
    return found


class Search(Explainer):
    """Looks for events by their content."""

    async def lines(
        self,
        sought: Sought,
        started: Progress = lambda _: None,
        progress: Progress = lambda _: None,
    ) -> AsyncGenerator[dict[str, Any]]:
        """Yield a line for each event that is sought, in the order of the log of a partition.

        Args:
            started: Told once how many offsets will be read. progress: told offsets as they go.

        Raises:
            NotOpen: a partition is being rebuilt. LogUnavailable, StoreUnavailable: not now.
        """
        spans, states = await self._log.spans(), await self._states(sought.customer)
        parts = {
            at: await self._part(at, spans[at], state, sought) for at, state in states.items()
        }
        started(sum(max(high - low, 0) for low, high in parts.values()))
        for number, state in states.items():
            low, high = parts[number]
            if low >= high:
                continue
            ledger = await self._ledger(number, state)
            kept = await corrections_of(self._store, self._identity, number)
            async for records in self._log.read(number, low, high):
                progress(len(records))
                for at, record in enumerate(records):
                    if not at % _AT_ONCE:
                        await asyncio.sleep(0)  # a server answers others meanwhile
                    ledger.note_time(record.offset, record.timestamp)
                    event = _read(record.value)
                    if isinstance(event, Void) and event.event is not None:
                        if _is_sought(event.event, sought):
                            yield await self._of_correction(state, record, event, number)
                        continue
                    if not isinstance(event, Plain) or not _is_sought(event, sought):
                        continue
                    fate = _fate(ledger, record)
                    line = self._line(state, record, event, fate, number)
                    yield line | voided_in(kept, number, record.offset)
            for offset in kept.living(high, state.next):  # amends that came later
                amend = await self._log.probe(number, offset)
                event = None if amend is None else _read(amend.value)
                if amend is None or amend.offset != offset or not isinstance(event, Void):
                    continue
                if event.event is not None and _is_sought(event.event, sought):
                    yield await self._of_correction(state, amend, event, number)

    async def _states(self, customer: str | None) -> dict[int, PartitionState]:
        """The partitions in which events of a customer lie, the home first; None: all of them.

        That is the home alone, unless some event of the deployment came to a strange partition.
        """
        states = {
            number: check_open(await self._store.state(number), self._identity, number)
            for number in self._identity.starts
        }
        if customer is None:
            return states
        home = home_of(customer, self._identity.deployment.homes)
        if not any(state.counters["misplaced"] for state in states.values()):
            return {home: states[home]}
        return {number: states[number] for number in sorted(states, key=lambda at: at != home)}

    async def _part(
        self, number: int, span: Span, state: PartitionState, sought: Sought
    ) -> tuple[int, int]:
        """The offsets between which such events lie."""
        deployment = self._identity.deployment
        since_ms = sought.starting_ns // NS_PER_MS - deployment.max_ahead_ms
        low = await self._log.offset_at(number, max(since_ms, 0))
        if low is None:
            return 0, 0
        low, high = max(low, span.start, state.start), span.end
        if deployment.max_age_ms:
            until_ms = -(-sought.ending_ns // NS_PER_MS) + deployment.max_age_ms + 1
            after = await self._log.offset_at(number, max(until_ms, 0))
            high = high if after is None else min(high, after)
        return low, high

    async def _ledger(self, number: int, state: PartitionState) -> Ledger:
        try:
            verdicts = await read_verdicts(self._store, self._identity, number)
        except WentBack as error:
            raise StoreUnavailable("Redis changed whenever it was read; ask again") from error
        active = active_of(self._control, state)
        return Ledger(number, self._terms, active, cut=True, verdicts=verdicts)


def _is_sought(event: Any, sought: Sought) -> bool:
    return (
        sought.customer in {None, event.customer_id}
        and sought.starting_ns <= event.at < sought.ending_ns
        and sought.event_type in {None, event.event_type}
        and all(
            group_of(in_bounds(event.properties.get(name))) == text
            for name, text in sought.properties.items()
        )
    )
