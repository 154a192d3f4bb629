"""compile(versions) → matcher: an event → the metric versions that it counts towards.

Grouped by event type, so that the cost of an event follows the definitions that can match it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from .conditions import Test, compile_condition, numeric_reader
from .metric import (
    Aggregation,
    Definition,
    EventSelector,
    Field,
    Measure,
    MetricVersion,
    Operand,
    Result,
    ResultKind,
    Scope,
)
from .values import number, text_form

Value = Decimal | str | None
_IN_PROPERTIES: Final = {"property", "value"}
_OUTSIDE_CONTEXT: Final = {"property", "customer_id", "time"}
_KEYLESS: Final = {"value", "customer_id", "time"}
_RATIOS: Final = {ResultKind.RATIO, ResultKind.RATIO_SAME_DAY, ResultKind.RETENTION}
_OF_COUNTS: Final = {
    ResultKind.FUNNEL,
    ResultKind.UNIT_FUNNEL,
    ResultKind.UNITS,
    ResultKind.UNIT_DAYS,
    ResultKind.ADD_METRICS,
    ResultKind.PERCENTILE,
    ResultKind.RETENTION,
    ResultKind.SUM_VALUES,
}
_ADDITIVE: Final = {Aggregation.COUNT, Aggregation.SUM}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One compiled measure of a version. Compared as an object: a body is long to hash.

    key: `metric_id#version.measure`: whose cells these are.
    from_ns: effective_from in nanoseconds since 1970; earlier events reach only dead cells.
    tests: one for each condition of measure.where, of its field's value; all must hold.
    read: what the value of measure.field contributes; None is unreadable (C10). An event without
    the field contributes nothing, which is not counted as unreadable. No reader: COUNT.
    sets: the fields of each grouping set besides the total.
    scope: whose cells they are, where measure.unit does not say it.
    """

    key: str
    version: MetricVersion
    measure: Measure
    from_ns: int | None
    tests: tuple[Test, ...]
    read: Callable[[object], Value] | None
    sets: tuple[tuple[Field, ...], ...]
    scope: Scope

    @property
    def fields(self) -> tuple[Field, ...]:
        """Every field of an event that it reads."""
        read = [condition.field for condition in self.measure.where]
        read += [each for each in (self.measure.field, self.measure.unit) if each is not None]
        read += [field for fields in self.sets for field in fields]
        return tuple(read)


class Matcher:
    """The rules of a set of versions, by event type.

    properties, reads_context: what the rules read of the event types seen so far. They decide
    what is decoded, never what is counted: whoever meets a type asks see() before it counts.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self.properties: frozenset[str] = frozenset()
        self.reads_context = False
        # A type that no definition names: only rules without `include` can match it.
        self._other = tuple(rule for rule in self._rules if rule.measure.events.include is None)
        # By type, the rules that name it: work and memory of what is named, however much it is.
        self._including: dict[str, list[Rule]] = {}
        self._excluding: dict[str, set[Rule]] = {}
        self._by_type: dict[str, tuple[Rule, ...]] = {}  # of the named types that were asked for
        for rule in self._rules:
            for event_type in rule.measure.events.exclude or ():
                self._excluding.setdefault(event_type, set()).add(rule)
            for event_type in dict.fromkeys(rule.measure.events.include or ()):
                self._including.setdefault(event_type, []).append(rule)

    def see(self, event_type: str) -> bool:
        """Note an event type; return whether more must be decoded for it than before."""
        fields = [field for rule in self.candidates(event_type) for field in rule.fields]
        read = {
            field.key
            for field in fields
            if field.source in _IN_PROPERTIES and field.key is not None
        }
        context = any(field.source not in _OUTSIDE_CONTEXT for field in fields)
        if read <= self.properties and context <= self.reads_context:
            return False
        self.properties |= read
        self.reads_context |= context
        return True

    def candidates(self, event_type: str) -> tuple[Rule, ...]:
        """The rules whose event types admit this one, in a fixed order."""
        found = self._by_type.get(event_type)
        if found is not None:
            return found
        including = self._including.get(event_type, ())
        excluding = self._excluding.get(event_type, ())
        if not including and not excluding:
            return self._other
        found = tuple(rule for rule in (*including, *self._other) if rule not in excluding)
        self._by_type[event_type] = found
        return found


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
            sets=definition.sets,
            scope=definition.scope,
        )
        for index, measure in enumerate(definition.measures)
    )
    _check_result(definition)
    for field in (field for rule in rules for field in rule.fields):
        if field.key is None and field.source not in _KEYLESS:
            raise ValueError(f"a field of source {field.source!r} needs a key")
    return rules


def _check_result(definition: Definition) -> None:
    """Refuse a result that a reader could not work out."""
    result = definition.result
    kinds = {measure.name: measure.aggregation for measure in definition.measures}
    if result is None or len(kinds) != len(definition.measures):
        raise ValueError("a result, and a name of its own for each measure, are due")
    if not {*result.flags, *(name for names in result.steps for name in names)} <= set(kinds):
        raise ValueError("steps and flags are measures")
    if (result.op is ResultKind.RETENTION) != (result.retention is not None):
        raise ValueError("a retention says when units come back")
    if result.op is ResultKind.ORDERED_FUNNEL:
        _check_order(definition, result)
    if result.op is ResultKind.ADD_METRICS and not result.args:
        return
    sides = [result.args, result.denominator] if result.op in _RATIOS else [result.args]
    for names in sides:
        if not names or not set(names) <= set(kinds):
            raise ValueError(f"{result.op} needs measures by their names")
        added = {kinds[name] for name in names}
        if len(added) > 1 and not (result.factors and added <= _ADDITIVE):
            raise ValueError(f"{result.op} adds measures of one aggregation")
    if result.op is ResultKind.ADD_ROWS and len(definition.dimensions) > 1:
        raise ValueError("rows are of at most one grouping set")
    if result.op in _OF_COUNTS and {kinds[name] for name in result.args} != {Aggregation.COUNT}:
        raise ValueError(f"{result.op} is of counts")
    for limit in (result.cap, result.threshold):
        if not _is_number(limit):
            raise ValueError("cap and threshold are numbers")
    if result.factors and len(result.factors) != len(result.args):
        raise ValueError("there is a factor for each of args")
    if not all(each is not None and _is_number(each) for each in result.factors):
        raise ValueError("factors are numbers")
    for rank in (result.low, result.high):
        if not _is_number(rank) or not 0 <= (number(rank) or 0) <= 1:
            raise ValueError("low and high are between 0 and 1")
    if result.op is ResultKind.PERCENTILE and result.high is None:
        raise ValueError("a percentile has a rank")
    if (result.op is ResultKind.SUM_VALUES) != (result.computed is not None):
        raise ValueError("a sum of values has what is computed of them, and nothing else has")


def _check_order(definition: Definition, result: Result) -> None:
    """Refuse an ordered funnel whose measures keep no times, or whose units have no groups."""
    order = result.order
    if order is None or not result.steps:
        raise ValueError("an ordered funnel has steps and an order")
    for measure in definition.measures:
        of_times = measure.field is not None and measure.field.source == "time"
        if not of_times or measure.aggregation is not Aggregation.UNIQUE or measure.unit is None:
            raise ValueError("an ordered funnel is of the times of units")
    if order.by_group and len(definition.dimensions) != 1:
        raise ValueError("groups that part units are a grouping set")
    if not (_is_number(order.within_ms) and _is_number(order.allowance_ms)):
        raise ValueError("the bounds of an order are numbers")


def _is_number(operand: Operand) -> bool:
    return operand is None or (type(operand) is not bool and number(operand) is not None)


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
        if measure.field is not None:
            raise ValueError("a count has no field")
        return None
    if measure.field is None:
        raise ValueError(f"{measure.aggregation} needs a field")
    if measure.aggregation is Aggregation.UNIQUE:
        return text_form
    return numeric_reader(numeric_text=measure.numeric_text)
