"""compile(versions) → matcher: an event → the metric versions that it counts towards.

Grouped by event type, so that the cost of an event follows the definitions that can match it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from .conditions import Predicate, Properties, compile_condition, numeric_reader, property_key
from .metric import Aggregation, EventSelector, Measure, MetricVersion, Scope
from .values import text_form

Value = Decimal | str | None
Groups = tuple[tuple[str | None, ...], ...]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NO_GROUPS: Final[Groups] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled measure of a version.

    key: `metric_id#version.measure`: whose cells these are.
    from_ns: effective_from in nanoseconds since 1970; earlier events reach only dead cells.
    matches: whether every condition holds; None where there is none.
    value_key: the property a value is read from; an event without it contributes nothing and is
    not counted as unreadable.
    read: what the value of value_key contributes; None is unreadable (C10). No reader: COUNT.
    """

    key: str
    version: MetricVersion
    measure: Measure
    from_ns: int | None
    matches: Predicate | None
    value_key: str | None
    read: Callable[[object], Value] | None
    group_keys: tuple[tuple[str, ...], ...]

    def groups(self, properties: Properties) -> Groups:
        """The group values of every grouping set besides the total, in definition order."""
        if not self.group_keys:
            return _NO_GROUPS
        return tuple(
            tuple(text_form(properties.get(name)) for name in names) for names in self.group_keys
        )


class Matcher:
    """The rules of a set of versions, by event type."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        # A type that no definition names: only rules without `include` can match it.
        self._other = tuple(rule for rule in self._rules if rule.measure.events.include is None)
        including: dict[str, list[Rule]] = {}
        excluded: dict[str, None] = {}
        for rule in self._rules:
            excluded.update(dict.fromkeys(rule.measure.events.exclude or ()))
            for event_type in dict.fromkeys(rule.measure.events.include or ()):
                including.setdefault(event_type, []).append(rule)
        self._by_type = {
            event_type: tuple(
                rule
                for rule in (*including.get(event_type, ()), *self._other)
                if selects(rule.measure.events, event_type)
            )
            for event_type in (*including, *excluded)
        }

    def candidates(self, event_type: str) -> tuple[Rule, ...]:
        """The rules whose event types admit this one, in a fixed order."""
        return self._by_type.get(event_type, self._other)


def selects(events: EventSelector, event_type: str) -> bool:
    """Whether both lists of event types pass (CM3)."""
    if events.include is not None and event_type not in events.include:
        return False
    return events.exclude is None or event_type not in events.exclude


def compile_version(version: MetricVersion) -> tuple[Rule, ...]:
    """Return the rules of one version; none for a version that a stream cannot compute (C07).

    Raises:
        ValueError: the version needs something this release cannot evaluate. A worker that gets
            it must not activate the version.
    """
    definition = version.definition
    if not definition.computable:
        return ()
    if definition.scope is not Scope.CUSTOMER:
        raise ValueError(f"cannot fold scope {definition.scope}")
    return tuple(
        Rule(
            key=measure_key(version, index),
            version=version,
            measure=measure,
            from_ns=_nanoseconds(version.effective_from),
            matches=_all([compile_condition(condition) for condition in measure.where]),
            value_key=None if measure.field is None else property_key(measure.field),
            read=_reader(measure),
            group_keys=definition.dimensions,
        )
        for index, measure in enumerate(definition.measures)
    )


def compile_matcher(versions: Iterable[MetricVersion]) -> Matcher:
    """Compile versions, in the order of their keys: the same set gives the same matcher."""
    ordered = sorted(versions, key=lambda version: version.key)
    return Matcher(rule for version in ordered for rule in compile_version(version))


def measure_key(version: MetricVersion, index: int) -> str:
    """Return the name under which the cells of a version's measure are kept."""
    return f"{version.key}.{index}"


def _nanoseconds(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _all(predicates: list[Predicate]) -> Predicate | None:
    """AND of predicates as one call; spelled out where there are few, for speed."""
    if not predicates:
        return None
    if len(predicates) == 1:
        return predicates[0]
    if len(predicates) == 2:
        first, second = predicates
        return lambda properties: first(properties) and second(properties)
    return lambda properties: all(predicate(properties) for predicate in predicates)


def _reader(measure: Measure) -> Callable[[object], Value] | None:
    if measure.aggregation is Aggregation.COUNT:
        return None
    if measure.field is None:
        raise ValueError(f"{measure.aggregation} needs a field")
    if measure.aggregation is Aggregation.UNIQUE:
        return text_form
    return numeric_reader(numeric_text=measure.numeric_text)
