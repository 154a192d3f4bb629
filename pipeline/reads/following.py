"""Units that pass the steps of a funnel one after the other, by the times of their events."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from definitions.metric import Order
from definitions.times import NS_PER_MS, NS_PER_S
from definitions.values import EXACT


class Passed(NamedTuple):
    """How many passed each step, and how many seconds those that passed all took together."""

    steps: list[Decimal]
    seconds: Decimal


def followed(times: Sequence[Mapping[Any, frozenset[str]]], order: Order) -> Passed:
    """Follow every unit.

    Args:
        times: Of each step, when each unit's events were. Where units are followed in each of
            their groups, a unit is (unit, group).
        order: What comes after what.
    """
    counts, took_ns = [0] * len(times), 0
    for ways in _ways(times, order):
        furthest = max(ways, key=len)
        for step in range(len(furthest)):
            counts[step] += 1
        if len(furthest) == len(times):
            took_ns += min(way[-1] - way[0] for way in ways if len(way) == len(times))
    seconds = EXACT.divide(Decimal(took_ns), Decimal(NS_PER_S))
    return Passed([Decimal(count) for count in counts], seconds)


def _ways(
    times: Sequence[Mapping[Any, frozenset[str]]], order: Order
) -> Iterator[list[list[int]]]:
    """The ways that began, of each that is counted: one, or those of a unit in its groups."""
    of_units: dict[Any, list[list[int]]] = {}
    for unit in times[0]:
        if order.by_group and unit[1:] == (None,):
            continue  # an event of no group passes no step
        way = _way([sorted(map(_ns, step.get(unit, ()))) for step in times], order)
        if way:
            counted = unit[0] if order.by_group and not order.counts_groups else unit
            of_units.setdefault(counted, []).append(way)
    yield from of_units.values()


def _way(steps: Sequence[Sequence[int]], order: Order) -> list[int]:
    """When a unit passed each step, as far as it came.

    The first event after the step before stands for a step, and no later one is tried.
    """
    within, allowance = _in_ns(order.within_ms), _in_ns(order.allowance_ms) or 0
    search = bisect_right if order.strict else bisect_left
    way: list[int] = []
    for times in steps:
        at = search(times, way[-1] - allowance) if way else 0
        if at == len(times):
            break
        if way and within is not None and times[at] - way[0] > within:
            break
        way.append(times[at])
    return way


def _ns(text: str) -> int:
    return int(text, 36)


def _in_ns(milliseconds: Any) -> int | None:
    return None if milliseconds is None else int(Decimal(milliseconds) * NS_PER_MS)
