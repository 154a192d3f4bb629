"""What a period still lacks before it can be closed."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from definitions.times import NS_PER_MS, rfc3339

from ..control.entities import Metric, Version
from ..core.buckets import moment_of
from ..core.windows import Window
from ..reads.query import versions_of
from ..reads.standing import Standing, Stands


def lacking(
    stands: Stands, metrics: Iterable[Metric], window: Window, until: datetime
) -> list[str]:
    """Say what lacks: nothing durable may be unapplied, and every version has seen its past.

    until: through which moment every partition has to be applied, in append times.
    """
    if stands.unapplied is None:
        return ["Kafka is away, so nobody knows what is not applied"]
    found = [why for at, each in stands.first.items() for why in _of_partition(at, each, until)]
    strange = stands.unapplied - sum(each.unapplied for each in stands.first.values())
    if strange:
        found.append(
            f"{strange} records lie in partitions that are not registered: run `recount init` "
            "with all partitions"
        )
    for metric in metrics:
        for version in versions_of(metric, window):
            found += _of_version(metric, version, window, stands)
    return found


def _of_partition(number: int, standing: Standing, until: datetime) -> Iterator[str]:
    if standing.halted is not None:
        yield f"partition {number} has halted: {standing.halted}"
    if standing.unapplied:
        yield f"partition {number}: {standing.unapplied} durable records are not applied yet"
    through = standing.applied_through
    if through is None or through < until:
        told = "nothing" if through is None else f"everything up to {rfc3339(through)}"
        yield f"partition {number} has applied {told}; it must be {rfc3339(until)} or later"


def _of_version(metric: Metric, version: Version, window: Window, stands: Stands) -> Iterator[str]:
    named = f"{metric.name!r}, version {version.number}"
    for number, standing in stands.first.items():
        state = standing.state
        if not state.is_ready(version.key):
            yield f"{named}: its past is not counted yet in partition {number}"
            continue
        past = state.hist.by_version.get(version.key)
        exact_ms = 0 if past is None else past.exact_from_ms
        if exact_ms and moment_of(exact_ms * NS_PER_MS) > window.starting_on:
            since = rfc3339(moment_of(exact_ms * NS_PER_MS))
            yield f"{named}: partition {number} has lost what came before {since} from its log"
