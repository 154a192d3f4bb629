"""The file of `recount control export`: every record of the control log, byte by byte.

A line of JSON for what the file is, one for each record, and one for its end, whose sha256 is that
of all before it, and of its own numbers: a file that was cut, joined or edited is refused. Bytes
that are UTF-8 are written as text, for people and diff; others as {"base64": …}. Two exports of
one log are equal.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NamedTuple

from ..errors import UsageError
from .records import ControlState
from .seal import HEADER, Seals

FORM: Final = 1
_MARK: Final = "recount_control_export"
_LINE_BYTES_MAX: Final = 16 * 1_048_576  # a record of 1 MiB whose every byte is escaped
_TAKE: Final = "take another export"
# What JSON that is no line of an export makes the readers below raise.
_UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class BackedUp(NamedTuple):
    """A record of the control log. timestamp: when Kafka appended it, ms; None: not known."""

    offset: int
    timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @property
    def said(self) -> tuple[object, ...]:
        """All of it that a restored record has too."""
        return self.offset, self.key, self.value, self.headers


# What takes an offset that holds no record, so that those behind it keep theirs. It is no JSON,
# so every reader of the log ignores it.
HOLE_KEY: Final = b"hole"


@dataclass(frozen=True)
class Backup:
    """Every record of a control log, in order. next: the end of the log."""

    topic: str
    records: Sequence[BackedUp]
    next: int

    def filled(self) -> Iterator[BackedUp]:
        """The records, with one for each hole."""
        at = 0
        for record in self.records:
            for hole in range(at, record.offset):
                yield BackedUp(hole, None, HOLE_KEY, b"", ())
            yield record
            at = record.offset + 1
        for hole in range(at, self.next):
            yield BackedUp(hole, None, HOLE_KEY, b"", ())

    @property
    def is_sealed(self) -> bool:
        """Whether any record has a seal."""
        return any(name == HEADER for record in self.records for name, _ in record.headers)

    def state(self, secrets: Sequence[bytes]) -> ControlState:
        """Return what the records say."""
        seals, state = Seals(self.topic, secrets), ControlState()
        for record in self.filled():
            given = [(name, text or b"") for name, text in record.headers]
            why = seals.refusal(record.value, given)
            if why is None:
                state.apply(record.offset, record.value)
            else:
                state.pass_over(record.offset, why)
        return state


def written(backup: Backup) -> Iterator[bytes]:
    """Yield the lines of the file."""
    whole = hashlib.sha256()
    head = {_MARK: FORM, "topic": backup.topic}
    for line in (head, *map(_line, backup.records)):
        text = json.dumps(line, ensure_ascii=False).encode() + b"\n"
        whole.update(text)
        yield text
    end = {"records": len(backup.records), "next": backup.next}
    yield json.dumps({**end, "sha256": _sealed(whole, end)}).encode() + b"\n"


def _sealed(before: "hashlib._Hash", end: dict[str, Any]) -> str:
    """Return the sha256 of all bytes before the last line, and of what this line says."""
    whole = before.copy()
    whole.update(json.dumps(end).encode())
    return whole.hexdigest()


def _line(record: BackedUp) -> dict[str, Any]:
    return {
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": _told(record.key),
        "value": _told(record.value),
        "headers": [[name, _told(text)] for name, text in record.headers],
    }


def _told(some: bytes | None) -> Any:
    """Bytes as JSON has them."""
    if some is None:
        return None
    try:
        return some.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(some).decode()}


def _bytes(told: Any) -> bytes | None:
    if told is None:
        return None
    if isinstance(told, dict):
        return base64.b64decode(told["base64"], validate=True)
    if not isinstance(told, str):
        raise TypeError("neither text nor base64")
    return told.encode()


def read_backup(file: BinaryIO, name: str) -> Backup:
    """Read a file that written() made.

    Raises:
        UsageError: it is none, or not whole. The message says where.
    """
    lines = _lines(file, name)
    number, head, before = next(lines, (0, b"", hashlib.sha256()))
    topic = _head_of(head, name)
    records: list[BackedUp] = []
    for number, line, before in lines:  # noqa: B007  the last ones
        try:
            told = json.loads(line)
            if "sha256" in told:
                break
            records.append(_record(told))
        except _UNREADABLE as error:
            raise UsageError(f"{name}:{number}: not a record of an export; {_TAKE}") from error
        if len(records) > 1 and records[-1].offset <= records[-2].offset:
            raise UsageError(
                f"{name}:{number}: offset {records[-1].offset} comes after "
                f"{records[-2].offset}: lines were moved or joined; {_TAKE}"
            )
    else:
        raise UsageError(f"{name} has no last line with its sha256: it was cut; {_TAKE}")
    _check_end(told, records, before, f"{name}:{number}")
    if next(lines, None) is not None:
        raise UsageError(f"{name}:{number + 1}: something follows the last line; {_TAKE}")
    return Backup(topic, records, told["next"])


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes, "hashlib._Hash"]]:
    """Yield number and bytes of each line, and the hash of all before it."""
    whole, number = hashlib.sha256(), 0
    while line := file.readline(_LINE_BYTES_MAX):
        number += 1
        if len(line) == _LINE_BYTES_MAX:
            raise UsageError(f"{name}:{number}: longer than a line of an export can be; {_TAKE}")
        yield number, line, whole
        whole.update(line)


def _head_of(line: bytes, name: str) -> str:
    try:
        head = json.loads(line)
        form, topic = head[_MARK], head["topic"]
    except _UNREADABLE as error:
        raise UsageError(f"{name} is no file of `recount control export`") from error
    if form != FORM or not isinstance(topic, str):
        raise UsageError(
            f"{name}: an export of form {form!r}, this release reads form {FORM}; run the release "
            "that wrote it, or a later one"
        )
    return topic


def _record(told: dict[str, Any]) -> BackedUp:
    if type(told["offset"]) is not int or told["offset"] < 0:
        raise TypeError("not an offset")
    headers = []
    for name, text in told["headers"]:
        if not isinstance(name, str):
            raise TypeError("not a header")
        headers.append((name, _bytes(text)))
    key, value = _bytes(told["key"]), _bytes(told["value"])
    return BackedUp(told["offset"], told["timestamp"], key, value, tuple(headers))


def _check_end(
    end: dict[str, Any], records: Sequence[BackedUp], before: "hashlib._Hash", place: str
) -> None:
    said = {name: end.get(name) for name in ("records", "next")}
    if end["sha256"] != _sealed(before, said):
        raise UsageError(
            f"{place}: what stands until here does not have the sha256 of this line: the file was "
            f"changed or damaged; {_TAKE}"
        )
    ends, least = said["next"], records[-1].offset + 1 if records else 0
    if said["records"] != len(records) or type(ends) is not int or ends < least:
        raise UsageError(f"{place}: the last line does not fit the records; {_TAKE}")
