"""Names that a definition uses and nothing has: why such a metric has no value.

Rule: a name is resolved by whoever writes a version. One that is no metric's was taken for an
event; until the stream shows such an event, 0 would be a guess, so the value is null and says why.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from definitions.formats.statsig_neutral import OF_EVERY_EVENT
from definitions.metric import Component, ResultKind

from ..control.entities import Metric
from ..core.names import CHARS_MAX, TYPES_MAX, event_types
from .answers import UsageRow

Finder = Callable[[str, str], Metric | None]
ADDED_MAX: Final = 1_000


class AnyName(frozenset[str]):
    """What a partition saw that has learned all the names it can: maybe any."""

    def __contains__(self, _: object) -> bool:
        return True


def seen_in(parts: Sequence[Mapping[str, str]]) -> frozenset[str]:
    """The event types that partitions have learned (core/names.py)."""
    found = [event_types(part) for part in parts]
    if any(len(each) >= TYPES_MAX for each in found):
        return AnyName()
    return frozenset(name for each in found for name in each)


def components_of(metric: Metric) -> tuple[Component, ...] | None:
    """The metrics that a metric adds up; None where it only has measures of its own."""
    body = metric.latest.body
    if body is None or not body.definition.computable or body.definition.result is None:
        return None
    result = body.definition.result
    return result.components if result.op is ResultKind.ADD_METRICS else None


def added_up(metric: Metric, find: Finder) -> tuple[list[Metric], str | None]:
    """Return a metric with all that it adds up, and why that has no end, if it has none."""
    found: list[Metric] = []
    waiting: list[tuple[Metric, tuple[str, ...]]] = [(metric, ())]
    while waiting:
        each, above = waiting.pop()
        if each.id in above:
            return found, f"the component {each.name!r} adds up itself: take it out"
        if len(found) == ADDED_MAX:
            return found, f"it adds up more than {ADDED_MAX} metrics, one inside the other"
        found.append(each)
        inner = [find(one.name, one.type) for one in components_of(each) or ()]
        waiting += [(one, (*above, each.id)) for one in inner if one is not None]
    return found, None


def awaits(metrics: Iterable[Metric]) -> bool:
    """Whether any name of these metrics was taken for an event."""
    bodies = [metric.latest.body for metric in metrics]
    return any(body is not None and body.definition.awaits for body in bodies)


def reasons_of(metric: Metric, find: Finder, seen: Collection[str]) -> list[str]:
    """Say which names of a metric, and of what it adds up, have no meaning; none where all have.

    seen: the event types of the stream.
    """
    found, endless = added_up(metric, find)
    reasons = [] if endless is None else [endless]
    for each in found:
        body = each.latest.body
        if each is not metric and (body is None or not body.definition.computable):
            why = () if body is None else body.definition.reasons
            reasons.append(f"the component {each.name!r} is not computed: {'; '.join(why)}")
        reasons += [
            f"the component {one.name}::{one.type} is no metric here: make it, or correct the name"
            for one in components_of(each) or ()
            if find(one.name, one.type) is None
        ]
        if body is not None:
            reasons += _unseen(body.definition.awaits, find, seen)
    return list(dict.fromkeys(reasons))


def _unseen(awaited: Sequence[Component], find: Finder, seen: Collection[str]) -> list[str]:
    reasons = []
    for each in awaited:
        if each.name in seen or len(each.name) > CHARS_MAX:  # longer names are not learned
            continue
        if each.type in OF_EVERY_EVENT:
            reasons.append(f"{each.name}::{each.type}: no event {each.name!r} was seen so far")
        elif find(each.name, each.type) is None:
            reasons.append(
                f"{each.name}::{each.type} is neither a metric here nor an event seen so far: "
                "make that metric and then this one again, or correct the name"
            )
        else:
            reasons.append(
                f"the metric {each.name}::{each.type} was made after this one: make this one again"
            )
    return reasons


def marked(rows: Sequence[UsageRow], reasons: Sequence[str]) -> list[UsageRow]:
    """Return rows without values where there are reasons for it."""
    if not reasons:
        return list(rows)
    return [
        replace(row, value=None, complete=False, reasons=tuple(reasons), more={}) for row in rows
    ]
