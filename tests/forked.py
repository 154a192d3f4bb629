"""The `recount` command without its start: a process that has imported it forks for each call.

Most of a short command's two seconds of CPU are imports, and the suite runs more than a thousand.
Each call is a process of its own, with its own environment, files and exit code, as it is for a
user. What is started and left running (workers, servers) is started as a user starts it. The
process that forks: tests/forking.py.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

ROOT: Final = Path(__file__).parents[1]
REQUEST_BYTES_MAX: Final = 1 << 20
NUMBER_BYTES: Final = 8
_PRELOAD: Final = "LD_PRELOAD"  # the only variable that has its effect before a fork


def ended(
    arguments: Sequence[str], *, environment: dict[str, str], stdin: bytes, within_s: float
) -> "subprocess.CompletedProcess[bytes]":
    """Run `recount` to its end, whatever that is.

    Raises:
        subprocess.TimeoutExpired: it has not ended in time; it is killed.
    """
    asked, told = os.pipe()
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(stdin)
        given.flush()
        request = json.dumps({"arguments": arguments, "environment": environment}).encode()
        files = [given.fileno(), out.fileno(), err.fileno(), told]
        os.lseek(given.fileno(), 0, os.SEEK_SET)
        try:
            preloaded = environment.get(_PRELOAD, "")
            socket.send_fds(_server(os.getpid(), preloaded)[0], [request], files)
        finally:
            os.close(told)
        try:
            code = _code(asked, time.monotonic() + within_s)
        finally:
            os.close(asked)
        out.seek(0)
        err.seek(0)
        texts = out.read(), err.read()
    if code is None:
        raise subprocess.TimeoutExpired([*arguments], within_s, *texts)
    return subprocess.CompletedProcess([*arguments], code, *texts)


def _code(asked: int, deadline: float) -> int | None:
    """The exit code that is told through a pipe, behind the process id; None at the deadline."""
    process = _number(asked, deadline)
    code = None if process is None else _number(asked, deadline)
    if code is None and process is not None:
        os.kill(process, signal.SIGKILL)
    return code


def _number(asked: int, deadline: float) -> int | None:
    if not select.select([asked], [], [], max(deadline - time.monotonic(), 0))[0]:
        return None
    text = os.read(asked, NUMBER_BYTES)
    assert len(text) == NUMBER_BYTES, "the process that forks has ended"
    return int.from_bytes(text, signed=True)


@cache
def _server(owner: int, preloaded: str) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    """The process that forks. preloaded: a library that is in it, and so in every fork."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (here, there):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, REQUEST_BYTES_MAX)
    with there:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forking", str(there.fileno())],
            cwd=ROOT,
            env={**os.environ, _PRELOAD: preloaded} if preloaded else None,
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    return here, process
