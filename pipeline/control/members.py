"""Members of a record of the control log, each of the type that every reader relies on."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from definitions.formats.shown import DEPTH_MAX, check_depth

from .entities import CLIENT_KEY, SERVER_KEY

_NUMBERS_END: Final = 1 << 53  # what JSON readers of other languages hold exactly
_PARTITION: Final = re.compile(r"0|[1-9][0-9]{0,5}", re.ASCII)
_SUFFIX: Final = re.compile(r"[0-9a-z]{0,8}", re.ASCII)
_DAY_S: Final = 86_400
# Without these bytes JSON has no lone surrogate and no NaN. \0: UTF-16, where they look otherwise.
_UNWRITABLE: Final = (b"\\u", b"NaN", b"Infinity", b"\0")


class InvalidRecord(Exception):
    """A record that is not valid at its place on the log."""


def check_answerable(record: Mapping[str, Any], value: bytes) -> None:
    """Refuse a record that could not be walked, or not be written into an answer.

    value: its JSON. Most records have none of the bytes that it takes, and are not looked at.

    Raises:
        ValueError: nested too deeply, a lone surrogate, or a NaN.
    """
    if value.count(b"{") + value.count(b"[") > DEPTH_MAX:
        check_depth(record)
    if not value.isascii() or any(mark in value for mark in _UNWRITABLE):
        json.dumps(record, ensure_ascii=False, allow_nan=False).encode()


def claim_of(record: Mapping[str, Any]) -> str:
    """Return what a record claims: equal claims conflict, the first valid one wins."""
    kind = record["type"]
    if kind in {"key", "key_end"}:
        return f"{kind} {record['key_id']}"
    if kind in {"definition", "end"}:
        return f"{kind} {record['metric_id']}#{record['version']}"
    if kind == "close":
        return f"{kind} {record['period']} {record['timezone']}#{record['revision']}"
    if kind == "request":
        return f"{kind} {record['topic_id']}@{record['offset']}"
    return f"{kind} {record.get('metric_id', '')} {record.get('nonce', '')}".rstrip()


def text_in(record: Mapping[str, Any], name: str) -> str:
    """A text."""
    value = record[name]
    if not isinstance(value, str):
        raise InvalidRecord(f"{name} must be a string")
    return value


def number_in(record: Mapping[str, Any], name: str, least: int = 0) -> int:
    """A whole number that every JSON reader holds exactly."""
    value = record[name]
    if type(value) is not int or not least <= value < _NUMBERS_END:
        raise InvalidRecord(f"{name} must be a whole number of at least {least}")
    return value


def truth_in(record: Mapping[str, Any], name: str, *, default: bool | None = None) -> bool:
    """True or false. default: where older releases did not write it."""
    value = record.get(name, default)
    if type(value) is not bool:
        raise InvalidRecord(f"{name} must be true or false")
    return value


def bucket_of(settings: Mapping[str, Any]) -> int:
    """The base bucket in seconds: a part of a day."""
    bucket_s = number_in(settings, "base_bucket_s", 1)
    if _DAY_S % bucket_s:
        raise InvalidRecord("base_bucket_s must divide a day")
    return bucket_s


def tags_of(record: Mapping[str, Any]) -> dict[int, str]:
    """Partition → suffix of its hash tag; older releases gave none."""
    tags = record.get("tags") or {}
    if not all(_PARTITION.fullmatch(name) and _SUFFIX.fullmatch(tags[name]) for name in tags):
        raise InvalidRecord("tags must map partition numbers to suffixes")
    return {int(name): suffix for name, suffix in tags.items()}


def starts_of(record: Mapping[str, Any]) -> dict[int, int]:
    """Partition → offset."""
    starts = {name: number_in(record["starts"], name) for name in record["starts"]}
    if not all(_PARTITION.fullmatch(name) for name in starts):
        raise InvalidRecord("starts must map partition numbers to offsets")
    return {int(name): start for name, start in starts.items()}


def like_in(record: Mapping[str, Any], roles: frozenset[str]) -> str | None:
    """Return whose form a key has. Raises InvalidRecord: nobody's, or it may do too much."""
    like = record.get("like")
    if like not in (None, SERVER_KEY, CLIENT_KEY):
        raise InvalidRecord(f"like is {SERVER_KEY} or {CLIENT_KEY}")
    if like == CLIENT_KEY and roles != {"ingest"}:
        raise InvalidRecord("a key that anybody can read may only ingest")
    return like


def digest_of(record: Mapping[str, Any]) -> str:
    """Return the digest of a version: over metric, version, effective_from and body."""
    part = {
        name: record[name] for name in ("metric_id", "version", "effective_from", "definition")
    }
    text = json.dumps(part, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
