"""Keys in Redis: no two cells share an address, and every address can be read back."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.cells import CELLS as OF_CELLS
from pipeline.core.cells import CellAddress, CellKey, group_number
from pipeline.edges.redis_keys import Keys, member

TEXTS = st.one_of(
    st.text(max_size=6), st.sampled_from(["a:b", ":", "1:", "-", "=", "|", "{x}", "é"])
)
NUMBERS = {f"m#{number}.0": number for number in range(12)}
MEASURES = {number: measure for measure, number in NUMBERS.items()}
CELLS = st.builds(
    lambda measure, customer, bucket, groups: CellKey(
        measure, customer, bucket, 1 if groups else 0, tuple(groups)
    ),
    st.sampled_from(sorted(NUMBERS)),
    TEXTS,
    st.integers(-50_000, 50_000),
    st.lists(st.one_of(st.none(), TEXTS), max_size=3),
)


def address(keys: Keys, cell: CellKey) -> tuple[str, str]:
    """The key and the field of a cell."""
    (found,) = keys.located([cell], NUMBERS)
    return found


@given(CELLS, CELLS, st.sampled_from([3600, 900]))
def test_addresses_differ_as_cells_do(left: CellKey, right: CellKey, bucket_s: int) -> None:
    """Two cells share key and field only if they are one cell."""
    keys = Keys("x", 0, bucket_s)

    assert (address(keys, left) == address(keys, right)) == (left == right)


@given(CELLS, TEXTS, st.sampled_from([3600, 900]))
def test_addresses_are_read_back(cell: CellKey, element: str, bucket_s: int) -> None:
    """The key, the field and a member of a UNIQUE set say which cell they are."""
    keys = Keys("x", 7, bucket_s)
    key, field = address(keys, cell)

    found = keys.address_of(key)

    group = group_number(NUMBERS[cell.measure])
    assert found == CellAddress(OF_CELLS, group, keys.day_of(cell.bucket), cell.customer)
    assert keys.cell_of(found, field, MEASURES.get) == cell
    assert keys.element_of(found, member(field, element), MEASURES.get) == (cell, element)
