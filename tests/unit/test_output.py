"""What strangers wrote is shown, and never acts: in tables, JSON lines, errors and logs."""

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.output import show, write_json
from pipeline.errors import harmless
from pipeline.telemetry.logs import formatter

ACTING = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b2J",
    "\x7f",
    "\x85",
    "a\rb",
    "a\nb",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "\u2028",
    "\ufeff",
    "\x00",
]
MARKUP = [
    "[/x]",
    "[bold]loud[/bold]",
    "[link=http://example.com]x[/link]",
    "\\[/x]",
    "[/]",
    ":smile:",
]


def acts(text: str) -> bool:
    """Whether any character is one that a terminal acts on, line ends aside."""
    return any(
        char != "\n" and (ord(char) < 32 or 127 <= ord(char) < 160 or char in "\u202e\u2066\u2028")
        for char in text
    )


@pytest.mark.parametrize("text", [*ACTING, *MARKUP])
def test_a_table_shows_what_is_there(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A value, a name of a group and a column: nothing is markup, nothing reaches the terminal."""
    show([{"customer_id": text, "group": {text: text}, text: [text]}], table=True)

    shown = capsys.readouterr().out
    assert not acts(shown)
    if text in MARKUP:
        assert text in shown


@pytest.mark.parametrize("text", [*ACTING, *MARKUP])
def test_json_lines_are_equal_and_harmless(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A line is the same JSON, spelt without what acts."""
    body: dict[str, Any] = {text: [text, {"a": text}]}

    show([body])
    write_json([body])

    first, second = capsys.readouterr().out.splitlines()
    assert json.loads(first) == json.loads(second) == body
    assert not acts(first + second)


@given(st.text())
def test_harmless_changes_nothing_else(text: str) -> None:
    """What does not act stays as it is; what acts is spelt so that it can be read."""
    shown = harmless(text)

    assert not acts(shown)
    assert "\n" not in shown
    if not acts(text) and text.isprintable():
        assert shown == text
    assert harmless(shown) == shown


def test_logs_show_and_do_not_act() -> None:
    """A log line that quotes a stranger's text is harmless; its lines stay lines."""
    record = logging.LogRecord("n", 30, "f", 1, "bad %s", ("\x1b[2J\x9b",), None)

    told = formatter("text").format(record)

    assert told.endswith(" n: bad \\u001b[2J\\u009b")
