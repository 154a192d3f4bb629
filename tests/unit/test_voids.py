"""What is kept of corrections: packed, read back, trimmed; and what their places look like."""

from dataclasses import replace

import pytest

from pipeline.core.correction import RecordPlace, TakenBack, place_of
from pipeline.core.stale import Buckets
from pipeline.core.state import NOTHING_TRIMMED, Trimmed, decode_state, encode_state
from pipeline.core.voids import Voids, trim_voids, voids_add_up, voids_in

from ..world import World

PAIRS = [TakenBack(7, 9), TakenBack(2, 10), TakenBack(8, 30)]
ELEMENTS = [each.element for each in PAIRS]


def test_what_is_kept_is_read_back() -> None:
    """By originals, by the corrections, and one after the other: all say the same."""
    voids = voids_in([*ELEMENTS, ELEMENTS[0]], NOTHING_TRIMMED)  # half of a commit may run later
    added = Voids()
    for each in PAIRS:
        added = added.with_(each)

    assert [voids.by_of(offset) for offset in (2, 7, 8, 9)] == [10, 9, 30, None]
    assert voids.between(2, 8) == {2, 7}
    assert voids.since(10) == PAIRS[1:]
    assert added.since(0) == voids.since(0) == PAIRS
    assert voids.living(9, 31) == [9, 10, 30]
    assert voids.living(10, 30) == [10]
    assert [voids.is_applied(offset) for offset in (2, 9, 10)] == [False, True, True]
    again = voids.with_(TakenBack(9, 40))  # what 9 says of 7, said once more
    assert again.living(9, 41) == [10, 30, 40]
    assert [again.root_of(offset) for offset in (40, 9, 10, 5)] == [7, 7, 2, 5]
    assert voids_add_up(voids, NOTHING_TRIMMED, 3)
    assert not voids_add_up(voids, NOTHING_TRIMMED, 4)


@pytest.mark.parametrize(
    "elements",
    [[b"short"], [TakenBack(1, 2).element, TakenBack(1, 3).element], [b"\0" * 17]],
)
def test_what_nobody_wrote_is_refused(elements: list[bytes]) -> None:
    """Another length, and a record that was taken back twice."""
    with pytest.raises(ValueError, match="kept corrections"):
        voids_in(elements, NOTHING_TRIMMED)


def test_the_oldest_are_let_go() -> None:
    """Those by corrections before an offset go; the counter still adds up."""
    voids = voids_in(ELEMENTS, NOTHING_TRIMMED)

    assert trim_voids(ELEMENTS, voids, NOTHING_TRIMMED, 9) is None
    found = trim_voids(ELEMENTS, voids, NOTHING_TRIMMED, 11)
    assert found == (2, Trimmed(2, 11))
    left = voids_in(ELEMENTS, Trimmed(2, 11))  # the note is there, the elements too
    assert left.since(0) == voids.above(11).since(0) == PAIRS[2:]
    assert voids_add_up(left, Trimmed(2, 11), 3)


def test_what_is_stale_is_stored_and_read_back() -> None:
    """A state says the same after Redis; a text that nobody wrote is refused."""
    stale = {"m#1": Buckets(-3, 7), "n#2": Buckets(1, 1)}
    state = replace(World().state, stale=stale, unmended={"m#1": Buckets(9, 9)}, mended=4)
    fields = encode_state(state)

    assert decode_state(fields) == state
    assert state.is_stale("m#1", 7, 8)
    assert state.is_stale("m#1", 9, 12)
    assert not state.is_stale("m#1", 8, 8)
    assert not state.is_stale("n#2", 2, 9)
    for text in ("[]", "{}", '{"m#1":[1]}', '{"m#1":[1,2],"a":3}', '{"m#1": [1,2]}', "x"):
        with pytest.raises(ValueError, match=r".+"):
            decode_state({**fields, "stale": text})
    with pytest.raises(ValueError, match="mended half"):
        decode_state({**fields, "mended": "5"})


@pytest.mark.parametrize(
    "text", ["", "1", "1@", "@1", "01@1", "1@01", "1@1 ", "1@1\n", "²@1", "-1@2"]
)
def test_what_is_no_place(text: str) -> None:
    """Only partition@offset is one, written in one way."""
    assert place_of(text) is None
    assert place_of(RecordPlace(3, 1041).text) == RecordPlace(3, 1041)
