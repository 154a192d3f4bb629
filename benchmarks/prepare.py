"""Makes what the benchmark's peers need, once for each content, under .recount/.

What cannot be made here (no Maven, no JDK, no cargo, no network) is told, and the benchmark goes
on without it. Nothing else of the project depends on these tools.
"""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.services import ROOT, Recount

from .aims import BEFORE
from .variants import MADE, PEERS, VARIANTS

CHECKOUT = ROOT / ".recount" / "before" / BEFORE
SHARED_JAVA = PEERS / "shared_java"
# environment → its folder, of those on the JVM
JVM = {"streams": "kafka_streams", "flink": "flink", "jet": "jet"}


class Missing(Exception):
    """What a peer needs is not here; its only argument says what."""


def prepare(names: set[str]) -> dict[str, str]:
    """Make what these variants need; return variant → why it cannot run here."""
    needed = {variant.needs for variant in VARIANTS if variant.name in names} - {""}
    missing = {}
    for each in sorted(needed):
        try:
            _make(each)
        except Missing as error:
            missing[each] = str(error)
    return {
        variant.name: missing[variant.needs]
        for variant in VARIANTS
        if variant.name in names and variant.needs in missing
    }


def _make(each: str) -> None:
    if each == "before":
        _check_out()
    elif each == "rust":
        _cargo(PEERS / "rust", MADE / "rust")
    elif each in JVM:
        _compile(PEERS / JVM[each], MADE / each)
    else:
        _environment(PEERS / f"{each}.txt", MADE / each)


def _run(*command: str, folder: Path = ROOT, **environment: str) -> None:
    """Run a tool to its end.

    Raises:
        Missing: it is not installed, or it failed.
    """
    if shutil.which(command[0]) is None:
        raise Missing(f"{command[0]} is not installed")
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Missing(f"{command[0]} failed: {lines[-1][:200] if lines else done.returncode}")


def is_made(sources: Sequence[Path], made: Path) -> bool:
    """Whether something was made from just these files; if not, its folder is emptied."""
    text = "\n".join(path.read_text() for path in sources)
    done = made / "made-from.txt"
    if done.exists() and done.read_text() == text:
        return True
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    return False


def note_made(sources: Sequence[Path], made: Path) -> None:
    (made / "made-from.txt").write_text("\n".join(path.read_text() for path in sources))


def _environment(wanted: Path, made: Path) -> None:
    """An environment of Python that holds one peer."""
    if is_made([wanted], made):
        return
    uv = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    _run(uv, "venv", "-q", "--allow-existing", "--python", "3.11", str(made))
    python = str(made / "bin" / "python")
    _run(uv, "pip", "install", "-q", "--python", python, "-r", str(wanted))
    note_made([wanted], made)


def _compile(source: Path, made: Path) -> None:
    """Libraries by Maven, classes by javac."""
    pom = source / "pom.xml"
    files = sorted([*source.rglob("*.java"), *SHARED_JAVA.rglob("*.java")])
    if is_made([pom, *files], made):
        return
    copy = ["dependency:copy-dependencies", f"-DoutputDirectory={made / 'lib'}"]
    _run("mvn", "-q", "-B", "-f", str(pom), *copy)
    target = ["-nowarn", "-cp", f"{made / 'lib'}/*", "-d", str(made / "classes")]
    _run("javac", *target, *map(str, files))
    note_made([pom, *files], made)


def _cargo(source: Path, made: Path) -> None:
    """A program by cargo, built outside the checkout's own folders."""
    files = [source / "Cargo.toml", *sorted(source.rglob("*.rs"))]
    if is_made(files, made):
        return
    shutil.copytree(source, made / "source")
    build = ["build", "--release", "--target-dir", str(made / "target")]
    _run("cargo", *build, folder=made / "source")
    note_made(files, made)


# -- the commit before ------------------------------------------------------------------------


@dataclass(frozen=True)
class Before(Recount):
    """The `recount` command of the commit before, as it was shipped."""

    def _command(self, *arguments: str) -> list[str]:
        return [str(CHECKOUT / ".venv" / "bin" / "python"), "-m", "pipeline", *arguments]

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
        """Start it."""
        environment = {**self.environment, **options.pop("more", {})}
        return subprocess.Popen(self._command(*arguments), env=environment, cwd=CHECKOUT)

    def ended(
        self, *arguments: str, stdin: bytes = b"", within_s: float = 100
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run it to its end."""
        return subprocess.run(
            self._command(*arguments),
            env=self.environment,
            cwd=CHECKOUT,
            input=stdin,
            capture_output=True,
            timeout=within_s,
            check=False,
        )


def _check_out() -> None:
    """Its files and its environment, with native/ where there is cargo."""
    done = CHECKOUT / "made"
    if done.exists():
        return
    shutil.rmtree(CHECKOUT, ignore_errors=True)
    CHECKOUT.mkdir(parents=True)
    if shutil.which("git") is None:
        raise Missing("git is not installed")
    found = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=False)
    if found.returncode:
        raise Missing(f"commit {BEFORE} is not in this clone")
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as files:
        files.extractall(CHECKOUT, filter="data")
    _run("make", "env", folder=CHECKOUT, VIRTUAL_ENV="", MAKEFLAGS="", MAKELEVEL="")
    done.touch()
