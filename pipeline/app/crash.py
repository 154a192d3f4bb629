"""Crash only: the one place that catches everything, to say it and to end the process."""

import logging
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import NoReturn, Self, TypeVar

from ..errors import ExitCode, Halt, PipelineError, harmless

T = TypeVar("T")


# How the end of the process is told; a process that stays tells it as an event among others.
_line: list[Callable[..., str]] = []


def tell_as(line: Callable[..., str]) -> None:
    """Have the end of this process told as an event: of level, event and fields this is a line."""
    _line[:] = [line]


def _ending(error: BaseException) -> str:
    code = error.exit_code if isinstance(error, PipelineError) else ExitCode.BUG
    is_bug = not isinstance(error, PipelineError)
    why = "a bug; nothing was written past it" if is_bug else harmless(str(error))
    if _line:
        trace = {"exc_info": error} if is_bug else {}
        return _line[0]("error", "ended", code=int(code), why=why, **trace) + "\n"
    told = "".join(traceback.format_exception(error)) if is_bug else ""
    return f"recount: {why}\n" + harmless(told, keep="\n\t")


def leave(error: PipelineError) -> NoReturn:
    """End the process now, from any thread, without waiting for any lock of another one."""
    os.write(2, _ending(error).encode())
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
    code = error.exit_code if isinstance(error, PipelineError) else ExitCode.BUG
    sys.stderr.write(_ending(error))
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
