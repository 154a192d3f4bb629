"""up, down, status: services that answer already, Docker, or native processes, in this order."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ..edges.clock import SystemClock
from ..edges.kafka_client import KafkaAddress
from ..errors import UsageError
from .keeper import DETACH, STATE
from .probe import brokers_of, kafka_answers, redis_answers
from .processes import MissingPart, free_port, kafka_jars, redis_binary

KAFKA_PORT: Final = 9092
REDIS_PORT: Final = 6379
_COMPOSE: Final = Path(__file__).parents[2] / "compose.yaml"
_UP_S_MAX: Final = 240.0
_DOWN_S_MAX: Final = 40.0
_POLL_S: Final = 0.1


def status(folder: Path) -> dict[str, Any] | None:
    """Return what runs for a folder, or None."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    if state["kind"] == "native" and not _is_keeper(state["pid"]):
        return None
    up = brokers_of(state["kafka"])
    answers: dict[str, Any] = {"answers": redis_answers(state["redis"]) and up > 0}
    if (brokers := state.get("brokers", 1)) > 1:
        answers |= {"brokers": brokers, "brokers_up": up}
    return _addresses(state) | answers


def up(
    folder: Path,
    *,
    configured: tuple[KafkaAddress, str],
    kafka_port: int | None = None,
    redis_port: int | None = None,
    native: bool = False,
    brokers: int = 1,
) -> dict[str, str]:
    """Bring Kafka and Redis up and return their addresses; they stay until down().

    Args:
        configured: Kafka, with its login, and RECOUNT_REDIS; used as they are where both answer.
        brokers: Several are native processes, whatever answers.
    """
    native = native or brokers > 1
    with _locked(folder):
        running = status(folder)
        if running is not None:
            if brokers > 1 and running.get("brokers", 1) != brokers:
                raise UsageError(
                    f"another stack runs in {folder}: one of {running.get('brokers', 1)} brokers; "
                    "run `recount stack down` first, or choose another --dir"
                )
            return _addresses(running)
        if not native and kafka_answers(configured[0]) and redis_answers(configured[1]):
            return {"kafka": configured[0].bootstrap, "redis": configured[1], "kind": "external"}
        if not native and docker_answers():
            return _docker_up(folder, kafka_port, redis_port)
        keeper = start_keeper(
            folder, kafka_port=kafka_port, redis_port=redis_port, brokers=brokers
        )
        assert keeper.stdin is not None
        keeper.stdin.write(DETACH)
        keeper.stdin.close()
        return _addresses(json.loads((folder / STATE).read_text()))


@contextmanager
def running(
    folder: Path, *, kafka_port: int | None = None, redis_port: int | None = None
) -> Iterator[dict[str, str]]:
    """A native stack for as long as this process lives, and not longer."""
    with _locked(folder):
        keeper = start_keeper(folder, kafka_port=kafka_port, redis_port=redis_port)
    try:
        yield _addresses(json.loads((folder / STATE).read_text()))
    finally:
        assert keeper.stdin is not None
        keeper.stdin.close()  # the keeper's owner is gone: it ends what it started
        keeper.wait(_DOWN_S_MAX)


@contextmanager
def borrowed(folder: Path, configured: tuple[KafkaAddress, str]) -> Iterator[dict[str, str]]:
    """A stack of any kind for the length of a block; what was started is taken down."""
    if kafka_answers(configured[0]) and redis_answers(configured[1]):
        yield {"kafka": configured[0].bootstrap, "redis": configured[1], "kind": "external"}
    elif docker_answers():
        try:
            yield up(folder, configured=configured)
        finally:
            down(folder)
    else:
        with running(folder) as addresses:
            yield addresses


def start_keeper(
    folder: Path,
    *,
    kafka_port: int | None = None,
    redis_port: int | None = None,
    brokers: int = 1,
) -> "subprocess.Popen[bytes]":
    """Start the keeper and wait until everything answers.

    kafka_port: of the first broker; the others have the next ones.
    """
    redis_binary(), kafka_jars()  # a missing part is told here, before anything runs
    _check_data(folder, brokers)
    ports = [_port(redis_port, REDIS_PORT)]
    ports += [_port(kafka_port, KAFKA_PORT, after=at) for at in range(brokers)]
    with (folder / "keeper.log").open("wb") as log:
        keeper = subprocess.Popen(
            [
                *(sys.executable, "-m", "pipeline.stack.keeper", str(folder.resolve())),
                *(str(port) for port in ports),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    clock = SystemClock()
    deadline = clock.monotonic() + _UP_S_MAX
    while not (folder / STATE).exists():
        if keeper.poll() is not None or clock.monotonic() > deadline:
            keeper.kill()
            raise MissingPart(
                (folder / "keeper.log").read_text().strip() or "the stack did not start"
            )
        clock.pause(_POLL_S)
    return keeper


def _port(asked: int | None, usual: int, *, after: int = 0) -> int:
    """The port that was asked for, or the usual one, or a free one; some numbers after it."""
    found = free_port((asked or usual) + after)
    if asked is not None and found != asked + after:
        raise UsageError(f"port {asked + after} is in use; choose another")
    return found


def _check_data(folder: Path, brokers: int) -> None:
    """Refuse data of another number of brokers: they would not find each other, or their topics.

    Raises:
        UsageError: says how many there are.
    """
    there = len(list(folder.glob("broker-*"))) or int((folder / "kafka").exists())
    if there not in (0, brokers):
        raise UsageError(
            f"{folder} holds the data of {there} brokers, not of {brokers}; give --brokers "
            f"{there}, or another --dir"
        )


def down(folder: Path) -> bool:
    """End what up() started; return whether anything ran."""
    with _locked(folder):
        try:
            state = json.loads((folder / STATE).read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        if state["kind"] == "docker":
            _compose(state["project"], "down", env={})
            (folder / STATE).unlink(missing_ok=True)
            return True
        if not _is_keeper(state["pid"]):
            (folder / STATE).unlink(missing_ok=True)
            return False
        os.kill(state["pid"], signal.SIGTERM)
        clock = SystemClock()
        deadline = clock.monotonic() + _DOWN_S_MAX
        while _is_keeper(state["pid"]):
            if clock.monotonic() > deadline:
                os.kill(state["pid"], signal.SIGKILL)
            clock.pause(_POLL_S)
        return True


def _is_keeper(pid: int) -> bool:
    """Whether a process id is still a keeper's, not another process that got its number."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
        done = subprocess.run(
            ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False
        )
        command = done.stdout
    return b"pipeline.stack.keeper" in command


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One `stack` command for a folder at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _addresses(state: dict[str, Any]) -> dict[str, str]:
    return {name: state[name] for name in ("kafka", "redis", "kind")}


# -- Docker: docs/operations/containers.md says what of it was run --------------------------------


def docker_answers() -> bool:
    """Whether a Docker engine answers; the client alone is not enough."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    asked = subprocess.run([docker, "info"], capture_output=True, check=False)
    return asked.returncode == 0


def _docker_up(folder: Path, kafka_port: int | None, redis_port: int | None) -> dict[str, str]:
    kafka = kafka_port or free_port(KAFKA_PORT)
    redis = redis_port or free_port(REDIS_PORT)
    project = f"recount-{zlib.crc32(str(folder.resolve()).encode())}"
    ports = {"RECOUNT_KAFKA_PORT": str(kafka), "RECOUNT_REDIS_PORT": str(redis)}
    _compose(project, "up", "--detach", env=ports)
    state = {
        "kafka": f"127.0.0.1:{kafka}",
        "redis": f"redis://127.0.0.1:{redis}/0",
        "kind": "docker",
        "project": project,
    }
    clock = SystemClock()
    deadline = clock.monotonic() + _UP_S_MAX
    while not (redis_answers(state["redis"]) and kafka_answers(state["kafka"])):
        if clock.monotonic() > deadline:
            raise MissingPart("the containers do not answer; see `docker compose logs`")
        clock.pause(_POLL_S)
    (folder / STATE).write_text(json.dumps(state))
    return _addresses(state)


def _compose(project: str, *command: str, env: dict[str, str]) -> None:
    arguments = ["docker", "compose", "-f", str(_COMPOSE), "-p", project, *command]
    done = subprocess.run(
        arguments, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MissingPart(f"docker compose failed: {done.stderr.strip()[-400:]}")
