"""Datetime ↔ nanoseconds since 1970, and nanoseconds → the number of a base bucket.

Rule 1: event time is whole nanoseconds since 1970 UTC, so a seventh digit still orders readings.
Rule 2: bucket n of length s holds the times [n·s, (n+1)·s), also before 1970. Example: with
buckets of an hour, 1970-01-01T01:59:59Z lies in bucket 1, 1969-12-31T23:30:00Z in bucket -1.
Ages are not judged here but in fold/judge.py.
"""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from definitions.times import NS_PER_S, rfc3339

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FINEST_S: Final = 900  # the smallest base bucket that a deployment can have


def ns_of(moment: datetime) -> int:
    """Return an aware datetime as nanoseconds since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def moment_of(ns: int) -> datetime:
    """Return nanoseconds since 1970 as an aware UTC datetime, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=ns // 1000)


def bucket_of(event_ns: int, bucket_s: int) -> int:
    """Return the number of the base bucket of an event time; negative before 1970."""
    return event_ns // (bucket_s * NS_PER_S)


def ceil_to_bucket(moment: datetime, bucket_s: int) -> datetime:
    """Return the first base-bucket boundary at or after a moment: `now` rounds up."""
    size = bucket_s * NS_PER_S
    return moment_of(-(-ns_of(moment) // size) * size)


def why_no_start(ns: int, bucket_s: int) -> str:
    """Say between which starts of base buckets a time lies, and which deployment could take it."""
    size = bucket_s * NS_PER_S
    opens = ns // size * size
    near = [rfc3339(moment_of(opens))]
    with suppress(OverflowError):  # the calendar ends here
        near.append(rfc3339(moment_of(opens + size)))
    why = (
        f"is not the start of a base bucket of {bucket_s // 60} minutes; the nearest: "
        f"{' and '.join(near)}"
    )
    if not ns % (_FINEST_S * NS_PER_S):
        why += (
            "; a deployment has one base bucket for ever, and one made with `recount init "
            "--base-bucket 15m` can take this (zones with 30 or 45 minutes need it)"
        )
    return why
