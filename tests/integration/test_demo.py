"""What the README's first screen promises is what a stranger sees."""

import re

import pytest

from ..services import ROOT, Recount


@pytest.mark.timeout(120)
def test_the_demo_ends_as_the_readme_says(recount: Recount) -> None:
    """The demo prints tables, fates and events/s, and its last line is the README's."""
    readme = (ROOT / "README.md").read_text()
    (shown,) = re.findall(r"ends with:\n\n```\n(.*?)\n```", readme, re.DOTALL)
    makefile = (ROOT / "Makefile").read_text()

    done = recount.ended("demo")

    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr.decode()
    assert lines[-1] == shown.splitlines()[-1] == "matches recount: yes"
    assert re.fullmatch(r"cells recounted: \d+, mismatches: 0", lines[-2])
    assert re.match(r"events/s: \d+", lines[-3])
    assert all(f"{target}: env" in makefile for target in ("demo", "test"))
