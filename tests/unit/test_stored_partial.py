"""A cell's text that nothing of ours wrote."""

import pytest

from definitions.metric import Aggregation
from pipeline.core.aggregations import Partial, stored_partial
from pipeline.errors import Halt


@pytest.mark.parametrize("kind", [each for each in Aggregation if each is not Aggregation.UNIQUE])
@pytest.mark.parametrize("text", ["x", "1|x", "1:2", "1/", "::::"])
def test_a_foreign_text_halts_with_what_to_do(kind: Aggregation, text: str) -> None:
    """Whoever reads it, a worker or a query, stops with exit 5."""
    with pytest.raises(Halt, match="recount rebuild"):
        stored_partial(kind, text, "cell")


@pytest.mark.parametrize("number", ["nan", "sNaN", "Infinity", "-inf", "1e999999999", "0e-999999"])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Aggregation.SUM, "{}"),
        (Aggregation.MAX, "{}"),
        (Aggregation.MIN, "{}|2"),
        (Aggregation.MEAN, "{}/3"),
        (Aggregation.LATEST, "1:1:1:1:{}"),
        (Aggregation.FIRST, "1:1:1:1:{}"),
    ],
)
def test_a_number_that_none_of_ours_can_be_halts(
    kind: Aggregation, text: str, number: str
) -> None:
    """It would break a merge, or take a billion digits to write."""
    with pytest.raises(Halt, match="recount rebuild"):
        stored_partial(kind, text.format(number), "cell")


def test_our_own_text_is_read() -> None:
    """The value and the unreadable ones."""
    assert stored_partial(Aggregation.COUNT, "3|2", "cell") == Partial(3, 2)
