"""The keeper: parent of Kafka and Redis, so that nothing outlives whoever needs them.

`python -m pipeline.stack.keeper FOLDER REDIS_PORT KAFKA_PORT…` starts Redis and a broker for each
port, writes state.json when they answer, and ends them on SIGTERM. Until its stdin says `detach`,
the end of its stdin (its owner is gone, also by kill -9) ends them as well. The kernel ends them
when the keeper is killed itself.

Of several brokers any may end: the others go on without it. It is not started again, so that one
can see what happens then.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..edges.clock import SystemClock
from ..errors import PipelineError
from .probe import brokers_of, redis_answers
from .processes import Ports, Quorum, free_port, kafka_command, new_cluster, redis_command

_START_S_MAX: Final = 180.0  # of several brokers on a busy machine
_STOP_S_MAX: Final = 20.0
_POLL_S: Final = 0.2
_PR_SET_PDEATHSIG: Final = 1
STATE: Final = "state.json"
DETACH: Final = b"detach\n"


def _die_with_keeper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _started(command: list[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=_die_with_keeper,  # noqa: PLW1509  single-threaded, nothing to lock
        )


def broker_folders(folder: Path, count: int) -> list[Path]:
    """Return where the brokers of a stack have their files: one alone in the folder itself."""
    return [folder] if count == 1 else [folder / f"broker-{at + 1}" for at in range(count)]


def _cluster(folders: Sequence[Path]) -> str:
    """The id of the cluster whose data lies there, or of a new one."""
    for each in folders:
        with suppress(FileNotFoundError):
            for line in (each / "kafka" / "meta.properties").read_text().splitlines():
                if line.startswith("cluster.id="):
                    return line.partition("=")[2]
    return new_cluster()


class Keeper:
    """Some brokers, a Redis and the pipe to the owner."""

    def __init__(self, folder: Path, redis: int, kafka: Sequence[int]) -> None:
        self._folder = folder
        self._redis_port = redis
        self._kafka_ports = kafka
        self._brokers: list[subprocess.Popen[bytes]] = []
        self._redis: list[subprocess.Popen[bytes]] = []
        self._attached = True
        self._ending = False

    def run(self) -> int:
        """Start, wait, end; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        try:
            self._start_all()
            if not self._wait_until_ready():
                return 1
            while not self._ending and self._goes_on():
                self._listen(_POLL_S)
            return 0 if self._ending else 1
        finally:
            self._stop()

    def _end(self, *_: object) -> None:
        self._ending = True

    def _start_all(self) -> None:
        folders = broker_folders(self._folder, len(self._kafka_ports))
        cluster = _cluster(folders)
        controllers = tuple(free_port() for _ in folders)
        for at, folder in enumerate(folders):
            folder.mkdir(exist_ok=True)
            ports = Ports(self._kafka_ports[at], controllers[at], self._redis_port)
            command = kafka_command(folder, ports, Quorum(cluster, at + 1, controllers))
            self._brokers.append(_started(command, folder / "kafka.log"))
        redis = redis_command(self._folder, Ports(0, 0, self._redis_port))
        self._redis.append(_started(redis, self._folder / "redis.log"))

    @property
    def _children(self) -> list["subprocess.Popen[bytes]"]:
        return [*self._brokers, *self._redis]

    def _all_run(self) -> bool:
        return all(child.poll() is None for child in self._children)

    def _goes_on(self) -> bool:
        """Whether Redis and any broker run."""
        brokers, redis = self._brokers, self._redis
        return any(each.poll() is None for each in brokers) and redis[0].poll() is None

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
        kafka = ",".join(f"127.0.0.1:{port}" for port in self._kafka_ports)
        redis = f"redis://127.0.0.1:{self._redis_port}/0"
        deadline = clock.monotonic() + _START_S_MAX
        while clock.monotonic() < deadline and not self._ending:
            if not self._all_run():
                sys.stderr.write(f"a process ended while starting; see {self._logs}\n")
                return False
            if redis_answers(redis) and brokers_of(kafka) == len(self._brokers):
                state = {"kafka": kafka, "redis": redis, "kind": "native", "pid": os.getpid()}
                state |= {"pids": [child.pid for child in self._children]}
                state |= {"brokers": len(self._brokers)}
                partial = self._folder / f"{STATE}.new"
                partial.write_text(json.dumps(state))
                partial.rename(self._folder / STATE)
                return True
            self._listen(_POLL_S)
        sys.stderr.write(f"Kafka or Redis did not answer; see {self._logs}\n")
        return False

    @property
    def _logs(self) -> str:
        """Where processes write what is wrong with them."""
        places = dict.fromkeys([self._folder, *broker_folders(self._folder, len(self._brokers))])
        return ", ".join(f"{place}/*.log" for place in places)

    def _stop(self) -> None:
        """End all cleanly, then for good."""
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
    redis, *kafka = (int(port) for port in sys.argv[2:])
    try:
        return Keeper(Path(sys.argv[1]), redis, kafka).run()
    except PipelineError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)


if __name__ == "__main__":
    sys.exit(main())
