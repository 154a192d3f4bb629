"""The contract of epochs, on the memory twin and on real Redis alike."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from pipeline.app.dropping import Epochs
from pipeline.core.commit import Answer, Switch
from pipeline.core.correction import TakenBack
from pipeline.core.mending import Mending
from pipeline.core.state import PartitionState, Trimmed
from pipeline.edges.memory import MemoryStore
from pipeline.edges.memory_epochs import MemoryEpochs
from pipeline.edges.redis import RedisStore
from pipeline.edges.redis_epochs import RedisEpochs
from pipeline.ports import RollupStore

from ...services import fresh
from .test_store import CELL, FIRST, SERVERS, Servers, commit, plan, servers

__all__ = ["servers"]  # a fixture
DAY = CELL.bucket // 24
Both = tuple[RollupStore, Epochs]


@pytest.fixture(params=["memory", *SERVERS])
async def both(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Both]:
    """A store with partition 0 registered, and its epochs."""
    if request.param == "memory":
        twin = MemoryStore()
        await twin.register(0, FIRST)
        yield twin, MemoryEpochs(twin)
        return
    real = RedisStore(servers(request.param), fresh("epochs"))
    await real.register(0, FIRST)
    yield real, RedisEpochs(real)
    await real.close()


@pytest.fixture
async def real(servers: Servers) -> AsyncIterator[RedisStore]:
    """Redis alone."""
    store = RedisStore(servers("redis"), fresh("epochs"))
    await store.register(0, FIRST)
    yield store
    await store.close()


async def applied(store: RollupStore, before: PartitionState, lo: int, hi: int) -> PartitionState:
    """The state after a flush."""
    made = await commit(store, before, plan(lo, hi))
    assert await store.apply(made) is Answer.APPLIED
    return made.after


TAKEN = TakenBack(1, 3)


async def corrected(store: RollupStore, before: PartitionState) -> PartitionState:
    """The state after three records, and a correction of one of them."""
    state = await applied(store, before, 0, 3)
    made = await commit(store, state, plan(3, 4, taken_back=TAKEN, stale=[CELL]))
    assert await store.apply(made) is Answer.APPLIED
    return made.after


def mending(state: PartitionState, text: str) -> Mending:
    """What writes the cell that the correction has reached."""
    return Mending(0, state, replace(state, mended=4, stale={}), {CELL: text}, [], {})


async def text_of(store: RollupStore) -> tuple[int, int, str | None]:
    """Epoch, `next` and a cell, as each way of reading tells them."""
    one = await store.read(0, ["m#1.0"], [CELL.customer], [DAY])
    each = (await store.read_each([0], ["m#1.0"], [CELL.customer], [DAY]))[0]
    addresses = [address async for address in store.addresses(0)]
    whole = await store.read_addresses(0, addresses)
    assert one is not None
    assert each is not None
    assert whole is not None
    found = {(it.state.epoch, it.state.next, it.cells.get(CELL)) for it in (one, each, whole)}
    (told,) = found
    return told


async def test_nobody_sees_what_is_built_before_the_switch(both: Both) -> None:
    """Cells, ids and state of the other epoch lie beside; one step makes them the current ones."""
    store, epochs = both
    old = await applied(store, FIRST, 0, 3)
    assert await store.building(0) is None
    begun = await epochs.begin(0, FIRST)
    assert begun == replace(FIRST, epoch=1)
    assert await epochs.begin(0, FIRST) == begun

    half = await applied(epochs.beside, begun, 0, 2)
    assert await text_of(store) == (0, 3, "1")
    assert await store.building(0) == half
    assert await epochs.switch(0, half) is Switch.BEHIND
    made = await applied(epochs.beside, half, 2, 5)
    assert await text_of(store) == (0, 3, "1")
    late = await commit(store, old, plan(3, 5))

    assert await epochs.switch(0, made) is Switch.SWITCHED
    assert await text_of(store) == (1, 5, "2")
    assert await store.load_ids(0, {7: 2}) != {7: []}
    assert await store.apply(late) is Answer.REFUSED
    assert await store.load(0, [CELL], old) is None
    assert not await store.drop_ids(0, old, 7, [])
    assert not await store.trim_duplicates(0, old, [], Trimmed(0, 1))
    assert await epochs.switch(0, made) is Switch.GONE
    assert await text_of(store) == (1, 5, "2")


async def test_who_built_is_refused_after_the_switch(both: Both) -> None:
    """A builder that was frozen writes neither to the current epoch nor to the next one."""
    store, epochs = both
    begun = await epochs.begin(0, FIRST)
    assert begun is not None
    made = await applied(epochs.beside, begun, 0, 2)
    late = await commit(epochs.beside, made, plan(2, 4))
    assert await epochs.switch(0, made) is Switch.SWITCHED

    assert await epochs.beside.apply(late) is Answer.REFUSED
    assert await epochs.begin(0, FIRST) == replace(FIRST, epoch=2)
    assert await epochs.beside.apply(late) is Answer.REFUSED
    assert await text_of(store) == (1, 2, "1")


async def test_only_the_epoch_tells_two_equal_states_apart(both: Both) -> None:
    """What was computed on the old one is refused; commits on the new one are as any other."""
    store, epochs = both
    old = await applied(store, FIRST, 0, 2)
    begun = await epochs.begin(0, FIRST)
    assert begun is not None
    made = await applied(epochs.beside, begun, 0, 2)
    late = await commit(store, old, plan(2, 6))
    assert await epochs.switch(0, made) is Switch.SWITCHED
    state = await store.state(0)
    assert state == replace(old, epoch=1)

    assert await store.apply(late) is Answer.REFUSED
    assert await store.load(0, [CELL], old) is None

    await applied(store, state, 2, 6)
    assert await text_of(store) == (1, 6, "2")


async def test_what_is_given_up_is_gone_and_its_number_too(both: Both) -> None:
    """The next one has another number, and a late commit of the first is refused."""
    store, epochs = both
    await applied(store, FIRST, 0, 1)
    begun = await epochs.begin(0, FIRST)
    assert begun is not None
    late = await commit(epochs.beside, begun, plan(0, 2))

    assert await epochs.give_up(0)
    assert not await epochs.give_up(0)
    assert await epochs.beside.apply(late) is Answer.REFUSED
    assert await epochs.switch(0, begun) is Switch.GONE
    assert await epochs.begin(0, FIRST) == replace(FIRST, epoch=2)
    assert await epochs.dead(0) == [1]
    assert await text_of(store) == (0, 1, "1")


async def test_dead_epochs_are_dropped_and_living_ones_stay(both: Both) -> None:
    """Neither the current epoch nor what is built loses a key, whenever it runs."""
    store, epochs = both
    await applied(store, FIRST, 0, 3)
    begun = await epochs.begin(0, FIRST)
    assert begun is not None
    made = await applied(epochs.beside, begun, 0, 3)
    async for _ in epochs.drop(0):
        pass
    assert await text_of(store) == (0, 3, "1")
    assert await epochs.switch(0, made) is Switch.SWITCHED
    assert await epochs.dead(0) == [0]
    again = await epochs.begin(0, FIRST)
    assert again is not None
    built = await applied(epochs.beside, again, 0, 4)

    async for _ in epochs.drop(0):
        pass

    assert await epochs.dead(0) == []
    assert await text_of(store) == (1, 3, "1")
    assert await epochs.switch(0, built) is Switch.SWITCHED
    assert await text_of(store) == (2, 4, "1")


async def test_corrections_are_of_one_epoch(both: Both) -> None:
    """What is kept, stale, mended, trimmed follows the switch; who is late writes to neither."""
    store, epochs = both
    old = await corrected(store, FIRST)
    begun = await epochs.begin(0, FIRST)
    assert begun is not None
    assert await epochs.beside.load_voids(0) == []
    built = await corrected(epochs.beside, begun)
    assert await epochs.beside.load_voids(0) == [TAKEN.element]

    repair = mending(built, "7")
    assert await epochs.beside.mend(repair) is Answer.APPLIED
    assert await text_of(store) == (0, 4, "2")
    assert await epochs.switch(0, repair.after) is Switch.SWITCHED

    assert await text_of(store) == (1, 4, "7")
    assert await store.state(0) == repair.after
    assert await store.load_voids(0) == [TAKEN.element]
    assert await store.mend(mending(old, "9")) is Answer.REFUSED
    assert await epochs.beside.mend(mending(repair.after, "9")) is Answer.REFUSED
    assert not await store.trim_voids(0, old, [TAKEN.element], Trimmed(1, 4))
    async for _ in epochs.drop(0):
        pass
    assert await text_of(store) == (1, 4, "7")
    assert await store.load_voids(0) == [TAKEN.element]
    assert await store.trim_voids(0, repair.after, [TAKEN.element], Trimmed(1, 4))
    assert await store.load_voids(0) == []


async def test_nothing_of_a_dead_epoch_is_left(real: RedisStore) -> None:
    """After a drop Redis holds the current epoch alone; its keys are ours, and measured."""
    epochs = RedisEpochs(real)
    await corrected(real, FIRST)
    begun = await epochs.begin(0, FIRST)
    assert begun is not None
    made = await corrected(epochs.beside, begun)
    size = await epochs.size(0)
    assert await epochs.switch(0, made) is Switch.SWITCHED
    state = await real.state(0)
    assert state is not None
    count = sum([each async for each in epochs.drop(0)])

    keys = real.keys(0)
    async with real.nodes.at(keys.state) as client:
        names = {name.decode() for name in await client.keys(f"{keys.home}*")}
    own = {name for name in names if name.startswith(keys.prefix)}
    assert keys.epoch == 1
    assert names - own == {keys.state, keys.epochs}
    assert count == len(own)
    assert size == 0  # what is built has all of it already
    assert await epochs.size(0) > 200
    assert [stray async for stray in real.strays(0)] == []


async def test_a_late_page_of_names_deletes_nothing_that_lives(real: RedisStore) -> None:
    """Who listed keys of an epoch before it became the current one is refused."""
    epochs = RedisEpochs(real)
    begun = await epochs.begin(0, FIRST)
    assert begun is not None
    made = await applied(epochs.beside, begun, 0, 3)
    keys = epochs.beside.keys(0)
    async with real.nodes.at(keys.state) as client:
        names = await client.keys(f"{keys.prefix}*")
    assert names
    assert await epochs.drop_names(keys, [1], names) is None
    assert await epochs.switch(0, made) is Switch.SWITCHED

    assert await epochs.drop_names(keys, [1], names) is None
    assert await text_of(real) == (1, 3, "1")


async def test_of_two_rebuilds_in_place_the_later_one_ends_it(real: RedisStore) -> None:
    """The first one neither registers the partition nor deletes what the second one wrote."""
    epochs = RedisEpochs(real)
    await applied(real, FIRST, 0, 3)
    first, second = await epochs.begin_rebuild(0), await epochs.begin_rebuild(0)
    await epochs.clear(0, second)
    assert not await epochs.finish_rebuild(0, first, FIRST)
    assert await epochs.finish_rebuild(0, second, FIRST)
    state = await real.state(0)
    assert state == replace(FIRST, epoch=second)
    await applied(real, state, 0, 2)

    await epochs.clear(0, first)

    assert await text_of(real) == (second, 2, "1")
    assert [stray async for stray in real.strays(0)] == []
