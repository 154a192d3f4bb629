"""A short period: closed under faults and traffic, revised again and again, each time verified.

Its hour is EARLIER, which a few events of the traffic are of (traffic.py), so that every revision
finds something, and which corrections reach now and then, so that its cells are right in between.
Jobs are killed too. What a fault makes impossible is left out, and tried again.
"""

import json
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from definitions.times import rfc3339

from ..services import ROOT, Recount
from ..waiting import eventually
from .faults import Ground
from .traffic import EARLIER, HOUR

NAME = f"{EARLIER:%Y-%m-%dT%H}"
_PAUSE_S = (2.0, 12.0)
_KILLED = 0.15  # of the jobs
_NOT_NOW = {3, 4}  # what lacks, or a service that is away
_SETTLED_S_MAX = 120.0
_LAST = 5  # so many of the latest revisions are verified once more at the end


@dataclass
class Closing:
    """A thread that closes one period of a deployment, and revises it until it is told to stop.

    metrics: ids of those that nobody archives. done: how often each step was carried out.
    """

    ground: Ground
    recount: Recount
    metrics: Sequence[str]
    seed: int
    done: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._root = self.ground.folder / "periods"
        self._draw = random.Random(self.seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._revision = 0
        self._verified = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()
        assert not self.failed, self.failed

    def finish(self) -> None:
        """Nothing moves any more: the last revision is what readers are told, and the log's."""
        eventually(self._is_settled, within_s=_SETTLED_S_MAX, because=f"{NAME} has no changes")
        for number in range(max(1, self._revision - _LAST), self._revision + 1):
            self._verify(number)
        assert not self.failed, self.failed
        times = ("--starting-on", rfc3339(EARLIER), "--ending-before", rfc3339(EARLIER + HOUR))
        everyone = ("--all-metrics", "--groups", "--each-customer")
        live = self._lines("usage", *everyone, *times)
        closed = self._lines("usage", *everyone, "--as-closed", NAME)
        assert live
        assert closed == live

    def _lines(self, *arguments: str) -> dict[tuple[str, ...], tuple[Any, ...]]:
        """What a command says of the closed metrics, without what holds nothing."""
        code, lines, said = self._ended(*arguments)
        assert code == 0, said
        found = dict[tuple[str, ...], tuple[Any, ...]]()
        for line in lines[:-1]:
            group = line["group"]
            group = json.loads(group) if isinstance(group, str) else group
            key = (line["customer_id"], line["metric_id"], json.dumps(group, sort_keys=True))
            value = (line["value"], line["unreadable"])
            if line["metric_id"] in self.metrics and value != (None, 0):
                found[key] = value
        return found

    def _run(self) -> None:
        while not self._stop.wait(self._draw.uniform(*_PAUSE_S)):
            damages = self.ground.damages
            kills = self._draw.uniform(0.5, 6) if self._draw.random() < _KILLED else None
            if self._verified < self._revision:
                self._verify(self._revision)
            else:
                self._work(damages, kills)

    def _is_settled(self) -> bool:
        return self._work(self.ground.damages, None) == 0

    def _work(self, damages: int, kills: float | None) -> int | None:
        """Close or revise; return how many rows changed, None where nothing was done."""
        step = "revise" if self._revision else "close"
        arguments = ["period", step, NAME]
        if step == "close":
            arguments += ["--grace", "0s", "--format", self._draw.choice(["csv", "jsonl"])]
            arguments += [each for name in self.metrics for each in ("--metric", name)]
        code, lines, said = self._ended(*arguments, kills=kills)
        if code == 0:
            changed: int = lines[0].get("changed", lines[0]["rows"])
            self.done[step] += bool(changed)
            self._revision = lines[0]["revision"]
            return changed
        self.done["killed" if code == -signal.SIGKILL else "not_now"] += 1
        self._judge(code, {*_NOT_NOW, -signal.SIGKILL}, damages, f"{step}: {said}")
        return None

    def _verify(self, number: int) -> None:
        damages = self.ground.damages
        code, lines, said = self._ended("period", "verify", f"{NAME}#{number}")
        if code == 0:
            self.done["verify"] += 1
            self._verified = max(self._verified, number)
        elif code == 1:
            self.failed.append(f"{NAME}#{number} differs: {lines[:3]} {lines[-1]}")
        else:
            self._judge(code, {*_NOT_NOW, -signal.SIGKILL}, damages, f"verify: {said}")

    def _judge(self, code: int, allowed: set[int], damages: int, said: str) -> None:
        """A service that is away is no finding, and neither is what a fault damaged."""
        is_damaged = damages % 2 or damages != self.ground.damages
        if code not in allowed and not is_damaged:
            self.failed.append(f"exit {code}: {said}")

    def _ended(
        self, *arguments: str, kills: float | None = None
    ) -> tuple[int, list[dict[str, Any]], str]:
        """Run a command beside the stream; its exit, its lines, and what it said at the end."""
        process = subprocess.Popen(
            ["nice", "-n", "10", sys.executable, "-m", "pipeline", *arguments],
            env={**self.recount.environment, "RECOUNT_PERIODS_DIR": str(self._root)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        ends = threading.Timer(kills or 600.0, process.kill)
        ends.start()
        out, err = process.communicate()
        ends.cancel()
        lines = [json.loads(line) for line in out.splitlines()] if process.returncode >= 0 else []
        return process.returncode, lines, err.decode()[-500:]
