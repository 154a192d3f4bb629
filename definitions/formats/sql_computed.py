"""What SUM adds of an expression that no cell can add up: ROUND, CEIL, products and the like.

Events are counted by the values of the properties that the expression names (a grouping set, as of
a percentile), and a reader computes the expression once for each of these rows. So it is exact,
and costs a cell for each different combination of values.
"""

from decimal import Decimal
from typing import Final

from sqlglot import exp

from ..metric import Computed
from ..values import canonical
from .sql_groups import property_of
from .sql_where import SCALE_MIN, is_literal, literal
from .sql_words import Untranslatable

PROPERTIES_MAX: Final = 4
_PRODUCT_MAX: Final = 3  # factors: the digits of a product stay within what readers compute
_STEPS_MAX: Final = 60
_DEPTH_MAX: Final = 20
_DIGITS_MAX: Final = 18  # of a number
_PLACES_MAX: Final = 18
_CHOSEN: Final[dict[type[exp.Expression], str]] = {exp.Least: "least", exp.Greatest: "greatest"}
_WHOLE: Final[dict[type[exp.Expression], str]] = {exp.Ceil: "ceil", exp.Floor: "floor"}
_SIDES: Final[dict[type[exp.Expression], str]] = {
    exp.Add: "add",
    exp.Sub: "subtract",
    exp.Mul: "multiply",
}


def is_computed(item: exp.Expression) -> bool:
    """Whether an expression needs single values: no sum of properties times numbers is it."""
    return any(
        isinstance(each, exp.Round | exp.Ceil | exp.Floor | exp.Least | exp.Greatest)
        or (isinstance(each, exp.Cast) and _places_of(each) is not None)
        or (isinstance(each, exp.Mul) and all(map(_names, (each.this, each.expression))))
        for each in item.walk()
    )


def _names(item: exp.Expression) -> bool:
    """Whether an expression names a property."""
    found = item.find_all(exp.Column, exp.Bracket)
    return any(property_of(each) is not None for each in found)


def computed(item: exp.Expression) -> tuple[Computed, tuple[str, ...]]:
    """Return an expression over columns, and the properties that these are.

    Raises:
        Untranslatable: with the reason.
    """
    columns: list[str] = []
    made = _made(item, columns)
    if len(columns) > PROPERTIES_MAX:
        raise Untranslatable(
            f"{item.sql()[:100]} is of more than {PROPERTIES_MAX} properties, each combination of "
            "whose values would be counted"
        )
    steps, depth = _size(made)
    if steps > _STEPS_MAX or depth > _DEPTH_MAX:
        raise Untranslatable(
            f"{item.sql()[:100]} has more than {_STEPS_MAX} steps, or {_DEPTH_MAX} in each other"
        )
    if _degree(made) > _PRODUCT_MAX:
        raise Untranslatable(
            f"{item.sql()[:100]}: a product of more than {_PRODUCT_MAX} factors is not translated"
        )
    return made, tuple(columns)


def _made(item: exp.Expression, columns: list[str]) -> Computed:
    if isinstance(item, exp.Paren):
        return _made(item.this, columns)
    if isinstance(item, exp.Neg):
        zero = Computed(op="number", operand=0)
        return Computed(op="subtract", args=(zero, _made(item.this, columns)))
    if is_literal(item):
        number = literal(item)
        if not isinstance(number, Decimal) or isinstance(item, exp.Boolean):
            raise Untranslatable(f"{item.sql()[:100]} is no number")
        if len(canonical(number).replace(".", "")) > _DIGITS_MAX:
            raise Untranslatable(f"{item.sql()[:40]} has more than {_DIGITS_MAX} digits")
        return Computed(op="number", operand=number)
    name = property_of(item)
    if name is not None:
        if name not in columns:
            columns.append(name)
        return Computed(op="column", operand=columns.index(name))
    if isinstance(item, exp.Cast):
        inner, places = _made(item.this, columns), _places_of(item)
        return inner if places is None else _rounded(inner, places)
    if isinstance(item, exp.Round):
        return _rounded(_made(item.this, columns), _digits(item))
    if (word := _WHOLE.get(type(item))) is not None:
        return _step(word, (_made(item.this, columns),))
    if (word := _CHOSEN.get(type(item))) is not None:
        sides = [item.this, *item.expressions]
        return _step(word, tuple(_made(each, columns) for each in sides))
    if (word := _SIDES.get(type(item))) is not None:
        return _step(word, (_made(item.this, columns), _made(item.expression, columns)))
    if isinstance(item, exp.Coalesce):
        sides = [item.this, *item.expressions]
        return _step("first", tuple(_made(each, columns) for each in sides))
    raise Untranslatable(f"{item.sql()[:100]} is not translated inside ROUND and the like")


def _step(word: str, args: tuple[Computed, ...]) -> Computed:
    return Computed.model_validate({"op": word, "args": args})


def _rounded(inner: Computed, places: int) -> Computed:
    return Computed(op="round", args=(inner,), operand=places)


def _digits(item: exp.Round) -> int:
    """How many places ROUND leaves."""
    given = item.args.get("decimals")
    number = Decimal(0) if given is None else literal(given) if is_literal(given) else None
    if not isinstance(number, Decimal) or number % 1 or not 0 <= number <= _PLACES_MAX:
        raise Untranslatable(f"{item.sql()[:100]}: ROUND leaves 0 to {_PLACES_MAX} places")
    return int(number)


def _places_of(item: exp.Cast) -> int | None:
    """How many places a cast leaves; None where it is taken to round nothing.

    Raises:
        Untranslatable: it is no cast to a number.
    """
    kind = item.to.this
    if kind in exp.DataType.INTEGER_TYPES:
        return 0
    if kind not in {*exp.DataType.NUMERIC_TYPES, exp.DataType.Type.BIGDECIMAL}:
        raise Untranslatable(f"{item.sql()[:100]}: only a cast to a number is translated")
    given = [str(each.this) for each in item.to.expressions]
    if not given:
        return None
    places = given[1] if len(given) > 1 else "0"
    if not places.isdigit():
        raise Untranslatable(f"{item.sql()[:100]}: the scale is no number")
    return None if int(places) >= SCALE_MIN else int(places)


def _size(step: Computed) -> tuple[int, int]:
    """How many steps there are, and how deep they lie."""
    inner = [_size(each) for each in step.args]
    return 1 + sum(steps for steps, _ in inner), 1 + max((at for _, at in inner), default=0)


def _degree(step: Computed) -> int:
    """How many properties and numbers are multiplied with each other at most."""
    if not step.args:
        return 1
    degrees = [_degree(each) for each in step.args]
    return sum(degrees) if step.op == "multiply" else max(degrees)
