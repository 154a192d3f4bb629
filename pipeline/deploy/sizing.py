"""How large a deployment is for a load: computed from what benchmarks measured.

Rule 1: every figure of MEASURED is one that a benchmark wrote (benchmarks/results, docs/
performance.md); a test compares them. What is assumed stands in ASSUMED, and nowhere else.
Rule 2: the load is sustained, and customers are equally active: then an event meets as few others
of its customer in a flush as it can, and cells cost most. Skewed traffic needs less.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple


class Figure(NamedTuple):
    """A constant, and where it is from."""

    value: float
    source: str


MEASURED: Final[Mapping[str, Figure]] = {
    "redis_bytes_an_identity": Figure(13.2, "benchmarks/results/memory.json"),
    "worker_bytes_an_identity": Figure(27.5, "benchmarks/results/memory.json"),
    "redis_bytes_a_cell": Figure(22.8, "benchmarks/results/memory.json, SUM"),
    "worker_us_an_event": Figure(1.47, "1,000 customers, docs/performance.md"),
    "redis_us_an_event": Figure(0.09, "1,000 customers, docs/performance.md"),
    "worker_us_a_cell": Figure(0.36, "(2.56 - 1.47) / 3 cells, 100,000 customers, uniform"),
    "redis_us_a_cell": Figure(1.32, "(4.05 - 0.09) / 3 cells, 100,000 customers, uniform"),
    "worker_mib_without_identities": Figure(363, "one worker process, docs/performance.md"),
}
ASSUMED: Final[Mapping[str, Figure]] = {
    "event_bytes": Figure(280, "as long as those of the benchmarks; not compressed"),
    "copies": Figure(3, "of each record"),
    "flush_s": Figure(0.25, "RECOUNT_FLUSH_MS"),
    "busy": Figure(0.5, "of a core, at the most: the rest is for peaks and for catching up"),
    "full": Figure(0.7, "of maxmemory: the rest is for a rebuild of a partition, and for growth"),
    "shard_gib": Figure(32, "of one Redis; a larger one takes long to save and to load"),
    "worker_gib": Figure(16, "of one worker process"),
    "broker_mb_a_second": Figure(50, "that a broker writes, copies of others included"),
    "identities_a_partition": Figure(200_000_000, "opened within 20 s: ten million a second"),
    "generations": Figure(4, "of a dedup window: an identity is kept a quarter of it too long"),
}
_DAY_S: Final = 86_400
_GIB: Final = 1 << 30
_PARTITIONS_MIN: Final = 12


@dataclass(frozen=True, slots=True)
class Load:
    """What a deployment has to bear. days: how long numbers are kept; they are never deleted."""

    events_per_second: float
    customers: int
    metrics: int
    dedup_window_days: float = 35.0
    days: int = 365


@dataclass(frozen=True, slots=True)
class Size:
    """What it takes. Memory is in GiB, of each; log_gb_a_day is of all brokers together."""

    partitions: int
    brokers: int
    log_gb_a_day: float
    workers: int
    worker_gib: float
    shards: int
    shard_gib: float
    identities: int
    identities_gib: float
    cells: int
    cells_gib: float


def _m(name: str) -> float:
    return MEASURED[name].value


def _a(name: str) -> float:
    return ASSUMED[name].value


def _distinct(draws: float, things: int) -> float:
    """How many different things so many draws meet, each thing as likely as any other."""
    return things * -math.expm1(-draws / things)


def size_of(load: Load) -> Size:
    """Compute what a load takes."""
    rate = load.events_per_second
    kept_s = load.dedup_window_days * (1 + 1 / (2 * _a("generations"))) * _DAY_S
    identities = rate * kept_s
    # An event has the cell of its customer and hour in every metric.
    touched = _distinct(rate * _a("flush_s"), load.customers) * load.metrics / _a("flush_s")
    cells = _distinct(rate * 3_600, load.customers) * 24 * load.days * load.metrics
    identity_bytes = identities * _m("redis_bytes_an_identity")
    cell_bytes = cells * _m("redis_bytes_a_cell")
    redis_busy = (rate * _m("redis_us_an_event") + touched * _m("redis_us_a_cell")) / 1e6
    redis_gib = (identity_bytes + cell_bytes) / _a("full") / _GIB
    shards = max(math.ceil(redis_busy / _a("busy")), math.ceil(redis_gib / _a("shard_gib")), 1)
    worker_busy = (rate * _m("worker_us_an_event") + touched * _m("worker_us_a_cell")) / 1e6
    index_gib = identities * _m("worker_bytes_an_identity") / _GIB
    own_gib = _m("worker_mib_without_identities") / 1_024
    workers = max(
        math.ceil(worker_busy / _a("busy")),
        math.ceil(index_gib / (_a("worker_gib") - own_gib)),
        1,
    )
    least = max(2 * workers, shards, identities / _a("identities_a_partition"), _PARTITIONS_MIN)
    log_bytes = rate * _a("event_bytes") * _a("copies")
    return Size(
        partitions=math.ceil(least / _PARTITIONS_MIN) * _PARTITIONS_MIN,
        brokers=max(math.ceil(log_bytes / 1e6 / _a("broker_mb_a_second")), int(_a("copies"))),
        log_gb_a_day=_rounded(log_bytes * _DAY_S / 1e9),
        workers=workers,
        worker_gib=_rounded(index_gib / workers + own_gib),
        shards=shards,
        shard_gib=_rounded(redis_gib / shards),
        identities=round(identities),
        identities_gib=_rounded(identity_bytes / _GIB),
        cells=round(cells),
        cells_gib=_rounded(cell_bytes / _GIB),
    )


def _rounded(number: float) -> float:
    """Two digits that say something, rounded up: nobody can promise more."""
    if not number:
        return 0.0
    scale = 10.0 ** max(1 - math.floor(math.log10(number)), 0)
    return math.ceil(number * scale - 1e-9) / scale


RATES: Final = (100, 1_000, 10_000, 100_000, 1_000_000)
WINDOWS: Final = (2.0, 35.0)
CUSTOMERS: Final = (1_000, 1_000_000)
_METRICS: Final = 3
_TABLE: Final = (
    *("partitions", "brokers", "log_gb_a_day", "workers", "worker_gib"),
    *("shards", "shard_gib", "identities_gib", "cells_gib"),
)


def markdown() -> Iterator[str]:
    """Yield the tables of docs/sizing.md."""
    for window in WINDOWS:
        yield from (f"### A dedup window of {window:g} days", "")
        yield f"| events/s | customers | {' | '.join(_TABLE)} |"
        yield "| --- " * (len(_TABLE) + 2) + "|"
        for rate in RATES:
            for customers in CUSTOMERS:
                size = asdict(size_of(Load(rate, customers, _METRICS, window)))
                told = " | ".join(_spelt(size[name]) for name in _TABLE)
                yield f"| {rate:,} | {customers:,} | {told} |"
        yield ""
    for name, figures in (("Measured", MEASURED), ("Assumed", ASSUMED)):
        yield from (f"### {name}", "", "| constant | value | from |", "| --- | --- | --- |")
        for constant, (value, source) in figures.items():
            yield f"| `{constant}` | {value:,.10g} | {source} |"
        yield ""


def _spelt(value: Any) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"
