"""Every row of every revision is the log's, whatever happens before, beside and after a job.

Random logs as in test_voids: events, late ones, resends, voids, amends, amends of amends. They
arrive some at a time; workers apply them, mend cells, count the past of metrics that come later,
and are replaced. Two machines close and revise one period, each with its own folder: the stream
goes on between two of their reads, the other machine overtakes, and a job ends at any file and at
its record, leaving half a file behind.

The oracle (tests/recount.py) reads the log up to the offset that a row names. It says each value,
which rows there must be, what changed, and which corrections a revision has to name.

Each mutant is one way to be wrong; some log must show it.
"""

import asyncio
import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import datetime, timedelta
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from unittest.mock import patch

import pytest

from pipeline.app.opening import SeekBack
from pipeline.control.entities import Revision
from pipeline.core.buckets import moment_of
from pipeline.core.compiled import MODULE
from pipeline.core.windows import Window, WindowSize, windows, zone_of
from pipeline.edges.clock import SetClock
from pipeline.edges.memory import MemoryLog
from pipeline.errors import ConflictError, Halt, NotClosable, PipelineError, UnknownNameError
from pipeline.periods import changes, closing, folder
from pipeline.periods.causes import Causes, Traced
from pipeline.periods.closing import Closer
from pipeline.periods.folder import digest_of, manifest_of
from pipeline.periods.reading import ClosedRow
from pipeline.periods.shapes import ClosedAs, told_of
from pipeline.periods.writing import write_whole
from pipeline.ports import RollupStore
from pipeline.reads.together import MetricRow, TogetherReading

from ..billing import Control, Job, killed_at
from ..recount import Record, answer_of, event_ns, recount
from ..world import FIVE, NOW, World, definition_record, deliver, terms
from .test_voids import LIMITS, fill

LOGS = 60
HOUR = timedelta(hours=1)
FAR = NOW + timedelta(days=400)
Key = tuple[str, str, datetime, datetime, str]
Cells = Mapping[Key, tuple[str | None, int]]


class Busy:
    """A store beside which the stream goes on: something happens before each read of a job."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.meanwhile: Callable[[], Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world.store, name)

    async def read_owners(self, *arguments: Any) -> Any:
        """Read after what happens meanwhile."""
        await self.happens()
        return await self.world.store.read_owners(*arguments)

    async def load_voids(self, partition: int) -> Any:
        """Likewise: the causes of a revision are looked for."""
        await self.happens()
        return await self.world.store.load_voids(partition)

    async def happens(self) -> None:
        """Let it happen, one thing at a time."""
        does, self.meanwhile = self.meanwhile, None
        if does is not None:
            await does()
            self.meanwhile = does


class Oracle:
    """What a log says of a period, of each offset."""

    def __init__(self, records: Sequence[Record], revision: Revision) -> None:
        self._records = records
        self._names = revision.metric_ids
        self.windows = windows(
            revision.starting_on,
            revision.ending_before,
            size=WindowSize(revision.window_size),
            zone=zone_of("UTC"),
            bucket_s=3600,
        )
        self._groups = revision.groups
        self._known: dict[int, Cells] = {}

    def at(self, offset: int) -> Cells:
        """The rows of the period up to an offset."""
        if offset not in self._known:
            self._known[offset] = self._cells(offset)
        return self._known[offset]

    def _cells(self, offset: int) -> Cells:
        books = recount(self._records[:offset], FIVE, terms(LIMITS))
        values: dict[Key, list[Any]] = {}
        unreadable: dict[Key, int] = {}
        for cell in {*books.values, *books.unreadable}:
            key = self._key(*cell)
            if key is not None:
                values.setdefault(key, []).extend(books.values.get(cell, []))
                unreadable[key] = unreadable.get(key, 0) + books.unreadable.get(cell, 0)
        found = {}
        for key, pairs in values.items():
            kind = str(FIVE[key[1]].measures[0].aggregation)
            told = [value for _, value in sorted(pairs, key=lambda pair: pair[0])]
            found[key] = answer_of(kind, told), unreadable[key]
        return found

    def _key(self, name: str, customer: str, bucket: int, set_: int, groups: Any) -> Key | None:
        opens = moment_of(bucket * 3600 * 10**9)
        window = next((each for each in self.windows if _holds(each, opens)), None)
        if window is None or name not in self._names or (set_ and not self._groups):
            return None
        text = json.dumps({"g": groups[0]}, separators=(",", ":")) if set_ else ""
        return customer, name, *window, text

    @cached_property
    def reached(self) -> dict[int, frozenset[Key]]:
        """Offset of each correction that was right → the rows that are not made of the same."""
        return {by: self._reached(by) for by in self.corrections}

    def _reached(self, by: int) -> frozenset[Key]:
        before, after = (
            recount(self._records[:upto], FIVE, terms(LIMITS)) for upto in (by, by + 1)
        )
        cells = {*before.values, *before.unreadable, *after.values, *after.unreadable}
        keys = {
            self._key(*cell)
            for cell in cells
            if sorted(before.values.get(cell, [])) != sorted(after.values.get(cell, []))
            or before.unreadable.get(cell, 0) != after.unreadable.get(cell, 0)
        }
        return frozenset(key for key in keys if key is not None)

    @cached_property
    def corrections(self) -> dict[int, tuple[str, datetime]]:
        """Offset of each correction that was right → whose event it took back, and of when."""
        found = {}
        for place, record in enumerate(self._records):
            before, after = (
                recount(self._records[:upto], FIVE, terms(LIMITS)).fates["corrected"]
                for upto in (place, place + 1)
            )
            if after > before:
                line = json.loads(record.value or b"")
                original = int(line[line["kind"] + "s"]["at"].removeprefix("0@"))
                first = json.loads(self._records[original].value or b"")
                at = moment_of(event_ns(first["timestamp"]) or 0)
                found[record.offset] = line["customer_id"], at
        return found


def _holds(window: Window, moment: datetime) -> bool:
    return window.starting_on <= moment < window.ending_before


class Billing:
    """A world in which a period is closed and revised."""

    def __init__(self, seed: int, root: Path) -> None:
        self.draw = draw = random.Random(seed)
        native = MODULE if draw.random() < 0.7 else None
        first = draw.sample(sorted(FIVE), draw.choice([1, 3, 5]))
        self.rest = sorted(FIVE.keys() - set(first))
        metrics = {name: FIVE[name] for name in first}
        self.world = World(metrics=metrics, settings=LIMITS, native=native)
        waiting = MemoryLog(1)
        fill(waiting, draw)
        self.waiting = waiting.records[0]
        self.busy = Busy(self.world)
        name = draw.choice(["2026-03-01", "2026-03-01", "2026-03", "2026-02-28", "2026-03-01T12"])
        self.made_as = ClosedAs(
            "jsonl", draw.choice(["none", "hour", "day"]), groups=draw.random() < 0.8
        )
        store = cast("RollupStore", self.busy)
        self.jobs = [
            Job(self.world, root / each, name=name, store=store, clock=SetClock(FAR))
            for each in "ab"
        ]

    async def run(self) -> None:
        """Everything in a random order, then the rest."""
        await self._again()
        while self.waiting or self.rest:
            await self._something()
            if self.draw.random() < 0.3:
                await self.draw.choice(
                    [self._settle, self._settle, self._live, self._live, self._nothing]
                )()
                await self._work(self.draw.choice(self.jobs))
        await self._settle()
        for _ in range(50):
            told = [await self._worked(each) for each in self.jobs]
            self.check_folders()
            self._send()
            if all(each is not None and each.get("changed") == 0 for each in told):
                return
        raise AssertionError("jobs come to no end")

    # -- the stream ------------------------------------------------------------------------------

    async def _something(self) -> None:
        does = self.draw.choice(
            ["arrive", "arrive", "live", "live", "define", "past", "mend", "again"]
        )
        if does == "arrive":
            self._arrive(self.draw.randrange(1, 9))
        elif does == "live":
            await self._live(self.draw.randrange(1, 9))
        elif does == "define" and self.rest:
            await self._define(self.rest.pop())
        elif does == "past":
            self.past.size.records = self.draw.choice([1, 3, 8])
            await self.past.step()
        elif does == "mend":
            self.mender.size.records = self.draw.choice([1, 5, 30])
            await self.mender.step()
        elif does == "again" and self.draw.random() < 0.2:
            await self._again()

    def _arrive(self, count: int) -> None:
        some, self.waiting = self.waiting[:count], self.waiting[count:]
        for record in some:
            self.world.log.append(0, record.value, record.timestamp)

    async def _live(self, count: int | None = None) -> None:
        at = self.owner.state.next
        records = self.world.log.records[0]
        if at < len(records):
            await deliver(self.owner, records[at : len(records) if count is None else at + count])

    async def _define(self, kind: str) -> None:
        record = definition_record(kind, kind, FIVE[kind])
        control = self.world.control
        control.apply(control.next, json.dumps(record).encode())
        self.world.definitions.changes += 1
        await self.owner.tick(None)

    async def _again(self) -> None:
        self.owner = self.world.owner()
        await self.owner.open()
        self.past, self.mender = self.world.past(self.owner), self.world.mender(self.owner)

    async def _nothing(self) -> None:
        """Some of the log is not applied yet."""

    async def _settle(self) -> None:
        """Everything that is on the log is in the numbers."""
        await self._live()
        while self.past.due is not None or self.mender.is_due:
            await self.past.step()
            await self.mender.step()

    # -- jobs ------------------------------------------------------------------------------------

    async def _work(self, job: Job) -> None:
        """A job, beside the stream and the other machine; perhaps it is killed."""

        async def meanwhile() -> None:
            for _ in range(self.draw.choice([0, 1, 2, 4])):
                await self._something()
            if self.draw.random() < 0.6:
                await self._settle()
            if self.draw.random() < 0.15:
                (other,) = (each for each in self.jobs if each is not job)
                await self._worked(other)
                self.check_folders()

        killed: AbstractContextManager[Any] = nullcontext()
        if self.draw.random() < 0.4:
            killed = killed_at(job, self.draw.randrange(1, 11), after=self.draw.random() < 0.5)
        self.busy.meanwhile = meanwhile if self.draw.random() < 0.7 else None
        with killed:
            await self._worked(job)
        self.busy.meanwhile = None
        self.check_folders()
        if self.draw.random() < 0.7:
            self._send()

    async def _worked(self, job: Job) -> dict[str, Any] | None:
        """Close, or revise what is closed; None where that is refused, with a reason."""
        end, number = len(self.world.log.records[0]), len(job.known) + 1
        is_fresh = not (job.folder(number).path / ".plan.json").exists()
        with suppress(NotClosable, ConflictError, UnknownNameError):
            if not job.known or not job.folder(1).manifest.exists():
                told = await job.closing(self.made_as, timedelta(0))
            else:
                told = await job.revising()
            if is_fresh and told["revision"] == number and told["rows"]:
                assert told["offsets"]["0"][0] >= end, "a durable record was not applied"
            return told
        return None

    def _send(self) -> None:
        """Each machine gets the files that the other one made of revisions."""
        for job, other in (self.jobs, self.jobs[::-1]):
            for each in job.known:
                mine, theirs = job.folder(each.number), other.folder(each.number)
                if mine.manifest.exists() and not theirs.manifest.exists():
                    shutil.rmtree(theirs.path, ignore_errors=True)
                    shutil.copytree(mine.path, theirs.path)

    # -- what must hold --------------------------------------------------------------------------

    def check_folders(self) -> None:
        """A folder with a manifest is the revision that the control log has, and is whole."""
        for job in self.jobs:
            for path in job.root.rglob("manifest.json"):
                number = int(path.parent.name.removeprefix("revision="))
                assert number <= len(job.known), f"{path}: nobody knows it"
                revision = job.known[number - 1]
                assert digest_of(path.read_bytes()) == revision.digest, path
                assert len([row for rows in job.files(number) for row in rows]) == revision.rows

    def check(self) -> None:
        """Every row of every revision is the oracle's, and so is what they say together."""
        job, other = self.jobs
        oracle = Oracle(self.world.records(), job.known[0])
        stands: dict[Key, ClosedRow] = {}
        named: dict[str, int] = {}  # a correction → the last revision that names it
        low = 0  # where the revision before began to be read
        for revision in job.known:
            rows = [row for rows in job.files(revision.number) for row in rows]
            assert rows == [row for rows in other.files(revision.number) for row in rows]
            manifest = job.folder(revision.number).read(revision)
            named |= {each["at"]: revision.number for each in manifest.get("corrections", ())}
            for row in rows:
                self._check_row(oracle, row, stands.get(row.key))
                self._check_causes(oracle, row, stands.get(row.key), named)
                self._check_reached(oracle, row, stands, low)
            low = revision.offsets.get(0, (0, 0))[0]
            stands |= {row.key: row for row in rows}
            self._check_whole(oracle, revision, rows, stands)
        assert _told(stands) == oracle.at(len(self.world.log.records[0]))
        assert not job.verified().lines

    def _check_row(self, oracle: Oracle, row: ClosedRow, before: ClosedRow | None) -> None:
        assert row.offset is not None
        there = oracle.at(row.offset)
        assert (row.value, row.unreadable) == there.get(row.key, (None, 0)), row
        if row.revision == 1:
            assert (before, row.previous_value, row.delta, row.since_offset) == (None,) * 4, row
            return
        was = None if before is None else before.value
        since = None if before is None else before.offset
        assert (row.previous_value, row.since_offset) == (was, since), row
        assert Fraction(row.delta or "") == Fraction(row.value or 0) - Fraction(was or 0), row

    def _check_whole(
        self,
        oracle: Oracle,
        revision: Revision,
        rows: Sequence[ClosedRow],
        stands: Mapping[Key, ClosedRow],
    ) -> None:
        """Of each customer the revision leaves all rows as they were at one moment of the job."""
        low, high = revision.offsets.get(0, (0, 0))
        for customer in {key[0] for key in (*stands, *oracle.at(len(self.world.log.records[0])))}:
            places = {row.offset for row in rows if row.customer_id == customer}
            mine = {key: row for key, row in stands.items() if key[0] == customer}
            assert len(places) <= 1, places
            if not mine and revision.number == 1:
                places = {low}  # whoever has no row had no event when the job began
            if places or rows:
                moments = places or range(low, high + 1)
                said = [_of(oracle.at(each or 0), customer) for each in moments]
                assert _told(mine) in said, (revision.number, customer)

    def _check_reached(
        self, oracle: Oracle, row: ClosedRow, stands: Mapping[Key, ClosedRow], low: int
    ) -> None:
        """A row names each correction that reached it since it was read before, and no other."""
        old = stands.get(row.key)
        mine = [
            each.offset or 0 for each in stands.values() if each.customer_id == row.customer_id
        ]
        since = max(low, max(mine, default=0) if old is None else old.offset or 0)
        reached = [
            f"0@{by}"
            for by, keys in oracle.reached.items()
            if row.key in keys and since <= by < (row.offset or 0) and row.revision > 1
        ]
        assert json.loads(row.corrections or "[]") == reached, (row, since)

    def _check_causes(
        self, oracle: Oracle, row: ClosedRow, before: ClosedRow | None, named: Mapping[str, int]
    ) -> None:
        """Each correction of a row's window since the row before is named, after that row."""
        window, at = Window(row.window_start, row.window_end), row.offset or 0
        since, revision = (0, 0) if before is None else (before.offset or 0, before.revision)
        for by, (customer, moment) in oracle.corrections.items():
            is_of_it = customer == row.customer_id and _holds(window, moment)
            if is_of_it and row.revision > 1 and before is not None and since <= by < at:
                assert named.get(f"0@{by}", 0) > revision, (row, by)


def _told(rows: Mapping[Key, ClosedRow]) -> Cells:
    """What rows say; those that say that nothing is left are left out."""
    told = {key: (row.value, row.unreadable) for key, row in rows.items()}
    return {key: each for key, each in told.items() if each != (None, 0)}


def _of(cells: Cells, customer: str) -> Cells:
    return {key: told for key, told in cells.items() if key[0] == customer}


def wrong_of(seed: int) -> str | None:
    """What is wrong with one log; None is nothing."""
    with (
        TemporaryDirectory() as root,
        patch("os.fsync"),  # nothing here loses power
        patch.object(closing, "CUSTOMERS_PER_PART", 1),
        patch("pipeline.reads.together._NAMES_AT_ONCE", 1),
    ):
        billing = Billing(seed, Path(root))
        try:
            asyncio.run(billing.run())
            billing.check()
        except (AssertionError, Halt, SeekBack, ValueError, PipelineError) as error:
            return f"seed {seed}: {type(error).__name__} {str(error)[:2000]}"
    return None


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(3))
def test_every_row_of_every_revision_is_the_log_s(part: int) -> None:
    """Whoever closed and revised it, whenever, and whatever else happened."""
    found = [wrong for seed in range(part, LOGS, 3) if (wrong := wrong_of(seed)) is not None]
    assert found == []


# -- what would be wrong -------------------------------------------------------------------------

_changed_of = changes._changed


def _some_changed(*arguments: Any) -> list[ClosedRow]:
    """A revision that leaves out one of several changed rows of a customer."""
    found = _changed_of(*arguments)
    return found[1:] if len(found) > 1 else found


async def _manifest_first(self: Closer, job: Any, parts: Any) -> dict[str, Any]:
    """The manifest is there before the record is."""
    manifest = manifest_of(job.plan, parts)
    job.folder.finish(manifest)
    revision = await self._record(job, manifest, parts)
    return {**told_of(revision), "changed": 1}


def _where_it_began(self: TogetherReading, *arguments: Any) -> list[MetricRow]:
    """Rows stand, they say, where the job began to read."""
    lies = {number: each.state.next for number, each in self.stands.first.items()}
    return [row._replace(lies=lies) for row in _rows_in(self, *arguments)]


_rows_in = TogetherReading.rows_in


async def _whoever_writes(self: Control, record: Mapping[str, Any]) -> int:
    """Nobody looks who was first."""
    offset = self.state.next
    body = {"schema_version": 1, "nonce": "n", **record}
    self.state.apply(offset, json.dumps(body).encode())
    return offset


async def _no_causes(*_: Any) -> Traced:
    return Traced()


async def _the_original_alone(
    self: Causes, found: Traced, number: int, taken: Any, *more: Any
) -> None:
    """What an amend says instead reaches no row."""
    alone = type(taken)(taken.original, taken.original)
    await _reach(self, found, number, alone, *more)
    by, original = (number, taken.by), (number, taken.original)
    found.reached[by], found.sets[by] = found.reached.pop(original), found.sets.pop(original)


_reach = Causes._reach


def _by_half(path: Path, content: bytes) -> None:
    """A small file is there before it is whole."""
    path.write_bytes(content[: len(content) // 2])
    write_whole(path, content)


def _of_the_first(self: Any, name: str) -> Any:
    """A revision is compared with the first one."""
    self.old, old = self.old[:1], self.old
    yield from list(_old_rows(self, name))
    self.old = old


_old_rows = changes.Job.old_rows

MUTANTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "a revision leaves out changed rows": lambda: patch.object(changes, "_changed", _some_changed),
    "rows that are gone stay": lambda: patch.object(changes, "_gone", lambda *_: []),
    "a revision is compared with the first": lambda: patch.object(
        changes.Job, "old_rows", _of_the_first
    ),
    "the manifest comes before the record": lambda: patch.object(
        Closer, "_finished", _manifest_first
    ),
    "offsets are not those of the read": lambda: patch.object(
        TogetherReading, "rows_in", _where_it_began
    ),
    "the first writer does not win": lambda: patch.object(Control, "write", _whoever_writes),
    "stale cells are closed": lambda: patch.object(TogetherReading, "is_stale", lambda *_: False),
    "causes are not looked for": lambda: patch.object(Causes, "since", _no_causes),
    "what an amend says is no cause": lambda: patch.object(Causes, "_reach", _the_original_alone),
    "a manifest is there before it is whole": lambda: patch.object(
        folder, "write_whole", _by_half
    ),
    "a past that is not counted is closed": lambda: patch(
        "pipeline.periods.lacking._of_version", lambda *_: ()
    ),
    "what is not applied is left out": lambda: patch.object(closing, "lacking", lambda *_: []),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_step_is_needed(mutant: str) -> None:
    """Each way to be wrong is noticed by some log."""
    with MUTANTS[mutant]():
        assert any(wrong_of(seed) is not None for seed in range(LOGS))
