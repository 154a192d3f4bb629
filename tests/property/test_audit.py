"""The audit agrees with what is right and finds what is wrong, however many passes it takes."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from definitions.formats import parse
from definitions.metric import Definition
from pipeline.app.owner import Owner
from pipeline.audit import Auditor, Findings, auditor, books
from pipeline.core.cells import CellAddress
from pipeline.core.records import Span
from pipeline.edges.memory import MemoryLog, MemoryStore
from pipeline.errors import StoreUnavailable
from pipeline.ports import Book
from pipeline.recount import ledger
from pipeline.recount.events import Plain, read_quickly
from pipeline.recount.ledger import WHOLE, Share

from ..world import DAY_MS, FIVE, NOW_MS, World, definition_record, deployment, event

SHARED: dict[str, Definition] = {
    "users": parse(
        "statsig",
        json.dumps(
            {
                "name": "users",
                "type": "event_user",
                "unitTypes": ["userID"],
                "metricEvents": [{"name": "use", "criteria": []}],
            }
        ),
    )[1],
    "all": parse(
        "klaviyo",
        json.dumps(
            {
                "data": {
                    "type": "custom-metric",
                    "attributes": {
                        "name": "all",
                        "definition": {
                            "aggregation_method": "count",
                            "metric_groups": [{"metric_id": "use", "metric_filters": []}],
                        },
                    },
                }
            }
        ),
    )[1],
}
METRICS = FIVE | SHARED
SIZES = [(1_000_000, 100_000), (7, 3), (3, 100_000), (1_000_000, 2)]


@contextmanager
def passes(events: int, keys: int) -> Iterator[None]:
    """Small passes, as a large log would need them."""
    with (
        patch.object(auditor, "EVENTS_PER_PASS", events),
        patch.object(auditor, "KEYS_PER_PASS", keys),
        patch.object(books, "KEYS_AT_ONCE", max(keys // 2, 1)),
    ):
        yield


def odd(number: int) -> list[bytes]:
    """Events whose customer is easily mistaken, and what is no event but seems to name one."""
    made = event(f"odd{number}", customer_id=f"c{number}")
    name, whose = b'"customer_id"', b'"c%d"' % number
    other = b'"c%d"' % (number + 1)
    return [
        made.replace(whose, b'"\\u0063%d"' % number),
        made.replace(name, b'"customer\\u005fid": ' + other + b", " + name),
        made.replace(name, name + b": " + other + b", " + name).replace(b"odd", b"twice"),
        made.replace(b'"g": "x"', b'"g": "x", "customer_id": ' + other).replace(b"odd", b"deep"),
        made.replace(b'"g": "x"', b'"g": "\\"customer_id\\": x"').replace(b"odd", b"text"),
        made.replace(whose, whose + b"x"),
        made.replace(b'"event_type": "use"', b'"event_type": 7'),
        made.replace(whose, b"7"),
    ]


def lines(count: int) -> list[bytes]:
    """Events of several customers and users, some repeated, some odd, some rejected."""
    made = [
        event(
            number - number % 5 // 4,
            customer_id=f"c{number // 5 % 4}",
            timestamp=f"2026-03-01T{8 + number % 4:02}:30:00Z",
            context={"user": {"userID": f"u{number % 3}"}},
        )
        for number in range(count)
    ]
    return [*made, *odd(count % 4), b"rubbish", b""]


ODD = 10  # records of lines() beside its count


def world_of(values: Sequence[bytes | None], **members: Any) -> World:
    """A world where a worker has applied these."""
    made = World(metrics=METRICS, **members)
    made.append(values)
    asyncio.run(made.apply())
    return made


def audited(world: World, share: Share = WHOLE) -> Findings:
    """What an audit finds."""
    made = Auditor(world.identity, world.heard, world.store, world.log, share=share)
    return asyncio.run(made.run(lambda _: None, lambda _: None))


@settings(max_examples=40)
@given(st.integers(0, 60), st.integers(1, 40), st.integers(1, 30))
def test_any_passes_give_the_same_findings(count: int, events: int, keys: int) -> None:
    """Cells, events and conflicts are the same in one pass and in many, and nothing differs."""
    world = world_of(lines(count))
    whole = audited(world)
    with passes(events, keys):
        parts = audited(world)

    assert (whole.mismatches, whole.lines) == (0, [])
    assert parts.summary() == whole.summary()
    assert whole.events == count + ODD
    assert 0 < world.state.rejected["not_json"] + world.state.rejected["not_an_event"] < ODD


@settings(max_examples=40)
@given(st.integers(0, 60), st.integers(1, 9), st.sampled_from(SIZES))
def test_shares_make_up_the_whole(count: int, of: int, sizes: tuple[int, int]) -> None:
    """All shares together audit every cell of one customer and every event, each of them once."""
    world = world_of(lines(count))
    with passes(*sizes):
        parts = [audited(world, Share(number, of)) for number in range(of)]
    cells = {*world.store._partitions[0].cells, *world.store._partitions[0].elements}
    own = [cell for cell in cells if cell.measure.split("#")[0] in FIVE]

    assert [part.mismatches for part in parts] == [0] * of
    assert sum(part.events for part in parts) == audited(world).events
    if of > 1:
        assert sum(part.cells for part in parts) == len(own)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("how", ["wrong", "missing", "extra"])
def test_a_share_finds_what_is_wrong_of_its_customers(how: str, sizes: tuple[int, int]) -> None:
    """A damaged cell is a mismatch of the share that has its customer, and of no other."""
    world = world_of(lines(40))
    held = world.store._partitions[0].cells
    cell = min(cell for cell in held if cell.measure.startswith("SUM"))
    _spoil(world.store, how, cell)
    with passes(*sizes):
        found = {share: audited(world, share) for share in WHOLE.parted(5)}

    assert {share for share, each in found.items() if each.mismatches} == {
        share for share in found if share.holds(cell.customer)
    }
    assert sum(each.mismatches for each in found.values()) == 1


@pytest.mark.parametrize("metric", ["users", "all", "counted"])
def test_a_share_says_what_it_does_not_check(metric: str) -> None:
    """Cells of many customers and counters are not compared, and the summary says so."""
    world = world_of(lines(40))
    held = world.store._partitions[0]
    if metric == "counted":
        held.fields[metric] = "1"
    else:
        _spoil(world.store, "wrong", min(c for c in held.cells if c.measure.startswith(metric)))
    found = audited(world, Share(2, 3))

    assert (audited(world).mismatches, found.mismatches) == (1, 0)
    assert found.summary()["customers"] == "3/3"
    assert found.summary()["not_checked"] == [
        "counters",
        "verdicts",
        "clock",
        "ids",
        "cells of many customers",
    ]
    assert "customers" not in audited(world).summary()


def test_a_share_decodes_no_event_of_others() -> None:
    """Of other customers' plain events only the customer is looked for."""
    world = World(metrics=METRICS)
    world.append([event(number, customer_id=f"c{number}") for number in range(50)])
    asyncio.run(world.apply())
    share = Share(1, 5)
    read: list[bytes | None] = []

    def noting(value: bytes | None) -> Plain | None:
        read.append(value)
        return read_quickly(value)

    with patch.object(ledger, "read_quickly", noting):
        found = audited(world, share)

    assert len(read) == found.events == sum(share.holds(f"c{number}") for number in range(50))
    assert 0 < len(read) < 25


def _spoil(store: MemoryStore, how: str, cell: Any) -> None:
    held = store._partitions[0]
    if how == "wrong":
        held.cells[cell] = "99"
    elif how == "missing":
        del held.cells[cell]
    elif how == "extra":
        held.cells[cell._replace(bucket=cell.bucket + 1_000)] = "1"
    else:
        held.cells[cell._replace(customer="nobody")] = "1"


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("how", ["wrong", "missing", "extra", "of nobody"])
@pytest.mark.parametrize("metric", ["COUNT", "users", "all"])
def test_planted_differences_are_found(how: str, sizes: tuple[int, int], metric: str) -> None:
    """One wrong, missing or extra cell of any kind of metric is one mismatch, and named."""
    world = world_of(lines(40))
    held = world.store._partitions[0].cells
    cell = min(cell for cell in held if cell.measure.startswith(metric))
    _spoil(world.store, how, cell)
    with passes(*sizes):
        found = audited(world)

    assert found.mismatches == 1
    assert found.lines[0]["cell"]["measure"] == cell.measure


@pytest.mark.parametrize("sizes", SIZES)
def test_a_lost_identity_and_a_moved_counter_are_found(sizes: tuple[int, int]) -> None:
    """Counters, reasons and the numbers of remembered ids are recounted too."""
    world = world_of(lines(40))
    fields = world.store._partitions[0].fields
    for name, text in (("counted", "1"), ("rejected:empty", "7"), ("clock", "5"), ("ids", "3=1")):
        right, fields[name] = fields[name], text
        with passes(*sizes):
            assert audited(world).mismatches == 1, name
        fields[name] = right


def test_what_is_foreign_in_the_store_is_a_mismatch() -> None:
    """Each is a line of its own; every cell is compared all the same."""
    world = world_of(lines(40))
    whole = audited(world)
    world.store._strays[0] = ["key 'odd' is not one of ours"]
    found = audited(world)

    assert (found.mismatches, found.cells) == (1, whole.cells)
    assert found.lines[0]["foreign"] == "key 'odd' is not one of ours"


def test_the_same_id_with_another_body_is_a_conflict() -> None:
    """A repeated identity with another body is the producer's bug: counted, no mismatch."""
    one, other = event(1), event(1, properties={"v": 8, "g": "x"})
    world = world_of([one, other, one, other])
    found = audited(world)

    assert (found.mismatches, found.duplicate_conflicts) == (0, 2)


class LiveStore(MemoryStore):
    """A store that another worker writes to whenever it is read."""

    owner: Owner | None = None
    waiting: list[Any]

    async def _live(self) -> None:
        owner, self.owner = self.owner, None
        if owner is not None and self.waiting:
            await owner.take([self.waiting.pop(0)])
        self.owner = owner

    async def read_addresses(
        self, partition: int, addresses: Sequence[CellAddress]
    ) -> Book | None:
        """Read, after somebody wrote."""
        await self._live()
        return await super().read_addresses(partition, addresses)

    async def state(self, partition: int) -> Any:
        """The state, after somebody wrote."""
        await self._live()
        return await super().state(partition)


@pytest.mark.parametrize("sizes", SIZES)
def test_traffic_while_it_runs_is_no_mismatch(sizes: tuple[int, int]) -> None:
    """Every read finds the partition elsewhere, with new keys: each book closes at its own."""
    store = LiveStore()
    world = World(metrics=METRICS, store=store)
    world.append(lines(80))
    records = world.log.records[0]

    async def work() -> Findings:
        owner = world.owner()
        await owner.open()
        await owner.take(records[:20])
        store.owner, store.waiting = owner, list(records[20:])
        made = Auditor(world.identity, world.heard, store, world.log)
        return await made.run(lambda _: None, lambda _: None)

    with passes(*sizes):
        found = asyncio.run(work())

    assert (found.mismatches, found.lines) == (0, [])
    assert world.state.next > 25


@pytest.mark.parametrize("applied", range(1, 20))
def test_traffic_for_a_version_that_begins_later_is_no_mismatch(applied: int) -> None:
    """An event before effective_from makes no key, so the first one after it makes it late."""
    store = LiveStore()
    world = World(metrics=METRICS, store=store)
    starts = "2026-03-01T10:00:00Z"
    for name, made in METRICS.items():
        body = definition_record(f"later-{name}", f"later {name}", made, effective_from=starts)
        world.control.apply(world.control.next, json.dumps(body).encode())
    world.append(lines(40))
    records = world.log.records[0]

    async def work() -> Findings:
        owner = world.owner()
        await owner.open()
        await owner.take(records[:applied])
        store.owner, store.waiting = owner, list(records[applied:])
        made = Auditor(world.identity, world.heard, store, world.log)
        return await made.run(lambda _: None, lambda _: None)

    found = asyncio.run(work())

    assert (found.mismatches, found.lines) == (0, [])
    assert world.state.next > applied
    cells = [each for each in store._partitions[0].cells if each.measure.startswith("later")]
    assert {cell.bucket % 24 for cell in cells} == {10, 11}
    assert found.cells > 0


@pytest.mark.parametrize("often", [1, 10])
def test_a_store_that_goes_back_is_audited_again(often: int) -> None:
    """Lost writes void what was read: it begins again, and gives up only if they never end."""
    store = MemoryStore()
    world = World(metrics=METRICS, store=store)
    world.append(lines(40))
    records = world.log.records[0]

    class Again(MemoryStore):
        left = often

        async def read_addresses(self, partition: int, addresses: Any) -> Book | None:
            if self.left:
                self.left -= 1
                return None
            return await super().read_addresses(partition, addresses)

    async def work() -> Findings:
        owner = world.owner()
        await owner.open()
        await owner.take(records)
        again = Again()
        again.restore(store.snapshot())
        made = Auditor(world.identity, world.heard, again, world.log)
        return await made.run(lambda _: None, lambda _: None)

    if often == 1:
        assert asyncio.run(work()).mismatches == 0
    else:
        with pytest.raises(StoreUnavailable, match="at every attempt"):
            asyncio.run(work())


class ShortLog(MemoryLog):
    """A log whose first records were deleted."""

    begins = 0

    async def spans(self) -> dict[int, Span]:
        """What it holds now."""
        return {n: Span(self.begins, span.end) for n, span in (await super().spans()).items()}


def test_what_the_log_no_longer_holds_is_unverifiable() -> None:
    """Buckets that events before the log's start could have reached are told, others compared."""
    limits = deployment(dedup_window_ms=4 * DAY_MS, max_age_ms=2 * DAY_MS, max_ahead_ms=2 * DAY_MS)
    log = ShortLog(1)
    world = World(metrics=METRICS, log=log, settings=limits)
    for day in range(20):
        stamp = f"2026-03-{1 + day:02}T12:00:00Z"
        world.append([event(day, timestamp=stamp)], NOW_MS + day * DAY_MS)
    asyncio.run(world.apply())
    whole = audited(world)
    log.begins = 5
    found = audited(world)

    # The first record left is of day 5, so events that are gone lie before noon of day 7. Which of
    # the others repeat one that is gone, the kept verdicts say.
    assert (whole.unverifiable_cells, found.mismatches) == (0, 0)
    assert found.cells == whole.cells
    assert found.unverifiable_cells * 20 == whole.cells * 8
    held = world.store._partitions[0].cells
    late = max((cell for cell in held if cell.measure.startswith("COUNT")), key=lambda c: c.bucket)
    held[late] = "99"
    assert audited(world).mismatches == 1


def test_the_events_of_others_move_the_clock() -> None:
    """An event that is too old by the clock of another share's customer is so in its own share."""
    limits = deployment(dedup_window_ms=4 * DAY_MS, max_age_ms=2 * DAY_MS, max_ahead_ms=2 * DAY_MS)
    world = World(metrics=FIVE, settings=limits)
    world.append(
        [event(1, customer_id="c1", timestamp="2026-03-11T11:30:00Z")], NOW_MS + 10 * DAY_MS
    )
    world.append([event(2, customer_id="c0")], NOW_MS)  # its append time went back
    asyncio.run(world.apply())
    found = {share: audited(world, share) for share in WHOLE.parted(7)}

    assert world.state.rejected == {"too_old": 1}
    assert not any(share.holds("c0") and share.holds("c1") for share in found)
    assert [each.mismatches for each in found.values()] == [0] * 7
