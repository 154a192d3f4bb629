"""What the command line says before any command runs: help, version, completion."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from definitions.times import parse_timestamp, why_no_time
from pipeline.cli import COMMANDS, loaded

from ..services import ROOT

# What takes long to import, and what no help needs.
HEAVY = ("aiokafka", "confluent_kafka", "fastapi", "faust", "numpy", "pydantic", "redis")


def said(*arguments: str, **environment: str) -> str:
    """The output of `recount …`, which ends with 0."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_of_a_command_what_the_command_says(name: str) -> None:
    """The list of `recount --help` is kept apart from the commands, and says the same."""
    first_paragraph = loaded(name).help.split("\n\n")[0]

    assert " ".join(first_paragraph.split()) == COMMANDS[name][1]


def test_help_waits_for_no_library() -> None:
    """`recount --help` imports nothing of Kafka, Redis, HTTP or numbers."""
    script = (
        "import sys\nsys.argv = ['recount', '--help']\nfrom pipeline.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "[]"


def test_both_spellings_of_help_and_the_version() -> None:
    """-h is --help, at every level; --version prints one line."""
    assert said("-h") == said("--help")
    assert said("metrics", "-h") == said("metrics", "--help")
    assert said("usage", "-h") == said("usage", "--help")
    assert said("--version").startswith("recount ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    """The script of a shell is printed, and what it asks for is answered."""
    assert "_RECOUNT_COMPLETE" in said(_RECOUNT_COMPLETE=f"source_{shell}")
    asked = {
        "COMP_WORDS": "recount metr",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "recount metr",
    }
    asked["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"

    told = said(**asked, _RECOUNT_COMPLETE=f"complete_{shell}")

    assert "metrics" in told
    assert "usage" not in told


def test_a_command_that_is_nearly_right_is_suggested() -> None:
    """A wrong name ends with 2 and names the near one."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "usge"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "Did you mean 'usage'?" in done.stderr


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("2026-11-31T00:00:00Z", "November 2026 has 30 days"),
        ("2026-02-29", "February 2026 has 28 days"),
        ("2026-11-01", "like 2026-11-01T00:00:00Z"),
        ("2026-11-01T12:30", "like 2026-11-01T12:30:00Z"),
        ("2026-11-01 12:30:05+01:00", "like 2026-11-01T12:30:05+01:00"),
        ("2026-13-01", "12"),
        ("0000-01-01", "years begin with 0001"),
        ("2026-11-01T24:00:00Z", "hours end at 23"),
        ("2026-11-01T23:59:60Z", "seconds at 59"),
        ("2026-11-01T00:00:00+25:00", "like 2026-11-01T00:00:00Z"),
        ("yesterday", "RFC 3339"),
        ("", "RFC 3339"),
    ],
)
def test_a_time_that_cannot_be_read_is_told_why(given: str, told: str) -> None:
    """The message names the part that is wrong, and shows a time that would do."""
    assert parse_timestamp(given) is None
    assert told in why_no_time(given)


@given(st.text() | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:]{0,8})?.{0,6}"))
def test_every_text_that_is_no_time_is_told(text: str) -> None:
    """Nothing breaks the explanation, and it never shows what would be refused again."""
    said = why_no_time(text)

    if " like " in said:
        assert parse_timestamp(said.rsplit(" like ", 1)[1]) is not None


def test_a_body_of_another_system_and_a_file_with_a_mark(tmp_path: Path) -> None:
    """A body under the wrong --format is told whose it is; a byte order mark is no fault."""
    body = {"name": "Calls", "aggregation_type": "COUNT"}
    file = tmp_path / "metric.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(body).encode())

    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "metrics", "create", "--format", "klaviyo", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, "give --format metronome" in done.stderr) == (2, True), done.stderr


# What a command that reads numbers imports none of: each takes 20 to 200 ms.
NOT_FOR_READS = (
    "fastapi",
    "faust",
    "markdown_it",
    "numpy",
    "pyarrow",
    "rich",
    "sqlglot",
    "starlette",
    "structlog",
    "uvicorn",
)


@pytest.mark.parametrize("name", ["usage", "status", "keys", "metrics", "period", "rejected"])
def test_a_read_waits_for_no_library_that_it_does_not_need(name: str) -> None:
    """The modules of a command load without what only workers, servers and files need."""
    script = (
        f"import sys\nfrom importlib import import_module\nfrom pipeline.cli import COMMANDS\n"
        f"import_module('pipeline.cli.' + COMMANDS[{name!r}][0])\n"
        f"print([name for name in {NOT_FOR_READS!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "[]"
