"""Kept verdicts: every duplicate is there once, whatever was said twice, and goes with the log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.state import NOTHING_TRIMMED
from pipeline.core.verdicts import add_up, duplicates_in, offsets_in, pack, trim, unpack

OFFSETS = st.sets(st.integers(0, 1 << 40), max_size=30).map(sorted)


@given(OFFSETS)
def test_elements_are_read_back(offsets: list[int]) -> None:
    """One element, but for steps that 4 bytes do not hold."""
    elements = pack(offsets)

    assert [int(each) for element in elements for each in unpack(element)] == offsets
    assert sorted(offsets_in(elements).tolist()) == offsets
    if offsets and offsets[-1] - offsets[0] < 1 << 32:
        assert len(elements) == 1


@given(st.lists(st.sets(st.integers(0, 40), max_size=6), max_size=8), st.data())
def test_what_is_said_twice_counts_once(flushes: list[set[int]], data: st.DataObject) -> None:
    """A torn element is there again; a lost or a foreign one does not add up."""
    offsets = [sorted(100 * at + each for each in flush) for at, flush in enumerate(flushes)]
    said = sum(map(len, offsets))
    elements = [element for each in offsets for element in pack(each)]
    again = st.lists(st.sampled_from(elements), max_size=3) if elements else st.just([])
    twice = [*elements, *data.draw(again)]

    assert _fits(twice, said)
    assert not _fits(twice, said + 1)
    assert not _fits([*twice, *pack([10_000])], said)
    if elements:
        assert not _fits(elements[1:], said)
    with pytest.raises(ValueError, match="7 bytes"):
        offsets_in([*twice, b"foreign"])


def _fits(elements: list[bytes], duplicates: int) -> bool:
    return add_up(duplicates_in(elements, NOTHING_TRIMMED), NOTHING_TRIMMED, duplicates)


@given(
    st.lists(st.sets(st.integers(0, 99), max_size=6), max_size=8),
    st.lists(st.integers(0, 900), max_size=4).map(sorted),
    st.booleans(),
)
def test_what_the_log_lost_is_let_go(
    flushes: list[set[int]], starts: list[int], half: bool
) -> None:
    """After any trims the rest adds up, and nothing goes that the log still holds.

    half: only the note of the first trim survived a crash, not what it took out.
    """
    offsets = [sorted(100 * at + each for each in flush) for at, flush in enumerate(flushes)]
    said = sorted(each for flush in offsets for each in flush)
    elements = [element for each in offsets for element in pack(each)]
    trimmed = NOTHING_TRIMMED
    for number, start in enumerate(starts):
        found = trim(elements, duplicates_in(elements, trimmed), trimmed, start)
        if found is None:
            continue
        gone, trimmed = found
        if not (half and number == 0):
            elements = elements[gone:]
        kept = duplicates_in(elements, trimmed).tolist()
        assert len(kept) == len(said) - trimmed.records
        assert kept == [each for each in said if each >= trimmed.below]
        assert trimmed.below <= start
