"""What the benchmarks promise: aims that are measured and documented, jobs that count."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import prepare as preparing
from benchmarks.aims import AIMS, BENCH, of_bench
from benchmarks.jobs import JOBS, Job
from benchmarks.measuring import Measured
from benchmarks.traffic import Traffic
from benchmarks.variants import SECTIONS, TOPICS, VARIANTS
from definitions.formats import parse

from ..services import ROOT
from ..world import NOW, World

RUN = Measured(
    events=100,
    seconds=1.0,
    cpu=0.5,
    half_seconds=0.5,
    half_cpu=0.25,
    redis_cpu=0.1,
    broker_cpu=0.0,
    memory_mib=1.0,
    exact="yes",
)


def test_every_aim_is_documented() -> None:
    """The table of docs/performance.md holds just the aims of the code, in its order."""
    told = (ROOT / "docs" / "performance.md").read_text().split("## What must hold")[1]
    rows = [line for line in told.split("\n## ")[0].splitlines() if line.startswith("| `")]

    assert rows == [f"| `{aim.command}` | {aim.what} | {aim.text} |" for aim in AIMS]


def test_a_whole_bench_measures_all_of_its_aims() -> None:
    """Where every variant ran, each aim of `make bench` has a figure."""
    figures = of_bench({variant.name: [RUN] for variant in VARIANTS})

    assert set(figures) == {aim.what for aim in AIMS if aim.command == BENCH}
    assert figures["Zipf: worker, µs an event"] == pytest.approx(5_000)
    assert figures["Klaviyo: events/s of floor C"] == pytest.approx(1)


def test_a_peer_that_warms_up_is_compared_warm() -> None:
    """Beside engines on the JVM the second half counts where it is the harder; else the whole."""
    warm = replace(RUN, half_seconds=0.25)
    peers = {name: [warm] for name in ("before", "zipf-flink", "uniform-jet")}
    own = {name: [RUN] for name in ("recount", "zipf-recount", "uniform-recount")}
    figures = of_bench(peers | own)

    assert figures["1,000 customers: events/s of the commit before"] == pytest.approx(1)
    assert figures["Zipf: events/s of the better Flink on the heap"] == pytest.approx(0.5)
    assert figures["uniform: events/s of Hazelcast Jet"] == pytest.approx(0.5)


def test_a_missed_aim_is_told() -> None:
    """A figure on the wrong side of its bound is not called held, and one on the right is."""
    for aim in AIMS:
        if aim.bound is not None:
            worse, better = aim.bound * 1.1, aim.bound * 0.9
            worse, better = (worse, better) if aim.most else (better, worse)
            assert [aim.verdict(worse), aim.verdict(better)] == ["NOT HELD", "held"]


def test_every_variant_has_its_topic_and_its_floor() -> None:
    """Names are of one variant each, and each table's floor reads that table's topic."""
    names = {variant.name: variant for variant in VARIANTS}

    assert len(names) == len(VARIANTS)
    assert {variant.topic for variant in VARIANTS} == set(TOPICS)
    assert {variant.section for variant in VARIANTS} == set(SECTIONS)
    for name, section in SECTIONS.items():
        assert names[section.floor].section == name


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_every_metric_of_a_job_counts(job: Job) -> None:
    """No event of a benchmark is rejected or unmatched, and each measure has cells from them."""
    metrics = {
        f"metric{number}": parse(job.system, json.dumps(body))[1]
        for number, body in enumerate(job.metrics)
    }
    traffic = Traffic(200, NOW, customers=20, duplicates=0.1, law="zipf", job=job)
    world = World(metrics=metrics)
    world.append([job.line(event) for event in traffic])
    asyncio.run(world.apply())
    book = asyncio.run(world.book())

    counters = world.state.counters
    assert (counters["rejected"], counters["unmatched"]) == (0, 0)
    assert counters["duplicate"] > 0
    assert counters["counted"] + counters["duplicate"] == 200
    assert {cell.measure for cell in {*book.cells, *book.elements}} == {
        f"{name}#1.{number}"
        for name, definition in metrics.items()
        for number in range(len(definition.measures))
    }


@pytest.mark.parametrize("law", ["turns", "uniform", "zipf"])
def test_traffic_repeats_its_bytes(law: str) -> None:
    """A duplicate has the bytes of the event that it repeats, whose customer is drawn or not."""
    traffic = Traffic(2_000, NOW, customers=100, duplicates=0.3, law=law)  # type: ignore[arg-type]
    seen: dict[str, bytes] = {}
    repeated = 0
    for event in traffic:
        line = traffic.job.line(event)
        repeated += event["transaction_id"] in seen
        assert seen.setdefault(event["transaction_id"], line) == line

    assert 400 < repeated < 800


def test_what_cannot_be_built_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without Maven, cargo, uv and git, every variant that needs them is named, with the tool."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("UV", str(tmp_path / "uv"))
    monkeypatch.setattr(preparing, "MADE", tmp_path / "peers")
    monkeypatch.setattr(preparing, "CHECKOUT", tmp_path / "before")
    missing = preparing.prepare({variant.name for variant in VARIANTS})

    assert set(missing) == {variant.name for variant in VARIANTS if variant.needs}
    assert missing["rust"] == "cargo is not installed"
    assert missing["zipf-flink"] == missing["streams-default"] == "mvn is not installed"
    assert missing["before"] == "git is not installed"


def test_what_is_made_is_made_again_from_other_files(tmp_path: Path) -> None:
    """A peer is built once for each content of its files, also where building failed before."""
    source, made = tmp_path / "source", tmp_path / "made"
    source.write_text("one")

    assert not preparing.is_made([source], made)
    assert not preparing.is_made([source], made), "it was begun, and not ended"
    preparing.note_made([source], made)
    assert preparing.is_made([source], made)
    source.write_text("two")
    assert not preparing.is_made([source], made)
