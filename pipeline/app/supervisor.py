"""N worker processes, started again with back-off; a HALT is never restarted.

The supervisor holds one end of a pipe to each child: when it dies, however it dies, the children
read the end of the pipe and leave too.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..core.commit import transitions
from ..core.state import Halted, PartitionState
from ..deploy.checks import check_state
from ..deploy.opened import Deployed, opened
from ..edges.clock import SystemClock
from ..errors import Damage, ExitCode, Unavailable
from ..settings import Settings
from ..telemetry.logs import LOG, begin
from .catalogue import Definitions

CHILD: Final = "worker-process"
_BACKOFF_S: Final = (0.5, 8.0)  # a service that is back is used within ten seconds
_STEADY_S: Final = 60.0  # a child that ran this long starts the back-off anew
_POLL_S: Final = 0.3
_STOP_S_MAX: Final = 15.0
# Restarting cannot mend these: wrong usage, no such deployment, HALT.
_FINAL: Final = (ExitCode.DONE, ExitCode.USAGE, ExitCode.DEFINITION, ExitCode.HALT)


class Supervisor:
    """Keeps the children running until it is told to stop."""

    def __init__(self, settings: Settings, processes: int) -> None:
        begin(settings.log, settings.log_level)
        self._settings = settings
        self._processes = processes
        self._stopping = asyncio.Event()
        self._code = ExitCode.DONE
        self._environment = dict(os.environ)
        self._children: dict[int, asyncio.subprocess.Process] = {}

    async def run(self, *, until_caught_up: bool) -> ExitCode:
        """Run until SIGTERM, a HALT of any child, or the end of the log as seen at start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        if until_caught_up:
            self._environment["RECOUNT_HALT"] = (
                "exit"  # whoever waits for the end must learn of it
            )
        tasks = [asyncio.create_task(self._keep(number)) for number in range(self._processes)]
        watch = asyncio.create_task(self._catch_up()) if until_caught_up else None
        await self._stopping.wait()
        if watch is not None:
            watch.cancel()
        for child in self._children.values():
            if child.returncode is None:
                child.terminate()
        _, late = await asyncio.wait(tasks, timeout=_STOP_S_MAX)
        for child in self._children.values() if late else ():
            if child.returncode is None:
                child.kill()
        if late:
            await asyncio.wait(late)
        return self._code

    async def _keep(self, number: int) -> None:
        delay, longest = _BACKOFF_S
        clock = SystemClock()
        while not self._stopping.is_set():
            began = clock.monotonic()
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pipeline", CHILD, str(number)),
                stdin=asyncio.subprocess.PIPE,
                env=self._environment,
            )
            self._children[number] = child
            if self._stopping.is_set():
                child.terminate()
            code = await child.wait()
            if self._stopping.is_set():
                return
            if code in _FINAL:
                self._code = ExitCode(code)
                self._stopping.set()
                return
            if clock.monotonic() - began > _STEADY_S:
                delay = _BACKOFF_S[0]
            LOG.warning("starts_again", process=number, code=code, in_s=delay)
            try:
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            except TimeoutError:
                delay = min(delay * 2, longest)

    async def _catch_up(self) -> None:
        """Stop once every partition stands at the end of the log as it was at start.

        Where some have halted, once all others stand there: HALT.
        """
        delay, longest = _BACKOFF_S
        while True:
            try:
                async with opened(self._settings.place) as found:
                    halted = await self._wait_for_end(found)
            except Unavailable as error:
                LOG.warning("waits", in_s=delay, why=str(error))
                await asyncio.sleep(delay)
                delay = min(delay * 2, longest)
            else:
                for reason in halted.values():
                    LOG.error("caught_up_but_for", why=reason)
                    self._code = ExitCode.HALT
                if not halted:
                    LOG.info("caught_up")
                self._stopping.set()
                return

    async def _wait_for_end(self, found: Deployed) -> dict[int, str]:
        """Return the partitions that have halted, once all others are there."""
        record, definitions = found.record, Definitions(found.control.state)
        noted: dict[int, Halted | None] = {}  # before any worker of ours had looked
        targets = {number: span.end for number, span in (await found.log.spans()).items()}
        with _progress(sum(targets.values())) as show:
            while True:
                states: dict[int, PartitionState] = {}
                halted: dict[int, str] = {}
                for number in record.starts:
                    try:
                        state = check_state(await found.store.state(number), record, number)
                    except Damage as error:
                        halted[number] = str(error)
                        continue
                    before = noted.setdefault(number, state.halted)
                    if state.halted is not None and state.halted != before:
                        halted[number] = state.halted.reason
                    else:
                        states[number] = state
                show(sum(min(states[n].next, end) for n, end in targets.items() if n in states))
                there = all(
                    state.next >= targets.get(number, 0)
                    and state.halted is None
                    and transitions(
                        state,
                        definitions.foldable(),
                        ends_ms=definitions.ends_ms(),
                        max_age_ms=record.deployment.max_age_ms,
                    )
                    is state
                    and all(map(state.is_ready, definitions.with_past()))
                    and (not state.stale or state.mended >= targets.get(number, 0))
                    for number, state in states.items()
                )
                if there:
                    return halted
                await asyncio.sleep(_POLL_S)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("applied"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("applied", total=total)
        yield lambda done: bar.update(task, completed=done)


def leave_with_parent() -> None:
    """End this process when the supervisor's end of our stdin closes."""

    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(ExitCode.DONE)

    threading.Thread(target=watch, name="parent", daemon=True).start()
