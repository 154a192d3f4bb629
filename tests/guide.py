r"""Reads a guide of docs/ as a list of steps, and compares what a run gives with the page.

A page is Markdown with these parts; everything else is prose:

* a line ``NAME`: `` before a fenced block: a file with this text;
* a block ```` ```console ````: commands after ``$ ``, each with its output below it (a command
  that ends with a backslash goes on in the next line);
* a block ```` ```sh ```` that begins with ``curl``: a request. The next line of prose that begins
  with ``Answer `` has its status and headers in backticks; a block of JSON after it is the body;
* a comment ``<!-- not run: why -->`` before a block: the block is for readers only;
* a comment ``<!-- state: NAME -->`` before a request: the test brings about this state for it.

What varies from run to run, and how the two are compared:

* ids (UUIDs; 64, 32 or 12 hexadecimal digits; keys; cursors): the n-th id of an output on the page
  stands for the n-th id of the same output of the run, there and in every later command;
* times of the run, which are all that are not in March 2025: any time equals any other;
* milliseconds since 1970 that a server tells, and "N s behind the log clock": any number equals
  any other;
* lengths of the lines of tables and of blanks in them;
* lines of the log of a worker or a server: left out.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME: Final = re.compile(r"^`([\w.-]+)`:$")
_ANSWER: Final = re.compile(r"^Answer `(\d{3})`(.*)$", re.MULTILINE)
_COMMAND: Final = re.compile(r"(?:[^\n]*\\\n)*[^\n]*\n")
_NOT_RUN: Final = "<!-- not run: "
_STATE: Final = re.compile(r"<!-- state: (\w+) -->")
_ID: Final = re.compile(
    r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"  # a UUID
    r"|\b01[0-9A-HJKMNP-TV-Z]{24}\b"  # a ULID
    r"|\b[0-9a-f]{64}\b"  # a digest
    r"|\b[0-9a-f]{32}\b"
    r"|\brk_[0-9a-f]{12}_[\w-]+"  # an API key
    r"|\b[0-9a-f]{12}\b"
    r"|\b(?:next_page|after)\": \"([^\"]+)\""
)
_TIME: Final = re.compile(
    r"\b(?!2025-03)20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"
)
_LOGGED: Final = re.compile(
    r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?:debug|info|warning|error) .*\n", re.MULTILINE
)


@dataclass(frozen=True)
class File:
    """A file of the page."""

    name: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command and what it prints, standard error included."""

    line: str
    output: str


@dataclass
class Request:
    """A curl command and its answer on the page. body: JSON, empty where there is none."""

    line: str
    state: str | None = None
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


@dataclass(frozen=True)
class Sent:
    """What a curl command sends."""

    url: str
    headers: dict[str, str]
    data: str | None

    @property
    def method(self) -> str:
        """As curl chooses it."""
        return "GET" if self.data is None else "POST"


Step = File | Command | Request


def steps(page: Path) -> list[Step]:
    """Every step of a page, in order."""
    found: list[Step] = []
    text, at = page.read_text(), 0
    for block in _FENCE.finditer(text):
        before, at = text[at : block.start()], block.end()
        found += _steps(block[1], block[2], before, found[-1] if found else None)
    _answered(text[at:], found[-1] if found else None)
    return found


def _answered(before: str, last: Step | None) -> bool:
    """Whether prose tells the answer of the request before it, which then has it."""
    told = _ANSWER.search(before)
    if told is None or not isinstance(last, Request):
        return False
    last.status = int(told[1])
    last.headers = dict(re.findall(r"`([\w-]+): ([^`]+)`", told[2]))
    return True


def _steps(kind: str, text: str, before: str, last: Step | None) -> Iterator[Step]:
    """The steps of one block. before: the prose between the block before it and this one."""
    line = before.rstrip().rpartition("\n")[2]
    answered = _answered(before, last)
    if line.startswith(_NOT_RUN):
        return
    if name := _NAME.match(line):
        yield File(name[1], text)
    elif kind == "console":
        yield from _commands(text)
    elif kind == "sh" and text.startswith("curl "):
        state = _STATE.match(line)
        yield Request(text, None if state is None else state[1])
    elif kind == "json" and isinstance(last, Request) and answered:
        last.body = text
    else:
        raise AssertionError(f"a block of the page is no step: {kind} {text[:80]!r}")


def _commands(text: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command = _COMMAND.match(part)
        assert command is not None
        yield Command(command[0].strip(), part[command.end() :])


def exported(command: str) -> tuple[str, str] | None:
    """The variable that a command exports, and its text."""
    words = shlex.split(command)
    if len(words) == 2 and words[0] == "export":
        name, _, text = words[1].partition("=")
        return name, text
    return None


def sent(curl: str, variables: Mapping[str, str]) -> Sent:
    """What a curl command sends: its URL, its headers (-H) and its data (-d), and nothing else."""
    # As a shell does it: a variable stands for its text, but not between single quotes.
    curl = re.sub(
        r"'[^']*'|\$(\w+)", lambda found: variables[found[1]] if found[1] else found[0], curl
    )
    words = iter(shlex.split(curl.replace("\\\n", " "))[1:])
    url, data, headers = "", None, {}
    for word in words:
        if word == "-H":
            name, _, text = next(words).partition(": ")
            headers[name] = text
        elif word == "-d":
            data = next(words)
        else:
            assert not url, f"not understood in a request: {word}"
            url = word
    return Sent(url, headers, data)


def as_text(body: str) -> str:
    """JSON with a line for each member; a number keeps its digits and is not a text."""
    if not body.strip():
        return ""
    read = json.loads(body, parse_float=lambda digits: f"<number {digits}>")
    return json.dumps(read, indent=2, ensure_ascii=False)


class Run:
    """One run of a page. names: text of the page → what stands for it in this run."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = dict(names)

    def of_page(self, text: str) -> str:
        """A text of the page as this run needs it: with its own names and ids."""
        for page, run in self.names.items():
            text = re.sub(rf"(?<!\w){re.escape(page)}(?!\w)", run.replace("\\", r"\\"), text)
        return text

    def same(self, about: str, page: str, run: str) -> None:
        """Assert that an output of the run is the page's, and learn which ids stand for which."""
        run = _LOGGED.sub("", run)
        for ours, theirs in zip(_ids(page), _ids(run), strict=False):
            if ours not in self.names:
                self.names[ours] = theirs
        due, got = _plain(self.of_page(page)), _plain(run)
        assert got == due, f"{about}\n--- the page\n{due}\n--- the run\n{got}"


def _ids(text: str) -> list[str]:
    return [found[1] or found[0] for found in _ID.finditer(text)]


def _plain(text: str) -> str:
    """A text without what varies."""
    text = _TIME.sub("<time>", text)
    text = re.sub(r"((?:append_time_ms|createdTime|lastModifiedTime)\": )\d+", r"\1<ms>", text)
    text = re.sub(r"\d+ s behind the log clock", "<n> s behind the log clock", text)
    text = re.sub(r"[━─]+", "─", text)
    return re.sub(r" {2,}", " ", text).strip()
