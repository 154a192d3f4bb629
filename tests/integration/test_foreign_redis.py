"""What somebody else wrote into our keys in Redis: the audit names it, readers halt."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis as redis_client

from pipeline.core.cells import CELLS, ELEMENTS, CellAddress
from pipeline.core.names import event_types
from pipeline.edges.redis import RedisStore
from pipeline.errors import Halt

from ..services import Services, fresh
from .contracts.test_store import CELL, FIRST, commit, plan

DAY = CELL.bucket // 24
AT = CellAddress(CELLS, 0, DAY, CELL.customer)
SET_AT = CellAddress(ELEMENTS, 0, DAY, CELL.customer)


@pytest.fixture
async def store(stack: Services) -> AsyncIterator[RedisStore]:
    """A store with a flush in it."""
    made = RedisStore(stack.redis, fresh("foreign"))
    await made.register(0, FIRST)
    await made.apply(await commit(made, FIRST, plan(0, 3)))
    yield made
    await made.close()


async def strays(store: RedisStore) -> list[str]:
    """What the audit is told of."""
    addresses = [address async for address in store.addresses(0)]
    book = await store.read_addresses(0, addresses)
    assert book is not None
    assert book.cells[CELL] == "1"
    return [*book.foreign, *[text async for text in store.strays(0)]]


async def test_our_own_keys_are_not_foreign(store: RedisStore) -> None:
    """A deployment that nobody touched has no strays."""
    assert await strays(store) == []


# field or member put into a key: the key by its maker, the command
FIELDS: list[bytes] = [
    b"x",
    b"",
    b"\xff",
    b"3",
    b"0.03",
    b"0.+3",
    b"0. 3",
    "0.٣".encode(),
    "\u0660.3".encode(),
    b"0.24",
    b"00.3",
    b"+0.3",
    b"-1.3",
    b"2.3",  # a measure that is not there
    b"4.3",  # one that would lie elsewhere
    b"0.3:1:9:x",
    b"0.3:",
]


@pytest.mark.parametrize("name", FIELDS)
async def test_a_foreign_field_of_cells_is_named_and_halts_readers(
    stack: Services, store: RedisStore, name: bytes
) -> None:
    """A field that only looks like a bucket is none; our own cells are compared all the same."""
    with redis_client.Redis.from_url(stack.redis) as client:
        client.hset(store.keys(0).at(AT), name, "1")
    found = await strays(store)

    assert len(found) == 1
    assert store.keys(0).at(AT) in found[0]
    with pytest.raises(Halt, match=r"recount audit.*recount rebuild"):
        await store.read(0, [CELL.measure], [CELL.customer], [DAY])
    with pytest.raises(Halt, match=r"recount audit.*recount rebuild"):
        await store.read_each([0], [CELL.measure], [CELL.customer], [DAY])


@pytest.mark.parametrize("member", [b"x", b"", b"\xff", b"3=x", b"1.03=x", b"9.3=x", b"1.3:1:9:x"])
async def test_a_foreign_member_of_a_set_is_named(
    stack: Services, store: RedisStore, member: bytes
) -> None:
    """UNIQUE sets hold `field=element` alone."""
    with redis_client.Redis.from_url(stack.redis) as client:
        client.sadd(store.keys(0).at(SET_AT), member)

    assert len(await strays(store)) == 1
    with pytest.raises(Halt, match="recount audit"):
        await store.read(0, ["u#1.0"], [CELL.customer], [DAY])


@pytest.mark.parametrize(
    "name",
    [
        b"odd",
        b"c:x",
        b"c:0:one:c",
        b"c:0:01:c",
        b"c:m#1.0:3:c",
        b"c:-1:3:c",
        b"c:00:3:c",
        b"ids:x",
        b"q:m",
        b"c:0:3:\xff",
        b"",
    ],
)
async def test_a_foreign_key_is_named(stack: Services, store: RedisStore, name: bytes) -> None:
    """Whatever its name is; what lies elsewhere is read."""
    with redis_client.Redis.from_url(stack.redis) as client:
        client.set(store.keys(0).prefix.encode() + name, "1")

    assert len(await strays(store)) == 1


async def test_a_key_of_another_type_is_named(stack: Services, store: RedisStore) -> None:
    """Where a hash of cells or an index is due and a text lies."""
    keys = store.keys(0)
    names = [
        keys.at(CellAddress(CELLS, 0, DAY, "other")),
        keys.customers("z"),
        keys.ids(9),
    ]
    with redis_client.Redis.from_url(stack.redis) as client:
        for name in names:
            client.set(name, "1")
    found = await strays(store)

    assert len(found) == 3
    assert all(any(name in line for line in found) for name in names)


@pytest.mark.parametrize("member", [b"x", b"\xff", b"01"])
async def test_a_foreign_member_of_an_index_is_named(
    stack: Services, store: RedisStore, member: bytes
) -> None:
    """Days are whole numbers, customers are texts; readers halt."""
    with redis_client.Redis.from_url(stack.redis) as client:
        client.sadd(store.keys(0).days(CELL.measure), member)
        client.sadd(store.keys(0).customers(CELL.measure), b"\xff")

    assert len(await strays(store)) == 2
    with pytest.raises(Halt, match="recount audit"):
        await store.listing(0, [CELL.measure])


async def test_a_foreign_field_of_the_state_is_named(stack: Services, store: RedisStore) -> None:
    """The state is read without it."""
    key: Any = store.keys(0).state
    with redis_client.Redis.from_url(stack.redis) as client:
        client.hset(key, "foreign", "1")

    assert len(await strays(store)) == 1
    state = await store.state(0)
    assert state is not None
    assert state.next == 3


NAMES: list[tuple[bytes, bytes]] = [
    (b"\xff\xfe", b"\xff"),
    (b"9:zz", b"x"),
    (b"2:zz", b"x"),
    (b"02:zz", b"1"),
    (b"2:zza", b"q"),
    (b"2:zza", b""),
    (b"zz", b"1"),
    ("²:zz".encode(), b"1"),
]


@pytest.mark.parametrize(("place", "text"), NAMES)
async def test_a_foreign_name_is_named_and_passed_over(
    stack: Services, store: RedisStore, place: bytes, text: bytes
) -> None:
    """What was learned of names decides no number: readers go on without what is not ours."""
    keys = store.keys(0)
    with redis_client.Redis.from_url(stack.redis) as client:
        client.hset(keys.names, mapping={b"2:zz": b"17", b"2:zza": b"ns"})
        assert await strays(store) == []
        client.hset(keys.names, place, text)
    (found,) = await strays(store)

    assert keys.names in found
    kept = event_types(await store.names(0))
    assert "zz" not in kept if place == b"2:zz" else kept["zz"].first_ms == 17


async def test_names_of_another_type_are_named_and_passed_over(
    stack: Services, store: RedisStore
) -> None:
    """A list where the hash of names is due: the audit says so, and nobody else needs it."""
    with redis_client.Redis.from_url(stack.redis) as client:
        client.delete(store.keys(0).names)
        client.lpush(store.keys(0).names, "a")
    (found,) = await strays(store)

    assert "is a list, not a hash" in found
    assert await store.names(0) == {}
