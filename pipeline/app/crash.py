"""Crash only: the one place that catches everything, to say it and to end the process."""

import logging
import os
import sys
import traceback
from collections.abc import Awaitable
from types import TracebackType
from typing import NoReturn, Self, TypeVar

from ..errors import ExitCode, PipelineError, harmless

T = TypeVar("T")


def leave(error: PipelineError) -> NoReturn:
    """End the process now, from any thread, without waiting for any lock of another one."""
    os.write(2, f"recount: {harmless(str(error))}\n".encode())
    os._exit(error.exit_code)


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
