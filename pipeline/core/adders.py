"""Rules → one generated function that adds an event to all their cells: the innermost code.

What the rules say is spelled out as Python source once for a set of rules: a property is asked for
once, common tests and readings are inline, and everything uncommon calls the same compiled
predicate or reader as anybody else. Names and values reach the source only through repr() or as
bound objects. tests/property holds it to the interpreter and to the naive recount.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from definitions.conditions import compile_condition
from definitions.matcher import Rule
from definitions.metric import Aggregation, Comparison, Condition, Operator
from definitions.values import EXACT

ABSENT: Final = object()
# properties, customer, bucket, place of the totals, event time, parts of aggregations.Place
Adder = Callable[[dict[str, Any], str, int, int, int, tuple[int, int, int, int]], bool]
_PRESENT: Final = "({0} is not None and {0} is not ABSENT)"
_MERGES: Final = {
    Aggregation.COUNT: "t[at] = 1 if h is None else h + 1",
    Aggregation.SUM: "t[at] = v if h is None else PLUS(h, v)",
    Aggregation.MAX: "t[at] = v if h is None or v > h else h",
}


@lru_cache(maxsize=256)
def adder_for(rules: tuple[Rule, ...]) -> Callable[[Sequence[Any]], Adder]:
    """Return what binds the rules' lanes (tally.py), in order, to a function that adds."""
    source = _Source()
    for number, rule in enumerate(rules):
        source.rule(number, rule)
    names: dict[str, Any] = {
        "ABSENT": ABSENT,
        "PLUS": EXACT.add,
        "Decimal": Decimal,
        **source.bound,
    }
    exec(compile(source.text(), "<adder>", "exec"), names)  # noqa: S102  our own source
    made: Callable[[Sequence[Any]], Adder] = names["bind"]
    return made


class _Source:
    """The lines of one adder, and the objects that they name."""

    def __init__(self) -> None:
        self.bound: dict[str, Any] = {}
        self._properties: dict[str, str] = {}
        self._head: list[str] = []
        self._body: list[str] = []

    def text(self) -> str:
        """The whole source."""
        asked = [
            f"  {variable} = get({key!r}, ABSENT)" for key, variable in self._properties.items()
        ]
        return "\n".join(
            [
                "def bind(lanes):",
                *self._head,
                " def add(properties, customer, bucket, at, event_ns, place):",
                "  get, matched = properties.get, False",
                *asked,
                *self._body,
                "  return matched",
                " return add",
            ]
        )

    def rule(self, number: int, rule: Rule) -> None:
        """Spell out one rule."""
        lane, kind = f"lane{number}", rule.measure.aggregation
        self._head += [f" {lane} = lanes[{number}]", f" totals{number} = {lane}.totals"]
        tests = [self._test(condition) for condition in rule.measure.where]
        self._body.append(f"  if {' and '.join(tests) or 'True'}:")
        self._body.append("   matched = True")
        guards = []
        # Cells before effective_from are dead: nobody reads them, so nobody writes them.
        if rule.from_ns is not None:
            guards.append(f"event_ns >= {rule.from_ns}")
        if rule.read is not None:
            value = self._property(rule.value_key or "")
            guards.append(f"{value} is not ABSENT")
            reading = self._reading(value, f"read{number}", rule)
        else:
            reading = "1"
        self._body.append(f"   if {' and '.join(guards) or 'True'}:")
        self._body.append(f"    v, t = {reading}, totals{number}")
        if kind in _MERGES:
            self._body += [
                "    if v is None:",
                f"     {lane}.add((customer, bucket, 0, ()), v, place)",
                "    else:",
                "     h = t[at]",
                f"     {_MERGES[kind]}",
            ]
        else:
            self._body.append(f"    {lane}.add((customer, bucket, 0, ()), v, place)")
        if rule.group_keys:
            self.bound[f"groups{number}"] = rule.groups
            self._body += [
                f"    for n, g in enumerate(groups{number}(properties), 1):",
                f"     {lane}.add((customer, bucket, n, g), v, place)",
            ]

    def _property(self, key: str) -> str:
        return self._properties.setdefault(key, f"p{len(self._properties)}")

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

    def _test(self, condition: Condition) -> str:
        predicate = f"{self._bind(compile_condition(condition))}(properties)"
        value = self._property(str(condition.field.key))
        if condition.operator is Operator.IS_SET:
            return _PRESENT.format(value)
        if condition.operator is Operator.IS_NOT_SET:
            return f"not {_PRESENT.format(value)}"
        word = {Operator.IN: "in", Operator.NOT_IN: "not in"}.get(condition.operator)
        texts = all(isinstance(operand, str) for operand in condition.operands)
        if word is None or condition.comparison is not Comparison.TEXT or not texts:
            return predicate
        wanted = self._bind(frozenset(condition.operands))
        return f"({value} {word} {wanted} if type({value}) is str else {predicate})"
