"""One table: how each aggregation starts, takes a value, merges, finishes and is stored.

Rule 1: merge is associative and commutative, zero is its identity, and folding a value equals
merging with its one-event partial. So order of arrival, batches and partitions cannot matter.
Rule 2: a stored text is canonical: equal partials have equal texts, byte for byte.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from definitions.metric import Aggregation
from definitions.times import NS_PER_MS
from definitions.values import EXACT, QUOTIENT, canonical

from ..errors import Damage

_POWER_MAX: Final = 1_000
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


class Position(NamedTuple):
    """Where a value stands: orders readings of equal event time (docs/design.md 4).

    The log clock, unlike a raw append time, never steps back, so within a partition the order
    is that of the offsets.
    """

    event_ns: int
    clock_ms: int
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class AggregationRule:
    """One aggregation. A partial is an immutable Python value; None stands for "no value yet"."""

    zero: Any
    one: Callable[[Any, Position], Any]
    merge: Callable[[Any, Any], Any]
    finish: Callable[[Any], str | None]
    encode: Callable[[Any], str]
    decode: Callable[[str], Any]


def _or_none(merge: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Lift a merge of two values to partials where None is the identity."""

    def lifted(left: Any, right: Any) -> Any:
        if left is None:
            return right
        return left if right is None else merge(left, right)

    return lifted


def _text_or_none(partial: Decimal | None) -> str | None:
    return None if partial is None else canonical(partial)


def _encode_decimal(partial: Decimal | None) -> str:
    return "" if partial is None else canonical(partial)


def _decode_number(text: str) -> Decimal:
    value = Decimal(text)
    # A number of an event is below 10**128 (C04): no sum of them comes near the bound.
    if not value.is_finite() or abs(value.adjusted()) > _POWER_MAX:
        raise ValueError(f"no number: {text[:80]!r}")
    return value


def _decode_decimal(text: str) -> Decimal | None:
    return _decode_number(text) if text else None


def _encode_reading(partial: tuple[Position, Decimal] | None) -> str:
    if partial is None:
        return ""
    place, value = partial
    age_ms = place.clock_ms - place.event_ns // NS_PER_MS
    stands = (place.event_ns, age_ms, place.partition, place.offset)
    return ":".join([*map(base36, stands), canonical(value)])


def _decode_reading(text: str) -> tuple[Position, Decimal] | None:
    if not text:
        return None
    *stands, value = text.split(":")
    event_ns, age_ms, partition, offset = (int(each, 36) for each in stands)
    place = Position(event_ns, age_ms + event_ns // NS_PER_MS, partition, offset)
    return place, _decode_number(value)


def base36(number: int) -> str:
    """The text that int(text, 36) reads: a third shorter than the decimal one."""
    digits, rest = "", abs(number)
    while rest:
        rest, digit = divmod(rest, 36)
        digits = _DIGITS[digit] + digits
    return f"-{digits}" if number < 0 else digits or "0"


def _decode_mean(text: str) -> tuple[Decimal, int]:
    total, count = text.split("/")
    return _decode_number(total), int(count)


def _finish_mean(partial: tuple[Decimal, int]) -> str | None:
    total, count = partial
    return canonical(QUOTIENT.divide(total, Decimal(count))) if count else None


def _decimal_rule(merge: Callable[[Decimal, Decimal], Decimal]) -> AggregationRule:
    return AggregationRule(
        zero=None,
        one=lambda value, _: value,
        merge=_or_none(merge),
        finish=_text_or_none,
        encode=_encode_decimal,
        decode=_decode_decimal,
    )


def _reading_rule(choose: Callable[..., Any]) -> AggregationRule:
    return AggregationRule(
        zero=None,
        one=lambda value, place: (place, value),
        merge=_or_none(lambda left, right: choose(left, right, key=lambda reading: reading[0])),
        finish=lambda partial: None if partial is None else canonical(partial[1]),
        encode=_encode_reading,
        decode=_decode_reading,
    )


AGGREGATIONS: Final[dict[Aggregation, AggregationRule]] = {
    Aggregation.COUNT: AggregationRule(
        zero=0,
        one=lambda _value, _place: 1,
        merge=lambda left, right: left + right,
        finish=str,
        encode=str,
        decode=int,
    ),
    Aggregation.SUM: AggregationRule(
        zero=Decimal(0),
        one=lambda value, _: value,
        merge=EXACT.add,
        finish=canonical,
        encode=canonical,
        decode=_decode_number,
    ),
    Aggregation.MAX: _decimal_rule(max),
    Aggregation.MIN: _decimal_rule(min),
    Aggregation.LATEST: _reading_rule(max),
    Aggregation.FIRST: _reading_rule(min),
    Aggregation.MEAN: AggregationRule(
        zero=(Decimal(0), 0),
        one=lambda value, _: (value, 1),
        merge=lambda left, right: (EXACT.add(left[0], right[0]), left[1] + right[1]),
        finish=_finish_mean,
        encode=lambda partial: f"{canonical(partial[0])}/{partial[1]}",
        decode=_decode_mean,
    ),
    # The elements are stored as a set of their own; the cell's text holds nothing of them.
    Aggregation.UNIQUE: AggregationRule(
        zero=frozenset(),
        one=lambda value, _: frozenset((element_of(value),)),
        merge=lambda left, right: left | right,
        finish=lambda partial: str(len(partial)),
        encode=lambda _: "",
        decode=lambda _: frozenset(),
    ),
}

ELEMENT_BYTES_MAX: Final = 15


def element_of(text: str) -> str:
    """Return what a UNIQUE set holds for a value.

    Up to 15 bytes the value itself; a longer one as blake2b-128 in 24 characters of base64,
    which no short value can equal.
    """
    raw = text.encode()
    if len(raw) <= ELEMENT_BYTES_MAX:
        return text
    return b64encode(hashlib.blake2b(raw, digest_size=16).digest()).decode()


class Partial(NamedTuple):
    """What a cell holds: the aggregation's partial, and how many values could not be read."""

    value: Any
    unreadable: int


def merge_partials(aggregation: Aggregation, left: Partial, right: Partial) -> Partial:
    merged = AGGREGATIONS[aggregation].merge(left.value, right.value)
    return Partial(merged, left.unreadable + right.unreadable)


def encode_partial(aggregation: Aggregation, partial: Partial) -> str:
    """Return a cell's stored text: the partial, then `|n` where n values were unreadable."""
    text = AGGREGATIONS[aggregation].encode(partial.value)
    return f"{text}|{partial.unreadable}" if partial.unreadable else text


def decode_partial(aggregation: Aggregation, text: str) -> Partial:
    """Read a cell's stored text."""
    value, _, unreadable = text.partition("|")
    return Partial(AGGREGATIONS[aggregation].decode(value), int(unreadable or 0))


def stored_partial(aggregation: Aggregation, text: str, cell: object) -> Partial:
    """Read the text that a store holds for a cell.

    Raises:
        Damage: nothing of ours wrote it.
    """
    try:
        return decode_partial(aggregation, text)
    except (ValueError, ArithmeticError, LookupError, TypeError) as error:
        raise Damage(
            f"Redis holds {text[:80]!r} for {cell}, which Recount did not write for "
            f"{aggregation}; `recount audit` names what else is wrong; run `recount rebuild`"
        ) from error


def empty_partial(aggregation: Aggregation) -> Partial:
    """The partial of no event."""
    return Partial(AGGREGATIONS[aggregation].zero, 0)
