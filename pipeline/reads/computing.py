"""The sum of an expression over events that are counted by the values of its columns (Q-10)."""

from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from typing import Final

from definitions.metric import Computed
from definitions.values import EXACT

# A value has places from 10^127 down to 10^-127, and at most three are multiplied.
_WIDE: Final = Context(prec=2_000, Emin=-999_999, Emax=999_999, traps=EXACT.traps)
Row = Sequence[Decimal | None]


def sum_over(step: Computed, counts: Mapping[tuple[Decimal | None, ...], int]) -> Decimal:
    """Return what an expression is over rows, each as often as it was counted; exact.

    As in SQL a row of which it is NULL adds nothing.
    """
    total = Decimal(0)
    for row, times in counts.items():
        value = value_of(step, row)
        if value is not None:
            total = _WIDE.add(total, _WIDE.multiply(value, Decimal(times)))
    return total


def value_of(step: Computed, row: Row) -> Decimal | None:
    """Return what an expression is of the values of its columns; None is NULL.

    LEAST and GREATEST pass over NULL; all others are NULL where anything in them is.
    """
    if step.op == "number":
        return Decimal(str(step.operand))
    if step.op == "column":
        return row[int(str(step.operand))]
    found = [value_of(each, row) for each in step.args]
    there = [each for each in found if each is not None]
    if step.op in _CHOOSES:
        return _CHOOSES[step.op](there) if there else None
    if len(there) < len(found):
        return None
    if step.op == "round":
        return _rounded(there[0], int(str(step.operand)))
    return _OF[step.op](*there)


def _rounded(value: Decimal, places: int) -> Decimal:
    """Halves go away from zero."""
    return _WIDE.scaleb(
        _WIDE.scaleb(value, places).to_integral_value(ROUND_HALF_UP, _WIDE), -places
    )


def text_of(value: Decimal) -> str:
    """The one text of a sum: no exponent, no trailing zeros, no minus zero."""
    return format(value.normalize(_WIDE), "f") if value else "0"


_CHOOSES: Final[dict[str, Callable[[Sequence[Decimal]], Decimal]]] = {
    "least": min,
    "greatest": max,
    "first": lambda values: values[0],
}
_OF: Final[dict[str, Callable[..., Decimal]]] = {
    "add": _WIDE.add,
    "subtract": _WIDE.subtract,
    "multiply": _WIDE.multiply,
    "ceil": lambda value: value.to_integral_value(ROUND_CEILING, _WIDE),
    "floor": lambda value: value.to_integral_value(ROUND_FLOOR, _WIDE),
}
