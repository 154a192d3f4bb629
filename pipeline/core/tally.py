"""Events → what they change, cell by cell. The innermost loop of the worker.

Rule: inside the loop a cell is a plain tuple within its rule, and a value a bare payload; they get
their names once for each cell, not once for each event.
"""

from typing import Any, Final, NamedTuple

from definitions.matcher import Matcher, Rule
from definitions.metric import Aggregation

from .aggregations import RULES, Partial, Place, element_of
from .event import Event
from .windows import NS_PER_S

_ABSENT: Final = object()
_TOTAL: Final = (0, ())
# customer, base bucket, (grouping set, group values)
_Where = tuple[str, int, tuple[int, tuple[str | None, ...]]]


class CellKey(NamedTuple):
    """Which cell: measure (`metric_id#version.n`), customer, base bucket, grouping set, groups.

    grouping_set 0 is the total, n the n-th of the definition's dimensions.
    """

    measure: str
    customer: str
    bucket: int
    grouping_set: int
    groups: tuple[str | None, ...]


class Change(NamedTuple):
    """What a plan adds to a cell. change: value and unreadable, both of this plan alone."""

    aggregation: Aggregation
    partial: Partial


class _Lane:
    """What one rule gathers. values: bare payloads; elements: of UNIQUE."""

    __slots__ = ("elements", "kind", "merge", "read", "rule", "unreadable", "value_key", "values")

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.kind = rule.measure.aggregation
        self.read = rule.read
        self.value_key = rule.value_key or ""
        self.merge = RULES[self.kind].merge
        self.values: dict[_Where, Any] = {}
        self.unreadable: dict[_Where, int] = {}
        self.elements: dict[_Where, set[str]] = {}

    def add(self, where: _Where, value: Any, place: tuple[int, int, int, int]) -> None:
        """Add one value that is no plain number: unreadable, UNIQUE, or with its place."""
        if value is None:
            self.unreadable[where] = self.unreadable.get(where, 0) + 1
            return
        if self.kind is Aggregation.UNIQUE:
            self.elements.setdefault(where, set()).add(element_of(value))
            return
        value = RULES[self.kind].one(value, Place(*place))
        held = self.values.get(where)
        self.values[where] = value if held is None else self.merge(held, value)

    def cells(self) -> dict[CellKey, Change]:
        """The cells whose text changes; of UNIQUE ones only those with unreadable values."""
        zero, key = RULES[self.kind].zero, self.rule.key
        where: _Where
        found = {
            CellKey(key, where[0], where[1], *where[2]): Change(self.kind, Partial(value, 0))
            for where, value in self.values.items()
        }
        for where, count in self.unreadable.items():
            value = self.values.get(where, zero)
            cell = CellKey(key, where[0], where[1], *where[2])
            found[cell] = Change(self.kind, Partial(value, count))
        return found


# Aggregations whose payload is the value itself: no place, no element, only a merge.
_BARE: Final = frozenset({Aggregation.SUM, Aggregation.MAX, Aggregation.MIN, Aggregation.COUNT})


class Tally:
    """The changes of one plan."""

    def __init__(self, matcher: Matcher, bucket_s: int) -> None:
        self._matcher = matcher
        self._bucket_ns = bucket_s * NS_PER_S
        self._lanes: dict[str, _Lane] = {}
        self._by_type: dict[str, tuple[_Lane, ...]] = {}

    @property
    def size(self) -> int:
        """How many cells are touched so far."""
        return sum(
            len(lane.values) + len(lane.elements) + len(lane.unreadable)
            for lane in self._lanes.values()
        )

    def _lanes_of(self, event_type: str) -> tuple[_Lane, ...]:
        lanes = tuple(
            self._lanes.setdefault(rule.key, _Lane(rule))
            for rule in self._matcher.candidates(event_type)
        )
        self._by_type[event_type] = lanes
        return lanes

    def add(self, event: Event, place: tuple[int, int, int, int]) -> bool:
        """Add an event to every cell it counts towards; return whether any metric matched.

        Args:
            place: The parts of aggregations.Place.
        """
        lanes = self._by_type.get(event.event_type)
        if lanes is None:
            lanes = self._lanes_of(event.event_type)
        properties, matched = event.properties, False
        total: _Where = (event.customer_id, event.event_ns // self._bucket_ns, _TOTAL)
        for lane in lanes:
            rule = lane.rule
            if rule.matches is not None and not rule.matches(properties):
                continue
            matched = True
            # Cells before effective_from are dead: nobody reads them, so nobody writes them.
            if rule.from_ns is not None and event.event_ns < rule.from_ns:
                continue
            value: Any = 1
            if lane.read is not None:
                value = properties.get(lane.value_key, _ABSENT)
                if value is _ABSENT:
                    continue
                value = lane.read(value)
            if value is not None and lane.kind in _BARE:
                values = lane.values
                held = values.get(total)
                values[total] = value if held is None else lane.merge(held, value)
            else:
                lane.add(total, value, place)
            if rule.group_keys:
                for where in enumerate(rule.groups(properties), start=1):
                    lane.add((total[0], total[1], where), value, place)
        return matched

    def cells(self) -> dict[CellKey, Change]:
        """The cells whose text changes."""
        found: dict[CellKey, Change] = {}
        for lane in self._lanes.values():
            found |= lane.cells()
        return found

    def elements(self) -> dict[CellKey, set[str]]:
        """The elements that UNIQUE cells gain."""
        return {
            CellKey(lane.rule.key, where[0], where[1], *where[2]): elements
            for lane in self._lanes.values()
            for where, elements in lane.elements.items()
        }
