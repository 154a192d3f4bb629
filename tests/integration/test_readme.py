"""The README's commands, typed as they stand there, in a shell that has nothing of ours."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from ..services import ROOT, Recount

README = (ROOT / "README.md").read_text()
ANYTHING = "…"


def files() -> dict[str, str]:
    """The input files: each block of JSON, by the file that was named last before it."""
    before, *blocks = README.split("```json\n")
    found = {}
    for block in blocks:
        content, after = block.split("```", 1)
        found[re.findall(r"`(\w+\.jsonl?)`", before)[-1]] = content
        before = after
    return found


def sessions() -> list[tuple[str, list[str]]]:
    """Every command of the console blocks, and the lines that it prints."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def checkout(folder: Path) -> Path:
    """A folder with the launcher and the environment of the checkout, and the README's files."""
    assert (ROOT / "recount").exists(), "`make env` makes ./recount"
    for name in ("recount", ".venv"):
        (folder / name).symlink_to(ROOT / name)
    for name, text in files().items():
        (folder / name).write_text(text)
    return folder


def typed(command: str, folder: Path, **variables: str) -> str:
    """Type a command into a clean shell and return what it prints; it must end with 0."""
    kept = {name: os.environ[name] for name in ("HOME", "PATH")}
    words = [f"{name}={text}" for name, text in {**kept, **variables}.items()]
    done = subprocess.run(
        ["env", "-i", *words, "sh", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def as_shown(printed: list[str], shown: list[str]) -> bool:
    """Whether lines are those of the README, which has `…` for what differs."""
    patterns = [re.escape(line).replace(re.escape(ANYTHING), ".+") for line in shown]
    pairs = zip(patterns, printed, strict=False)
    return len(printed) == len(shown) and all(re.fullmatch(*pair) for pair in pairs)


def test_the_launcher_explains_itself(tmp_path: Path) -> None:
    """`./recount --help` works in a shell without any setting."""
    assert "metrics" in typed("./recount --help", checkout(tmp_path))


@pytest.mark.timeout(240)
def test_the_commands_print_what_the_readme_shows(recount: Recount, tmp_path: Path) -> None:
    """Every command of the README ends well and prints the lines that stand below it."""
    folder, commands = checkout(tmp_path), sessions()
    variables = {
        "RECOUNT_KAFKA": recount.services.kafka,
        "RECOUNT_REDIS": recount.services.redis,
        "RECOUNT_DEPLOYMENT": recount.deployment,
    }
    # What the fixtures do instead: services that run, and a deployment that nobody else uses.
    done = {"./recount stack up", "export RECOUNT_DEPLOYMENT=trial"}

    assert {"metric.json", "events.jsonl"} == set(files())
    assert done < {command for command, _ in commands}
    for command, shown in commands:
        if command in done:
            continue
        printed = typed(command, folder, **variables).replace(recount.deployment, "trial")
        if shown or shlex.split(command)[1] != "init":
            assert as_shown(printed.splitlines(), shown), f"{command}\n{printed}"
