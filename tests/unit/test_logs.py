"""What a process that stays says: a line an event, in two forms; nothing acts, nothing leaks."""

import ast
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from pipeline.app import crash
from pipeline.doors.http.reporting import ToldRequest
from pipeline.errors import Halt
from pipeline.telemetry.logs import LOG, begin, line
from pipeline.telemetry.said import EVENTS

from ..services import ROOT

LEVELS = {"debug", "info", "warning", "error", "exception"}


class Err:
    """What went to stderr so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys, self._text = capsys, ""

    def getvalue(self) -> str:
        """All of it."""
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def err(capsys: pytest.CaptureFixture[str]) -> Iterator[Err]:
    """What goes to stderr; logging is afterwards as it was."""
    root, ours = logging.getLogger(), logging.getLogger("recount")
    kept = root.handlers[:], root.level, ours.level
    yield Err(capsys)
    root.handlers[:], (root.level, ours.level) = kept[0], kept[1:]
    crash._line.clear()


def lines(err: Err) -> list[dict[str, Any]]:
    """The lines of the JSON form."""
    return [json.loads(each) for each in err.getvalue().splitlines()]


def test_an_event_is_one_line_in_each_form(err: Err) -> None:
    """Its time, level and name come first; `why` is text and stands last."""
    begin("text", "info", process=0)
    LOG.info("opened", partition=3, next=10, store="a b", on=None)
    LOG.error("halted", partition=3, why="it is gone; run it again")
    LOG.debug("seek", partition=1)
    told = err.getvalue().splitlines()

    assert re.fullmatch(
        r'\S+T\S+Z info    opened process=0 partition=3 next=10 store="a b" on=null', told[0]
    )
    assert told[1].endswith("Z error   halted process=0 partition=3: it is gone; run it again")
    assert len(told) == 2

    begin("json", "debug")
    LOG.debug("seek", partition=1, to=5)
    last = json.loads(err.getvalue().splitlines()[-1])
    assert {**last, "at": ""} == {
        "at": "",
        "level": "debug",
        "event": "seek",
        "partition": 1,
        "to": 5,
    }


def test_what_libraries_say_is_what_it_is_here(err: Err, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes at every healthy start is not said; the same line comes once; ours all come."""
    # Another test of this process may have had uvicorn configure its own loggers.
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "disabled", False)
    begin("json", "info")
    group = logging.getLogger("aiokafka.consumer.group_coordinator")
    for _ in range(5):
        group.warning("Heartbeat failed for group %s because it is rebalancing", "g")
        group.error("Group Coordinator Request failed: %s", "x")
        LOG.info("seek", partition=0)
    logging.getLogger("asyncio").error("Unclosed AIOKafkaConsumer\nconsumer: …")
    logging.getLogger("faust.transport.drivers.aiokafka").error("stream stopped")
    logging.getLogger("uvicorn.error").error("Exception in ASGI application")
    logging.getLogger("other").info("normal work")

    told = [(each["level"], each["event"]) for each in lines(err)]
    assert told.count(("info", "seek")) == 5
    assert [each for each in told if each[1] != "seek"] == [
        ("warning", "aiokafka.consumer.group_coordinator"),
        ("error", "uvicorn.error"),
    ]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_acts_on_a_terminal(err: Err, form: str) -> None:
    """Whatever a field or a library quotes."""
    begin(form, "info")
    LOG.info("halted", topic="\x1b[2J\u202e", why="\x9b")
    logging.getLogger("other").warning("bad %s", "\x1b]0;x\x07")

    text = err.getvalue()
    assert len(text.splitlines()) == 2
    assert not set(text) & set("\x1b\x9b\x07\u202e")


def test_a_bug_comes_with_its_trace(err: Err) -> None:
    """As one JSON object, or as lines behind the event."""
    for form in ("json", "text"):
        begin(form, "info")
        try:
            int("odd")
        except ValueError as error:
            LOG.error("look_failed", service="kafka", exc_info=error)
    first, *rest = err.getvalue().splitlines()

    assert "ValueError: invalid" in json.loads(first)["exception"]
    assert rest[0].endswith("look_failed service=kafka")
    assert rest[-1].startswith("ValueError: invalid")


def test_the_end_of_a_process_is_an_event_where_it_says_events(err: Err) -> None:
    """A command ends with a line for people; a worker and a server with an event."""
    halt = Halt('it is "gone"')
    assert crash._ending(halt) == 'recount: it is "gone"\n'
    begin("json", "info", process=2)
    crash.tell_as(line)

    told = json.loads(crash._ending(halt))
    assert (told["event"], told["code"], told["process"]) == ("ended", 5, 2)
    assert told["why"] == 'it is "gone"'
    bug = json.loads(crash._ending(ValueError("odd")))
    assert bug["code"] == 70
    assert "ValueError: odd" in bug["exception"]
    assert err.getvalue() == ""


@pytest.mark.parametrize(
    ("status", "method", "path", "level"),
    [
        (200, "POST", "/v1/ingest", "info"),
        (404, "GET", "/page/x", "info"),
        (200, "GET", "/page/now", "debug"),
        (500, "GET", "/v1/usage", "error"),
        (503, "GET", "/v1/usage", "warning"),
        (0, "GET", "/v1/usage", "error"),
        (499, "POST", "/v1/usage", "info"),
    ],
)
def test_a_request_is_told_without_what_it_holds(
    err: Err, status: int, method: str, path: str, level: str
) -> None:
    """Id, method, route, status, time, id of the key: no path, no query, no header, no body."""
    begin("json", "debug")
    scope = {
        "type": "http",
        "method": method,
        "path": f"{path}/secret-KEY",
        "query_string": b"k=secret-KEY",
        "headers": [(b"authorization", b"Bearer secret-KEY")],
        "route": type("Route", (), {"path": "/v1/{key}"})(),
        "state": {"key_id": "k1", "key_text": "secret-KEY"},
    }
    ToldRequest("r1", status).tell(Request(scope), 0.0123)

    (told,) = lines(err)
    assert "secret-KEY" not in err.getvalue()
    assert {**told, "at": ""} == {
        "at": "",
        "level": level,
        "event": "request",
        "id": "r1",
        "method": method,
        "route": "/v1/{key}",
        "status": status or 500,
        "ms": 12.3,
        "key": "k1",
    }


def said_in(folder: Path) -> Iterator[tuple[str, str]]:
    """Every event that our code tells of, with the file."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="LOG"), attr=level),
                    args=[ast.Constant(value=str(event)), *_],
                ) if level in LEVELS:
                    yield event, str(path)


def test_every_event_is_declared_and_documented() -> None:
    """The table of docs/operations.md has just the events that the code tells of."""
    rows = (ROOT / "docs" / "operations.md").read_text().split("## Logs")[1].split("\n## ")[0]
    documented = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", rows, re.MULTILINE))

    assert {event for event, _ in said_in(ROOT / "pipeline")} | {"ended"} == set(EVENTS)
    assert documented == EVENTS


def test_the_pure_part_says_nothing() -> None:
    """No logging in definitions/ and pipeline/core: what is pure answers, and tells nobody."""
    for folder in ("definitions", "pipeline/core", "pipeline/recount"):
        for path in (ROOT / folder).rglob("*.py"):
            imported = re.findall(r"^(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE)
            assert not {"logging", "structlog", "..telemetry.logs"} & set(imported), path
