"""Rules → one generated function that adds an event to all their cells: the innermost code.

What the rules say is spelled out as Python source once for a set of rules: a property is read
once, common tests and readings are inline, and everything uncommon calls the same compiled test
or reader as anybody else. Names and values reach the source only through repr() or as
bound objects. tests/property holds it to the interpreter and to the naive recount.
"""

from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from definitions.conditions import Test
from definitions.matcher import Rule
from definitions.metric import Aggregation, Comparison, Condition, Field, Operator
from definitions.values import ABSENT, EXACT, text_form

from .event import Decoder, Event

# An event, its time in ns, the log clock in ms, its offset → whether any rule matched.
Adder = Callable[[Event, int, int, int], bool]
# (lanes of the rules, places of the totals, what makes a place, bucket in ns) → Adder
Binder = Callable[[Any, dict[tuple[str, int], int], Callable[[str, int], int], int], Adder]
_VALUE: Final = "v, event_ns, clock_ms, offset"  # and where it stands
_PRESENT: Final = "({0} is not None and {0} is not ABSENT)"
_MERGES: Final = {
    Aggregation.COUNT: "t[at] = 1 if h is None else h + 1",
    Aggregation.SUM: "t[at] = v if h is None else PLUS(h, v)",
    Aggregation.MAX: "t[at] = v if h is None or v > h else h",
}


@lru_cache(maxsize=256)
def adder_for(rules: tuple[Rule, ...], decoder: Decoder) -> Binder:
    """Return what binds the rules' lanes (tally.py), in order, to a function that adds.

    Args:
        decoder: What decodes the events that will be added.
    """
    source = _Source(decoder)
    for number, rule in enumerate(rules):
        source.rule(number, rule)
    names: dict[str, Any] = {
        "ABSENT": ABSENT,
        "PLUS": EXACT.add,
        "TEXT": text_form,
        "Decimal": Decimal,
        **source.bound,
    }
    exec(compile(source.text(), "<adder>", "exec"), names)  # noqa: S102  our own source
    made: Binder = names["bind"]
    return made


class _Source:
    """The lines of one adder, and the objects that they name."""

    def __init__(self, decoder: Decoder) -> None:
        self.bound: dict[str, Any] = {}
        self._decoder = decoder
        self._fields: dict[Field, str] = {}
        self._head: list[str] = []
        self._body: list[str] = []

    def text(self) -> str:
        """The whole source."""
        read = [
            f"  {variable} = {self._decoder.spell(str(field.key))}"
            for field, variable in self._fields.items()
        ]
        return "\n".join(
            [
                "def bind(lanes, places, new_place, bucket_ns):",
                *self._head,
                " def add(event, event_ns, clock_ms, offset):",
                "  properties, matched = event.properties, False",
                *read,
                "  customer, bucket = event.customer_id, event_ns // bucket_ns",
                "  at = places.get((customer, bucket))",
                "  if at is None:",
                "   at = new_place(customer, bucket)",
                *self._body,
                "  return matched",
                " return add",
            ]
        )

    def rule(self, number: int, rule: Rule) -> None:
        """Spell out one rule."""
        lane, kind = f"lane{number}", rule.measure.aggregation
        self._head += [f" {lane} = lanes[{number}]", f" totals{number} = {lane}.totals"]
        tests = [
            self._test(condition, test)
            for condition, test in zip(rule.measure.where, rule.tests, strict=True)
        ]
        self._body.append(f"  if {' and '.join(tests) or 'True'}:")
        self._body.append("   matched = True")
        guards = []
        # Cells before effective_from are dead: nobody reads them, so nobody writes them.
        if rule.from_ns is not None:
            guards.append(f"event_ns >= {rule.from_ns}")
        if rule.measure.field is not None:
            value = self._value(rule.measure.field)
            guards.append(f"{value} is not ABSENT")
            reading = self._reading(value, f"read{number}", rule)
        else:
            reading = "1"
        self._body.append(f"   if {' and '.join(guards) or 'True'}:")
        self._body.append(f"    v, t = {reading}, totals{number}")
        if rule.read is None:
            self._body += ["    h = t[at]", f"    {_MERGES[kind]}"]
        elif kind in _MERGES:
            self._body += [
                "    if v is None:",
                f"     {lane}.add((customer, bucket, 0, ()), {_VALUE})",
                "    else:",
                "     h = t[at]",
                f"     {_MERGES[kind]}",
            ]
        else:
            self._body.append(f"    {lane}.add((customer, bucket, 0, ()), {_VALUE})")
        for at, keys in enumerate(rule.group_keys, 1):
            fields = [Field(source="property", key=key) for key in keys]
            groups = "".join(f"TEXT({self._value(field)})," for field in fields)
            self._body.append(f"    {lane}.add((customer, bucket, {at}, ({groups})), {_VALUE})")

    def _value(self, field: Field) -> str:
        return self._fields.setdefault(field, f"v{len(self._fields)}")

    def _bind(self, value: Any) -> str:
        name = f"b{len(self.bound)}"
        self.bound[name] = value
        return name

    def _reading(self, value: str, name: str, rule: Rule) -> str:
        self.bound[name] = rule.read
        if rule.measure.aggregation is Aggregation.UNIQUE:
            return f"{name}({value})"
        if not rule.measure.numeric_text:
            return f"{value} if type({value}) is Decimal else {name}({value})"
        digits = f"type({value}) is str and {value}.isdigit() and len({value}) < 64"
        return (
            f"Decimal({value}) if {digits} and {value}.isascii() else "
            f"{value} if type({value}) is Decimal else {name}({value})"
        )

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
