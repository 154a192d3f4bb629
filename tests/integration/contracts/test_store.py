"""The store contract: the whole fence, on the memory twin and on real Redis alike."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from definitions.metric import Aggregation
from pipeline.core.activation import Activation
from pipeline.core.aggregations import Partial, decode_partial
from pipeline.core.cell_cache import RustCells
from pipeline.core.cells import CELLS, ELEMENTS, CellAddress, CellKey, Change
from pipeline.core.commit import Answer, Commit, commit_of, settle
from pipeline.core.compiled import MODULE
from pipeline.core.correction import TakenBack
from pipeline.core.mending import Mending
from pipeline.core.past import Past, Pasts
from pipeline.core.plan import Plan, nothing
from pipeline.core.state import Halted, PartitionState, Trimmed
from pipeline.core.verdicts import pack
from pipeline.edges import redis_owners, redis_reads
from pipeline.edges.memory import MemoryStore
from pipeline.edges.redis import RedisStore
from pipeline.edges.redis_epochs import RedisEpochs
from pipeline.errors import Halt, StoreUnavailable, UsageError
from pipeline.ports import RollupStore

from ...fault.cluster import own_cluster
from ...fault.own import own_redis
from ...servers import KINDS, binary_of
from ...services import Services, fresh
from ...stored import client_at
from ...whole import whole
from ...world import STORE_ID

CELL = CellKey("m#1.0", "cü:1", 490_000, 0, ())
GROUPED = CellKey("m#1.0", "cü:1", 490_001, 1, ("a:b", None, ""))
SET = CellKey("u#1.0", "cü:1", 490_000, 0, ())
ACTIVE = {"m#1": Activation(0, -1, "d", 0, 1), "u#1": Activation(0, -1, "d", 1, 1)}
HELD = {CELL: Partial(1, 0), GROUPED: Partial(1, 2)}
FIRST = PartitionState(store_id=STORE_ID, topic_id="topic", start=0, next=0)


SERVERS = ("redis", *KINDS, "cluster", "cluster of valkey-9.1")


@contextmanager
def _started(kind: str, folder: Path) -> Iterator[str]:
    """A server, or a cluster of servers, that ends with the block."""
    clustered, _, package = kind.partition("cluster of ")
    binary = binary_of(package or clustered) if kind != "cluster" else ""
    if kind.startswith("cluster"):
        with own_cluster(folder, binary) as cluster:
            yield cluster.url
        return
    with own_redis(folder, binary=binary) as one:
        yield one.url


Servers = Callable[[str], str]


@pytest.fixture(scope="module")
def servers(stack: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Where each kind of Redis answers; one that is not the stack's is started when asked for."""
    with ExitStack() as started:

        @cache
        def url(kind: str) -> str:
            if kind == "redis":
                return stack.redis
            folder = tmp_path_factory.mktemp(kind.replace(" ", "-"))
            return started.enter_context(_started(kind, folder))

        yield url


@pytest.fixture(params=["memory", *SERVERS])
async def store(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[RollupStore]:
    """A store with partition 0 registered."""
    if request.param == "memory":
        twin = MemoryStore()
        await twin.register(0, FIRST)
        yield twin
        return
    real = RedisStore(servers(request.param), fresh("store"))
    await real.register(0, FIRST)
    yield real
    await real.close()


def at(offset: int, ids: int) -> bytes:
    """What a flush from an offset on appends to its id log."""
    return offset.to_bytes(8, "little") + bytes([ids]) * 12


def plan(lo: int, hi: int, **changes: Any) -> Plan:
    """A flush that counts one event in two cells and a set."""
    made = Plan(lo, hi, clock_ms=hi, last=(hi - 1, hi), generation=7)
    made.cells = {
        CELL: Change(Aggregation.COUNT, Partial(1, 0)),
        GROUPED: Change(Aggregation.COUNT, Partial(1, 2)),
    }
    made.elements = {SET: {"x", "1:=", ""}}
    made.new_ids = bytes([hi]) * 12
    made.counters = {"consumed": hi - lo, "counted": hi - lo}
    for name, value in changes.items():
        setattr(made, name, value)
    return made


WAYS = {"native": False}  # whether native/ has the cells of commits, or Python


@pytest.fixture(params=[False, True], ids=["python", "native"], autouse=True)
def _both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every commit of a test is made one way."""
    WAYS["native"] = bool(request.param) and MODULE is not None
    yield
    WAYS["native"] = False


async def commit(store: RollupStore, before: PartitionState, flush: Plan) -> Commit:
    """The commit of a flush on a state."""
    active = replace(before, active={**before.active, **ACTIVE})
    if WAYS["native"]:
        assert MODULE is not None
        cells = RustCells(MODULE, 0, store.layout(0, before.epoch), 1 << 20)
        missing = cells.begin(flush, active.worked_out.numbers)
        found = await store.load_missing(0, cells, before) if missing else []
        assert found is not None
        cells.settle(found)
        return commit_of(0, before, active, flush, rust=cells)
    texts = await store.load(0, list(flush.cells), before)
    assert texts is not None
    stored = {
        cell: None if text is None else decode_partial(Aggregation.COUNT, text)
        for cell, text in texts.items()
    }
    return settle(0, before, active, flush, stored)[0]


async def test_a_commit_is_written_whole(store: RollupStore) -> None:
    """Cells, elements, ids, counters, activations and next move together and are read back."""
    flush = await commit(store, FIRST, plan(0, 3))

    assert await store.apply(flush) is Answer.APPLIED
    book = await whole(store, 0)
    assert book is not None
    assert book.state == flush.after == await store.state(0)
    assert book.cells == {CELL: "1", GROUPED: "1|2"}
    assert book.elements == {SET: frozenset({"x", "1:=", ""})}
    assert await store.load_ids(0, book.state.id_counts) == {7: [at(0, 3)]}
    listing = await store.listing(0, ["m#1.0"])
    assert listing is not None
    assert listing.state == flush.after
    assert sorted(listing.owners) == ["cü:1"]
    assert sorted(listing.days) == [490_000 // 24]
    assert await store.has_owner(0, ["m#9.0", "m#1.0"], "cü:1")
    assert await store.has_owner(0, ["m#1.0"], "c") is False
    assert await store.has_owner(0, [], "cü:1") is False
    assert await store.nexts([0, 5]) == {0: 3, 5: None}


async def test_a_second_commit_adds_to_the_first(store: RollupStore) -> None:
    """Final values are merged with what is stored; a set grows; ids append."""
    first = await commit(store, FIRST, plan(0, 3))
    await store.apply(first)
    second = await commit(store, first.after, plan(3, 5, elements={SET: {"y"}}))

    assert await store.apply(second) is Answer.APPLIED
    book = await whole(store, 0)
    assert book is not None
    assert book.cells == {CELL: "2", GROUPED: "2|4"}
    assert book.elements[SET] == {"x", "y", "1:=", ""}
    assert book.state.counters["counted"] == 5
    assert await store.load_ids(0, {7: 2}) == {7: [at(0, 3), at(3, 5)]}


async def test_verdicts_are_kept_until_the_log_lost_the_records(store: RollupStore) -> None:
    """Each flush adds what it judged; a trim is fenced, and takes out once."""
    first = await commit(store, FIRST, plan(0, 3, duplicates=[0, 2]))
    await store.apply(first)
    second = await commit(store, first.after, plan(3, 9, duplicates=[5]))
    await store.apply(second)
    assert await store.load_duplicates(0) == [*pack([0, 2]), *pack([5])]

    old = pack([0, 2])
    assert not await store.trim_duplicates(0, first.after, old, Trimmed(2, 3))
    assert await store.trim_duplicates(0, second.after, old, Trimmed(2, 3))
    assert not await store.trim_duplicates(0, second.after, pack([5]), Trimmed(3, 6))
    again = replace(second.after, trimmed=Trimmed(2, 3))
    assert await store.trim_duplicates(0, again, old, Trimmed(2, 3))  # late, as a torn one may run

    assert await store.load_duplicates(0) == pack([5])
    assert await store.state(0) == replace(second.after, trimmed=Trimmed(2, 3))


async def test_corrections_are_kept_until_the_log_lost_the_records(store: RollupStore) -> None:
    """Each correction adds what it took back; a trim is fenced, and takes out once."""
    first = await commit(store, FIRST, plan(0, 3))
    await store.apply(first)
    taken = TakenBack(1, 3)
    second = await commit(store, first.after, plan(3, 4, taken_back=taken, stale=[CELL]))
    await store.apply(second)
    state = await store.state(0)
    assert state == second.after
    assert state is not None
    assert state.stale == {"m#1": (CELL.bucket, CELL.bucket)}
    assert await store.load_voids(0) == [taken.element]
    assert await store.load_duplicates(0) == []

    gone = [taken.element]
    assert not await store.trim_voids(0, first.after, gone, Trimmed(1, 4))
    assert await store.trim_voids(0, second.after, gone, Trimmed(1, 4))
    assert not await store.trim_voids(0, second.after, gone, Trimmed(1, 4))
    assert await store.load_voids(0) == []
    assert await store.state(0) == replace(second.after, voids_trimmed=Trimmed(1, 4))


async def test_cells_that_were_counted_again_replace_what_is_stored(store: RollupStore) -> None:
    """Texts are final, what holds nothing goes, and `next` stays; all of it is fenced."""
    first = await commit(store, FIRST, plan(0, 3))
    await store.apply(first)
    taken = TakenBack(1, 3)
    second = await commit(
        store, first.after, plan(3, 4, taken_back=taken, stale=[CELL, GROUPED, SET])
    )
    await store.apply(second)
    before = await whole(store, 0)
    after = replace(second.after, mended=4, stale={})

    def mending(of: PartitionState) -> Mending:
        return Mending(0, of, after, {CELL: "7"}, [GROUPED], {SET: frozenset({"x", "none"})})

    for wrong in (
        replace(second.after, next=3),
        replace(second.after, id_counts={1: 1}),
        replace(second.after, mended=2),
    ):
        assert await store.mend(mending(wrong)) is Answer.REFUSED
    assert await whole(store, 0) == before
    third = await commit(store, second.after, plan(4, 5))

    assert await store.mend(mending(second.after)) is Answer.APPLIED
    book = await whole(store, 0)
    assert book is not None
    assert book.state == after
    assert book.cells == {CELL: "7"}
    assert book.elements == {SET: frozenset({"1:=", ""})}
    assert await store.mend(mending(second.after)) is Answer.ALREADY
    assert await store.apply(third) is Answer.REFUSED  # it was computed before cells were mended
    assert [each async for each in store.strays(0)] == []


async def test_the_same_commit_again_is_recognised(store: RollupStore) -> None:
    """A flush whose reply was lost is answered `already`, and nothing is added."""
    flush = await commit(store, FIRST, plan(0, 3))
    await store.apply(flush)
    before = await whole(store, 0)

    assert await store.apply(flush) is Answer.ALREADY
    assert await whole(store, 0) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"store_id": "f" * 32},
        {"rules": 99},
        {"next": 4},
        {"next": 2},
        {"active": {**ACTIVE, "m#1": Activation(0, -1, "other", 0, 1)}},
        {"active": {"m#1": Activation(0, -1, "d", 1, 1), "u#1": Activation(0, -1, "d", 0, 1)}},
        {"ended": {"m#1": 3}},
        {"id_counts": {7: 2}},
        {"id_counts": {}},
        {"hist": Pasts({"m#1": Past(0, 0, -1, 0)})},
    ],
    ids=[
        "store",
        "rules",
        "moved on",
        "moved back",
        "acts",
        "numbers",
        "end",
        "id counts",
        "no ids",
        "history",
    ],
)
async def test_every_fence_refuses_whole(store: RollupStore, wrong: dict[str, Any]) -> None:
    """A commit computed on anything but what is stored is refused, and nothing changes."""
    first = await commit(store, FIRST, plan(0, 3))
    await store.apply(first)
    before = await whole(store, 0)
    believed = replace(first.after, **wrong)
    flush = settle(0, believed, believed, plan(believed.next, 9), HELD)[0]

    assert await store.apply(flush) is Answer.REFUSED
    assert await whole(store, 0) == before


async def test_ended_generations_are_dropped(store: RollupStore) -> None:
    """The first flush of a generation deletes the lists that can no longer be asked for."""
    first = await commit(store, FIRST, plan(0, 3))
    await store.apply(first)
    later = await commit(store, first.after, plan(3, 5, generation=12, oldest=8))

    assert later.dropped == [7]
    assert await store.apply(later) is Answer.APPLIED
    assert await store.load_ids(0, {7: 1, 12: 1}) == {7: [], 12: [at(3, 5)]}


async def test_reads_are_of_the_cells_asked_for(store: RollupStore) -> None:
    """A read gives the cells of its measures, customers and days, and the state they stand at."""
    await store.apply(await commit(store, FIRST, plan(0, 3)))
    day = CELL.bucket // 24

    book = await store.read(0, ["m#1.0"], ["cü:1"], [day])
    other = await store.read(0, ["m#1.0"], ["cü:1"], [day + 1])
    nobody = await store.read(0, ["m#1.0"], [], [day])

    assert book is not None
    assert other is not None
    assert nobody is not None
    assert dict(book.cells) == {CELL: "1", GROUPED: "1|2"}
    assert book.state.next == 3
    assert not book.elements
    assert not other.cells
    assert not nobody.cells


async def test_several_partitions_are_read_as_each_alone(store: RollupStore) -> None:
    """Few keys in one trip, many with their days looked up: the books of read(), or None."""
    flush = plan(0, 3, elements={CELL: {"a", "b"}})
    await store.apply(await commit(store, FIRST, flush))
    await store.register(1, FIRST)
    day = CELL.bucket // 24
    for measures, customers, days in (
        (["m#1.0"], ["cü:1"], [day, day + 1]),
        (["m#1.0"], ["cü:1"], range(day - 40, day + 40)),
        (["m#1.0", "zz#1.0"], ["cü:1", "other"], [day]),
        ([], [], [day]),
        (["m#1.0"], [], []),
    ):
        found = await store.read_each([0, 1, 5], measures, customers, list(days))

        assert list(found) == [0, 1, 5]
        for number, book in found.items():
            assert book == await store.read(number, measures, customers, list(days))
        assert found[5] is None


async def test_a_slice_of_the_past_is_written_once(store: RollupStore) -> None:
    """`next` and `acts` stay, so `hist` alone tells a slice that was applied from the next one."""
    first = await commit(store, FIRST, plan(0, 3))
    await store.apply(first)
    held = first.after
    for number in (1, 2):
        flush = nothing(held, held.next)
        flush.cells = {CELL: Change(Aggregation.COUNT, Partial(1, 0))}
        made = await commit(store, held, flush)
        hist = Pasts({"m#1": Past(0, number, number, 0)})
        made = replace(made, after=replace(made.after, hist=hist))

        assert await store.apply(made) is Answer.APPLIED
        assert await store.apply(made) is Answer.ALREADY
        book = await whole(store, 0)
        assert book is not None
        assert book.state == made.after
        assert book.cells[CELL] == str(1 + number)
        held = made.after


async def test_owners_are_listed_and_read_whole(store: RollupStore) -> None:
    """Each owner is listed; his cells and sets are those of read(), and only what exists is."""
    await store.apply(await commit(store, FIRST, plan(0, 3)))
    day = CELL.bucket // 24
    measures, days = ["m#1.0", "u#1.0"], range(day - 1, day + 2)
    listed = [name async for names in store.owners(0, measures) for name in names]
    assert set(listed) == {"cü:1"}
    assert [name async for names in store.owners(7, measures) for name in names] == []

    for owners in (["cü:1"], ["a", "cü:1"], ["a"], []):
        found = await store.read_owners(0, measures, ["u#1.0"], owners, days)
        assert found is not None
        assert found.owners == len(owners)
        assert found.book == await store.read(0, measures, owners, [*days])
    unknown = await store.read_owners(0, ["zz#1.0"], [], ["cü:1"], days)
    assert unknown is not None
    assert (unknown.owners, unknown.book.cells) == (1, {})
    assert await store.read_owners(5, measures, [], ["cü:1"], days) is None


async def test_a_read_of_owners_stops_once_it_is_long(
    store: RollupStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis reads the owner it is at, and begins with no other: the next read goes on there."""
    flush = plan(0, 3)
    others = [CELL._replace(customer=f"c{number}") for number in range(3)]
    flush.cells = dict.fromkeys([CELL, *others], Change(Aggregation.COUNT, Partial(1, 0)))
    await store.apply(await commit(store, FIRST, flush))
    monkeypatch.setattr(redis_owners, "TEXTS_AT_ONCE", 3)
    names, read = ["c0", "c1", "c2"], []
    while names:
        found = await store.read_owners(0, ["m#1.0"], [], names, range(20_000, 20_500))
        assert found is not None
        assert 0 < found.owners <= (3 if isinstance(store, MemoryStore) else 2)
        read += sorted(cell.customer for cell in found.book.cells)
        names = names[found.owners :]
    assert read == ["c0", "c1", "c2"]


async def test_an_unregistered_partition_is_none(store: RollupStore) -> None:
    """A partition without a state is told apart from an empty one."""
    assert await store.state(5) is None
    assert await store.load(5, [], FIRST) is None
    for other in (
        replace(FIRST, next=1),
        replace(FIRST, store_id="other"),
        replace(FIRST, rules=FIRST.rules + 1),
        replace(FIRST, id_counts={7: 1}),
        replace(FIRST, active={"m#1": Activation(0, 0, "d", 0, 1)}),
        replace(FIRST, hist=Pasts({"m#1": Past(0, 0, -1, 0)})),
    ):
        assert await store.load(0, [CELL], other) is None
    assert await store.load(0, [CELL], FIRST) == {CELL: None}
    assert await whole(store, 5) is None


async def test_a_note_of_a_halt_stands_with_its_state(store: RollupStore) -> None:
    """It is read with the state, refused elsewhere, void once the partition moved; no number."""
    why = Halted(0, 1_700_000_000_000, "partition 0: damaged; mend it")
    assert not await store.tell_halted(0, replace(FIRST, next=7), why.text)
    assert not await store.tell_halted(5, FIRST, why.text)
    assert await store.state(0) == FIRST

    assert await store.tell_halted(0, FIRST, why.text)
    noted = await store.state(0)
    assert noted is not None
    assert (noted, noted.halted) == (FIRST, why)
    assert [stray async for stray in store.strays(0)] == []

    await store.apply(await commit(store, FIRST, plan(0, 3)))
    moved = await store.state(0)
    assert moved is not None
    assert (moved.next, moved.halted) == (3, None)
    assert await store.tell_halted(0, moved, Halted(3, 1, "again").text)
    assert await store.tell_halted(0, moved, "")
    gone = await store.state(0)
    assert gone is not None
    assert gone.halted is None


async def test_registering_again_changes_nothing(store: RollupStore) -> None:
    """register() never overwrites a state."""
    flush = await commit(store, FIRST, plan(0, 3))
    await store.apply(flush)

    await store.register(0, FIRST)

    assert await store.state(0) == flush.after


# -- what only the real one can do ---------------------------------------------------------------


@pytest.fixture(params=SERVERS)
def place(request: pytest.FixtureRequest, servers: Servers) -> str:
    """Where one kind of Redis answers."""
    return servers(request.param)


@pytest.fixture
async def real(place: str) -> AsyncIterator[RedisStore]:
    """A Redis store of its own."""
    made = RedisStore(place, fresh("store"))
    await made.register(0, FIRST)
    yield made
    await made.close()


@pytest.fixture
def client(place: str, real: RedisStore) -> Iterator[Any]:
    """A plain client of the Redis that has partition 0 of it."""
    with client_at(place, real.keys(0).state) as made:
        yield made


@pytest.mark.parametrize("which", ["cells", "elements", "customers", "ids", "duplicates"])
async def test_f41_a_foreign_type_changes_nothing(
    real: RedisStore, client: Any, which: str
) -> None:
    """A key of a foreign type under any name of ours: HALT naming it, and nothing is written."""
    keys, day = real.keys(0), CELL.bucket // 24
    key = {
        "cells": keys.at(CellAddress(CELLS, 0, day, "cü:1")),
        "elements": keys.at(CellAddress(ELEMENTS, 0, day, "cü:1")),
        "customers": keys.customers("m#1.0"),
        "ids": keys.ids(7),
        "duplicates": keys.duplicates,
    }[which]
    flush = await commit(real, FIRST, plan(0, 3, duplicates=[1]))
    client.set(key, "foreign")
    before = {name: client.dump(name) for name in client.keys(f"{keys.prefix[:-1]}*")}

    with pytest.raises(Halt, match="foreign type"):
        await real.apply(flush)

    assert {name: client.dump(name) for name in client.keys(f"{keys.prefix[:-1]}*")} == before


async def test_keys_that_were_read_before_are_not_looked_at_again(
    real: RedisStore, client: Any
) -> None:
    """TYPE is asked of hashes that nobody has read; a load finds the foreign one of the others."""
    first = await commit(real, FIRST, plan(0, 3))
    await real.apply(first)
    flush = settle(0, first.after, first.after, plan(3, 4), HELD)[0]
    assert flush.are_known
    assert not first.are_known  # the versions started with it
    client.config_resetstat()
    await real.apply(flush)
    asked = client.info("commandstats").get("cmdstat_type", {"calls": 0})["calls"]
    client.set(real.keys(0).at(CellAddress(CELLS, 0, 20_000, "c")), "foreign")

    assert asked == 4  # the set, its two indexes and the id log
    with pytest.raises(Halt, match="WRONGTYPE"):
        await real.load(0, [CellKey("m#1.0", "c", 480_000, 0, ())], flush.after)


async def test_a_reader_asks_where_measures_lie(real: RedisStore) -> None:
    """Numbers that a rebuild gave otherwise are found again, by the question itself."""
    await real.apply(await commit(real, FIRST, plan(0, 3)))
    day = CELL.bucket // 24
    before = await real.read(0, ["u#1.0"], ["cü:1"], [day])
    assert before is not None
    assert before.cells == {}
    assert set(before.elements) == {SET}
    epochs = RedisEpochs(real)
    epoch = await epochs.begin_rebuild(0)
    await epochs.clear(0, epoch)
    assert await epochs.finish_rebuild(0, epoch, FIRST)
    first = replace(FIRST, epoch=epoch)
    moved = {"x#1": Activation(0, -1, "x", 0, 9), "u#1": Activation(0, -1, "d", 9, 1)}
    again = settle(0, first, replace(first, active=moved), plan(0, 3, cells={}), {})[0]
    assert await real.apply(again) is Answer.APPLIED

    book = await real.read(0, ["u#1.0", "nobody#1.0"], ["cü:1"], [day])
    books = await real.read_each([0], ["u#1.0"], ["cü:1"], [day])

    assert book is not None
    assert book.elements == before.elements
    assert books == {0: book}


async def test_f24_a_lost_script_cache_is_invisible(real: RedisStore, client: Any) -> None:
    """SCRIPT FLUSH between two commits: the second is applied all the same."""
    first = await commit(real, FIRST, plan(0, 3))
    await real.apply(first)
    client.script_flush()

    second = await commit(real, first.after, plan(3, 4))

    assert await real.apply(second) is Answer.APPLIED
    client.script_flush()
    day = CELL.bucket // 24
    books = await real.read_each([0], ["m#1.0"], ["cü:1"], [day])
    assert books == {0: await real.read(0, ["m#1.0"], ["cü:1"], [day])}


async def test_large_commits_pass_the_unpack_limit(real: RedisStore) -> None:
    """More fields and members than Lua's unpack takes at once are written all."""
    customers = [CellKey("m#1.0", "c", 490_000, 1, (f"g{number}",)) for number in range(9_000)]
    flush = plan(0, 3)
    flush.cells = {cell: Change(Aggregation.COUNT, Partial(1, 0)) for cell in customers}
    flush.elements = {SET: {f"e{number}" for number in range(9_000)}}

    assert await real.apply(await commit(real, FIRST, flush)) is Answer.APPLIED
    book = await whole(real, 0)
    assert book is not None
    assert len(book.cells) == 9_000
    assert len(book.elements[SET]) == 9_000


async def test_a_read_of_very_many_days_is_refused(
    real: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days that have cells times measures: past the bound, what to ask instead; below it, all."""
    monkeypatch.setattr(redis_reads, "KEYS_MAX", 10)
    flush = plan(0, 3)
    days = range(20_000, 20_006)
    flush.cells = {
        CellKey("m#1.0", "c", 24 * day, 0, ()): Change(Aggregation.COUNT, Partial(1, 0))
        for day in days
    }
    assert await real.apply(await commit(real, FIRST, flush)) is Answer.APPLIED

    ever = range(3_000_000)
    with pytest.raises(UsageError, match=r"12 keys of Redis .* shorter period"):
        await real.read(0, ["m#1.0"], ["c"], ever)
    book = await real.read(0, ["m#1.0"], ["c"], range(20_001, 20_006))
    assert book is not None
    assert len(book.cells) == 5


async def test_reads_while_commits_go_on_are_whole(real: RedisStore) -> None:
    """Every snapshot taken while cells are added holds just the cells up to its own next."""
    state = FIRST

    async def write() -> None:
        nonlocal state
        for number in range(60):
            flush = plan(number, number + 1)
            cell = CellKey("m#1.0", f"c{number}", 490_000 + 24 * number, 0, ())
            flush.cells = {cell: Change(Aggregation.COUNT, Partial(1, 0))}
            flush.elements, flush.new_ids = {}, b""
            made = await commit(real, state, flush)
            assert await real.apply(made) is Answer.APPLIED
            state = made.after

    async def read() -> None:
        while state.next < 60:
            try:
                book = await whole(real, 0)
            except StoreUnavailable:
                continue
            assert book is not None
            assert len(book.cells) == book.state.next

    await asyncio.gather(write(), read())
