"""What the benchmarks show: a table, a dated section of RESULTS.md, the raw runs, and a plot."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.table import Table

from .measuring import Measured
from .traffic import now

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.md"
HEAD = (
    "k events/s",
    "second half",
    "CPU µs",
    "of floor C",
    "its CPU",
    "Redis µs",
    "broker µs",
    "MiB",
    "exact",
)


@dataclass(frozen=True)
class Line:
    """A variant's medians. ratio, cpu_ratio: to floor C, in the same round."""

    title: str
    rate: float
    half_rate: float
    cost: float
    ratio: float
    cpu_ratio: float
    redis: float
    broker: float
    memory: float
    exact: str

    @property
    def cells(self) -> list[str]:
        """The line as text."""
        return [
            f"{self.rate:.3g}" if self.rate < 10 else f"{self.rate:.0f}",
            f"{self.half_rate:.3g}" if self.half_rate < 10 else f"{self.half_rate:.0f}",
            f"{self.cost:.2f}",
            f"{self.ratio:.3g}",
            f"{self.cpu_ratio:.2f}",
            f"{self.redis:.2f}",
            f"{self.broker:.2f}",
            f"{self.memory:.0f}",
            self.exact,
        ]


def summary(
    titles: Mapping[str, str], runs: Mapping[str, Sequence[Measured]], floor: str
) -> list[Line]:
    """Return the medians of every variant. floor: the name of the one that ratios are to."""
    base_runs = runs.get(floor) or runs[next(iter(titles))]
    made = []
    for name, title in titles.items():
        own = runs[name]
        pairs = list(zip(own, base_runs, strict=True))
        made.append(
            Line(
                title,
                median(run.rate for run in own),
                median(run.half_rate for run in own),
                median(run.cost for run in own),
                median(run.rate / base.rate for run, base in pairs),
                median(run.cost / base.cost for run, base in pairs),
                median(run.redis_cost for run in own),
                median(run.broker_cpu / run.events * 1e6 for run in own),
                median(run.memory_mib for run in own),
                "; ".join(sorted({run.exact for run in own})),
            )
        )
    return made


def table(title: str, lines: Sequence[Line]) -> Table:
    """Return the table of a section for a terminal."""
    made = Table("", *HEAD, title=title, title_justify="left")
    for line in lines:
        made.add_row(line.title, *line.cells)
    return made


def _markdown(title: str, lines: Sequence[Line]) -> list[str]:
    return [
        f"\n### {title}\n",
        "| | " + " | ".join(HEAD) + " |",
        "| --- |" + " --- |" * len(HEAD),
        *(f"| {line.title} | " + " | ".join(line.cells) + " |" for line in lines),
    ]


def save(
    sections: Mapping[str, Sequence[Line]],
    runs: Mapping[str, Sequence[Measured]],
    machine: str,
    aims: Iterable[Sequence[str]],
) -> None:
    """Keep a run: a section of RESULTS.md, its raw figures, and a plot for each table."""
    at = now()
    rounds = max(len(own) for own in runs.values())
    text = [
        f"\n## {at:%Y-%m-%d %H:%M} UTC, `make bench`, {rounds} rounds\n",
        f"{machine}. Medians; rates in thousand events/s, CPU of the process an event.",
    ]
    for title, lines in sections.items():
        text += _markdown(title, lines)
    text += ["\n### What must hold\n", "| what | aim | measured | |", "| --- | --- | --- | --- |"]
    text += [f"| {' | '.join(line)} |" for line in aims]
    with RESULTS.open("a") as file:
        file.write("\n".join(text) + "\n")
    raw = {name: [asdict(run) for run in own] for name, own in runs.items()}
    folder = FOLDER / "results"
    folder.mkdir(exist_ok=True)
    (folder / f"bench-{at:%Y%m%d-%H%M}.json").write_text(
        json.dumps({"machine": machine, "runs": raw}, indent=1, sort_keys=True) + "\n"
    )
    for number, (title, lines) in enumerate(sections.items()):
        name = "bench.svg" if not number else f"bench-{number + 1}.svg"
        bars(lines, folder / name, f"Events a second, {title} ({at:%Y-%m-%d})")


def bars(lines: Sequence[Line], path: Path, title: str) -> None:
    """Draw the rates as bars."""
    import matplotlib.pyplot as plt  # noqa: PLC0415  of the group `bench`

    figure, axes = plt.subplots(figsize=(9, 0.36 * len(lines) + 1.2))
    names = [line.title for line in lines][::-1]
    rates = [line.rate for line in lines][::-1]
    colours = ["tab:green" if "Recount" in name else "tab:gray" for name in names]
    drawn = axes.barh(names, rates, color=colours)
    axes.bar_label(drawn, [f"{rate:.3g}" for rate in rates], padding=3)
    axes.set_xlabel("thousand events a second")
    axes.set_title(title)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def curve(
    points: Sequence[tuple[float, float]], path: Path, title: str, across: str, up: str
) -> None:
    """Draw a curve with a logarithmic axis across."""
    import matplotlib.pyplot as plt  # noqa: PLC0415  of the group `bench`

    figure, axes = plt.subplots(figsize=(6, 3.4))
    axes.plot([each[0] for each in points], [each[1] for each in points], marker="o")
    if min(each[0] for each in points) > 0 and points[-1][0] / points[0][0] >= 10:
        axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.3)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
