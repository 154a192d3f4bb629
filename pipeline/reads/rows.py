"""One number of the rows of a grouped statement: their greatest, least or mean value."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from definitions.metric import Aggregation
from definitions.values import QUOTIENT, canonical

from ..core.aggregations import AGGREGATIONS


def of_rows(
    outer: str, kind: Aggregation, payloads: Sequence[Any]
) -> tuple[str | None, dict[str, Any]]:
    """Return an aggregate of rows; a row without a value is NULL, which SQL leaves out.

    Args:
        outer: max, min or mean.
        kind: Of the payloads.
        payloads: One for each row.
    """
    rows = [
        (exact, text)
        for each in payloads
        if (text := AGGREGATIONS[kind].finish(each)) is not None
        and (exact := _exact(kind, each)) is not None
    ]
    if not rows:
        return None, {}
    if outer != "mean":
        return (max(rows) if outer == "max" else min(rows))[1], {}
    mean = sum((exact for exact, _ in rows), Fraction()) / len(rows)
    found = QUOTIENT.divide(Decimal(mean.numerator), Decimal(mean.denominator))
    return canonical(found), {}


def _exact(kind: Aggregation, payload: Any) -> Fraction | None:
    if kind is Aggregation.MEAN:
        total, count = payload
        return Fraction(total) / count if count else None
    text = AGGREGATIONS[kind].finish(payload)
    return None if text is None else Fraction(text)
