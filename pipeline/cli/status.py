"""`recount status`: where every partition stands, and who counts it."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from ..edges.kafka_client import KafkaAdmin
from ..edges.kafka_owners import owners
from ..errors import ExitCode, PipelineError
from .open import opened
from .output import TableOption, show, wait


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("status")(status)


def status(table: TableOption = False) -> None:
    """Show how far each partition is applied, its lag, and how many events have which fate.

    A partition is open, rebuilding, or halted: then `reason` says why it does
    not go on, and what to do. Exit 1 if counted, unmatched, duplicate,
    rejected and corrected do not add up to the consumed events.
    """
    lines, idle = wait(_status())
    reasons = [
        {"partition": line["partition"], "reason": line["reason"]}
        for line in lines
        if "reason" in line
    ]
    show((_unexplained(line) for line in lines) if table else lines, table=table)
    if table:  # a table of its own: in a narrow column nobody could read it
        show(reasons, table=True)
    if lines[-1]["rejected"]:
        each = ", ".join(
            f"{count:,} {why}" for why, count in lines[-1]["rejected_by_reason"].items()
        )
        sys.stderr.write(
            f"{lines[-1]['rejected']:,} events were rejected and are in no number ({each}); see "
            "`recount rejected list`\n"
        )
    if idle:
        sys.stderr.write(f"recount status: {_unowned(idle, lines)}\n")
    if not lines[-1]["balanced"]:
        raise typer.Exit(ExitCode.DIFFERENCE)


async def _status() -> tuple[list[dict[str, Any]], list[int]]:
    """The lines, and the partitions that no worker has; none where nobody says who has them."""
    async with opened(reads=True) as deployment:
        lines = await deployment.reader.status(deployment.control.state.versions)
        if deployment.away is not None:
            return lines, []
        settings, topic = deployment.settings, deployment.reader.topic
        try:
            found = await owners(KafkaAdmin(settings.address), settings.group, topic)
        except PipelineError:  # a right that is missing, or a group without a coordinator
            found = None
    if found is None:  # they are just being given out
        return lines, []
    for line in lines[:-1]:
        line["owner"] = found.get(line["partition"])
    return lines, [line["partition"] for line in lines[:-1] if line["owner"] is None]


def _unowned(idle: Sequence[int], lines: Sequence[Mapping[str, Any]]) -> str:
    """Say that no worker has some partitions, and what that means."""
    lag = sum(line["lag"] or 0 for line in lines[:-1] if line["partition"] in set(idle))
    whose = "these partitions" if len(idle) == len(lines) - 1 else f"partitions {_runs(idle)}"
    waits = f"{lag:,} records wait" if lag else "nothing waits yet, and what comes is not counted"
    return f"no worker has {whose}: {waits}; start one with `recount worker`"


def _runs(numbers: Sequence[int]) -> str:
    """Numbers for people: 0 to 3, 7."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if run[1:] else f"{run[0]}" for run in runs)


def _unexplained(line: dict[str, Any]) -> dict[str, Any]:
    return {name: held for name, held in line.items() if name not in {"reason", "looked_at"}}
