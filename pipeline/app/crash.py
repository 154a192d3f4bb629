"""Crash only: the one place that catches everything, to say it and to end the process."""

import logging
import os
import sys
import traceback
from collections.abc import Awaitable
from types import TracebackType
from typing import NoReturn, Self, TypeVar

from ..errors import ExitCode, Halt, PipelineError, harmless

T = TypeVar("T")


def say(text: str) -> None:
    """Tell the operator, on stderr."""
    sys.stderr.write(f"recount worker: {harmless(text)}\n")
    sys.stderr.flush()


def leave(error: PipelineError) -> NoReturn:
    """End the process now, from any thread, without waiting for any lock of another one."""
    os.write(2, f"recount: {harmless(str(error))}\n".encode())
    os._exit(error.exit_code)


# What becomes of a process that a Halt ends: a program in its place, with the reason behind it.
_instead: list[str] = []


def stay_instead(*program: str) -> None:
    """Have a Halt end in this program, in the same process, and not in exit 5.

    All that the process did ends with it, as an exit would end it: threads, connections, locks.
    """
    _instead[:] = program


def die(error: BaseException) -> NoReturn:
    """End the process now, with the exit code that the error stands for."""
    if isinstance(error, PipelineError):
        code = error.exit_code
        sys.stderr.write(f"recount: {harmless(str(error))}\n")
    else:
        code = ExitCode.BUG
        sys.stderr.write("recount: a bug; nothing was written past it\n")
        told = "".join(traceback.format_exception(error))
        sys.stderr.write(harmless(told, keep="\n\t"))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    if _instead and isinstance(error, Halt):
        os.execv(  # noqa: S606  our own program
            sys.executable, [sys.executable, *_instead, harmless(str(error))]
        )
    os._exit(code)


class CrashOnly:
    """Whatever is raised inside ends the process. Nothing is caught to continue."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            die(error)


async def guarded(work: Awaitable[T]) -> T:
    with CrashOnly():
        return await work
