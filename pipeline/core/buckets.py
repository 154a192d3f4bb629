"""Datetime ↔ nanoseconds since 1970, and nanoseconds → the number of a base bucket.

Rule 1: event time is whole nanoseconds since 1970 UTC, so a seventh digit still orders readings.
Rule 2: bucket n of length s holds the times [n·s, (n+1)·s), also before 1970. Example: with
buckets of an hour, 1970-01-01T01:59:59Z lies in bucket 1, 1969-12-31T23:30:00Z in bucket -1.
Ages are not judged here but in fold/judge.py.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

from definitions.times import NS_PER_S

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


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
