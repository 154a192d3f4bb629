"""Readers over the twins: what is open, what is complete, where rows stand, what is bounded."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pipeline.core.records import Span
from pipeline.core.state import Halted, PartitionState, decode_state, encode_state
from pipeline.core.windows import WINDOWS_MAX, RefusedPeriod, WindowSize, windows
from pipeline.deploy.checks import check_open, first_state
from pipeline.edges.clock import SetClock, SystemClock
from pipeline.edges.memory import MemoryLog, MemoryStore
from pipeline.errors import NotOpen, PartitionHalt, StoreUnavailable, UsageError
from pipeline.ports import Book
from pipeline.reads import usage as usage_module
from pipeline.reads.answers import End, UsageRow
from pipeline.reads.lines import end_line, lines_of
from pipeline.reads.marks import Patience
from pipeline.reads.query import Query
from pipeline.reads.usage import Reader

from ..world import NOW, World, event

DAY = timedelta(days=1)
STARTS, ENDS = NOW.replace(hour=0), NOW.replace(hour=0) + DAY
LATER = NOW + 3 * DAY
LONG_AGO, FAR = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


class Log(MemoryLog):
    """A log with markers behind its records, a transaction that is open, other partitions.

    markers: offsets behind the last record that hold none. hidden: those behind an open
    transaction. others: partitions that nobody registered.
    """

    markers = 0
    hidden = 0
    others: tuple[int, ...] = ()

    async def spans(self) -> dict[int, Span]:
        """What the log holds."""
        spans = await super().spans()
        return {at: Span(span.start, span.end + self.markers) for at, span in spans.items()}

    async def marks(self) -> dict[int, Span]:
        """The same with what is durable."""
        spans = await self.spans()
        found = {at: replace(span, high=span.end + self.hidden) for at, span in spans.items()}
        return found | {at: Span(0, 3, 3) for at in self.others}


def reader(world: World, **options: Any) -> Reader:
    """A reader of a world, three days after its events."""
    clock, store = SetClock(LATER), world.store
    return Reader(world.identity, store, world.log, clock, timedelta(hours=1), **options)


def question(world: World, kind: str = "SUM", **changes: Any) -> Query:
    """How much a day had."""
    asked: dict[str, Any] = {
        "metric": world.control.metrics[kind],
        "customer": "c",
        "starting_on": STARTS,
        "ending_before": ENDS,
        "size": WindowSize.NONE,
        "zone": ZoneInfo("UTC"),
        "group_key": None,
        "group_filters": {},
    }
    return Query(**{**asked, **changes})


def ask(world: World, query: Query | None = None, **options: Any) -> list[dict[str, Any]]:
    """The answer's lines."""
    usage = asyncio.run(reader(world, **options).usage(query or question(world)))
    return [*lines_of("events", usage.rows), end_line(End(usage.as_of, usage.after))]


def applied(*numbers: int, log: MemoryLog | None = None) -> World:
    """A world whose worker has applied events of these values."""
    world = World(log=log or MemoryLog(1))
    world.append(event(number) for number in numbers)
    asyncio.run(world.apply())
    return world


# -- what is open --------------------------------------------------------------------------------


def rebuilt(world: World, to: int) -> None:
    """Mark the partition as one that is rebuilt up to an offset."""
    world.store._partitions[0].fields["rebuilt_to"] = str(to)


def test_a_partition_opens_when_the_old_end_is_applied_again() -> None:
    """Below the end that the rebuild saw there is no number; from it on there is, exactly."""
    world = applied(1, 2, 3)
    rebuilt(world, 4)
    with pytest.raises(NotOpen, match=r"partition 0 .* applied up to 3 of 4"):
        ask(world)
    with pytest.raises(NotOpen):
        ask(world, question(world, customer=None))
    line, total = asyncio.run(reader(world).status(world.control.versions))
    assert (line["state"], line["next"], line["rebuilt_to"]) == ("rebuilding", 3, 4)
    assert "applied up to 3 of 4" in line["reason"]
    assert total["applied_through"] is None
    standings = asyncio.run(reader(world).standings())
    progress = reader(world).progress
    assert asyncio.run(progress.of_metrics([*world.control.metrics.values()], standings)) == {}

    world.append([event(4)])
    asyncio.run(world.apply())
    assert world.state.rebuilt_to == 4
    assert ask(world)[0]["value"] == "10"
    assert asyncio.run(reader(world).status(world.control.versions))[0]["state"] == "open"


def test_every_state_a_partition_can_be_in() -> None:
    """Open, being rebuilt, lost, of another release, store or topic: one function decides."""
    world = World()
    state = first_state(world.identity, 0)

    assert check_open(state, world.identity, 0) is state
    assert check_open(replace(state, next=7, rebuilt_to=7), world.identity, 0).next == 7
    with pytest.raises(NotOpen, match="up to 6 of 7"):
        check_open(replace(state, next=6, rebuilt_to=7), world.identity, 0)
    wrong: tuple[PartitionState | None, ...] = (
        None,
        replace(state, rules=0),
        replace(state, format_version=1),
        replace(state, store_id="f" * 32),
        replace(state, topic_id="other"),
    )
    for each in wrong:
        with pytest.raises(PartitionHalt, match=r"partition 0 .*recount rebuild"):
            check_open(each, world.identity, 0)


def halted(world: World, reason: str = "partition 0: damaged; mend it") -> None:
    """Note that the owner does not go on, as of now."""
    text = Halted(world.state.next, 1_772_366_400_000, reason).text
    assert asyncio.run(world.store.tell_halted(0, world.state, text))


def test_what_a_halted_partition_holds_is_never_complete() -> None:
    """Every answer says so, and which partition; once it has moved, the note says nothing."""
    world = applied(1, 2)
    halted(world)

    row, last = ask(world)
    assert (row["value"], row["complete"]) == ("3", False)
    assert last["as_of"]["halted_partitions"] == [0]
    assert ask(world, question(world, starting_on=STARTS - DAY))[0]["complete"] is False
    line, total = asyncio.run(reader(world).status(world.control.versions))
    assert (line["state"], line["reason"]) == ("halted", "partition 0: damaged; mend it")
    assert line["looked_at"] == "2026-03-01T12:00:00Z"
    assert total["halted_partitions"] == [0]

    world.append([event(4)])
    asyncio.run(world.apply())
    row, last = ask(world)
    assert (row["value"], row["complete"]) == ("7", True)
    assert "halted_partitions" not in last["as_of"]
    line, total = asyncio.run(reader(world).status(world.control.versions))
    assert line["state"] == "open"
    assert "halted_partitions" not in total


def test_status_tells_of_a_partition_that_nobody_can_note_anything_in() -> None:
    """Lost, foreign, or halted while it is rebuilt: status answers, usage gives no number."""
    world = applied(1, 2)
    rebuilt(world, 4)
    halted(world)
    assert asyncio.run(reader(world).status(world.control.versions))[0]["state"] == "halted"
    with pytest.raises(NotOpen):
        ask(world)
    world.store._partitions[0].fields["rules"] = "99"

    line, total = asyncio.run(reader(world).status(world.control.versions))
    assert line["state"] == "halted"
    assert "rules number is 99" in line["reason"]
    assert (total["halted_partitions"], total["applied_through"]) == ([0], None)
    with pytest.raises(PartitionHalt):
        ask(world)


def test_the_mark_of_a_rebuild_is_kept_with_the_state() -> None:
    """It is read back as it was written; a state that was never rebuilt has no such field."""
    state = first_state(World().identity, 0)

    assert "rebuilt_to" not in encode_state(state)
    marked = replace(state, rebuilt_to=9)
    assert decode_state(encode_state(marked)) == marked
    assert not marked.is_open


# -- what is complete ----------------------------------------------------------------------------


def told(lines: list[dict[str, Any]]) -> tuple[Any, ...]:
    """Value, complete and unapplied of an answer of one line."""
    line, last = lines
    return line["value"], line["complete"], last["as_of"]["unapplied"]


def test_a_durable_event_that_is_not_applied_makes_no_window_complete() -> None:
    """A late event into a closed window: the old value is not complete, the new one is."""
    world = applied(1, 2)
    assert told(ask(world)) == ("3", True, 0)

    world.append([event(5)])
    assert told(ask(world)) == ("3", False, 1)
    empty = question(world, starting_on=STARTS - DAY, ending_before=STARTS)
    assert told(ask(world, empty)) == ("0", False, 1)
    asyncio.run(world.apply())
    assert told(ask(world)) == ("8", True, 0)


def test_what_an_open_transaction_hides_is_unapplied() -> None:
    """Nobody can read it yet, but it may be durable: not complete until the transaction ends."""
    log = Log(1)
    world = applied(1, log=log)
    log.hidden = 2
    assert told(ask(world)) == ("1", False, 2)
    log.hidden = 0
    assert told(ask(world)) == ("1", True, 0)


def test_markers_at_the_end_are_nothing_to_apply() -> None:
    """Offsets that hold no record leave a window complete, also where no worker passes them."""
    log = Log(1)
    world = applied(1, log=log)
    log.markers = 2
    assert told(ask(world)) == ("1", True, 0)
    log.markers = 0
    world.append([event(2)])
    log.markers = 2
    assert told(ask(world)) == ("1", False, 3)


def test_partitions_nobody_registered_are_unapplied() -> None:
    """What lies in them is counted by nobody."""
    log = Log(1)
    world = applied(1, log=log)
    log.others = (1,)
    assert told(ask(world)) == ("1", False, 3)


def test_a_log_that_was_cut_or_made_anew_is_never_complete() -> None:
    """It ends before what was applied, or lacks the partition."""
    world = applied(1, 2)
    world.log.records[0].pop()
    assert told(ask(world)) == ("3", False, 0)
    world.log.records = {}
    assert told(ask(world)) == ("3", False, 0)


class Applying(MemoryStore):
    """A store into which a worker commits while a reader waits."""

    meanwhile: Callable[[], Any] | None = None

    async def nexts(self, partitions: Any) -> dict[int, int | None]:
        """What a waiting reader asks for."""
        if self.meanwhile is not None:
            work, self.meanwhile = self.meanwhile, None
            await work()
        return await super().nexts(partitions)


def test_a_reader_waits_for_the_marks_it_took() -> None:
    """Under live traffic the answer holds what was durable, if it is applied soon enough."""
    world = World(store=Applying())
    world.append([event(7)])
    assert isinstance(world.store, Applying)
    world.store.meanwhile = world.apply
    assert told(ask(world, patience=Patience(30, SystemClock()))) == ("7", True, 0)


def test_nobody_waits_twice_for_a_partition_that_stands() -> None:
    """Where no worker runs only the first question is slow; all say what is missing."""
    world = applied(1)
    world.append([event(7)])
    patience = Patience(0.2, SystemClock())
    began = time.monotonic()
    assert told(ask(world, patience=patience)) == ("1", False, 1)
    first = time.monotonic() - began
    began = time.monotonic()
    for _ in range(20):
        assert told(ask(world, patience=patience)) == ("1", False, 1)
    assert first >= 0.2
    assert time.monotonic() - began < 20 * 0.2 / 2


# -- where rows stand ----------------------------------------------------------------------------


class Moving(MemoryStore):
    """A store that moves on between the reads of one answer."""

    before_second: Callable[[], Any] | None = None
    reads = 0

    async def read_each(
        self, partitions: Any, measures: Any, customers: Any, days: Any
    ) -> dict[int, Book | None]:
        """Commit something before the second read."""
        self.reads += 1
        if self.reads == 2 and self.before_second is not None:
            await self.before_second()
        return await super().read_each(partitions, measures, customers, days)


def moving(monkeypatch: pytest.MonkeyPatch) -> tuple[World, Moving]:
    """Two customers, each read for itself, with an event of each in between."""
    world = World(store=Moving())
    store = world.store
    assert isinstance(store, Moving)
    world.append([event(1, customer_id="a"), event(2, customer_id="b")])
    asyncio.run(world.apply())
    world.append([event(10, customer_id="a"), event(20, customer_id="b")])
    store.before_second = world.apply
    monkeypatch.setattr(usage_module, "slice_of", lambda *_: 1)
    return world, store


def test_rows_say_where_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of a later read holds later events: its offset says so, and as_of has both ends."""
    world, _ = moving(monkeypatch)
    first, second, last = ask(world, question(world, customer=None))

    assert (first["customer_id"], first["value"], first["offset"]) == ("a", "1", 2)
    assert (second["customer_id"], second["value"], second["offset"]) == ("b", "22", 4)
    assert first["partition"] == second["partition"] == 0
    assert last["as_of"]["offsets"] == {"events/0": 2}
    assert last["as_of"]["offsets_until"] == {"events/0": 4}


def test_one_moment_has_no_second_end() -> None:
    """Where everything was read at one moment, as_of is exact and says nothing else."""
    world = applied(1, 2)
    line, last = ask(world, question(world, customer=None))

    assert (line["partition"], line["offset"]) == (0, 2)
    assert last["as_of"]["offsets"] == {"events/0": 2}
    assert "offsets_until" not in last["as_of"]


def test_a_store_that_went_back_within_an_answer_is_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows before and behind the earliest offset would stand in one answer."""
    world, store = moving(monkeypatch)
    old = MemoryStore()
    asyncio.run(old.register(0, first_state(world.identity, 0)))

    async def back() -> None:
        store.restore(old.snapshot())

    store.before_second = back
    with pytest.raises(StoreUnavailable, match="went back"):
        ask(world, question(world, customer=None))


# -- what is bounded -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [WindowSize.HOUR, WindowSize.DAY, WindowSize.WEEK])
def test_periods_of_too_many_windows_are_refused_by_their_length(size: WindowSize) -> None:
    """8,000 years are refused without being walked."""
    began = time.process_time()
    with pytest.raises(RefusedPeriod, match=f"more than {WINDOWS_MAX} windows"):
        windows(LONG_AGO, FAR, size=size, zone=ZoneInfo("UTC"), bucket_s=3600)
    assert time.process_time() - began < 0.05


def test_the_longest_periods_are_served_to_the_last_window() -> None:
    """Exactly as many windows as may be, one more refused: the bound by length cuts none off."""
    starts = datetime(2000, 1, 1, tzinfo=UTC)
    for zone in ("UTC", "America/New_York"):
        options: dict[str, Any] = {"zone": ZoneInfo(zone), "bucket_s": 3600}
        most = starts + timedelta(hours=WINDOWS_MAX)
        found = windows(starts, most, size=WindowSize.HOUR, **options)
        assert len(found) == WINDOWS_MAX
        with pytest.raises(RefusedPeriod, match="more than"):
            windows(starts, most + timedelta(hours=1), size=WindowSize.HOUR, **options)


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/New_York"])
def test_the_edges_of_the_calendar_are_refused(zone: str) -> None:
    """Local dates before year 1 and after 9999 do not exist: refused, not a bug."""
    options: dict[str, Any] = {"size": WindowSize.MONTH, "zone": ZoneInfo(zone)}
    first = datetime(1, 1, 1, tzinfo=UTC)
    last = datetime(9999, 12, 31, 23, tzinfo=UTC)
    found = []
    for starts, ends in ((first, first + DAY), (last - DAY, last)):
        try:
            found.append(len(windows(starts, ends, bucket_s=900, **options)))
        except RefusedPeriod as refused:
            assert "calendar" in str(refused)  # noqa: PT017  either answer is right
            found.append(0)
    assert min(found) == 0  # one of the edges is not there in any zone but UTC


def test_eight_thousand_years_cost_what_exists() -> None:
    """Days come from the index of days: an answer over all of time is that over its one day."""
    world = applied(1, 2)
    began = time.process_time()
    for customer in ("c", None):
        asked = question(world, customer=customer, starting_on=LONG_AGO, ending_before=FAR)
        line, last = ask(world, asked)
        assert (line["value"], line["complete"]) == ("3", False)
        assert last["as_of"]["offsets"] == {"events/0": 2}
    assert time.process_time() - began < 1


def test_answers_have_so_many_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Customers by windows past the bound are refused; pages and batches work."""
    monkeypatch.setattr(usage_module, "LINES_MAX", 50)
    world = World()
    world.append(event(number, customer_id=f"c{number}") for number in range(3))
    asyncio.run(world.apply())
    hours = question(world, customer=None, size=WindowSize.HOUR)
    with pytest.raises(UsageError, match=r"72 lines .* at most"):
        ask(world, hours)
    *lines, last = ask(world, replace(hours, limit=2))
    assert {line["customer_id"] for line in lines} == {"c0", "c1"}
    assert last["after"] == "c1"
    *lines, last = ask(world, replace(hours, limit=2, after="c1"))
    assert {line["customer_id"] for line in lines} == {"c2"}
    assert "after" not in last

    async def streamed() -> list[UsageRow | End]:
        found: list[UsageRow | End] = []
        async for batch in reader(world).batches(hours):
            found += [batch] if isinstance(batch, End) else batch
        return found

    assert len(asyncio.run(streamed())) == 3 * 24 + 1


def test_grouped_answers_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows by groups, counted as they come."""
    monkeypatch.setattr(usage_module, "LINES_MAX", 5)
    world = World()
    world.append(event(number, properties={"v": 1, "g": f"g{number}"}) for number in range(9))
    asyncio.run(world.apply())
    with pytest.raises(UsageError, match="more than 5"):
        ask(world, question(world, group_key=("g",)))
