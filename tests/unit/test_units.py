"""The systemd units of docs/operations/systemd: systemd and Recount know what they say."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import ExitCode
from pipeline.settings import describe, load_settings

from ..services import ROOT

FOLDER = ROOT / "docs/operations/systemd"
SERVICES = sorted(FOLDER.glob("*.service"))
TOOL = shutil.which("systemd-analyze")
INSTALLED = "/opt/recount/.venv/bin/recount"


def values_of(path: Path, name: str) -> list[str]:
    """What a unit says for a name, each time."""
    return re.findall(rf"^{name}=(.*)$", path.read_text(), re.MULTILINE)


@pytest.mark.skipif(TOOL is None, reason="no systemd-analyze here")
def test_systemd_takes_them(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say of any unit."""
    tool = str(TOOL)
    here = Path(shutil.which("true") or "/bin/true")
    for path in FOLDER.glob("recount-*.*"):
        text = path.read_text().replace(INSTALLED, str(here)).replace("User=recount", "User=root")
        (tmp_path / path.name).write_text(text)
    units = [str(path) for path in sorted(tmp_path.iterdir())]
    done = subprocess.run(
        [tool, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    about_ours = [line for line in done.stderr.splitlines() if "recount" in line]

    assert len(units) == 4
    assert (done.returncode, about_ours) == (0, [])


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.stem)
def test_recount_has_the_commands_and_settings(unit: Path) -> None:
    """Each command exists with its options; each variable is a setting."""
    (command,) = values_of(unit, "ExecStart")
    program, *words = shlex.split(command)
    names = [word for word in words if re.fullmatch(r"[a-z]+", word)]
    told = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    known = {row["variable"] for row in describe(load_settings())}
    lines = (FOLDER / "recount.env").read_text().splitlines()
    given = [line.partition("=")[0] for line in lines if not line.startswith("#")]
    given += [each.partition("=")[0] for each in values_of(unit, "Environment")]

    assert (program, told.exit_code) == (INSTALLED, 0)
    assert [each for each in words if each.startswith("--") and each not in told.output] == []
    assert set(given) <= known


@pytest.mark.parametrize("name", ["recount-worker", "recount-serve"])
def test_what_does_not_mend_itself_is_not_restarted(name: str) -> None:
    """After an exit code where our supervisor does not restart, systemd does not either."""
    (codes,) = values_of(FOLDER / f"{name}.service", "RestartPreventExitStatus")
    final = {ExitCode.USAGE, ExitCode.DEFINITION, ExitCode.HALT}

    assert {int(code) for code in codes.split()} == {int(code) for code in final}
