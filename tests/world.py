"""A small world for laws: Metronome metrics, events, and owners over the memory twins."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import ModuleType
from typing import Any

from definitions.formats import metronome
from definitions.metric import Definition, MetricVersion
from pipeline.app.backfill import Backfill
from pipeline.app.catalogue import Definitions
from pipeline.app.mending import Mender
from pipeline.app.opening import SeekBack
from pipeline.app.owner import Owner
from pipeline.control.entities import DeploymentRecord
from pipeline.control.kept import element_of
from pipeline.control.members import digest_of
from pipeline.control.records import ControlState
from pipeline.core.aggregations import AGGREGATIONS, Partial, decode_partial, merge_partials
from pipeline.core.compiled import MODULE
from pipeline.core.dedup import ID_HASH
from pipeline.core.deployment import FORMAT_VERSION, Deployment
from pipeline.core.deployment import RULES as RULES_NUMBER
from pipeline.core.event import Decoder
from pipeline.core.limits import Limits
from pipeline.core.state import PartitionState
from pipeline.deploy.checks import first_state
from pipeline.edges.clock import SetClock
from pipeline.edges.memory import MemoryLog, MemoryStore
from pipeline.ports import Book

from .recount import Record, Terms
from .whole import whole

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_MS = int(NOW.timestamp()) * 1000
DAY_MS = 86_400_000
STORE_ID = "0123456789abcdef0123456789abcdef"
_COPIED_AT_ONCE = 60  # records in an element of the copy, some 64 KiB


# Everything of an event, properties as a dict.
decode = Decoder(None, context=True).decode


def deployment(**changes: Any) -> Deployment:
    """The default settings, one partition."""
    settings: dict[str, Any] = {
        "store_id": STORE_ID,
        "homes": 1,
        "dedup_window_ms": 35 * DAY_MS,
        "max_age_ms": 34 * DAY_MS,
        "max_ahead_ms": DAY_MS,
        "base_bucket_s": 3600,
    }
    return Deployment(**{**settings, **changes})


def terms(of: Deployment) -> Terms:
    """The same for the oracle."""
    return Terms(of.dedup_window_ms, of.max_age_ms, of.max_ahead_ms, of.base_bucket_s)


def body(kind: str, name: str, **members: Any) -> dict[str, Any]:
    """A Metronome body of the usual shape: event type `use`, value `v`, group `g`."""
    made: dict[str, Any] = {"name": name, "aggregation_type": kind}
    if kind.upper() != "COUNT":
        made["aggregation_key"] = "v"
        made["property_filters"] = [{"name": "v"}]
    return {**made, **members}


def parse(native: Mapping[str, Any]) -> Definition:
    """The neutral definition of a Metronome body."""
    return metronome.parse(json.dumps(native))[1]


FIVE: dict[str, Definition] = {
    kind: parse(
        body(
            kind,
            kind,
            event_type_filter={"in_values": ["use"]},
            property_filters=[{"name": "v"}, {"name": "g", "exists": True}],
            group_keys=[["g"]],
        )
    )
    for kind in ("COUNT", "SUM", "MAX", "LATEST", "UNIQUE")
}


def event(number: int | str, **members: Any) -> bytes:
    """An event of customer c that every one of FIVE counts."""
    made: dict[str, Any] = {
        "transaction_id": f"t{number}",
        "customer_id": "c",
        "event_type": "use",
        "timestamp": "2026-03-01T11:30:00Z",
        "properties": {"v": number, "g": "x"},
    }
    return json.dumps({**made, **members}).encode()


def definition_record(
    metric_id: str, name: str, definition: Definition, *, effective_from: str | None = None
) -> dict[str, Any]:
    """A record of the control log."""
    record = {
        "type": "definition",
        "schema_version": 1,
        "metric_id": metric_id,
        "version": 1,
        "name": name,
        "effective_from": effective_from,
        "definition": definition.model_dump(mode="json"),
        "created_at": "2026-01-01T00:00:00Z",
    }
    return {**record, "digest": digest_of(record)}


def identity_record(of: Deployment, partitions: int = 1) -> dict[str, Any]:
    """The deployment's identity on the control log."""
    return {
        "type": "identity",
        "schema_version": 1,
        "store_id": of.store_id,
        "settings": {
            "homes": of.homes,
            "dedup_window_ms": of.dedup_window_ms,
            "max_age_ms": of.max_age_ms,
            "max_ahead_ms": of.max_ahead_ms,
            "base_bucket_s": of.base_bucket_s,
            "keying": of.keying.value,
        },
        "rules": RULES_NUMBER,
        "format_version": FORMAT_VERSION,
        "id_hash": ID_HASH,
        "topics": {role: {"name": role, "id": f"{role}-id"} for role in ("events", "control")},
        "starts": {str(number): 0 for number in range(partitions)},
        "retention_days": None,
        "replication_factor": 1,
    }


def control(metrics: Mapping[str, Definition], of: Deployment) -> ControlState:
    """The state of a control log with these metrics; ids are their names."""
    state = ControlState()
    records = [identity_record(of)]
    records += [definition_record(name, name, made) for name, made in metrics.items()]
    for offset, record in enumerate(records):
        state.apply(offset, json.dumps(record).encode())
    assert not state.ignored, state.ignored
    return state


def log_of(metrics: int) -> list[bytes]:
    """The values of a control log with a deployment and so many metrics."""
    bodies = [*FIVE.values()]
    records = [identity_record(deployment(), 2)]
    records += [
        definition_record(f"m{number}", f"n{number}", bodies[number % len(bodies)])
        for number in range(metrics)
    ]
    return [json.dumps(each).encode() for each in records]


def copied_log(metrics: int) -> tuple[ControlState, list[bytes]]:
    """What the first record of such a log says, and the elements of its copy in Redis."""
    values = log_of(metrics)
    state = ControlState()
    state.apply(0, values[0])
    assert state.identity is not None
    store_id = state.identity.deployment.store_id
    elements = []
    for lo in range(0, len(values), _COPIED_AT_ONCE):
        part = values[lo : lo + _COPIED_AT_ONCE]
        records = [(lo + number, value, b"") for number, value in enumerate(part)]
        elements.append(element_of(store_id, lo, lo + len(part), records))
    return state, elements


@dataclass
class World:
    """One partition: a log, a store, what is defined, and owners that come and go."""

    metrics: Mapping[str, Definition] = field(default_factory=lambda: FIVE)
    settings: Deployment = field(default_factory=deployment)
    log: MemoryLog = field(default_factory=lambda: MemoryLog(1))
    store: MemoryStore = field(default_factory=MemoryStore)
    native: ModuleType | None = MODULE
    cells_bytes_max: int = 1 << 20

    def __post_init__(self) -> None:
        self.control = control(self.metrics, self.settings)
        self.definitions = Definitions(self.control)
        asyncio.run(self.store.register(0, first_state(self.identity, 0)))

    @property
    def identity(self) -> DeploymentRecord:
        """The deployment's identity."""
        assert self.control.identity is not None
        return self.control.identity

    async def heard(self) -> ControlState:
        """What a reader of the control log knows."""
        return self.control

    def append(self, values: Iterable[bytes | None], at_ms: int = NOW_MS) -> None:
        """Append records with one append time."""
        for value in values:
            self.log.append(0, value, at_ms)

    def owner(self) -> Owner:
        """A worker that has not opened the partition yet."""
        return Owner(
            0,
            store=self.store,
            log=self.log,
            definitions=self.definitions,
            clock=SetClock(NOW + timedelta(days=400)),
            flush_s=0.25,
            limits=Limits(0, 0),
            cells_bytes_max=self.cells_bytes_max,
            native=self.native,
        )

    def past(self, owner: Owner) -> Backfill:
        """What counts the past for a worker."""
        return Backfill(owner, log=self.log, definitions=self.definitions, clock=SetClock(NOW))

    def mender(self, owner: Owner) -> Mender:
        """What mends cells for a worker."""
        return Mender(owner, log=self.log, definitions=self.definitions, clock=SetClock(NOW))

    async def apply(self, cuts: Sequence[int] = ()) -> None:
        """Run one worker to the end of the log, its batches cut at these offsets."""
        owner = self.owner()
        await owner.open()
        records = self.log.records[0]
        bounds = [0, *sorted(set(cuts)), len(records)]
        for lo, hi in pairwise(bounds):
            await deliver(owner, records[lo:hi])

    async def book(self) -> Book:
        """Everything the store holds."""
        book = await whole(self.store, 0)
        assert book is not None
        return book

    @property
    def state(self) -> PartitionState:
        """What the partition stands on."""
        found = asyncio.run(self.store.state(0))
        assert found is not None
        return found

    def records(self) -> list[Record]:
        """The log, for the oracle."""
        return [Record(item.offset, item.timestamp, item.value) for item in self.log.records[0]]


async def deliver(owner: Owner, records: Sequence[Any]) -> None:
    """Hand a batch over as the lane does."""
    try:
        await owner.take(records)
    except SeekBack as back:
        raise AssertionError(f"a batch in line was sent back to {back.offset}") from back


def answers_of(book: Book, metrics: Mapping[str, Definition]) -> dict[tuple[Any, ...], Any]:
    """Cell → (answer, unreadable), as a reader of that cell alone is told."""
    partials: dict[Any, Partial] = {}
    for cell, text in book.cells.items():
        kind = metrics[cell.measure.split("#")[0]].measures[0].aggregation
        partials[cell] = decode_partial(kind, text)
    for cell, members in book.elements.items():
        kind = metrics[cell.measure.split("#")[0]].measures[0].aggregation
        held = partials.get(cell, Partial(frozenset(), 0))
        partials[cell] = merge_partials(kind, held, Partial(members, 0))
    found = {}
    for cell, partial in partials.items():
        name = cell.measure.split("#")[0]
        answer = AGGREGATIONS[metrics[name].measures[0].aggregation].finish(partial.value)
        key = (name, cell.customer, cell.bucket, cell.grouping_set, cell.groups)
        found[key] = (answer, partial.unreadable)
    return found


def versions(metrics: Mapping[str, Definition]) -> list[MetricVersion]:
    """The versions that a control log with these metrics holds."""
    found = [version.body for version in control(metrics, deployment()).versions.values()]
    return [version for version in found if version is not None]
