"""compile(versions) → matcher: an event → the metric versions that it counts towards.

Grouped by event type, so that the cost of an event follows the definitions that can match it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from .conditions import Test, compile_condition, numeric_reader
from .metric import Aggregation, EventSelector, Field, Measure, MetricVersion, Scope
from .values import text_form

Value = Decimal | str | None
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled measure of a version.

    key: `metric_id#version.measure`: whose cells these are.
    from_ns: effective_from in nanoseconds since 1970; earlier events reach only dead cells.
    tests: one for each condition of measure.where, of its field's value; all must hold.
    read: what the value of measure.field contributes; None is unreadable (C10). An event without
    the field contributes nothing, which is not counted as unreadable. No reader: COUNT.
    group_keys: the properties of each grouping set besides the total.
    scope: whose cells they are, where measure.unit does not say it.
    """

    key: str
    version: MetricVersion
    measure: Measure
    from_ns: int | None
    tests: tuple[Test, ...]
    read: Callable[[object], Value] | None
    group_keys: tuple[tuple[str, ...], ...]
    scope: Scope

    @property
    def fields(self) -> tuple[Field, ...]:
        """Every field of an event that it reads."""
        read = [condition.field for condition in self.measure.where]
        read += [each for each in (self.measure.field, self.measure.unit) if each is not None]
        read += [Field(source="property", key=key) for keys in self.group_keys for key in keys]
        return tuple(read)


class Matcher:
    """The rules of a set of versions, by event type.

    properties: the properties that any rule reads. reads_context: whether any reads the context.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        fields = {field for rule in self._rules for field in rule.fields}
        self.properties = frozenset(
            field.key
            for field in fields
            if field.source in {"property", "value"} and field.key is not None
        )
        self.reads_context = any(field.source != "property" for field in fields)
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
    rules = tuple(
        Rule(
            key=measure_key(version, index),
            version=version,
            measure=measure,
            from_ns=_nanoseconds(version.effective_from),
            tests=tuple(compile_condition(condition) for condition in measure.where),
            read=_reader(measure),
            group_keys=definition.dimensions,
            scope=definition.scope,
        )
        for index, measure in enumerate(definition.measures)
    )
    for field in (field for rule in rules for field in rule.fields):
        if field.key is None and field.source != "value":
            raise ValueError(f"a field of source {field.source!r} needs a key")
    return rules


def compile_matcher(versions: Iterable[MetricVersion]) -> Matcher:
    """Compile versions, in the order of their keys: the same set gives the same matcher."""
    ordered = sorted(versions, key=lambda version: version.key)
    return Matcher(rule for version in ordered for rule in compile_version(version))


def measure_key(version: MetricVersion, index: int) -> str:
    """Return the name under which the cells of a version's measure are kept."""
    return f"{version.key}.{index}"


def _nanoseconds(moment: datetime | None) -> int | None:
    return None if moment is None else (moment - _EPOCH) // timedelta(microseconds=1) * 1000


def _reader(measure: Measure) -> Callable[[object], Value] | None:
    if measure.aggregation is Aggregation.COUNT:
        return None
    if measure.field is None:
        raise ValueError(f"{measure.aggregation} needs a field")
    if measure.aggregation is Aggregation.UNIQUE:
        return text_form
    return numeric_reader(numeric_text=measure.numeric_text)
