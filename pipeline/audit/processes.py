"""An audit by several processes: each takes the next partition until none is left.

Each child opens the deployment for itself and holds a pass at a time, so memory is that of one
process times their number. Children end with their parent, however that ends.
"""

import asyncio
import multiprocessing
import queue
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

from ..deploy.opened import opened
from ..deploy.place import Place
from ..errors import ExitCode, PipelineError
from ..recount.ledger import Share
from .auditor import Auditor, Passes
from .findings import Findings

_POLL_S: Final = 0.5  # between looks whether the children, or the parent, are there
Told = Callable[[int], None]


class ProcessFailed(PipelineError):
    """A process of the audit failed: its own error and exit code, or its end without a word."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(code)


async def audit_in_processes(
    place: Place, plans: dict[int, Passes], share: Share, processes: int, progress: Told
) -> Findings:
    """Audit every partition of a plan; the findings are those of one process.

    Args:
        progress: Told offsets as they are read.

    Raises:
        ProcessFailed: a process did; the others were ended.
    """
    context = multiprocessing.get_context("spawn")
    tasks, told = context.Queue(), context.Queue()
    count = min(processes, len(plans))
    for task in sorted(plans.items(), key=lambda each: -each[1].total):
        tasks.put(task)
    for _ in range(count):
        tasks.put(None)
    children = [
        context.Process(target=_child, args=(place, share, tasks, told), daemon=True)
        for _ in range(count)
    ]
    for child in children:
        child.start()
    try:
        found = await _gather(children, told, len(plans), progress)
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.join()
    findings = Findings(share=share)
    for number in plans:
        findings.add(found[number])
    return findings


async def _gather(
    children: list[Any], told: Any, partitions: int, progress: Told
) -> dict[int, Findings]:
    """Listen to the children until every partition was told of."""
    found: dict[int, Findings] = {}
    while len(found) < partitions:
        try:
            word, *rest = await asyncio.to_thread(told.get, True, _POLL_S)
        except queue.Empty:
            dead = [child.exitcode for child in children if child.exitcode]
            if dead:
                raise ProcessFailed(
                    f"a process of the audit ended with {dead[0]} and without a word (-9: killed, "
                    "for instance because memory ran out); run it again with fewer processes",
                    ExitCode.BUG,
                ) from None
            continue
        if word == "read":
            progress(*rest)
        elif word == "found":
            number, findings = rest
            found[number] = findings
        else:
            raise ProcessFailed(*rest)
    return found


def _child(place: Place, share: Share, tasks: Any, told: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the parent ends us
    try:
        asyncio.run(_take_partitions(place, share, tasks, told))
    except PipelineError as error:
        told.put(("failed", str(error), int(error.exit_code)))
        sys.exit(0)  # it has said why


async def _take_partitions(place: Place, share: Share, tasks: Any, told: Any) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None

    def progress(count: int) -> None:
        if not parent.is_alive():
            sys.exit(ExitCode.BUG)
        told.put(("read", count))

    async with opened(place) as found:
        auditor = Auditor(
            found.record, found.control.catch_up, found.store, found.log, share=share
        )
        with suppress(EOFError):
            while (task := cast("tuple[int, Passes] | None", tasks.get())) is not None:
                number, passes = task
                told.put(("found", number, await auditor.audit(number, passes, progress)))
