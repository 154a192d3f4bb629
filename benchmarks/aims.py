"""What must hold of the speed and size of Recount, and whether it does: the one list of the aims.

Each benchmark notes its figures under .recount/measured/, saved or not. `make bench` ends with all
of them: its own, and the last that the other commands have noted in this checkout.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from rich.table import Table

from tests.services import ROOT

from .measuring import Measured

BEFORE = "44a44ac63b11"  # the last commit of the format before; it must not have been faster
FOLDER = ROOT / ".recount" / "measured"


@dataclass(frozen=True)
class Aim:
    """One line. most: the figure may be at most the bound; else it is at least that.

    bound None: it is only stated. command: what measures it.
    """

    command: str
    what: str
    bound: float | None = None
    most: bool = False

    @property
    def text(self) -> str:
        """The bound for people."""
        if self.bound is None:
            return "to be stated"
        return f"at {'most' if self.most else 'least'} {self.bound:g}"

    def verdict(self, figure: float) -> str:
        """Whether a figure reaches the aim."""
        if self.bound is None:
            return "stated"
        held = figure <= self.bound if self.most else figure >= self.bound
        return "held" if held else "NOT HELD"


BENCH, GROWTH, MEMORY = "make bench", "make bench-growth", "make bench-memory"
AUDIT = "python -m benchmarks.audit"
BACKFILL = "python -m benchmarks.backfill"
HISTORY = "python -m benchmarks.history"
BESIDE = "5,000 events/s beside a backfill: produce to readable, p99 ms"
AIMS = (
    Aim(BENCH, "1,000 customers: events/s of the commit before", 0.95),
    Aim(BENCH, "1,000 customers: events/s of the bare Rust consumer", 0.7),
    Aim(BENCH, "1,000 customers, without native/: events/s of the commit before", 0.9),
    Aim(BENCH, "Klaviyo: events/s of floor C", 0.6),
    Aim(BENCH, "Statsig: events/s of floor C", 0.6),
    Aim(BENCH, "Zipf: events/s of the better Flink on the heap", 1.0),
    Aim(BENCH, "Zipf: worker, µs an event", 3.5, most=True),
    Aim(BENCH, "Zipf: Redis, µs an event", 2.5, most=True),
    Aim(BENCH, "uniform: events/s of Kafka Streams with ids", 1.0),
    Aim(BENCH, "uniform: events/s of Hazelcast Jet", 1.0),
    Aim(BENCH, "uniform: worker, µs an event", 6, most=True),
    Aim(BENCH, "uniform: Redis, µs an event", 7, most=True),
    Aim(GROWTH, "1,000,000 customers, Zipf: worker, µs an event"),
    Aim(GROWTH, "1,000,000 customers, Zipf: Redis, µs an event"),
    Aim(GROWTH, "1,000,000 customers, uniform: worker, µs an event"),
    Aim(GROWTH, "1,000,000 customers, uniform: Redis, µs an event"),
    *(
        Aim(MEMORY, f"bytes of a cell of {name}, three metrics", most, most=True)
        for name, most in (("COUNT", 24), ("SUM", 24), ("MAX", 24), ("MIN", 24), ("LATEST", 52))
    ),
    Aim(AUDIT, "audit: CPU µs an event", 30, most=True),
    Aim(AUDIT, "audit: times as fast with two processes", 1.8),
    Aim(AUDIT, "audit of 1/50 of the customers: CPU µs an event of the log", 5, most=True),
    *(
        Aim(BACKFILL, f"past of a million events, {share} duplicates: speed of live", 0.7)
        for share in ("0%", "1%", "2%", "10%")
    ),
    Aim(HISTORY, BESIDE, 1_000, most=True),
)


def of_bench(runs: Mapping[str, Sequence[Measured]]) -> dict[str, float]:
    """Return the figures of AIMS that these runs of `make bench` hold: medians over the rounds."""
    named = {aim.what for aim in AIMS if aim.command == BENCH}
    found: dict[str, float] = {}

    def beside(what: str, own: str, *others: str, warm: bool = False) -> None:
        there = [other for other in others if runs.get(other)]
        if runs.get(own) and there:
            found[what] = min(_beside(runs[own], runs[other], warm=warm) for other in there)

    beside("1,000 customers: events/s of the commit before", "recount", "before")
    beside("1,000 customers: events/s of the bare Rust consumer", "recount", "rust")
    beside(
        "1,000 customers, without native/: events/s of the commit before",
        "recount-python",
        "before-python",
    )
    beside("Klaviyo: events/s of floor C", "klaviyo-recount", "klaviyo-floor-c")
    beside("Statsig: events/s of floor C", "statsig-recount", "statsig-floor-c")
    flinks = ("zipf-flink", "zipf-flink-chained")
    beside("Zipf: events/s of the better Flink on the heap", "zipf-recount", *flinks, warm=True)
    streams = "uniform: events/s of Kafka Streams with ids"
    beside(streams, "uniform-recount", "uniform-streams-ids", warm=True)
    beside("uniform: events/s of Hazelcast Jet", "uniform-recount", "uniform-jet", warm=True)
    for law, name in (("Zipf", "zipf-recount"), ("uniform", "uniform-recount")):
        if runs.get(name):
            found[f"{law}: worker, µs an event"] = median(run.cost for run in runs[name])
            found[f"{law}: Redis, µs an event"] = median(run.redis_cost for run in runs[name])
    assert set(found) <= named, set(found) - named
    return found


def _beside(own: Sequence[Measured], other: Sequence[Measured], *, warm: bool) -> float:
    """How many times the other's events/s in the whole run; warm: or in its second half, the less.

    The first half of an engine on the JVM is also its warming up, so the second is the fairer one.
    """
    pairs = list(zip(own, other, strict=True))
    whole = median(each.rate / base.rate for each, base in pairs)
    second = median(each.half_rate / base.half_rate for each, base in pairs)
    return min(whole, second) if warm else whole


def note(command: str, figures: Mapping[str, float], at: datetime, *, short: bool) -> None:
    """Keep figures of a command beside those that it has noted before.

    short: whether the run had fewer events than the aims are meant for.
    """
    unknown = set(figures) - {aim.what for aim in AIMS if aim.command == command}
    assert not unknown, unknown
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{command.rsplit(maxsplit=1)[-1]}.json"
    held = json.loads(path.read_text()) if path.exists() else {}
    when = f"{at:%Y-%m-%d %H:%M} UTC, {_commit()}" + (", a short run" if short else "")
    held |= {what: [figure, when] for what, figure in figures.items()}
    path.write_text(json.dumps(held, indent=1) + "\n")


def _commit() -> str:
    """The commit that is checked out, so that a figure of an older one is told from the others."""
    if shutil.which("git") is None:
        return "unknown commit"
    asked = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown commit"


def noted(command: str) -> dict[str, tuple[float, str]]:
    """Return what a command has noted: figure and time."""
    path = FOLDER / f"{command.rsplit(maxsplit=1)[-1]}.json"
    held = json.loads(path.read_text()) if path.exists() else {}
    return {what: (figure, at) for what, (figure, at) in held.items()}


def lines(command: str | None = None) -> Iterable[tuple[str, str, str, str]]:
    """What, aim, measured and verdict, of one command or of all, from what was noted."""
    for aim in AIMS:
        if command in {None, aim.command}:
            figure, at = noted(aim.command).get(aim.what, (None, ""))
            if figure is None:
                yield aim.what, aim.text, "", f"not measured: {aim.command}"
            else:
                yield aim.what, aim.text, f"{figure:.3g} ({at})", aim.verdict(figure)


def table(command: str | None = None) -> Table:
    """The same for a terminal."""
    made = Table("must hold", "aim", "measured", "")
    for line in lines(command):
        made.add_row(*line)
    return made
