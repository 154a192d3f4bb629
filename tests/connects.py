"""Every TCP connection that processes begin, whatever opens it (tests/data/connects.c)."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from .services import ROOT

_SOURCE = ROOT / "tests/data/connects.c"
_COMPILER = shutil.which("cc") if sys.platform == "linux" else None
# A test that needs it is skipped with this reason where it cannot be had, and fails under CI.
NEEDS_COMPILER = pytest.mark.skipif(
    _COMPILER is None and not os.environ.get("CI"),
    reason="no C compiler for Linux here: the connections of processes were not listed",
)


@dataclass(frozen=True)
class Connects:
    """Writes down what processes with its environment connect to. folder: of its own."""

    folder: Path

    def __post_init__(self) -> None:
        assert _COMPILER is not None, "cc is not installed here"
        subprocess.run(
            [_COMPILER, "-shared", "-fPIC", "-O1", "-o", str(self._library), str(_SOURCE), "-ldl"],
            check=True,
        )

    @property
    def _library(self) -> Path:
        return self.folder / "connects.so"

    @property
    def _log(self) -> Path:
        return self.folder / "connects.log"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that is watched; its children inherit them."""
        return {"LD_PRELOAD": str(self._library), "CONNECTS_TO": str(self._log)}

    def taken(self) -> Counter[str]:
        """How often each host:port was connected to since this was last asked."""
        if not self._log.exists():
            return Counter()
        lines = self._log.read_text().splitlines()
        self._log.unlink()
        return Counter(":".join(line.split(" ")[1:]) for line in lines)
