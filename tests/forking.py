"""The process that forks for each call of the `recount` command (tests/forked.py)."""

import json
import os
import signal
import socket
import sys
import time
from typing import NoReturn

import pipeline.cli  # noqa: F401  this is what a fork need not do
from pipeline.__main__ import main

from .forked import NUMBER_BYTES, REQUEST_BYTES_MAX, ROOT


def serve(requests: socket.socket) -> None:
    """Fork for each request until nobody can ask any more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        request, files, _, _ = socket.recv_fds(requests, REQUEST_BYTES_MAX, 4)
        if not request:
            return
        if os.fork() == 0:
            requests.close()
            _watch(request, files)
        for number in files:
            os.close(number)


def _watch(request: bytes, files: list[int]) -> NoReturn:
    """Fork the command, and tell its process id and how it ended."""
    *files, told = files
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        os.close(told)
        _run(request, files)
    os.write(told, process.to_bytes(NUMBER_BYTES, signed=True))
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    os.write(told, code.to_bytes(NUMBER_BYTES, signed=True))
    os._exit(0)


def _run(request: bytes, files: list[int]) -> NoReturn:
    asked = json.loads(request)
    for target, number in enumerate(files):
        os.dup2(number, target)
        os.close(number)
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    sys.argv = [str(ROOT / "pipeline" / "__main__.py"), *asked["arguments"]]
    sys.modules["__main__"].__package__ = "pipeline"
    code: int | str | None = 1
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
