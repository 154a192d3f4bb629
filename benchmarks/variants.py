"""What `make bench` runs: topics, the engines that read them, and in which table they stand."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.services import ROOT

from .jobs import KLAVIYO, STATSIG
from .traffic import PARTITIONS

PEERS = Path(__file__).parent / "peers"
MADE = ROOT / ".recount" / "peers"
HEAP = "4g"  # of the peers on the JVM at 100,000 customers


@dataclass(frozen=True)
class Place:
    """Where a variant runs. aside: a database of Redis for peers that use one. path: of cells."""

    kafka: str
    aside: str
    topic: str
    events: int
    path: Path
    folder: Path


@dataclass(frozen=True)
class Section:
    """One table. floor: the variant that its ratios are to."""

    title: str
    floor: str


@dataclass(frozen=True)
class Filled:
    """A topic of the benchmark.

    size: which option says how many events. traffic: what differs from Traffic's defaults.
    closed: whether events follow that close windows. before: whether it belongs to the commit
    before.
    """

    size: str
    traffic: Mapping[str, Any] = field(default_factory=dict)
    closed: bool = False
    before: bool = False


@dataclass(frozen=True)
class Variant:
    """One line of a table.

    command: of a peer or a floor; None is a worker of Recount. needs: what prepare.py makes for
    it. native: whether the worker may use native/.
    """

    name: str
    title: str
    section: str
    topic: str
    command: Callable[[Place], Sequence[str]] | None = None
    needs: str = ""
    native: bool = True


SECTIONS = {
    "thousand": Section("1,000 customers in turns", "floor-c"),
    "klaviyo": Section("Klaviyo's events and metrics, 1,000 customers", "klaviyo-floor-c"),
    "statsig": Section("Statsig's events and metrics, 1,000 customers", "statsig-floor-c"),
    "zipf": Section("100,000 customers, Zipf 1.1", "zipf-floor-c"),
    "uniform": Section("100,000 customers, uniform", "uniform-floor-c"),
}
TOPICS = {
    "long": Filled("long"),
    "before": Filled("long", before=True),
    "middle": Filled("middle"),
    "short": Filled("short", closed=True),
    "tiny": Filled("tiny", closed=True),
    "klaviyo": Filled("job", {"job": KLAVIYO}),
    "statsig": Filled("job", {"job": STATSIG}),
    "zipf": Filled("wide", {"customers": 100_000, "law": "zipf"}),
    "uniform": Filled("wide", {"customers": 100_000, "law": "uniform"}),
}


def _floor(variant: str) -> Callable[[Place], Sequence[str]]:
    return lambda place: [
        *(sys.executable, "-m", "benchmarks.floor", variant),
        *(place.kafka, place.topic, str(place.events), str(place.path)),
    ]


def _python(environment: str, script: str, *more: str) -> Callable[[Place], Sequence[str]]:
    def command(place: Place) -> Sequence[str]:
        given = {"REDIS": place.aside, "FOLDER": str(place.folder)}
        return [
            *(str(MADE / environment / "bin" / "python"), f"{script}.py"),
            *(place.kafka, place.topic, str(place.events), str(place.path)),
            *(given.get(each, each) for each in more),
        ]

    return command


def _streams(variant: str) -> Callable[[Place], Sequence[str]]:
    return lambda place: [
        *("java", "-Xmx2g", "-cp", f"{MADE}/streams/classes:{MADE}/streams/lib/*", "peer.Peer"),
        *(place.kafka, place.topic, str(place.events), variant, str(place.folder)),
        str(place.path),
    ]


# What libraries of these peers do to the JDK's own classes.
_OPENS = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in ("java.lang", "java.util", "java.nio", "java.time", "java.math", "sun.nio.ch")
] + [
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-opens=java.management/sun.management=ALL-UNNAMED",
    "--add-opens=jdk.management/com.sun.management.internal=ALL-UNNAMED",
]


def _jvm(environment: str, main: str, *more: str) -> Callable[[Place], Sequence[str]]:
    made = MADE / environment
    return lambda place: [
        *("java", f"-Xmx{HEAP}", "-XX:+UseParallelGC", *_OPENS, "--add-modules", "java.se"),
        *("-cp", f"{made}/classes:{made}/lib/*", f"peer.{main}"),
        *(place.kafka, place.topic, str(place.events), str(place.path), str(place.folder), *more),
    ]


def _rust(place: Place) -> Sequence[str]:
    program = str(MADE / "rust" / "target" / "release" / "bare-consumer")
    given = (place.kafka, place.topic, str(place.events), str(place.path))
    return [program, *given, str(PARTITIONS)]


# name → title, command, what it needs: the peers that check duplicates, by one task each.
CHECKING: Mapping[str, tuple[str, Callable[[Place], Sequence[str]], str]] = {
    "rust": ("bare Rust consumer: no store, no commits", _rust, "rust"),
    "flink": (
        "Flink: heap, ids in keyed state",
        _jvm("flink", "Flink", "state=heap", "chained=no"),
        "flink",
    ),
    "flink-chained": (
        "Flink: the same without a shuffle",
        _jvm("flink", "Flink", "state=heap", "chained=yes"),
        "flink",
    ),
    "flink-rocksdb": (
        "Flink: RocksDB, ids in keyed state",
        _jvm("flink", "Flink", "state=rocksdb", "chained=no"),
        "flink",
    ),
    "polars": (
        "Polars: micro-batches by hand, ids in a set",
        _python("polars", "polars_batches", str(PARTITIONS)),
        "polars",
    ),
    "streams-ids": (
        "Kafka Streams: windowed store of ids, in memory",
        _jvm("streams", "Dedup", "ids=hours", "store=memory"),
        "streams",
    ),
    "jet": ("Hazelcast Jet: ids of a customer in its state", _jvm("jet", "Jet"), "jet"),
}


def _thousand(
    name: str, title: str, topic: str, command: Callable[[Place], Sequence[str]], needs: str = ""
) -> Variant:
    return Variant(name, title, "thousand", topic, command, needs)


_RECOUNT = "Recount, one worker process, all on"
_THOUSAND = (
    _thousand("floor-consume", "floor: confluent-kafka consume(5000)", "long", _floor("consume")),
    _thousand("floor-d", "floor D: aiokafka, C-level records", "long", _floor("d")),
    _thousand("floor-e", "floor E: D + msgspec decode", "long", _floor("e")),
    _thousand("floor-b", "floor B: aiokafka getmany", "long", _floor("b")),
    _thousand("floor-c", "floor C: B + msgspec decode", "long", _floor("c")),
    Variant("recount", _RECOUNT, "thousand", "long"),
    Variant("before", "the commit before", "thousand", "before", needs="before"),
    _thousand("rust", CHECKING["rust"][0], "long", *CHECKING["rust"][1:]),
    Variant("recount-python", "Recount without native/", "thousand", "long", native=False),
    Variant(
        "before-python",
        "the commit before, without native/",
        "thousand",
        "before",
        needs="before",
        native=False,
    ),
    *(
        _thousand(name, CHECKING[name][0], "middle", *CHECKING[name][1:])
        for name in ("flink", "streams-ids", "polars", "jet")
    ),
    *(
        _thousand(
            f"streams-{name}", f"Kafka Streams: {title}", "middle", _streams(name), "streams"
        )
        for name, title in (
            ("default", "defaults"),
            ("memory", "in memory"),
            ("fast", "+ fast time stamps"),
            ("threads", "+ two threads"),
            ("eos", "exactly_once_v2"),
        )
    ),
    _thousand(
        "bytewax",
        "Bytewax: as documented",
        "short",
        _python("bytewax", "bytewax_documented"),
        "bytewax",
    ),
    _thousand(
        "bytewax-batched",
        "Bytewax: batched by hand",
        "middle",
        _python("bytewax", "bytewax_batched"),
        "bytewax",
    ),
    *(
        _thousand(
            f"quix-{mode}",
            f"Quix Streams: {mode}",
            "short",
            _python("quix", "quix", mode, "FOLDER"),
            "quix",
        )
        for mode in ("final", "current")
    ),
    *(
        _thousand(
            f"faust-{where}",
            f"Faust as documented: {title}",
            "tiny",
            _python("faust", "faust_documented", where, "REDIS", "FOLDER"),
            "faust",
        )
        for where, title in (("tables", "tables"), ("redis", "Redis"))
    ),
    _thousand(
        "naive",
        "poll, json.loads, HINCRBYFLOAT",
        "short",
        _python("faust", "naive", "REDIS"),
        "faust",
    ),
)


def _section(name: str, peers: Sequence[str]) -> list[Variant]:
    """The floor of a section's own topic, Recount, and peers."""
    return [
        Variant(f"{name}-floor-c", "floor C: B + msgspec decode", name, name, _floor("c")),
        Variant(f"{name}-recount", _RECOUNT, name, name),
        *(
            Variant(f"{name}-{peer}", CHECKING[peer][0], name, name, *CHECKING[peer][1:])
            for peer in peers
        ),
    ]


VARIANTS = (
    *_THOUSAND,
    *_section("klaviyo", ()),
    *_section("statsig", ()),
    *_section("zipf", tuple(CHECKING)),
    *_section("uniform", tuple(CHECKING)),
)
