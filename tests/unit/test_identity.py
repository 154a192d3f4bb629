"""What was counted is found again, by all of its key, however much was put after it."""

from hashlib import blake2b
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.recount import identity
from pipeline.recount.identity import Identities

# Keys that share their first eight bytes, their last eight, or lie at the ends of all.
WORDS = st.sampled_from([0, 1, 63, 64, 2**63, 2**64 - 1])
KEYS = st.one_of(
    st.tuples(WORDS, WORDS).map(lambda pair: pair[0].to_bytes(8) + pair[1].to_bytes(8)),
    st.binary(min_size=16, max_size=16),
)


@given(
    st.lists(st.tuples(KEYS, st.integers(0, 2**64 - 1)), max_size=60),
    st.lists(KEYS, max_size=20),
    st.integers(1, 20),
    st.integers(0, 100),
)
def test_it_is_a_dict(
    puts: list[tuple[bytes, int]], others: list[bytes], sealed_at: int, expected: int
) -> None:
    """Whenever keys are sealed, and whatever was expected: what was put last is found."""
    wanted: dict[bytes, int] = {}
    with patch.object(identity, "SEALED_AT", sealed_at):
        held = Identities(expected)
        for key, value in puts:
            assert held.get(key) == wanted.get(key)
            held.put(key, value)
            wanted[key] = value

        for key in [*wanted, *others]:
            assert held.get(key) == wanted.get(key)


@pytest.mark.parametrize("expected", [10, 30_000])
def test_many_keys_are_found(expected: int) -> None:
    """Every key of many is found, and none that was not put."""
    keys = [blake2b(b"%d" % number, digest_size=16).digest() for number in range(40_000)]
    with patch.object(identity, "SEALED_AT", 7_000):
        held = Identities(expected)
        for number, key in enumerate(keys[:30_000]):
            held.put(key, number)

        assert [held.get(key) for key in keys[:30_000]] == list(range(30_000))
        assert {held.get(key) for key in keys[30_000:]} == {None}
