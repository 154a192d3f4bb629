"""What the README's first screen promises is what a stranger sees, the page included."""

import re
import signal
import subprocess
import threading
from collections.abc import Iterable, Iterator

import httpx
import pytest

from pipeline.stack.processes import free_port

from ..services import ROOT, Recount
from ..waiting import eventually


@pytest.mark.timeout(150)
def test_the_demo_ends_as_the_readme_says(recount: Recount) -> None:
    """It prints tables, fates, events/s and the README's last line; then events go on, live."""
    readme = (ROOT / "README.md").read_text()
    (shown,) = re.findall(r"ends with:\n\n```\n(.*?)\n```", readme, re.DOTALL)
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"{target}: env" in makefile for target in ("demo", "test"))
    assert "recount demo $(if $(SERVE),--serve)" in makefile

    port = str(free_port())
    process = recount.start("demo", "--serve", "--port", port, stdout=subprocess.PIPE)
    killer = threading.Timer(140, process.kill)
    killer.start()
    try:
        assert process.stdout is not None
        lines = list(until_served(process.stdout))
        at = lines.index("matches recount: yes")
        assert lines[at] == shown.splitlines()[-1]
        assert re.fullmatch(r"cells recounted: \d+, mismatches: 0", lines[at - 1])
        assert re.match(r"events/s: \d+", lines[at - 2])
        url, key = lines[-2].split()[-1], lines[-1].split()[-1]
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers) as client:
            assert "API key" in client.get("/page/login").text

            def consumed() -> int:
                total = client.get("/recount/v1/status").json()["data"][-1]
                return int(total["consumed"])

            eventually(lambda: consumed() > 22_000 + 100, within_s=40, because="events go on")

        process.send_signal(signal.SIGINT)

        assert process.wait(80) == 0
    finally:
        killer.cancel()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def until_served(output: Iterable[bytes]) -> Iterator[str]:
    """The lines up to the one with the key."""
    for line in output:
        yield line.decode().rstrip("\n")
        if line.startswith(b"log in with"):
            return
