"""The table of aggregations: merge is associative and commutative, texts are canonical."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from definitions.metric import Aggregation
from pipeline.core.aggregations import (
    AGGREGATIONS,
    Partial,
    Position,
    decode_partial,
    element_of,
    empty_partial,
    encode_partial,
    merge_partials,
)

NUMBERS = st.decimals(
    allow_nan=False, allow_infinity=False, places=9, min_value=-(10**30), max_value=10**30
)
PLACES = st.builds(
    Position, st.integers(-5, 5), st.integers(0, 3), st.integers(0, 2), st.integers(0, 10**6)
)


def folded(kind: Aggregation, values: list[tuple[Decimal, Position]]) -> Partial:
    """Fold values one by one."""
    partial = empty_partial(kind)
    for value, place in values:
        given_ = str(value) if kind is Aggregation.UNIQUE else value
        partial = merge_partials(kind, partial, Partial(AGGREGATIONS[kind].one(given_, place), 0))
    return partial


STREAMS = st.lists(st.tuples(NUMBERS, PLACES), max_size=8, unique_by=lambda pair: pair[1])


@pytest.mark.parametrize("kind", list(Aggregation))
@given(data=st.data())
def test_merge_is_a_commutative_monoid(kind: Aggregation, data: st.DataObject) -> None:
    """Merging is associative and commutative, zero is neutral, folding is merging."""
    values = data.draw(STREAMS)
    i, j = sorted(data.draw(st.tuples(*[st.integers(0, len(values))] * 2)))
    a, b, c = (folded(kind, part) for part in (values[:i], values[i:j], values[j:]))

    def merge(left: Partial, right: Partial) -> Partial:
        return merge_partials(kind, left, right)

    assert merge(a, merge(b, c)) == merge(merge(a, b), c) == folded(kind, values)
    assert merge(a, b) == merge(b, a)
    assert merge(a, empty_partial(kind)) == a


@pytest.mark.parametrize("kind", [kind for kind in Aggregation if kind is not Aggregation.UNIQUE])
@given(values=STREAMS, unreadable=st.integers(0, 10**6))
def test_stored_texts_come_back(
    kind: Aggregation, values: list[tuple[Decimal, Position]], unreadable: int
) -> None:
    """A partial survives its stored text; equal partials have equal texts."""
    partial = Partial(folded(kind, values).value, unreadable)

    text = encode_partial(kind, partial)

    assert decode_partial(kind, text) == partial
    assert encode_partial(kind, decode_partial(kind, text)) == text


@pytest.mark.parametrize(
    ("kind", "empty"),
    [
        ("count", "0"),
        ("sum", "0"),
        ("count_distinct", "0"),
        ("max", None),
        ("min", None),
        ("latest", None),
        ("first", None),
        ("mean", None),
    ],
)
def test_empty_windows(kind: str, empty: Any) -> None:
    """Empty windows answer 0 for COUNT, SUM and UNIQUE, null otherwise (C15)."""
    rule = AGGREGATIONS[Aggregation(kind)]

    assert rule.finish(rule.zero) == empty


@given(st.text(max_size=30), st.text(max_size=30))
def test_elements_keep_values_apart(left: str, right: str) -> None:
    """Two values share an element only if they are equal, also across the 15-byte border."""
    assert (element_of(left) == element_of(right)) == (left == right)


def test_mean_has_34_digits_half_even() -> None:
    """MEAN divides once, to 34 significant digits."""
    rule = AGGREGATIONS[Aggregation.MEAN]

    assert rule.finish((Decimal(2), 3)) == "0." + "6" * 33 + "7"
    assert rule.finish((Decimal("1.5"), 1)) == "1.5"
