"""The value at a rank among values, each counted as often as it was seen.

Nearest rank: of n values the one at rank p is the smallest that at least p·n of them do not exceed
(docs/semantics.md, S-12). So it is a value that was seen, and nothing is interpolated.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from definitions.values import EXACT, number_or_text

# How a number outside 64 characters is called: nothing else makes so long a name of digits.
_LONG: Final = re.compile(r"-?[0-9]{1,128}(?:\.[0-9]{1,128})?", re.ASCII)


def counted(by_text: Mapping[Any, Decimal]) -> tuple[Counter[Decimal], int]:
    """Return how often each number was seen, and how many of the values are none.

    by_text: of each text form of a value, how often it was seen; None has no text form.
    """
    counts: Counter[Decimal] = Counter()
    unread = 0
    for text, times in by_text.items():
        value = None if text is None else read_text(text)
        if value is None:
            unread += int(times)
        else:
            counts[value] += int(times)
    return counts, unread


def read_text(text: str) -> Decimal | None:
    """Return the number that a text form is; None where it is none."""
    value = number_or_text(text)
    return Decimal(text) if value is None and _LONG.fullmatch(text) else value


def at_rank(counts: Mapping[Decimal, int], rank: Decimal) -> Decimal | None:
    """Return the value at a rank between 0 and 1; None where there is no value."""
    total = sum(counts.values())
    wanted = max(1, int(EXACT.multiply(rank, Decimal(total)).to_integral_value(ROUND_CEILING)))
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return None


def winsorized(
    values: Collection[Decimal], low: Decimal | None, high: Decimal | None
) -> Iterable[Decimal]:
    """Return values with those beyond the ones at two ranks replaced by these.

    The ranks are among the values that are not zero. Zero stays: it may stand for nothing.
    """
    counts = Counter(value for value in values if value)
    least = None if low is None else at_rank(counts, low)
    most = None if high is None else at_rank(counts, high)
    for value in values:
        limited = value if least is None or not value else max(value, least)
        yield limited if most is None or not value else min(limited, most)
