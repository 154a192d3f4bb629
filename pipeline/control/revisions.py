"""Closed periods on the control log: what a record says of one revision.

Rule: the first valid record of a number wins, and numbers follow one another. So every reader of
the log knows the same revisions, whoever else wrote files meanwhile.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from definitions.times import parse_timestamp

from ..core.buckets import moment_of
from .entities import Revision
from .members import InvalidRecord, number_in, text_in

_PERIOD: Final = re.compile(r"[0-9]{4}-[0-9]{2}(-[0-9]{2}(T[0-9]{2})?)?", re.ASCII)
_ZONE: Final = re.compile(r"[A-Za-z0-9_+\-/]{1,64}", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CHARS_MAX: Final = 64


def revision_in(record: Mapping[str, Any], before: Revision | None, offset: int) -> Revision:
    """Return the revision that a record tells of.

    before: the one before it; None where there is none.

    Raises:
        InvalidRecord: it is not the next one, or not what a reader relies on.
    """
    period, zone, digest = (text_in(record, name) for name in ("period", "timezone", "digest"))
    if not _PERIOD.fullmatch(period) or not _ZONE.fullmatch(zone):
        raise InvalidRecord("period and timezone must be such as 2026-11 and Europe/Berlin")
    if not _DIGEST.fullmatch(digest):
        raise InvalidRecord("digest must be 64 hex digits")
    number = number_in(record, "revision", 1)
    expected = 1 if before is None else before.number + 1
    if number != expected:
        raise InvalidRecord(f"revision {number} of {period}: the next one must be {expected}")
    starts, ends = _moment(record, "starting_on"), _moment(record, "ending_before")
    if starts >= ends:
        raise InvalidRecord("ending_before must be after starting_on")
    made = Revision(
        period=period,
        timezone=zone,
        number=number,
        starting_on=starts,
        ending_before=ends,
        window_size=_short(record, "window_size"),
        groups=record["groups"] is True,
        format=_short(record, "format"),
        digest=digest,
        rows=number_in(record, "rows"),
        files=number_in(record, "files"),
        offsets={int(at): _span(record["offsets"], at) for at in record["offsets"]},
        definitions={
            str(name): text_in(record["definitions"], name) for name in record["definitions"]
        },
        created_at=text_in(record, "created_at"),
        at=offset,
    )
    if before is not None and record["previous"] != before.digest:
        raise InvalidRecord("previous must be the digest of the revision before it")
    if before is not None and (starts, ends) != (before.starting_on, before.ending_before):
        raise InvalidRecord("a revision must be of the same time as the one before it")
    return made


def _moment(record: Mapping[str, Any], name: str) -> datetime:
    ns = parse_timestamp(text_in(record, name))
    if ns is None:
        raise InvalidRecord(f"{name} must be RFC 3339")
    return moment_of(ns)


def _short(record: Mapping[str, Any], name: str) -> str:
    text = text_in(record, name)
    if len(text) > _CHARS_MAX:
        raise InvalidRecord(f"{name} has at most {_CHARS_MAX} characters")
    return text


def _span(offsets: Mapping[str, Any], at: str) -> tuple[int, int]:
    low, high = offsets[at]
    if type(low) is not int or type(high) is not int or not 0 <= low <= high:
        raise InvalidRecord("offsets must map partitions to the least and the greatest offset")
    return low, high
