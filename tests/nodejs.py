"""Packages for Node that tests use, installed from their lock into `.recount`."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .services import ROOT

_INSTALL_S_MAX = 300
# A test that needs Node is skipped with this reason where there is none, and fails under CI.
NEEDS_NODE = pytest.mark.skipif(
    shutil.which("npm") is None and not os.environ.get("CI"),
    reason="node and npm are not installed here: clients for Node were not tried",
)


def packages(locked: str = "clients", into: str = "node") -> Path:
    """Return the folder with `node_modules`; install what is locked, once for every process.

    locked: the folder of tests/data with the lock. into: the folder of .recount.
    """
    assert shutil.which("node"), "node is not installed here"
    assert shutil.which("npm"), "npm is not installed here"
    source, folder = ROOT / "tests/data" / locked, ROOT / ".recount" / into
    folder.mkdir(parents=True, exist_ok=True)
    wanted = (source / "package-lock.json").read_text()
    installed = folder / "installed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if installed.exists() and installed.read_text() == wanted:
            return folder
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, folder / name)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_INSTALL_S_MAX,
            check=False,
        )
        assert done.returncode == 0, f"npm ci: {done.stderr[-2000:]}"
        installed.write_text(wanted)
    return folder
