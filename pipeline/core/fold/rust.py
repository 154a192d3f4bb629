"""The plain events of a fold, taken by native/ where that is installed: the same answer, sooner.

Rule 1: it takes records from the front, in order, and stops at the first that it cannot decide as
the rest of this package would: that one goes the ordinary way, and the next are offered again.
Rule 2: it rejects nothing and decides no reading of its own; tests/property/test_native.py holds
its plans to those made without it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from operator import attrgetter
from types import ModuleType
from typing import Any, Final

from definitions.limits import readable
from definitions.matcher import Matcher, Rule
from definitions.metric import Aggregation, Comparison, Condition, Scope
from definitions.times import NS_PER_S
from definitions.values import canonical, number_or_text

from ..aggregations import Partial, Position, element_of, merge_partials
from ..cells import CellKey, Change
from ..dedup import IdIndex, seed_of, tag_of
from ..deployment import Deployment
from ..records import LogRecord
from .judge import Judge

_INT64: Final = 1 << 63
_VALUE: Final = attrgetter("value")
_STAMP: Final = attrgetter("timestamp")
_new: Final = tuple.__new__  # of a named tuple: half of what calling its class takes
# What a total of an aggregation is in Python; LATEST and FIRST also need their record.
_VALUES: Final[dict[Aggregation, Callable[[Any], Any]]] = {
    Aggregation.COUNT: int,
    Aggregation.SUM: Decimal,
    Aggregation.MAX: Decimal,
    Aggregation.MIN: Decimal,
    Aggregation.MEAN: lambda found: (Decimal(found[0]), found[1]),
}


class Broken(Exception):
    """The module failed; the index may hold ids of what no plan will say."""


class RustFold:
    """Takes the plain events of one partition under one matcher, plan after plan.

    taken: how many of the plan.
    """

    def __init__(
        self, module: ModuleType, partition: int, deployment: Deployment, matcher: Matcher
    ) -> None:
        self._partition = partition
        self._matcher = matcher
        self._kinds: dict[str, Aggregation] = {}  # by rule
        self._records: Sequence[LogRecord] = ()
        self.taken = 0
        self._folder = module.Folder(
            bucket_ns=deployment.base_bucket_s * NS_PER_S,
            seed=seed_of(deployment.store_id),
            partition=partition,
            homes=deployment.homes,
            max_age_ms=deployment.max_age_ms,
            max_ahead_ms=deployment.max_ahead_ms,
        )

    def begin(self, records: Sequence[LogRecord]) -> None:
        self._records, self.taken = records, 0
        self._folder.begin(list(map(_VALUE, records)), list(map(_STAMP, records)))

    @property
    def size(self) -> int:
        """How many cells are touched so far."""
        size: int = self._folder.size
        return size

    def take(self, row: int, judge: Judge, index: IdIndex, cells_max: int) -> int:
        """Take plain records from a row on; return how many.

        Raises:
            Broken: fold without it from now on, and on an index that is loaded again.
        """
        begin = row
        while True:
            index.reserve(len(self._records) - row)
            try:
                taken, new, judge.clock_ms, unknown = self._folder.take(
                    row=row,
                    clock_ms=judge.clock_ms,
                    last_ms=judge.last_ms,
                    tag=tag_of(judge.generation),
                    cells_max=cells_max,
                    index=index.arrays,
                )
            except RuntimeError as error:
                raise Broken(str(error)) from error
            index.took(new)
            row += taken
            if unknown is None:
                self.taken += row - begin
                return row - begin
            self._learn(unknown)

    def _learn(self, event_type: str) -> None:
        """Learn what the rules of an event type say, so that its events can be taken."""
        rules = self._matcher.candidates(event_type)
        spelled = [_spelled(rule) for rule in rules]
        self._folder.learn(event_type, None if None in spelled else spelled)
        self._kinds.update((rule.key, rule.measure.aggregation) for rule in rules)

    def end(self) -> "Taken":
        """End the plan; return what was taken of it."""
        found = self._folder.end()
        places: list[tuple[str, int]] = found["places"]
        cells: dict[CellKey, Change] = {}
        for key, totals in found["totals"]:
            kind = self._kinds[key]
            value_of = _VALUES.get(kind, self._reading)
            for place, value in totals:
                customer, bucket = places[place]
                partial = _new(Partial, (value_of(value), 0))
                cells[_new(CellKey, (key, customer, bucket, 0, ()))] = _new(
                    Change, (kind, partial)
                )
        for key, place, (grouping_set, groups), value in found["groups"]:
            customer, bucket = places[place]
            kind = self._kinds[key]
            change = Change(kind, Partial(_VALUES.get(kind, self._reading)(value), 0))
            cells[CellKey(key, customer, bucket, grouping_set, groups)] = change
        elements: dict[CellKey, set[str]] = {}
        for key, place, (grouping_set, groups), text in found["elements"]:
            customer, bucket = places[place]
            cell = CellKey(key, customer, bucket, grouping_set, groups)
            elements.setdefault(cell, set()).add(element_of(text))
        first = {name: self._records[row].offset for name, row in found["first"]}
        duplicates = [self._records[row].offset for row in found["duplicates"]]
        self._records = ()
        return Taken(found["counted"], duplicates, found["new_ids"], first, cells, elements)

    def _reading(self, found: tuple[int, int, int, int | str]) -> tuple[Position, Decimal]:
        event_ns, clock_ms, row, value = found
        offset = self._records[row].offset
        return Position(event_ns, clock_ms, self._partition, offset), Decimal(value)


@dataclass(frozen=True, slots=True)
class Taken:
    """What a plan's plain records change.

    duplicates: offsets. first: event type → offset of its first new event.
    """

    counted: int
    duplicates: list[int]
    new_ids: bytes
    first: dict[str, int]
    cells: dict[CellKey, Change]
    elements: dict[CellKey, set[str]]

    def join(self, cells: dict[CellKey, Change], elements: dict[CellKey, set[str]]) -> None:
        """Join what the other records of the plan change."""
        for cell, change in cells.items():
            kind, partial = change
            held = self.cells.get(cell)
            both = partial if held is None else merge_partials(kind, held.partial, partial)
            self.cells[cell] = Change(kind, both)
        for cell, members in elements.items():
            self.elements.setdefault(cell, set()).update(members)


def _spelled(rule: Rule) -> dict[str, Any] | None:
    """A rule for native/src/rules.rs; None where it asks for what only this package evaluates."""
    measure = rule.measure
    tests = [_spelled_test(condition) for condition in measure.where]
    fields = [field for field in rule.fields if field.source != "property"]
    far = rule.from_ns is not None and abs(rule.from_ns) >= _INT64
    if measure.unit is not None or fields or far or None in tests:
        return None
    return {
        "key": rule.key,
        "kind": measure.aggregation.value,
        "field": None if measure.field is None else measure.field.key,
        "numeric_text": measure.numeric_text,
        "from_ns": rule.from_ns,
        "everybody": rule.scope is Scope.DEPLOYMENT,
        "tests": tests,
        "grouping_sets": [[each.key for each in fields] for fields in rule.sets],
    }


def _spelled_test(condition: Condition) -> dict[str, Any] | None:
    operands: list[Any] = list(condition.operands)
    if condition.comparison is Comparison.NUMBER and len(operands) == 1:
        operand = number_or_text(operands[0])
        if operand is not None and not readable(operand):
            return None  # its text could be a billion digits
        operands = [None if operand is None else canonical(operand)]
    if not all(type(operand) is str for operand in operands):
        return None
    return {
        "field": condition.field.key,
        "operator": condition.operator.value,
        "operands": operands,
        "comparison": condition.comparison.value,
        "strict": condition.strict,
        "if_unknown": condition.if_unknown,
    }
