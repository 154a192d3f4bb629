"""The id index is exactly a set of ids with generations; homes are Kafka's."""

import random
from collections.abc import Iterator
from types import ModuleType
from unittest.mock import patch

import pytest
from aiokafka.partitioner import DefaultPartitioner, murmur2
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import dedup, id_index
from pipeline.core.compiled import MODULE
from pipeline.core.dedup import (
    Heads,
    customer_of,
    element_at,
    flushes_of,
    identities,
    ids_in,
)
from pipeline.core.event import Event
from pipeline.core.id_index import IdIndex, superfluous
from pipeline.recount.ledger import home_of as recount_home


@pytest.fixture(autouse=True)
def _little() -> Iterator[None]:
    """Buckets of the index that overflow."""
    with patch.object(id_index, "_BUCKETS_MIN", 2):
        yield


STEPS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 200), st.booleans()), min_size=1, max_size=12
)


@pytest.mark.parametrize("native", [None, MODULE])
@given(STEPS, st.integers(0, 2**32), st.booleans())
def test_the_index_is_an_exact_set(
    native: ModuleType | None, steps: list[tuple[int, int, bool]], seed: int, crowded: bool
) -> None:
    """What is recorded is seen, and nothing else, through growth, collisions, forgetting."""
    draw = random.Random(seed)
    index, known = IdIndex(native=native), {}  # type: IdIndex, dict[bytes, int]
    generation = 0
    for count, asked, forget in steps:
        fresh = {_id(draw, crowded=crowded) for _ in range(count)} - known.keys()
        index.record(b"".join(fresh), generation)
        known.update(dict.fromkeys(fresh, generation))
        if forget:
            generation += 1
            index.forget_before(generation - 4, generation)
            known = {id_: age for id_, age in known.items() if age >= generation - 4}
        questions = [*known, *(_id(draw, crowded=crowded) for _ in range(asked))]
        draw.shuffle(questions)

        assert index.seen(b"".join(questions)).tolist() == [id_ in known for id_ in questions]
        assert len(index) == len(known)


@given(st.lists(st.lists(st.integers(0, 12), max_size=5, unique=True), max_size=6), st.data())
def test_only_what_is_said_again_is_superfluous(
    lists: list[list[int]], data: st.DataObject
) -> None:
    """A torn element whose ids were appended again is found; lost or foreign ids never pass."""
    said: set[int] = set()
    flushes = []
    for each in lists:
        fresh = [number for number in each if number not in said]
        said |= set(fresh)
        if fresh:
            ids = b"".join(number.to_bytes(12, "big") for number in fresh)
            flushes.append(element_at(len(said) - len(fresh), ids))
    right = list(flushes)
    if flushes:
        at = data.draw(st.integers(0, len(flushes) - 1))
        upto = data.draw(st.integers(at + 1, len(flushes)))
        head = int.from_bytes(flushes[at][:8], "little")
        torn = element_at(head, ids_in(flushes[at:upto]))
        flushes.insert(at, torn)  # then applied again in smaller ones

    found = superfluous(flushes, len(said))
    assert found is not None
    for element in found:
        flushes.remove(element)
    assert sorted(ids_in(flushes)) == sorted(ids_in(right))
    assert superfluous([*flushes, element_at(0, b"x" * 12)], len(said)) is None
    assert superfluous([*flushes, b"x" * 12], len(said)) is None
    assert superfluous(flushes, len(said) + 1) is None


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=6),
    st.integers(0, 80),
)
def test_an_id_leads_back_to_its_flushes(lists: list[list[int]], wanted: int) -> None:
    """Elements say where their flush begins; bytes that two ids have between them are no id."""
    raw = [b"".join(bytes([0, number] * 6) for number in each) for each in lists]
    elements = [element_at(100 * at, ids) for at, ids in enumerate(raw)]
    id_ = bytes([0, wanted] * 6)

    found = flushes_of(elements, id_)

    assert found == [100 * at for at, each in enumerate(lists) if wanted in each]
    assert flushes_of(elements, bytes([wanted, 0] * 6)) == (found if wanted == 0 else [])


def _id(draw: random.Random, *, crowded: bool) -> bytes:
    """An id; crowded ones want the same few slots and share most of their bits."""
    if crowded:
        return draw.randrange(4).to_bytes(8, "little") + draw.randrange(300).to_bytes(4, "little")
    return draw.randbytes(dedup.ID_BYTES)


@given(st.text(max_size=300), st.integers(1, 64))
def test_homes_are_those_of_kafkas_default_partitioner(customer: str, homes: int) -> None:
    """A customer's home is what aiokafka's partitioner, and the recount's own, say."""
    raw = customer.encode()

    home = customer_of(customer, homes).home

    assert home == (murmur2(raw) & 0x7FFFFFFF) % homes == recount_home(customer, homes)
    partitions = list(range(homes))
    assert home == DefaultPartitioner()(raw, partitions, partitions)


@given(st.text(max_size=8), st.text(max_size=8), st.text(max_size=8), st.text(max_size=8))
def test_identities_keep_pairs_apart(a: str, b: str, c: str, d: str) -> None:
    """Two pairs share an id only if they are equal: the pair is length-prefixed, not glued."""
    left, right, other = (
        identities([event_of(customer, own)], Heads(0, 1), seed)
        for customer, own, seed in ((a, b, 7), (c, d, 7), (a, b, 8))
    )

    assert (left == right) == ((a, b) == (c, d))
    assert left != other


def event_of(customer: str, own: str) -> Event:
    """An event of a customer with an id of its own."""
    return Event(
        transaction_id=own, customer_id=customer, event_type="", timestamp="", properties={}
    )
