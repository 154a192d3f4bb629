"""The local stack: free ports, its own folder, clean shutdown, and no orphans."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from pipeline.stack.probe import kafka_answers, redis_answers

from ..services import ROOT
from ..waiting import eventually

_HOLD = """
import sys, signal
from pathlib import Path
from pipeline.stack import local
with local.running(Path(sys.argv[1])):
    print("up", flush=True)
    signal.pause()
"""


def stack(*arguments: str, exits: int = 0) -> Any:
    """Run `recount stack …`; return its answer, or why it refuses."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "stack", *arguments],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == exits, done.stderr.decode()
    return json.loads(done.stdout) if done.stdout else done.stderr.decode()


def gone(pids: list[int]) -> bool:
    """Whether none of these processes runs any more."""
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_up_status_down(tmp_path: Path) -> None:
    """`up` gives addresses that answer and is idempotent; `down` leaves nothing; data stays."""
    folder = ["--dir", str(tmp_path)]
    up = stack("up", "--native", *folder)
    pids = json.loads((tmp_path / "state.json").read_text())["pids"]

    assert up["kind"] == "native"
    assert kafka_answers(up["kafka"])
    assert redis_answers(up["redis"])
    assert stack("up", "--native", *folder) == up
    assert stack("status", *folder) == {**up, "answers": True}
    assert stack("down", *folder) == {"stopped": True}
    assert gone(pids)
    assert stack("down", *folder) == {"stopped": False}
    assert stack("status", *folder, exits=4)["answers"] is False
    assert (tmp_path / "kafka" / "meta.properties").exists()


def test_data_of_another_number_of_brokers_is_refused(tmp_path: Path) -> None:
    """Brokers of one stack never find data of another: it is said before anything starts."""
    (tmp_path / "broker-1").mkdir()
    (tmp_path / "broker-2").mkdir()

    for asked in ("1", "3"):
        told = stack("up", "--native", "--brokers", asked, "--dir", str(tmp_path), exits=2)
        assert f"the data of 2 brokers, not of {asked}" in told


def test_no_orphans_when_the_owner_is_killed(tmp_path: Path) -> None:
    """Kill -9 of whoever holds the stack, and of the keeper itself: Kafka and Redis end too."""
    for victim in ("owner", "keeper"):
        folder = tmp_path / victim
        folder.mkdir()
        with subprocess.Popen(
            [sys.executable, "-c", _HOLD, str(folder)], cwd=ROOT, stdout=subprocess.PIPE
        ) as owner:
            assert owner.stdout is not None
            assert owner.stdout.readline() == b"up\n"
            state = json.loads((folder / "state.json").read_text())
            os.kill(owner.pid if victim == "owner" else state["pid"], signal.SIGKILL)
            eventually(
                lambda pids=state["pids"]: gone(pids),  # type: ignore[misc]
                within_s=30,
                because="Kafka and Redis end",
            )
            owner.kill()
