"""How a JSON value is read as a number or as text (C03 to C05).

Rule 1: a number is a decimal read from its text; nothing here is ever a float.
Rule 2: what cannot be read is None, never an exception: the event keeps its fate.
"""

import decimal
import re
from decimal import Decimal
from typing import Final

# C04: at most 64 characters, written exponent within ±64.
NUMBER_CHARS_MAX: Final = 64
EXPONENT_MAX: Final = 64
_DECIMAL_TEXT: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE]([+-]?[0-9]+))?")
_INT_MIN: Final = -(10 ** (NUMBER_CHARS_MAX - 1))
_INT_MAX: Final = 10**NUMBER_CHARS_MAX

# A value spans at most 10^127 down to 10^-127 (64 digits shifted by 64); 10^40 events of
# them still fit. Inexact is trapped: a sum that would round is a bug, never a number.
EXACT: Final = decimal.Context(
    prec=300,
    rounding=decimal.ROUND_HALF_EVEN,
    Emin=-999_999,
    Emax=999_999,
    traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow],
)
# MEAN and ratios: 34 significant digits, half-even (docs/design.md 4).
QUOTIENT: Final = decimal.Context(prec=34, rounding=decimal.ROUND_HALF_EVEN, traps=[])


class Unreadable:
    """A JSON number outside C04. One instance stands for all of them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNREADABLE"


class Absent:
    """No such member. One instance stands for all of them."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ABSENT"


UNREADABLE: Final = Unreadable()
ABSENT: Final = Absent()


def decimal_of_text(text: str) -> Decimal | None:
    """Return the decimal a text stands for, or None where C04 does not read it."""
    if len(text) > NUMBER_CHARS_MAX:
        return None
    match = _DECIMAL_TEXT.fullmatch(text)
    if match is None:
        return None
    exponent = match[1]
    # The length test comes first: int() of a long digit string is slow.
    if exponent is not None and (
        len(exponent) > NUMBER_CHARS_MAX or abs(int(exponent)) > EXPONENT_MAX
    ):
        return None
    return Decimal(text)


class _Numbers(dict[str, Decimal | Unreadable]):
    """Number tokens seen lately, and what they are worth: amounts and durations repeat."""

    def __missing__(self, token: str) -> Decimal | Unreadable:
        if len(token) > NUMBER_CHARS_MAX:
            return UNREADABLE
        value = Decimal(token) if "e" not in token and "E" not in token else None
        made = value or decimal_of_text(token)
        if len(self) >= _REMEMBERED_MAX:
            self.clear()
        self[token] = found = UNREADABLE if made is None else made
        return found


_REMEMBERED_MAX: Final = 1 << 14
number_of_token: Final = _Numbers().__getitem__  # a JSON number token → its value; C04


def number(value: object) -> Decimal | None:
    """Read a JSON number; text, booleans and the rest are unreadable (CK2)."""
    kind = type(value)
    if kind is Decimal:
        return value  # type: ignore[return-value]  # type() narrows, mypy does not follow
    if kind is int:
        # "-" and 63 digits, or 64 digits: the token has at most 64 characters.
        return Decimal(value) if _INT_MIN < value < _INT_MAX else None  # type: ignore[operator,arg-type]
    return None


def number_or_text(value: object) -> Decimal | None:
    """Read a JSON number or decimal text (CM8)."""
    if type(value) is str:
        if value.isdigit() and value.isascii() and len(value) <= NUMBER_CHARS_MAX:
            return Decimal(value)  # most numbers; saves a call and the pattern
        return decimal_of_text(value)
    return value if type(value) is Decimal else number(value)


def text_form(value: object) -> str | None:
    """Return the text form of a value (C05); lists, objects and null have none."""
    if type(value) is str:
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    read = number(value)
    return None if read is None else canonical(read)


def canonical(value: Decimal) -> str:
    """Return the one text of a decimal: no exponent, no trailing zeros, no minus zero (C05)."""
    if not value:
        return "0"
    text = str(value)
    # Most are in their one text already.
    if text.isdigit() or ("." in text and text[-1] != "0" and "E" not in text):
        return text
    return format(value.normalize(EXACT), "f")
