"""What a process that stays says of itself: one line an event, on stderr.

Rule 1: a line is the name of an event with fields: never what an event of a customer holds, never
a body or a key. `why` is text for people; in the text form it stands last.
Rule 2: nothing in a line acts on a terminal, whatever a library quotes.
Rule 3: what a library says is told as what it is here: what comes at every healthy start, or what
our own checks judge, is no error. The same line of a library comes once in SELDOM_S.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Iterator, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from structlog.stdlib import ProcessorFormatter

from ..errors import harmless

SELDOM_S: Final = 10.0
_SAID_MAX: Final = 1_000
_OURS: Final = "recount"
_LAST: Final = ("why", "exception")
_PLAIN: Final = re.compile(r"[^\s\"=]+")
# Logger, beginning of what it says → the level that it has at most. The first that fits counts.
MAPPED: Final = (
    ("aiokafka", "Heartbeat failed", logging.DEBUG),  # at each rebalance, and the first start
    ("aiokafka", "OffsetCommit", logging.DEBUG),  # Kafka's committed offsets are never read
    ("aiokafka", "", logging.WARNING),  # what is an error here, our own checks say
    ("asyncio", "Unclosed ", logging.DEBUG),  # a client that a cancelled task leaves behind
    ("mode", "", logging.DEBUG),  # timers that woke up late
    ("faust", "", logging.DEBUG),  # streams that look stuck: app/watchdog.py judges that
)
Fields = MutableMapping[str, Any]

structlog.configure(
    processors=[ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)
LOG: Final[structlog.stdlib.BoundLogger] = structlog.stdlib.get_logger(_OURS)
logging.getLogger(_OURS).addHandler(logging.NullHandler())  # until begin() nothing is said
_begun: list[logging.Formatter] = []


def begin(form: str, level: str, **always: Any) -> None:
    """Say events from now on, those of libraries too.

    form: text or json. level: the lowest that is said. always: fields of every line.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Libraries(least))
    _begun[:] = [formatter(form, **always)]
    handler.setFormatter(_begun[0])
    root = logging.getLogger()
    for held in root.handlers[:]:
        root.removeHandler(held)
    root.addHandler(handler)
    # Libraries tell of normal work at INFO: who asks for debug lines wants that too.
    root.setLevel(logging.INFO if least < logging.INFO else max(least, logging.WARNING))
    logging.getLogger(_OURS).setLevel(least)


def formatter(form: str, **always: Any) -> logging.Formatter:
    """What makes lines of a form. always: fields of every line."""

    def headed(_logger: object, _method: str, fields: Fields) -> Fields:
        record, is_ours = fields.pop("_record"), fields.pop("_from_structlog")
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said = fields.pop("event")
        told = {"event": said} if is_ours else {"event": record.name, "why": said}
        head = {"at": at.replace("+00:00", "Z"), "level": record.levelname.lower()}
        return {**head, **told, **always, **fields}

    return ProcessorFormatter(
        processors=[
            headed,
            structlog.processors.format_exc_info,
            _harmless,
            _as_json if form == "json" else _as_text,
        ]
    )


def line(level: str, event: str, **fields: Any) -> str:
    """The line of an event, for whoever may not wait for the lock of a handler."""
    number = logging.getLevelNamesMapping()[level.upper()]
    about = {"name": _OURS, "levelno": number, "levelname": level}
    as_ours = {"_logger": LOG, "_name": level}  # structlog marks its own records so
    told = {"event": event, **fields}
    return _begun[0].format(logging.makeLogRecord({**about, **as_ours, "msg": told}))


class Libraries(logging.Filter):
    """Gives a library's line the level that it has here, and lets it through seldom."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self._least = least
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is said; ours all are."""
        if record.name == _OURS:
            return True
        record.levelno = min(record.levelno, _most(record))
        record.levelname = logging.getLevelName(record.levelno)
        now, key = time.monotonic(), (record.name, str(record.msg))
        if record.levelno < self._least or now - self._said.get(key, -SELDOM_S) < SELDOM_S:
            return False
        if len(self._said) >= _SAID_MAX:
            self._said.clear()
        self._said[key] = now
        return True


def _most(record: logging.LogRecord) -> int:
    """The level that a library's line has at most."""
    for logger, beginning, most in MAPPED:
        is_of_it = record.name == logger or record.name.startswith(f"{logger}.")
        if is_of_it and str(record.msg).startswith(beginning):
            return most
    return logging.CRITICAL


def _harmless(_logger: object, _method: str, fields: Fields) -> Fields:
    return {
        name: harmless(value, keep="\n\t") if isinstance(value, str) else value
        for name, value in fields.items()
    }


def _as_json(_logger: object, _method: str, fields: Fields) -> str:
    return json.dumps(fields, ensure_ascii=False, default=str)


def _as_text(_logger: object, _method: str, fields: Fields) -> str:
    head = f"{fields.pop('at')} {fields.pop('level'):<7} {fields.pop('event')}"
    last = [fields.pop(name) for name in _LAST if name in fields]
    text = " ".join([head, *_pairs(fields)])
    return text + "".join(f"\n{each}" if "\n" in each else f": {each}" for each in map(str, last))


def _pairs(fields: Fields) -> Iterator[str]:
    """name=value; JSON where a value is no plain word."""
    for name, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        plain = _PLAIN.fullmatch(text) or not isinstance(value, str)
        yield f"{name}={text if plain else json.dumps(value, ensure_ascii=False)}"
