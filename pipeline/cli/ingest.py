"""`recount ingest`: another topic's events into ours, by Kafka alone."""

import asyncio
import signal
import sys
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from definitions.events import SYSTEMS

from ..app.crash import tell_as
from ..edges.clock import SystemClock
from ..errors import LogUnavailable, UsageError
from ..log.ingest import Ingested, Ingesting
from ..log.translating import Translation
from ..settings import started
from ..telemetry.logs import LOG, begin, line
from .open import opened
from .output import progress, show, wait

_SAID_EVERY_S: Final = 10.0
_RETRY_S: Final = 1.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("ingest")(ingest)


def ingest(
    source: Annotated[
        str, typer.Option("--from", metavar="TOPIC", help="A topic of the same Kafka.")
    ],
    format_: Annotated[
        str,
        typer.Option("--format", help="cloudevents, klaviyo, metronome, segment or statsig."),
    ] = "cloudevents",
    until_caught_up: Annotated[
        bool,
        typer.Option(
            "--until-caught-up", help="Exit 0 at the end that the topic has at the start."
        ),
    ] = False,
) -> None:
    """Translate another system's events from their own topic, each exactly once.

    It runs until SIGTERM. Also after kill -9 nothing is lost or sent twice: events, dead
    letters and the position in the topic are one transaction of Kafka. What
    cannot be translated becomes a dead letter (`recount rejected list`). Run one
    process for each topic; one that starts takes over from one that runs.

    Example: recount ingest --from shop.events --format segment
    """
    if format_ not in SYSTEMS:
        raise UsageError(f"--format is one of {', '.join(sorted(SYSTEMS))}")
    done = wait(_ingest(source, format_, until_caught_up=until_caught_up))
    if done.lost:
        LOG.warning("lost", source=source, offsets=done.lost)
    show([{"from": source, **asdict(done)}])


async def _ingest(source: str, format_: str, *, until_caught_up: bool) -> Ingested:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with opened(sends=True) as deployment:
        identity, settings = deployment.identity, deployment.settings
        if source in {name for name, _ in identity.topics.values()}:
            raise UsageError(f"--from {source!r} is a topic of this deployment; name another one")
        begin(settings.log, settings.log_level)
        tell_as(line)
        LOG.info("start", **started(settings), source=source)
        with progress("read") as (bar, task):
            work = Ingesting(
                settings.address,
                settings.deployment,
                Translation(source, format_, settings.counted_environments),
                identity.deployment.homes,
                tell=_teller(bar, task),
            )
            while True:
                try:
                    await work.run(stop, until_caught_up=until_caught_up)
                except LogUnavailable as error:
                    if until_caught_up or stop.is_set():
                        raise
                    LOG.warning("away", service="kafka", why=f"{error}; goes on when it answers")
                    await asyncio.sleep(_RETRY_S)
                else:
                    return work.done


def _teller(bar: Any, task: Any) -> Any:
    """Show a bar on a terminal, and a line now and then where there is none."""
    clock, said = SystemClock(), [0.0]

    def tell(done: Ingested) -> None:
        bar.update(task, completed=done.read, total=done.read + done.lag)
        if sys.stderr.isatty() or clock.monotonic() - said[0] < _SAID_EVERY_S:
            return
        said[0] = clock.monotonic()
        LOG.info("progress", read=done.read, sent=done.sent, rejected=done.rejected, lag=done.lag)

    return tell
