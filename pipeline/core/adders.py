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
from definitions.metric import Aggregation, Comparison, Condition, Field, Operator, Scope
from definitions.values import ABSENT, EXACT, text_form

from .event import Decoder, Event

EVERYBODY: Final = ""  # the owner of cells of the whole deployment; no customer has this id

# An event, its time in ns, the log clock in ms, its offset → whether any rule matched.
Adder = Callable[[Event, int, int, int], bool]
# (lanes of the rules, places of the totals, what makes a place, bucket in ns) → Adder
Binder = Callable[[Any, dict[tuple[str, int], int], Callable[[str, int], int], int], Adder]
INTEGERS: Final = frozenset({Aggregation.SUM, Aggregation.MAX})  # totals may be ints meanwhile
_VALUE: Final = "v, event_ns, clock_ms, offset"  # and where it stands
_PRESENT: Final = "({0} is not None and {0} is not ABSENT)"
# source of a field → its member of the context (FORMATS 4.1)
_MEMBERS: Final = {"user": "user", "user_custom": "custom", "custom_id": "custom_ids"}
# scope → variables of owner and place, and who the owner is
_OWNERS: Final = {
    Scope.CUSTOMER: ("customer", "at", "event.customer_id"),
    Scope.DEPLOYMENT: ("everybody", "at_all", repr(EVERYBODY)),
}
_MERGES: Final = {
    Aggregation.COUNT: "t[at] = 1 if h is None else h + 1",
    Aggregation.SUM: (
        "t[at] = v if h is None else h + v if type(v) is int and type(h) is int else PLUS(h, v)"
    ),
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
        "MEMBER": _member,
        "Decimal": Decimal,
        **source.bound,
    }
    exec(compile(source.text(), "<adder>", "exec"), names)  # noqa: S102  our own source
    made: Binder = names["bind"]
    return made


def _member(holder: Any, key: str) -> Any:
    return holder.get(key, ABSENT) if type(holder) is dict else ABSENT


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
        """The whole source."""
        read = [f"  {variable} = {self._spell(field)}" for field, variable in self._fields.items()]
        if any(field.source not in {"property", "customer_id"} for field in self._fields):
            read = ["  context = event.context or {}", *read]
        return "\n".join(
            [
                "def bind(lanes, places, new_place, bucket_ns):",
                *self._head,
                " def add(event, event_ns, clock_ms, offset):",
                "  properties, matched = event.properties, False",
                *read,
                "  bucket = event_ns // bucket_ns",
                *self._places,
                *self._body,
                "  return matched",
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

    def _owner(self, number: int, rule: Rule) -> tuple[str, str]:
        """Spell out whose cells a rule adds to: the variables of owner and place."""
        if rule.measure.unit is not None:
            owner, at = f"unit{number}", f"at{number}"
            self._body.append(f"   {owner} = TEXT({self._value(rule.measure.unit)})")
            lookup = [
                f"{at} = None if {owner} is None else places.get(({owner}, bucket))",
                f"if {at} is None and {owner} is not None: {at} = new_place({owner}, bucket)",
            ]
            self._body += [f"   {line}" for line in lookup]
            return owner, at
        owner, at, value = _OWNERS[rule.scope]
        lines = [
            f"  {owner} = {value}",
            f"  {at} = places.get(({owner}, bucket))",
            f"  if {at} is None: {at} = new_place({owner}, bucket)",
        ]
        if lines[0] not in self._places:
            self._places += lines
        return owner, at

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
        owner, at = self._owner(number, rule)
        guards = [f"{owner} is not None"] if rule.measure.unit is not None else []
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
        merge = _MERGES.get(kind, "").replace("[at]", f"[{at}]")
        if rule.read is None:
            self._body += [f"    h = t[{at}]", f"    {merge}"]
        elif merge:
            self._body += [
                "    if v is None:",
                f"     {lane}.add(({owner}, bucket, 0, ()), {_VALUE})",
                "    else:",
                f"     h = t[{at}]",
                f"     {merge}",
            ]
        else:
            self._body.append(f"    {lane}.add(({owner}, bucket, 0, ()), {_VALUE})")
        for grouping_set, keys in enumerate(rule.group_keys, 1):
            fields = [Field(source="property", key=key) for key in keys]
            groups = "".join(f"TEXT({self._value(field)})," for field in fields)
            where = f"({owner}, bucket, {grouping_set}, ({groups}))"
            self._body.append(f"    {lane}.add({where}, {_VALUE})")

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
        # Whole numbers stay ints within a plan where they can: they add faster, as exactly.
        made = "int" if rule.measure.aggregation in INTEGERS else "Decimal"
        return (
            f"{made}({value}) if {digits} and {value}.isascii() else "
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
