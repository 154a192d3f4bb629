"""Answers as the command line and our own door print them: JSON, decimals as text."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from definitions.times import rfc3339
from definitions.values import canonical

from .answers import AsOf, End, UsageRow
from .standing import UNREACHABLE


def lines_of(topic: str, rows: Sequence[UsageRow]) -> list[dict[str, Any]]:
    """Return the line of each row."""
    return [_line(topic, row) for row in rows]


def end_line(end: End) -> dict[str, Any]:
    """Return the last line of an answer."""
    after = {} if end.after is None else {"after": end.after}
    away = UNREACHABLE if end.as_of.unapplied is None else {}
    return {"as_of": as_of_line(end.as_of), **after, **away}


def as_of_line(as_of: AsOf) -> dict[str, Any]:
    """Return where an answer stands; partitions are called `topic/number`."""
    through, until = as_of.applied_through, as_of.offsets_until
    told: dict[str, Any] = {
        "offsets": named_offsets(as_of.topic, as_of.offsets),
        "applied_through": None if through is None else rfc3339(through),
        "unapplied": as_of.unapplied,
    }
    if until is not None:
        told["offsets_until"] = named_offsets(as_of.topic, until)
    if as_of.halted:
        told["halted_partitions"] = list(as_of.halted)
    return told


def named_offsets(topic: str, offsets: Mapping[int, int]) -> dict[str, int]:
    """Offsets by the names of partitions."""
    return {f"{topic}/{number}": offset for number, offset in offsets.items()}


def offsets_text(offsets: Mapping[int, int]) -> str:
    """Offsets as JSON of one spelling, by the numbers of partitions."""
    return json.dumps({str(number): offsets[number] for number in sorted(offsets)})


def _line(topic: str, row: UsageRow) -> dict[str, Any]:
    line: dict[str, Any] = {} if row.lies is None else {"customer_id": row.customer}
    line |= {
        "starting_on": rfc3339(row.window.starting_on),
        "ending_before": rfc3339(row.window.ending_before),
        "group": row.group,
        "value": _text(row.value),
        "unreadable": row.unreadable,
        "complete": row.complete,
        **({"stale": True} if row.stale else {}),
        **row.history.members,
        **{name: told(number) for name, number in row.more.items()},
    }
    if row.lies is not None:
        line |= places_in(topic, row.lies)
    if row.reasons:
        line["reasons"] = list(row.reasons)
    return line


def places_in(topic: str, lies: Mapping[int, int]) -> dict[str, Any]:
    """Return where a row stands: its partition and offset, or several of them."""
    if len(lies) == 1:
        ((number, offset),) = lies.items()
        return {"partition": number, "offset": offset}
    return {"partition": None, "offset": None, "offsets": named_offsets(topic, lies)}


def told(number: Decimal | Sequence[Decimal] | None) -> str | list[str] | None:
    """Return what a value was made of, as text."""
    if number is None or isinstance(number, Decimal):
        return _text(number)
    return [canonical(each) for each in number]


def _text(number: Decimal | None) -> str | None:
    return None if number is None else canonical(number)
