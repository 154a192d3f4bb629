"""The processes of a rebuild: each builds one partition beside, audits it, and switches to it.

A child tells what it does in lines of JSON; it ends with its parent. Whatever ends it, what it has
built stays, and the next rebuild goes on with it.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ..app.backfill import Backfill
from ..app.building import Building
from ..app.catalogue import Definitions
from ..app.crash import guarded
from ..app.owner import Owner
from ..app.supervisor import leave_with_parent
from ..audit.auditor import Auditor
from ..core.limits import Limits
from ..core.records import Span
from ..deploy.opened import Deployed
from ..deploy.opened import opened as deployed
from ..edges.clock import SystemClock
from ..edges.redis_epochs import RedisEpochs
from ..errors import Damage, ExitCode
from ..settings import Settings, load_settings
from .output import progress

CHILD: Final = "rebuild-process"
_TOLD_S: Final = 0.5  # between two lines of one stage
_DROP_AFTER_S: Final = 1.0  # a slow reader may still ask for the old epoch
_PAUSE_S: Final = 0.005  # between two parts of what is dropped
_SHOWN_MAX: Final = 20  # differences that are printed
_APPLIED: Final = "applied beside"
_AUDITED: Final = "audited"
_CODES: Final = frozenset(map(int, ExitCode))

Say = Callable[[str], None]


class Children:
    """Builds partitions, some at a time. dropped: keys of their old epochs."""

    def __init__(self, spans: Mapping[int, Span], processes: int, say: Say) -> None:
        self._spans = spans
        self._processes = processes
        self._say = say
        self._code = ExitCode.DONE
        self._stage: dict[int, str] = {}
        self._at: dict[int, int] = {}
        self.dropped = 0

    async def run(self, partitions: Sequence[int]) -> ExitCode:
        """Build them all; the exit code of the first one that could not."""
        waiting = list(partitions)
        total = 2 * sum(self._spans[number].end - self._spans[number].start for number in waiting)

        async def take() -> None:
            while waiting and self._code is ExitCode.DONE:
                number = waiting.pop(0)
                code = await self._one(number, lambda: bar.update(task, completed=self._done))
                if code and self._code is ExitCode.DONE:
                    self._code = ExitCode(code) if code in _CODES else ExitCode.BUG

        with progress("rebuilding", total) as (bar, task):
            await asyncio.gather(*(take() for _ in range(self._processes)))
        return self._code

    @property
    def _done(self) -> int:
        return sum(self._at.values())

    async def _one(self, number: int, shown: Callable[[], None]) -> int:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pipeline", CHILD, str(number)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        try:
            async for line in child.stdout:
                self._hear(number, json.loads(line))
                shown()
            code = await child.wait()
        finally:
            if child.returncode is None:
                child.terminate()
                await child.wait()
        if code < 0:
            self._say(f"partition {number}: its process was ended by signal {-code}; run it again")
            return ExitCode.UNAVAILABLE
        return code

    def _hear(self, number: int, told: Mapping[str, Any]) -> None:
        stage, at, end = told["stage"], told["at"], told["end"]
        span = self._spans[number]
        if stage == "dropped":
            self.dropped += at
            return
        if stage != self._stage.get(number):
            self._stage[number] = stage
            self._say(f"partition {number}: {stage}, at offset {at:,} of {end:,}")
        done = max(min(at, span.end) - span.start, 0)
        self._at[number] = done + (span.end - span.start if stage == _AUDITED else 0)


def run_child(number: int) -> None:
    """Build one partition, audit it, switch to it, and end the process with an exit code."""
    leave_with_parent()
    sys.exit(asyncio.run(guarded(_work(load_settings(), number))))


class _Telling:
    """Tells the parent, not more often than somebody can read."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._last: tuple[str, float] = ("", 0)

    def __call__(self, stage: str, at: int, end: int) -> None:
        now = self._clock.monotonic()
        if stage == self._last[0] and now - self._last[1] < _TOLD_S:
            return
        self._last = (stage, now)
        sys.stdout.write(json.dumps({"stage": stage, "at": at, "end": end}) + "\n")
        sys.stdout.flush()


async def _work(settings: Settings, number: int) -> ExitCode:
    tell = _Telling()
    async with deployed(settings.place, commits=True) as found:
        epochs = RedisEpochs(found.store)

        def told(at: int, end: int, why: str | None) -> None:
            tell(_APPLIED if why is None else f"waits: {why}", at, end)

        definitions, clock = Definitions(found.control.state), SystemClock()
        owner = Owner(
            number,
            store=epochs.beside,
            log=found.log,
            definitions=definitions,
            clock=clock,
            flush_s=settings.flush_ms / 1000,
            limits=Limits(settings.rejected_consecutive_max, settings.rejected_ratio_max),
        )
        building = Building(
            owner,
            Backfill(owner, log=found.log, definitions=definitions, clock=clock),
            store=found.store,
            epochs=epochs,
            log=found.log,
            definitions=definitions,
            refresh=found.control.catch_up,
            clock=clock,
            told=told,
        )
        await building.build()
        try:
            if await building.is_there() and not await _is_right(found, epochs, number, tell):
                return ExitCode.DIFFERENCE
        except Damage:
            if await building.is_there():
                raise
        await building.switch()
        state = await found.store.state(number)
        assert state is not None
        tell(f"switched to epoch {state.epoch}", state.next, state.next)
        await asyncio.sleep(_DROP_AFTER_S)
        count = 0
        async for keys in epochs.drop(number):
            count += keys
            await asyncio.sleep(_PAUSE_S)
        tell("dropped", count, count)
    return ExitCode.DONE


async def _is_right(found: Deployed, epochs: RedisEpochs, number: int, tell: _Telling) -> bool:
    """Audit what was built; say what differs."""
    auditor = Auditor(found.record, found.control.catch_up, epochs.beside, found.log)
    passes = (await auditor.plan(number))[number]
    done = 0

    def progress(count: int) -> None:
        nonlocal done
        done += count
        tell(_AUDITED, done, passes.total)

    findings = await auditor.audit(number, passes, progress)
    for line in findings.lines[:_SHOWN_MAX]:
        sys.stderr.write(f"recount rebuild: a difference: {json.dumps(line)}\n")
    if findings.mismatches:
        sys.stderr.write(
            f"recount rebuild: partition {number}: {findings.mismatches} differences in what was "
            "built; readers go on to see the old epoch. Nothing was switched: please report it; "
            "`recount rebuild --abandon` deletes what was built\n"
        )
    return not findings.mismatches
