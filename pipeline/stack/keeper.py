"""The keeper: parent of Kafka and Redis, so that nothing outlives whoever needs them.

`python -m pipeline.stack.keeper FOLDER KAFKA_PORT REDIS_PORT` starts both, writes state.json when
they answer, and ends them on SIGTERM. Until its stdin says `detach`, the end of its stdin (its
owner is gone, also by kill -9) ends them as well. The kernel ends the two when the keeper is
killed itself.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from ..edges.clock import SystemClock
from ..errors import PipelineError
from .probe import kafka_answers, redis_answers
from .processes import Ports, free_port, kafka_command, redis_command

_START_S_MAX: Final = 90.0
_STOP_S_MAX: Final = 20.0
_POLL_S: Final = 0.2
_PR_SET_PDEATHSIG: Final = 1
STATE: Final = "state.json"
DETACH: Final = b"detach\n"


def _die_with_keeper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Keeper:
    """Two processes and the pipe to the owner."""

    def __init__(self, folder: Path, ports: Ports) -> None:
        self._folder = folder
        self._ports = ports
        self._children: list[subprocess.Popen[bytes]] = []
        self._attached = True
        self._ending = False

    def run(self) -> int:
        """Start, wait, end; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        try:
            self._start("kafka", kafka_command(self._folder, self._ports))
            self._start("redis", redis_command(self._folder, self._ports))
            if not self._wait_until_ready():
                return 1
            while not self._ending and self._alive():
                self._listen(_POLL_S)
            return 0 if self._ending else 1
        finally:
            self._stop()

    def _end(self, *_: object) -> None:
        self._ending = True

    def _start(self, name: str, command: list[str]) -> None:
        with (self._folder / f"{name}.log").open("ab") as output:
            self._children.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    preexec_fn=_die_with_keeper,  # noqa: PLW1509  single-threaded, nothing to lock
                )
            )

    def _alive(self) -> bool:
        return all(child.poll() is None for child in self._children)

    def _listen(self, seconds: float) -> None:
        """Wait, and hear of the owner's end meanwhile."""
        if not self._attached:
            select.select([], [], [], seconds)
            return
        readable, _, _ = select.select([0], [], [], seconds)
        if readable:
            said = os.read(0, 64)
            if said == DETACH:
                self._attached = False
            elif not said:
                self._ending = True

    def _wait_until_ready(self) -> bool:
        clock = SystemClock()
        kafka, redis = f"127.0.0.1:{self._ports.kafka}", f"redis://127.0.0.1:{self._ports.redis}/0"
        deadline = clock.monotonic() + _START_S_MAX
        while clock.monotonic() < deadline and not self._ending:
            if not self._alive():
                sys.stderr.write(f"a process ended while starting; see {self._folder}/*.log\n")
                return False
            if redis_answers(redis) and kafka_answers(kafka):
                state = {"kafka": kafka, "redis": redis, "kind": "native", "pid": os.getpid()}
                state |= {"pids": [child.pid for child in self._children]}
                partial = self._folder / f"{STATE}.new"
                partial.write_text(json.dumps(state))
                partial.rename(self._folder / STATE)
                return True
            self._listen(_POLL_S)
        sys.stderr.write(f"Kafka or Redis did not answer; see {self._folder}/*.log\n")
        return False

    def _stop(self) -> None:
        """End both cleanly, then for good."""
        (self._folder / STATE).unlink(missing_ok=True)
        for child in self._children:
            if child.poll() is None:
                child.terminate()
        clock = SystemClock()
        deadline = clock.monotonic() + _STOP_S_MAX
        for child in self._children:
            try:
                child.wait(max(deadline - clock.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def main() -> int:
    """Entry of the keeper process."""
    folder = Path(sys.argv[1])
    ports = Ports(kafka=int(sys.argv[2]), controller=free_port(), redis=int(sys.argv[3]))
    try:
        return Keeper(folder, ports).run()
    except PipelineError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
