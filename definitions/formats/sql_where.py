"""What a SQL condition lets through: disjoint lists of conditions, all of which must hold.

Rule 1: SQL's NULL makes a comparison neither true nor false, and only what is true passes. So a
comparison is a condition whose unknown is false; where it must not be true, its negation with
unknown as true.
Rule 2: what an OR lets through is split so that no event passes twice: the left side, and the
right side where the left one is not true. Each part is a measure, and measures add up.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import Any, Final

from sqlglot import exp

from ..metric import Comparison, Condition, EventSelector, Field, Operator
from ..values import decimal_of_text
from .sql_groups import property_of
from .sql_words import COMPARED, MIRRORED, NEGATED, Untranslatable

PARTS_MAX: Final = 64
_TEXTS: Final = {Operator.EQUAL, Operator.IN}


@dataclass(frozen=True, slots=True)
class Types:
    """A condition on event_type: one of these, or none of these."""

    names: tuple[str, ...]
    among: bool


Atom = Condition | Types
Part = tuple[Atom, ...]  # all hold
Parts = tuple[Part, ...]  # exactly one holds, where any does
WHOLE: Final[Parts] = ((),)


@dataclass(frozen=True, slots=True)
class Split:
    """The events for which a condition is true, and those for which it is not, each in parts."""

    passes: Parts
    fails: Parts


def split(item: exp.Expression) -> Split:
    """Return what a condition lets through, and what it does not.

    Raises:
        Untranslatable: with the reason.
    """
    return _split(item, negated=False)


def both(left: Parts, right: Parts) -> Parts:
    """Return the events that are in both."""
    return _bounded(tuple((*first, *second) for first, second in product(left, right)))


def selector(part: Part) -> tuple[EventSelector, tuple[Condition, ...]] | None:
    """Return what a measure of a part looks at, or None where no event can pass."""
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    conditions: dict[Condition, None] = {}
    for atom in part:
        if isinstance(atom, Condition):
            conditions[atom] = None
        elif not atom.among:
            exclude += tuple(name for name in atom.names if name not in exclude)
        elif include is None:
            include = atom.names
        else:
            include = tuple(name for name in include if name in atom.names)
    if include is not None and not set(include) - set(exclude):
        return None
    return EventSelector(include=include, exclude=exclude or None), tuple(conditions)


def existence(name: str, operator: Operator) -> Condition:
    """Return a condition on whether a property is there."""
    return Condition(
        field=Field(source="property", key=name),
        operator=operator,
        comparison=Comparison.EXISTENCE,
        if_unknown=False,
    )


def uncast(item: exp.Expression) -> exp.Expression:
    """Return what stands inside a cast to a decimal: our numbers keep all their digits."""
    if not isinstance(item, exp.Cast):
        return item
    kinds = (*exp.DataType.NUMERIC_TYPES, exp.DataType.Type.BIGDECIMAL)
    if item.to.this not in kinds or item.to.this in exp.DataType.INTEGER_TYPES:
        raise Untranslatable(f"{item.sql()[:100]}: only a cast to a decimal is translated")
    given = [str(each.this) for each in item.to.expressions]
    if given and (len(given) < 2 or not given[1].isdigit() or int(given[1]) < SCALE_MIN):
        raise Untranslatable(
            f"{item.sql()[:100]}: a cast that rounds is not translated; give a scale of "
            f"{SCALE_MIN} digits or more, which is taken to round nothing"
        )
    return item.this  # type: ignore[no-any-return]


SCALE_MIN: Final = 10


def _split(item: exp.Expression, *, negated: bool) -> Split:
    if isinstance(item, exp.Paren):
        return _split(item.this, negated=negated)
    if isinstance(item, exp.Not):
        return _split(item.this, negated=not negated)
    if isinstance(item, exp.Between):
        low = exp.GTE(this=item.this, expression=item.args["low"])
        high = exp.LTE(this=item.this, expression=item.args["high"])
        return _split(exp.And(this=low, expression=high), negated=negated)
    if isinstance(item, exp.And | exp.Or):
        # NOT (a AND b) is NOT a OR NOT b, with NULL too.
        if isinstance(item, exp.And) != negated:
            left = _split(item.this, negated=negated)
            right = _split(item.expression, negated=negated)
            return Split(
                both(left.passes, right.passes),
                _bounded((*left.fails, *both(left.passes, right.fails))),
            )
        return _either(item, negated=negated)
    return _of(_atom(item, negated=negated))


def _either(item: exp.Expression, *, negated: bool) -> Split:
    """One of several: alternatives of one text are a list, others are split."""
    kind, atoms, others = type(item), dict[Any, Atom](), list[Split]()
    for side in _sides(item, kind):
        found = _split(side, negated=negated)
        ((first, *more),) = found.passes if len(found.passes) == 1 else ((None, None),)
        key = None if more or first is None else _listed(first)
        if key is None or first is None:
            others.append(found)
        else:
            atoms[key] = _joined(atoms[key], first) if key in atoms else first
    splits = [*map(_of, atoms.values()), *others]
    made = splits[0]
    for each in splits[1:]:
        made = Split(
            _bounded((*made.passes, *both(made.fails, each.passes))),
            both(made.fails, each.fails),
        )
    return made


def _sides(item: exp.Expression, kind: type[exp.Expression]) -> list[exp.Expression]:
    """The alternatives of an OR of ORs, in their order."""
    waiting, found = [item], list[exp.Expression]()
    while waiting:
        each = waiting.pop()
        if isinstance(each, exp.Paren) and isinstance(each.this, kind):
            waiting.append(each.this)
        elif isinstance(each, kind):
            waiting += [each.expression, each.this]
        else:
            found.append(each)
    return found


def _listed(atom: Atom) -> Any:
    """What tells alternatives of one text; None where an atom is none."""
    if isinstance(atom, Types):
        return "event_type" if atom.among else None
    if atom.operator in _TEXTS and atom.comparison is Comparison.TEXT and not atom.if_unknown:
        return atom.field
    return None


def _joined(first: Atom, second: Atom) -> Atom:
    if isinstance(first, Types) and isinstance(second, Types):
        return Types(tuple(dict.fromkeys((*first.names, *second.names))), among=True)
    assert isinstance(first, Condition)
    assert isinstance(second, Condition)
    operands = tuple(dict.fromkeys((*first.operands, *second.operands)))
    return first.model_copy(update={"operator": Operator.IN, "operands": operands})


def _bounded(parts: Parts) -> Parts:
    if len(parts) > PARTS_MAX:
        raise Untranslatable(
            f"OR and CASE make more than {PARTS_MAX} parts of the events; write several metrics"
        )
    return parts


def _of(atom: Atom) -> Split:
    if isinstance(atom, Types):
        return Split(((atom,),), ((Types(atom.names, not atom.among),),))
    fails = atom.model_copy(
        update={
            "operator": NEGATED[atom.operator],
            "if_unknown": atom.comparison is not Comparison.EXISTENCE,
        }
    )
    return Split(((atom,),), ((fails,),))


def _atom(item: exp.Expression, *, negated: bool) -> Atom:
    subject, operator, operands, comparison = _taken_apart(item)
    operator = NEGATED[operator] if negated else operator
    if isinstance(subject, exp.Column) and not subject.table and subject.name == "event_type":
        return _types(operator, operands, item)
    name = property_of(uncast(subject))
    if name is None:
        raise Untranslatable(f"{item.sql()[:100]} is not translated")
    if comparison is Comparison.EXISTENCE:
        return existence(name, operator)
    return Condition(
        field=Field(source="property", key=name),
        operator=operator,
        operands=operands,
        comparison=comparison,
        if_unknown=False,
    )


def _types(operator: Operator, operands: tuple[Any, ...], item: exp.Expression) -> Types:
    if not all(isinstance(each, str) for each in operands):
        raise Untranslatable(f"{item.sql()[:100]}: event_type is compared with text")
    if operator in {Operator.EQUAL, Operator.IN}:
        return Types(operands, among=True)
    if operator in {Operator.NOT_EQUAL, Operator.NOT_IN}:
        return Types(operands, among=False)
    raise Untranslatable(f"{item.sql()[:100]} is not translated")


_Apart = tuple[exp.Expression, Operator, tuple[Any, ...], Comparison]


def _taken_apart(item: exp.Expression) -> _Apart:
    """Subject, operator, operands and how both are read."""
    for kind, taken in _READ.items():
        if isinstance(item, kind):
            found = taken(item)
            if found is not None:
                return found
    raise Untranslatable(f"{item.sql()[:100]} is not translated")


def _is(item: exp.Expression) -> _Apart | None:
    if not isinstance(item.expression, exp.Null):
        return None
    return item.this, Operator.IS_NOT_SET, (), Comparison.EXISTENCE


def _in(item: exp.Expression) -> _Apart | None:
    operands = tuple(literal(each) for each in item.expressions)
    if operands and all(isinstance(each, str) for each in operands):
        return item.this, Operator.IN, operands, Comparison.TEXT
    return None


def _compared(item: exp.Expression) -> _Apart | None:
    operator = COMPARED[type(item)]
    subject, other = item.this, item.expression
    if is_literal(subject):
        subject, other = other, subject
        operator = MIRRORED.get(operator, operator)
    if not is_literal(other):
        return None
    operand = literal(other)
    if isinstance(operand, Decimal):
        return subject, operator, (operand,), Comparison.NUMBER
    if operator in {Operator.EQUAL, Operator.NOT_EQUAL}:
        return subject, operator, (operand,), Comparison.TEXT
    return None


def _like(item: exp.Expression) -> _Apart | None:
    pattern = literal(item.expression)
    if isinstance(pattern, str):
        text = pattern.strip("%")
        shape = (pattern.startswith("%"), pattern.endswith("%") and len(pattern) > 1)
        shapes = {text, f"%{text}", f"{text}%", f"%{text}%"}
        if not {"%", "_", "\\"} & set(text) and pattern in shapes:
            operator = {
                (True, True): Operator.CONTAINS,
                (False, True): Operator.STARTS_WITH,
                (True, False): Operator.ENDS_WITH,
                (False, False): Operator.EQUAL,
            }[shape]
            operator = NEGATED[operator] if item.args.get("negate") else operator
            return item.this, operator, (text,), Comparison.TEXT
    raise Untranslatable(f"{item.sql()[:100]}: a pattern is %x%, x%, %x or x")


_READ: Final[dict[type[exp.Expression], Callable[[exp.Expression], _Apart | None]]] = {
    exp.Is: _is,
    exp.In: _in,
    exp.Like: _like,
    **dict.fromkeys(COMPARED, _compared),
}


def is_literal(item: exp.Expression) -> bool:
    """Whether an expression is a text, a number or a truth value."""
    inner = item.this if isinstance(item, exp.Neg) else item
    return isinstance(inner, exp.Literal | exp.Boolean)


def literal(item: exp.Expression) -> str | Decimal:
    """Return a text, a number, or a boolean as its text form.

    Raises:
        Untranslatable: with the reason.
    """
    if isinstance(item, exp.Boolean):
        return "true" if item.this else "false"
    if isinstance(item, exp.Neg) and isinstance(item.this, exp.Literal):
        inner = literal(item.this)
        if isinstance(inner, Decimal):
            return inner.copy_negate()  # minus would round to the context's digits
    if isinstance(item, exp.Literal) and item.is_string:
        return str(item.this)
    if isinstance(item, exp.Literal):
        number = decimal_of_text(str(item.this))
        if number is None:
            raise Untranslatable(f"{str(item.this)[:100]} is no number that events can have (C04)")
        return number
    raise Untranslatable(f"{item.sql()[:100]} is no literal")
