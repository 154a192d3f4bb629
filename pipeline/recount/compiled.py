"""Measures, made ready for many events: what matching.py says of each, said quickly.

Nothing is decided here. Conditions on texts remember what matching.py said of a text; which
measures an event type can reach is found once for each type.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any, NamedTuple

from definitions.metric import (
    Aggregation,
    Condition,
    Field,
    Measure,
    MetricVersion,
    Operator,
    Scope,
)

from .events import Plain
from .kept import ADDERS, Kept, Reading
from .matching import ABSENT, group_of, holds, in_bounds, look_up, number_of, value_of

_REMEMBERED_MAX = 10_000  # texts, of each condition
_TEXT_MAX = 200  # characters of one that is worth remembering
_TYPES_MAX = 10_000
_EPOCH, _US = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)

Test = Callable[[Plain], bool]
Groups = Callable[[Plain], tuple[str | None, ...]]


class Active(NamedTuple):
    """A version and the offsets at which it counts in this partition.

    That is [start, end) of the stream as it came, and past, which was counted afterwards: [first,
    as far as it was). None: there is no past.
    """

    version: MetricVersion
    start: int
    end: int | None
    past: tuple[int, int] | None = None


class Closing(NamedTuple):
    """Which events reach an owner's cells of a measure, as they were read.

    live: those below this offset. past: of the past those below this one. listed: of the past
    those below this one did so before the keys were listed.
    """

    live: float
    past: float
    listed: float


class Spot:
    """An owner's total in the bucket of his last event; most often the next one is in it too."""

    __slots__ = ("bucket", "closes", "kept")

    def __init__(self, closes: Closing) -> None:
        self.closes = closes
        self.bucket: int | None = None
        self.kept: Kept | None = None


class ActiveMeasure:
    """A measure of an active version.

    name: `metric_id#version.n`. past_from, past_until: see Active. from_ns: effective_from, in
    nanoseconds since 1970; None is no bound. kind: its aggregation. include,
    exclude: event types, None is no rule. tests: all hold of an event that it counts. value: what
    such an event adds (matching.value_of). owner: whose cells it reaches, None is nobody's.
    groups: its grouping sets besides the total. add: how a cell takes a value. spots: the last
    total of each owner, kept by the Ledger.
    """

    __slots__ = (
        "add",
        "end",
        "exclude",
        "from_ns",
        "groups",
        "include",
        "kind",
        "name",
        "owner",
        "past_from",
        "past_until",
        "spots",
        "start",
        "tests",
        "value",
    )

    def __init__(self, active: Active, number: int) -> None:
        version = active.version
        measure = version.definition.measures[number]
        self.name = f"{version.metric_id}#{version.version}.{number}"
        self.start = active.start
        self.end: float = inf if active.end is None else active.end
        self.past_from, self.past_until = active.past or (active.start, active.start)
        since = version.effective_from
        self.from_ns = None if since is None else (since - _EPOCH) // _US * 1_000
        self.include, self.exclude = measure.events.include, measure.events.exclude
        self.tests = [verdict_of(condition) for condition in measure.where]
        self.value = _value(measure)
        self.owner = _owner(version, measure)
        self.groups = _groups(version)
        self.kind = measure.aggregation
        self.add: Callable[[Kept, Any, Reading], None] = ADDERS[self.kind]
        self.spots: dict[str, Spot] = {}

    def take(self, kept: Kept, value: Any, reading: Reading) -> None:
        """Give a cell what an event adds; None could not be read."""
        if value is None:
            kept.skip(reading.came)
        else:
            self.add(kept, value, reading)

    def counts(self, offset: int, root: int) -> bool:
        """Whether the version counts an event at an offset; root: where it was first.

        What was amended counts where the amend lies, in versions that count its root.
        """
        return self.past_from <= root < self.end and (
            offset >= self.start or offset < self.past_until
        )

    def takes(self, event_type: str) -> bool:
        """Whether the measure looks at events of a type."""
        return (self.include is None or event_type in self.include) and (
            self.exclude is None or event_type not in self.exclude
        )


class ActiveMeasures(dict[str, list[ActiveMeasure]]):
    """Event type → the measures that look at it, found when a type is met first."""

    def __init__(self, active: list[Active]) -> None:
        super().__init__()
        self._all = [
            ActiveMeasure(item, number)
            for item in active
            if item.version.definition.computable
            for number in range(len(item.version.definition.measures))
        ]

    def __missing__(self, event_type: str) -> list[ActiveMeasure]:
        found = [measure for measure in self._all if measure.takes(event_type)]
        if len(self) >= _TYPES_MAX:
            self.clear()
        self[event_type] = found
        return found


def _reader(field: Field) -> Callable[[Plain], Any]:
    """What looks a field up."""
    if field.source != "property":
        return lambda event: look_up(field, event)
    key = str(field.key)

    def read(event: Plain) -> Any:
        value = event.properties.get(key, ABSENT)
        return value if type(value) is str else in_bounds(value)

    return read


def verdict_of(condition: Condition) -> Test:
    """What matching.holds() says of an event; of texts that were met it is remembered."""
    read = _reader(condition.field)
    if condition.operator in {Operator.IS_SET, Operator.IS_NOT_SET}:
        wanted = condition.operator is Operator.IS_SET

        def is_set(event: Plain) -> bool:
            value = read(event)
            return (value is not None and value is not ABSENT) is wanted

        return is_set
    remembered: dict[str, bool] = {}

    def test(event: Plain) -> bool:
        value = read(event)
        if type(value) is not str or len(value) > _TEXT_MAX:
            return holds(condition, event)
        known = remembered.get(value)
        if known is None:
            if len(remembered) >= _REMEMBERED_MAX:
                remembered.clear()
            known = remembered[value] = holds(condition, event)
        return known

    return test


def _value(measure: Measure) -> Callable[[Plain], Any]:
    """What matching.value_of() says of an event."""
    if measure.field is None or measure.aggregation in {Aggregation.COUNT, Aggregation.UNIQUE}:
        return lambda event: value_of(measure, event)
    read, from_text = _reader(measure.field), measure.numeric_text

    def value(event: Plain) -> Any:
        found = read(event)
        return found if found is ABSENT else number_of(found, from_text=from_text)

    return value


def of_everybody(version: MetricVersion, measure: Measure) -> bool:
    """Whether events of many customers meet in one cell of a measure."""
    return measure.unit is not None or version.definition.scope is not Scope.CUSTOMER


def _owner(version: MetricVersion, measure: Measure) -> Callable[[Plain], str | None]:
    """Whose cells: the unit's, the customer's, or everybody's; None where the unit is missing."""
    unit = measure.unit
    if unit is not None:
        return lambda event: group_of(look_up(unit, event))
    if version.definition.scope is Scope.CUSTOMER:
        return lambda event: event.customer_id
    return lambda _event: ""


def _groups(version: MetricVersion) -> list[Groups]:
    """The grouping sets besides the total."""
    klaviyo = version.definition.origin.format == "klaviyo"

    def of(names: tuple[str, ...]) -> Groups:
        return lambda event: tuple(_group(name, event, klaviyo=klaviyo) for name in names)

    return [of(names) for names in version.definition.dimensions]


def _group(name: str, event: Plain, *, klaviyo: bool) -> str | None:
    """What an event is grouped by; `$value` of Klaviyo is first the event's own value (CK12)."""
    own = event.context.get("value") if name == "$value" and klaviyo else None
    return group_of(in_bounds(event.properties.get(name) if own is None else own))
