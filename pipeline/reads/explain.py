"""`recount explain`: where an event lies, its fate, and what each metric version says of it.

The log is read from each partition's start. Fates are the recount's own: only records with the
same transaction_id can make one a duplicate, so only these are judged; the clock is kept for all.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import asdict
from typing import Any, Final

from definitions.explain import explain
from definitions.times import NS_PER_MS, rfc3339

from ..control.entities import DeploymentRecord
from ..control.records import ControlState
from ..core.buckets import moment_of
from ..core.dedup import identity_of, seed_of
from ..core.state import PartitionState
from ..core.voids import Voids
from ..deploy.checks import check_open
from ..ports import EventLog, RollupStore
from ..recount.events import NotCounted, Plain, Void, read_event
from ..recount.ledger import Ledger
from .recounting import active_of, terms_of
from .verdicts import corrections_of, read_verdicts

_ACCEPTED: Final = {"counted", "unmatched"}
_AT_ONCE: Final = 500  # records that are looked at before others have their turn


class Explainer:
    """Looks through the log of one deployment."""

    def __init__(
        self, identity: DeploymentRecord, control: ControlState, store: RollupStore, log: EventLog
    ) -> None:
        self._identity = identity
        self._control = control
        self._store = store
        self._log = log
        self._terms = terms_of(identity)

    async def find(
        self,
        transaction_id: str,
        customer: str | None,
        started: Callable[[int], None],
        progress: Callable[[int], None],
    ) -> AsyncGenerator[dict[str, Any]]:
        """Yield a line for each record with this id (and customer), in the order of the log."""
        async for line in self.find_all(frozenset({transaction_id}), customer, started, progress):
            yield line

    async def first(self, transaction_id: str, customer: str) -> dict[str, Any] | None:
        """Return the line of the record that was accepted, from one flush of the log.

        None: the identity is not remembered (it is older than the dedup window, or was never
        accepted), or the log no longer holds the record. find() looks through all of the log.
        """
        identity = identity_of(
            customer, transaction_id, seed_of(self._identity.deployment.store_id)
        )
        spans = await self._log.spans()
        for number in self._identity.starts:
            held = await self._store.state(number)
            state = check_open(held, self._identity, number)
            flushes = await self._store.flushes_of(number, state.id_counts, identity)
            for low in sorted(each for each in flushes if each >= spans[number].start):
                line = await self._accepted(number, state, low, transaction_id, customer)
                if line is not None:
                    return line
        return None

    async def accepted(
        self,
        transaction_id: str,
        customer: str,
        started: Callable[[int], None],
        progress: Callable[[int], None],
    ) -> dict[str, Any] | None:
        """Return the line of the record that was accepted, from all of the log where need be.

        Of several, that of the last one whose id is remembered, else the first on the log. Where
        it was amended, that of the amend.
        """
        line = await self.first(transaction_id, customer)
        if line is not None:
            return await self._as_amended(line)
        async for each in self.find(transaction_id, customer, started, progress):
            if each["fate"] in _ACCEPTED:
                return await self._as_amended(each)
        return None

    async def _as_amended(self, line: dict[str, Any]) -> dict[str, Any]:
        """Return the line of the last amend of a record; its own, where there is none."""
        number = line["partition"]
        state = check_open(await self._store.state(number), self._identity, number)
        while (by := line.get("corrected_by")) is not None:
            offset = int(by.partition("@")[2])
            record = await self._log.probe(number, offset)
            read = None if record is None else _read(record.value)
            if record is None or record.offset != offset or not isinstance(read, Void):
                break
            if read.event is None:
                break
            line = await self._of_correction(state, record, read, number)
        return line

    async def _accepted(
        self, number: int, state: PartitionState, low: int, transaction_id: str, customer: str
    ) -> dict[str, Any] | None:
        """The line of the first accepted record of an identity from an offset on."""
        ledger = Ledger(number, self._terms, active_of(self._control, state))
        async for records in self._log.read(number, low, state.next):
            for record in records:
                ledger.clock_ms = max(ledger.clock_ms, record.timestamp)
                event = _read(record.value)
                if not isinstance(event, Plain) or event.transaction_id != transaction_id:
                    continue
                fate = _fate(ledger, record)
                if event.customer_id == customer and fate in _ACCEPTED:
                    line = self._line(state, record, event, fate, number)
                    return {**line, **await self._voided(number, record.offset)}
        return None

    async def find_all(
        self,
        transaction_ids: Collection[str],
        customer: str | None,
        started: Callable[[int], None],
        progress: Callable[[int], None],
    ) -> AsyncGenerator[dict[str, Any]]:
        """The same for several ids, in one reading of the log."""
        spans = await self._log.spans()
        states = {
            number: check_open(await self._store.state(number), self._identity, number)
            for number in self._identity.starts
        }
        started(sum(spans[number].end - spans[number].start for number in states))
        for number, state in states.items():
            ledger = Ledger(number, self._terms, active_of(self._control, state))
            low, high = max(spans[number].start, state.start), spans[number].end
            if low >= high:
                continue
            async for records in self._log.read(number, low, high):
                progress(len(records))
                for at, record in enumerate(records):
                    if not at % _AT_ONCE:
                        await asyncio.sleep(0)  # a server answers others meanwhile
                    ledger.clock_ms = max(ledger.clock_ms, record.timestamp)
                    event = _read(record.value)
                    if event is None or _names_of(event).isdisjoint(transaction_ids):
                        continue
                    whose = customer is None or event.customer_id == customer
                    if isinstance(event, Void):
                        if whose:
                            yield await self._of_correction(state, record, event, number)
                        continue
                    fate = _fate(ledger, record)
                    if whose:
                        line = self._line(state, record, event, fate, number)
                        yield {**line, **await self._voided(number, record.offset)}

    def _line(
        self,
        state: PartitionState,
        record: Any,
        event: Plain,
        fate: str,
        number: int,
        root: int | None = None,
    ) -> dict[str, Any]:
        applied = record.offset < state.next
        return {
            "partition": number,
            "offset": record.offset,
            "append_time": rfc3339(moment_of(record.timestamp * NS_PER_MS)),
            "fate": fate if applied else "pending",
            "transaction_id": event.transaction_id,
            "customer_id": event.customer_id,
            "event_type": event.event_type,
            "timestamp": rfc3339(moment_of(event.at)),
            "properties": event.properties,
            "metrics": [
                told
                for metric in self._control.metrics.values()
                for version in metric.versions
                if (told := self._of_version(metric.name, version, state, record, event, root))
            ],
        }

    async def _voided(self, number: int, offset: int) -> dict[str, str]:
        """Which correction took a record back, if one did."""
        kept = await corrections_of(self._store, self._identity, number)
        return voided_in(kept, number, offset)

    async def _of_correction(
        self, state: PartitionState, record: Any, void: Void, number: int
    ) -> dict[str, Any]:
        """The line of a correction. Why one is rejected stands in its dead letter."""
        kept = await corrections_of(self._store, self._identity, number)
        fate = "rejected"
        if record.offset >= state.next:
            fate = "pending"
        elif record.offset in kept.by:
            fate = "corrected"
        elif record.offset in await read_verdicts(self._store, self._identity, number):
            fate = "duplicate"
        at = None if void.offset is None else f"{void.partition}@{void.offset}"
        named = {"transaction_id": void.original, "at": at}
        told = {"kind": "void", "transaction_id": void.transaction_id}
        if void.event is not None:
            root = kept.root_of(record.offset)
            line = self._line(state, record, void.event, fate, number, root)
            by = voided_in(kept, number, record.offset)
            return {**line, **told, "kind": "amend", "amends": named, **by}
        return {
            "partition": number,
            "offset": record.offset,
            "append_time": rfc3339(moment_of(record.timestamp * NS_PER_MS)),
            "fate": fate,
            **told,
            "customer_id": void.customer_id,
            "voids": named,
        }

    def _of_version(
        self,
        name: str,
        version: Any,
        state: PartitionState,
        record: Any,
        event: Plain,
        root: int | None,
    ) -> dict[str, Any] | None:
        if version.body is None:
            return None
        activation, end = state.active.get(version.key), state.ended.get(version.key)
        active = activation is not None and activation.offset <= record.offset
        active = active and (end is None or (record.offset if root is None else root) < end)
        past = state.hist.by_version.get(version.key)
        active = active or (past is not None and past.start <= record.offset < past.next)
        measures = explain(version.body, event.event_type, event.properties, event.context)
        return {
            "id": version.metric_id,
            "metric": name,
            "version": version.number,
            "active": active,
            "matched": any(measure.matched for measure in measures),
            "measures": [asdict(measure) for measure in measures],
            "reasons": list(version.body.definition.reasons),
        }


def voided_in(kept: Voids, number: int, offset: int) -> dict[str, str]:
    """What a line says of a record that some kept correction took back."""
    by = kept.by_of(offset)
    return {} if by is None else {"corrected_by": f"{number}@{by}"}


def _names_of(read: Plain | Void) -> set[str]:
    """The transaction_ids that a record is found by: an amend by that of its event too."""
    if isinstance(read, Void) and read.event is not None:
        return {read.transaction_id, read.event.transaction_id}
    return {read.transaction_id}


def _read(value: bytes | None) -> Plain | Void | None:
    try:
        return read_event(value)
    except Void as void:
        return void
    except NotCounted:
        return None


def _fate(ledger: Ledger, record: Any) -> str:
    """Judge a record; say which counter moved."""
    before = dict(ledger.fates)
    reasons = dict(ledger.reasons)
    ledger.feed(record.offset, record.timestamp, record.value)
    for fate in ("counted", "unmatched", "duplicate"):
        if ledger.fates[fate] > before.get(fate, 0):
            return fate
    why = next(name for name, count in ledger.reasons.items() if count > reasons.get(name, 0))
    return f"rejected: {why}"
