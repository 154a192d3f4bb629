"""The vendors' clients for Node, installed from their lock into `.recount/node`."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .services import ROOT

LOCKED = ROOT / "tests/data/clients"
FOLDER = ROOT / ".recount/node"
_INSTALL_S_MAX = 300
# A test that needs Node is skipped with this reason where there is none, and fails under CI.
NEEDS_NODE = pytest.mark.skipif(
    shutil.which("npm") is None and not os.environ.get("CI"),
    reason="node and npm are not installed here: clients for Node were not tried",
)


def packages() -> Path:
    """Return the folder with `node_modules`; install what is locked, once for every process."""
    assert shutil.which("node"), "node is not installed here"
    assert shutil.which("npm"), "npm is not installed here"
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = (LOCKED / "package-lock.json").read_text()
    installed = FOLDER / "installed"
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if installed.exists() and installed.read_text() == wanted:
            return FOLDER
        for name in ("package.json", "package-lock.json"):
            shutil.copy(LOCKED / name, FOLDER / name)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=FOLDER,
            capture_output=True,
            text=True,
            timeout=_INSTALL_S_MAX,
            check=False,
        )
        assert done.returncode == 0, f"npm ci: {done.stderr[-2000:]}"
        installed.write_text(wanted)
    return FOLDER
