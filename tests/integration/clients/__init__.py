"""Programs that a client's user would write: each works through one vendor's client, unchanged.

Each takes a JSON object as its argument, and prints what its client says.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ...nodejs import packages

_FOLDER = Path(__file__).parent
_S_MAX = 90


def driven(file: str, **told: Any) -> Any:
    """Run a program, by Node or Python, and return what it printed last."""
    found, command = {"PATH": os.environ["PATH"]}, sys.executable
    if file.endswith(".js"):
        found["NODE_PATH"], command = str(packages() / "node_modules"), "node"
    done = subprocess.run(
        [command, file, json.dumps(told)],
        env=found,
        cwd=_FOLDER,
        capture_output=True,
        text=True,
        timeout=_S_MAX,
        check=False,
    )
    assert done.returncode == 0, f"{file}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.splitlines()[-1])
