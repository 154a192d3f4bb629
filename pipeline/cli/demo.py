"""demo: what `make demo` runs once the environment is there. Every step is a command of ours."""

import json
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from definitions.times import rfc3339

from ..core.buckets import ceil_to_bucket
from ..edges.clock import SystemClock
from ..edges.kafka_security import PREFIX
from ..errors import ExitCode, PipelineError
from ..settings import load_settings, security_names
from ..stack import local
from .demo_data import KLAVIYO, METRICS, STATSIG, events, klaviyo_events, statsig_events
from .demo_live import go_on

_FOLDER: Final = Path(".recount/demo")
_PARTITIONS: Final = "4"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Then go on with live events, and serve the page."),
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="The port of the page.")] = 8000,
) -> None:
    """Count 22,000 made-up events on real Kafka and Redis, and compare with a recount."""
    settings = load_settings()
    _say("bringing up Kafka and Redis (the first time fetches Apache Kafka) …")
    with local.borrowed(_FOLDER, (settings.address, settings.redis)) as stack:
        _say(f"Kafka at {stack['kafka']}, Redis at {stack['redis']} ({stack['kind']})")
        recount = Shell(stack)
        same = _run(recount)
        if serve and same:
            go_on(recount, port)
    raise typer.Exit(ExitCode.DONE if same else ExitCode.DIFFERENCE)


class Shell:
    """Runs `recount …` against a deployment of the demo's own."""

    def __init__(self, stack: dict[str, str]) -> None:
        own = {"RECOUNT_KAFKA": stack["kafka"], "RECOUNT_REDIS": stack["redis"]}
        if stack["kind"] != "external":  # ours has no login; an empty text is as if not set
            own |= {f"{PREFIX}{name.upper()}": "" for name in security_names()}
        deployment = f"demo-{uuid.uuid4().hex[:8]}"
        self._environment = {**os.environ, **own, "RECOUNT_DEPLOYMENT": deployment}

    def __call__(self, *arguments: str, may_differ: bool = False) -> str:
        """Run a command; return its stdout."""
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode and not (may_differ and done.returncode == ExitCode.DIFFERENCE):
            raise _StepFailed(arguments, done.returncode)
        return done.stdout

    @contextmanager
    def running(self, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A command that ends with the block. Ctrl-C is for us, not for it."""
        command = [sys.executable, "-m", "pipeline", *arguments]
        process = subprocess.Popen(command, env=self._environment, start_new_session=True)
        try:
            yield process
        finally:
            process.terminate()
            process.wait()

    def lines(self, *arguments: str, may_differ: bool = False) -> list[Any]:
        """Run a command; return its JSON lines."""
        output = self(*arguments, may_differ=may_differ)
        return [json.loads(line) for line in output.splitlines()]


class _StepFailed(PipelineError):
    """A step of the demo did not end as it should; its own message stands above."""

    def __init__(self, arguments: Sequence[str], code: int) -> None:
        super().__init__(f"demo: `recount {' '.join(arguments)}` ended with {code}")
        self.exit_code = ExitCode(code) if code in set(ExitCode) else ExitCode.BUG


def _run(recount: Shell) -> bool:
    clock = SystemClock()
    recount("init", "--partitions", _PARTITIONS)
    ending = ceil_to_bucket(clock.now(), 86_400)
    starting = ending - timedelta(days=3)
    with tempfile.TemporaryDirectory() as folder:
        metrics = [("metronome", metric) for metric in METRICS]
        metrics += [("klaviyo", KLAVIYO), ("statsig", STATSIG)]
        for format_, metric in metrics:
            _write(Path(folder) / "metric.json", [json.dumps(metric)])
            recount("metrics", "create", "--format", format_, f"{folder}/metric.json")
        _say(f"registered {len(metrics)} metrics")
        began, published = clock.monotonic(), 0
        for format_, made in (
            ("metronome", events(clock.now())),
            ("klaviyo", klaviyo_events(clock.now())),
            ("statsig", statsig_events(clock.now())),
        ):
            _write(Path(folder) / "events.jsonl", made)
            done = recount.lines(
                "publish", "--send-anyway", "--format", format_, f"{folder}/events.jsonl"
            )
            published += done[0]["published"]
        _say(f"published {published} events in {clock.monotonic() - began:.1f} s")
    began = clock.monotonic()
    recount("worker", "--until-caught-up")
    took = clock.monotonic() - began
    period = ["--starting-on", rfc3339(starting), "--ending-before", rfc3339(ending)]
    for metric in METRICS:
        group = metric.get("group_keys")
        options = ["--group-key", ",".join(group[0])] if group else ["--window-size", "day"]
        table = recount(
            "usage", metric["name"], "--customer", "acme", *period, *options, "--table"
        )
        _print(f"\n{metric['name']} of acme", table.split("┏")[1].join(("┏", "")).rstrip())
    for name in (KLAVIYO["data"]["attributes"]["name"], STATSIG["name"]):
        table = recount("usage", name, *period, "--window-size", "day", "--table")
        _print(f"\n{name}", table.split("┏")[1].join(("┏", "")).rstrip())
    _print("\nFates", recount("status", "--table", may_differ=True).rstrip())
    total = recount.lines("status", may_differ=True)[-1]
    _print("", f"events/s: {published / took:.0f} (process start and joining the group included)")
    audit = recount.lines("audit", may_differ=True)[-1]
    same = bool(total["balanced"]) and not audit["mismatches"] and audit["cells"] > 0
    _print("", f"cells recounted: {audit['cells']}, mismatches: {audit['mismatches']}")
    _print("", f"matches recount: {'yes' if same else 'no'}")
    return same


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines))


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _print(title: str, text: str) -> None:
    sys.stdout.write(f"{title}\n{text}\n" if title else f"{text}\n")
    sys.stdout.flush()
