"""Rules → one generated function that adds events to all their cells: the innermost code.

What the rules say is spelled out as Python source once for a set of rules: a property is read
once, common tests and readings are inline, and everything uncommon calls the same compiled test
or reader as anybody else. Names and values reach the source only through repr() or as
bound objects. tests/property holds it to the interpreter and to the naive recount.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from definitions.conditions import Test
from definitions.matcher import Rule
from definitions.metric import Aggregation, Comparison, Condition, Field, Operator, Scope
from definitions.values import ABSENT, EXACT

from ..cells import group_of
from ..event import Decoder, Event
from ..records import LogRecord

EVERYBODY: Final = ""  # the owner of cells of the whole deployment; no customer has this id

# An event, its time in ns, the log clock in ms, its record
Row = tuple[Event, int, int, LogRecord]
# Rows → how many of them any rule matched
Adder = Callable[[Iterable[Row]], int]
# (accumulators of the rules, places of the totals, what makes a place, bucket in ns) → Adder
Binder = Callable[[Any, Mapping[int, dict[str, int]], Callable[[str, int], int], int], Adder]
INTEGERS: Final = frozenset({Aggregation.SUM, Aggregation.MAX})  # totals may be ints meanwhile
_VALUE: Final = "v, event_ns, clock_ms, record.offset"  # and where it stands
_PRESENT: Final = "({0} is not None and {0} is not ABSENT)"
# source of a field → its member of the context (docs/formats.md 4.1)
_MEMBERS: Final = {"user": "user", "user_custom": "custom", "custom_id": "custom_ids"}
# scope → variables of owner and place, and who the owner is
_OWNERS: Final = {
    Scope.CUSTOMER: ("customer", "at", "event.customer_id"),
    Scope.DEPLOYMENT: ("everybody", "at_all", repr(EVERYBODY)),
}
# How a value v joins the total h; {0} is where the total is kept. None is no total yet.
_MERGES: Final = {
    Aggregation.COUNT: "{0} = 1 if h is None else h + 1",
    Aggregation.SUM: (
        "{0} = v if h is None else h + v if type(v) is int and type(h) is int else PLUS(h, v)"
    ),
    Aggregation.MAX: "if h is None or v > h: {0} = v",
}
_PLAIN_INT: Final = 10**18  # whole numbers up to it stay ints within a plan


@lru_cache(maxsize=256)
def adder_for(rules: tuple[Rule, ...], decoder: Decoder) -> Binder:
    """Return what binds the rules' accumulators (tally.py), in order, to a function that adds.

    Args:
        decoder: What decodes the events that will be added.
    """
    source = _Source(decoder)
    for number, rule in enumerate(rules):
        source.rule(number, rule)
    names: dict[str, Any] = {
        "ABSENT": ABSENT,
        "PLUS": EXACT.add,
        "GROUP": group_of,
        "MEMBER": _member,
        "Decimal": Decimal,
        **source.bound,
    }
    exec(compile(source.text(), "<adder>", "exec"), names)  # noqa: S102  our own source
    made: Binder = names["bind"]
    return made


def _member(holder: Any, key: str) -> Any:
    return holder.get(key, ABSENT) if type(holder) is dict else ABSENT


def _indented(lines: Iterable[str]) -> list[str]:
    return [f" {line}" for line in lines]


def _asks_for(conditions: Iterable[Condition], field: Field) -> bool:
    """Whether some condition holds only where the event has the field."""
    return any(each.field == field and each.operator is Operator.IS_SET for each in conditions)


class _Source:
    """The lines of one adder, and the objects that they name."""

    def __init__(self, decoder: Decoder) -> None:
        self.bound: dict[str, Any] = {}
        self._decoder = decoder
        self._fields: dict[Field, str] = {}
        self._head: list[str] = []
        self._places: list[str] = []
        self._body: list[str] = []

    def text(self) -> str:
        read = [f"{variable} = {self._spell(field)}" for field, variable in self._fields.items()]
        if any(field.source not in {"property", "customer_id"} for field in self._fields):
            read = ["context = event.context or {}", *read]
        if any(field.source in {"property", "value"} for field in self._fields):
            read = ["properties = event.properties", *read]
        lines = [
            *read,
            "if not low <= event_ns < high:",
            " bucket = event_ns // bucket_ns",
            " low, high, here = bucket * bucket_ns, (bucket + 1) * bucket_ns, places[bucket]",
            *self._places,
            "matched = False",
            *self._body,
            "counted += matched",
        ]
        return "\n".join(
            [
                "def bind(accumulators, places, new_place, bucket_ns):",
                *self._head,
                " def add(rows):",
                "  counted = low = high = 0",
                "  for event, event_ns, clock_ms, record in rows:",
                *[f"   {line}" for line in lines],
                "  return counted",
                " return add",
            ]
        )

    def _spell(self, field: Field) -> str:
        """The source that reads a field of the event; ABSENT where it has none."""
        if field.source == "property":
            return self._decoder.spell(str(field.key))
        if field.source == "customer_id":
            return "event.customer_id"
        if field.source != "value":
            return f"MEMBER(context.get({_MEMBERS[field.source]!r}), {field.key!r})"
        given = "context.get('value')"
        if field.key is None:
            return f"ABSENT if {given} is None else {given}"
        return f"{self._decoder.spell(field.key)} if {given} is None else {given}"

    def _place(self, owner: str, at: str, given: str) -> list[str]:
        """The lines that find the place of an owner's totals, or make one."""
        return [
            f"{owner} = {given}",
            f"try: {at} = here[{owner}]",
            f"except KeyError: {at} = new_place({owner}, bucket)",
        ]

    def rule(self, number: int, rule: Rule) -> None:
        accumulator, measure = f"accumulator{number}", rule.measure
        self._head += [
            f" {accumulator} = accumulators[{number}]",
            f" totals{number} = {accumulator}.totals",
        ]
        tests = [
            self._test(condition, test)
            for condition, test in zip(measure.where, rule.tests, strict=True)
        ]
        lines = self._adding(number, rule)
        # Cells before effective_from are dead: nobody reads them, so nobody writes them.
        if rule.from_ns is not None:
            lines = [f"if event_ns >= {rule.from_ns}:", *_indented(lines)]
        lines = ["matched = True", *lines]
        if tests:
            lines = [f"if {' and '.join(tests)}:", *_indented(lines)]
        self._body += lines

    def _adding(self, number: int, rule: Rule) -> list[str]:
        """The lines that add an event which passed the tests."""
        measure, accumulator, lines = rule.measure, f"accumulator{number}", []
        if measure.unit is None:
            owner, at, given = _OWNERS[rule.scope]
            lookup = self._place(owner, at, given)
            if lookup[0] not in self._places:
                self._places += lookup
        else:
            owner, at = f"unit{number}", f"at{number}"
        where = f"({owner}, bucket, 0, ())"
        total, merge = f"totals{number}[{at}]", _MERGES.get(measure.aggregation)
        if measure.field is None:
            lines.append("v = 1")
        else:
            value = self._value(measure.field)
            lines.append(f"v = {self._reading(value, f'read{number}', rule)}")
        join = [] if merge is None else [f"h = {total}", merge.format(total)]
        if merge is None:
            lines.append(f"{accumulator}.add({where}, {_VALUE})")
        elif rule.read is None:
            lines += join
        else:
            lines += [
                f"if v is None: {accumulator}.add({where}, {_VALUE})",
                "else:",
                *_indented(join),
            ]
        for grouping_set, fields in enumerate(rule.sets, 1):
            groups = "".join(f"GROUP({self._value(field)})," for field in fields)
            lines.append(
                f"{accumulator}.add(({owner}, bucket, {grouping_set}, ({groups})), {_VALUE})"
            )
        if measure.field is not None and not _asks_for(measure.where, measure.field):
            lines = [f"if {self._value(measure.field)} is not ABSENT:", *_indented(lines)]
        if measure.unit is not None:
            given = f"GROUP({self._value(measure.unit)})"
            first, *lookup = self._place(owner, at, given)
            lines = [first, f"if {owner} is not None:", *_indented([*lookup, *lines])]
        return lines

    def _value(self, field: Field) -> str:
        return self._fields.setdefault(field, f"v{len(self._fields)}")

    def _bind(self, value: Any) -> str:
        name = f"b{len(self.bound)}"
        self.bound[name] = value
        return name

    def _reading(self, value: str, name: str, rule: Rule) -> str:
        """The source that reads a value; common shapes are inline."""
        self.bound[name] = rule.read
        if rule.measure.aggregation is Aggregation.UNIQUE:
            return f"{name}({value})"
        rest = f"{value} if type({value}) is Decimal else {name}({value})"
        # Whole numbers stay ints within a plan where they can: they add faster, as exactly.
        whole = rule.measure.aggregation in INTEGERS
        if whole:
            small = f"type({value}) is int and -{_PLAIN_INT} < {value} < {_PLAIN_INT}"
            rest = f"{value} if {small} else {rest}"
        if not rule.measure.numeric_text:
            return rest
        digits = f"type({value}) is str and {value}.isdigit() and len({value}) < 64"
        made = "int" if whole else "Decimal"
        return f"{made}({value}) if {digits} and {value}.isascii() else {rest}"

    def _test(self, condition: Condition, test: Test) -> str:
        value = self._value(condition.field)
        if condition.operator is Operator.IS_SET:
            return _PRESENT.format(value)
        if condition.operator is Operator.IS_NOT_SET:
            return f"not {_PRESENT.format(value)}"
        tested = f"{self._bind(test)}({value})"
        word = {Operator.IN: "in", Operator.NOT_IN: "not in"}.get(condition.operator)
        texts = all(isinstance(operand, str) for operand in condition.operands)
        if word is None or condition.comparison is not Comparison.TEXT or not texts:
            return tested
        wanted = self._bind(frozenset(condition.operands))
        return f"({value} {word} {wanted} if type({value}) is str else {tested})"
