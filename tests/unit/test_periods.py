"""Closing and revising over the twins: kills at every file and record, two jobs, late events."""

import asyncio
import csv
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from pipeline.errors import ConflictError, NotClosable, UnknownNameError, UsageError
from pipeline.periods import changes, closing
from pipeline.periods.folder import Folder, digest_of
from pipeline.periods.period import check_unclosed, period_of, revisions_of
from pipeline.periods.shapes import ClosedAs
from pipeline.ports import RollupStore
from pipeline.reads.together_query import TogetherQuery

from ..billing import DAY, PERIOD, Control, Job, held, killed_at
from ..world import FIVE, NOW, World, deliver, event


def grown(world: World, numbers: Sequence[int]) -> None:
    """More events, applied: of several customers and hours, every fourth a repeat."""
    world.append(
        event(
            number,
            customer_id=f"c{number % 7}",
            timestamp=f"2026-03-01T{number % 12:02d}:30:00Z",
            properties={"v": number % 5, "g": "xy"[number % 2]},
        )
        for number in (each - each % 4 // 3 for each in numbers)
    )
    asyncio.run(world.apply())


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A day of 7 customers, in parts of at most 3 customers."""
    monkeypatch.setattr(closing, "CUSTOMERS_PER_PART", 3)
    world = World()
    grown(world, range(60))
    return Job(world, tmp_path)


def live(job: Job) -> dict[Any, tuple[str | None, int]]:
    """What readers are told now: key → value and unreadable."""

    async def work() -> dict[Any, tuple[str | None, int]]:
        query = TogetherQuery.of(
            job.world.control.metrics.values(),
            groups=True,
            starting_on=NOW.replace(hour=0),
            ending_before=NOW.replace(hour=0) + DAY,
            window_size="hour",
        )
        found = {}
        async for batch in job.together.batches(query):
            if isinstance(batch, list):
                for row in batch:
                    key = (row.customer, row.metric.id, *row.window, row.group or "")
                    found[key] = (row.value, row.unreadable)
        return found

    return asyncio.run(work())


@pytest.mark.parametrize("format_", ["jsonl", "csv", "parquet"])
def test_a_closed_period_is_what_readers_were_told(job: Job, format_: str) -> None:
    """Files of each format hold every row; they are in order, and a recount of the log agrees."""
    told = job.close(ClosedAs(format=format_, window_size="hour"))
    rows = job.rows()

    assert held(rows) == live(job)
    assert [row.key for row in rows] == sorted(row.key for row in rows)
    assert told["rows"] == len(rows) > 100
    assert told["files"] == 3
    assert job.verified().summary() == {
        "rows": len(rows),
        "mismatches": 0,
        "unverifiable_rows": 0,
        "events": 3 * 60,
    }


def test_a_late_event_is_a_revision_and_nothing_else_is(job: Job) -> None:
    """A revision has the changed rows alone: old, new, difference; without change it is none."""
    job.close()
    before = job.rows()
    assert job.revise()["changed"] == 0
    assert len(job.known) == 1
    assert not Folder(job.root, PERIOD, "UTC", 2).path.exists()

    grown(job.world, range(60, 64))
    grown(job.world, [*range(60), *range(60, 64)])  # all of it again: duplicates
    told = job.revise()

    after = job.rows()
    changed = [row for row in after if row.revision == 2]
    assert told["revision"] == 2
    assert told["changed"] == told["rows"] == len(changed)
    assert held(after) == live(job)
    old = {row.key: row for row in before}
    for row in changed:
        was = old.get(row.key)
        assert row.previous_value == (None if was is None else was.value)
        assert row.since_offset == (None if was is None else 60)
        assert (row.offset or 0) > 60
        assert float(row.delta or 0) == float(row.value or 0) - float(row.previous_value or 0)
    assert job.rows(1) == before
    assert not job.verified().lines


def test_what_lacks_is_named(job: Job) -> None:
    """Grace and unapplied records refuse a close; nothing is written."""
    with pytest.raises(NotClosable, match=r"partition 0 has applied everything up to 2026-03-04"):
        job.close(grace=30 * DAY)
    job.world.append([event(1000)])
    with pytest.raises(NotClosable, match="1 durable records are not applied yet"):
        job.close()
    assert not job.known
    assert not list(job.root.rglob("*.json"))


# -- kills ---------------------------------------------------------------------------------------


@pytest.mark.timeout(120)  # some twenty runs of a job, killed at one step after the other
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("revises", [False, True], ids=["close", "revise"])
def test_whoever_is_killed_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, revises: bool
) -> None:
    """Killed at every file and record: whole parts stay, one revision of each number, exact."""
    monkeypatch.setattr(closing, "CUSTOMERS_PER_PART", 3)
    steps = 0
    for at in range(1, 40):
        world = World()
        grown(world, range(14))
        job = Job(world, tmp_path / f"{at}")
        run: Callable[[], dict[str, Any]] = job.close
        if revises:
            job.close()
            grown(world, range(20, 28))
            run = job.revise
        number = 2 if revises else 1
        with killed_at(job, at, after=after):
            run()
            break
        path = Folder(job.root, PERIOD, "UTC", number).path
        kept = parts_in(path)
        whole = (path / "manifest.json").exists()
        assert not whole or len(job.known) == number
        grown(world, range(200, 204))  # the stream goes on meanwhile

        if len(job.known) < number or not revises:
            run()
        else:
            job.revise()

        assert len(job.known) >= number
        assert {name: text for name, text in parts_in(path).items() if name in kept} == kept
        revision = job.known[number - 1]
        assert digest_of((path / "manifest.json").read_bytes()) == revision.digest
        assert not [each for each in path.iterdir() if each.name.startswith(".")]
        while job.revise()["changed"]:
            pass
        assert held(job.rows()) == live(job)
        assert at % 4 or not job.verified().lines
        steps = at
    assert steps >= 8


def parts_in(path: Path) -> dict[str, bytes]:
    """The parts that are noted as done, with their bytes."""
    if not path.exists():
        return {}
    noted = {each.name[1:-5] for each in path.glob(".part-*.done")}
    if (path / "manifest.json").exists():
        noted |= {each.name for each in path.glob("part-*")}
    return {name: (path / name).read_bytes() for name in noted}


def test_the_first_of_two_jobs_counts(job: Job, tmp_path: Path) -> None:
    """The other one is told so; its folder has no manifest; the numbers are those of the first."""
    other = Job(job.world, tmp_path / "other")
    write = Control.write

    async def overtaken(self: Control, record: Mapping[str, Any]) -> int:
        await asyncio.to_thread(grown, job.world, range(60, 70))
        await asyncio.to_thread(job.close)
        return await write(self, record)

    other.control.write = overtaken.__get__(other.control)  # type: ignore[method-assign]
    with pytest.raises(ConflictError, match="another job wrote revision 1"):
        other.close()

    assert len(job.known) == 1
    assert not list((tmp_path / "other").rglob("manifest.json"))
    assert held(job.rows()) == live(job)
    with pytest.raises(ConflictError, match="by another job"):
        other.close()
    assert job.close()["already"] is True
    with pytest.raises(UnknownNameError, match=r"manifest.json is not here"):
        other.revise()


def test_one_job_at_a_time_works_in_a_folder(job: Job) -> None:
    """A second one is refused while the first one works, and nothing of the first is touched."""
    with Folder(job.root, PERIOD, "UTC", 1).held(), pytest.raises(ConflictError, match="at work"):
        job.close()
    job.close()


def test_files_that_were_changed_are_never_taken(job: Job) -> None:
    """Another byte in a part, or in the manifest, is told of, by revise and by verify."""
    job.close()
    folder = Folder(job.root, PERIOD, "UTC", 1)
    part = folder.path / "part-00001.jsonl"
    text = part.read_text()
    part.write_text(text.replace('"value": "', '"value": "1', 1))
    for run in (job.revise, job.verified):
        with pytest.raises(ConflictError, match="is not what the manifest says"):
            run()
    part.write_text(text)
    folder.manifest.write_bytes(folder.manifest.read_bytes() + b" ")
    with pytest.raises(ConflictError, match="is not that of revision 1"):
        job.revise()


def test_verify_finds_every_kind_of_wrong_row(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value, a missing row, a missing customer and a wrong difference in sealed files."""
    row_of = changes.first_rows
    kinds = iter(["value", "row", "customer"])
    for number, kind in enumerate(kinds):
        world = World()
        grown(world, range(60))
        wrong = Job(world, job.root / f"{number}")

        async def made(some: Any, names: Any, kind: str = kind) -> Any:
            async for rows in row_of(some, names):
                if kind == "value":
                    yield [rows[0]._replace(value="99999"), *rows[1:]]
                elif kind == "row":
                    yield rows[1:]
                else:
                    yield [each for each in rows if each.customer_id != "c3"]

        with monkeypatch.context() as patch:
            patch.setattr(closing, "first_rows", made)
            wrong.close()
        lines = wrong.verified().lines
        assert lines, kind
        if kind == "customer":
            assert {line["customer_id"] for line in lines} == {"c3"}


# -- words ---------------------------------------------------------------------------------------


def test_periods_are_of_their_zone() -> None:
    """A month and a day begin at local midnight; an hour that comes twice is refused."""
    month = period_of("2026-11", "Europe/Berlin", 3600)
    assert [each.isoformat() for each in month.window] == [
        "2026-10-31T23:00:00+00:00",
        "2026-11-30T23:00:00+00:00",
    ]
    day = period_of("2026-03-29", "Europe/Berlin", 3600).window
    assert day.ending_before - day.starting_on == timedelta(hours=23)
    hour = period_of("2026-03-29T05", "Europe/Berlin", 3600).window
    assert hour.starting_on.isoformat() == "2026-03-29T03:00:00+00:00"
    for name, zone in (
        ("2026-13", "UTC"),
        ("2026", "UTC"),
        ("2026-11", "Mars"),
        ("2026-02-30", "UTC"),
        ("2026-10-25T02", "Europe/Berlin"),
        ("2026-11", "Asia/Kathmandu"),
    ):
        with pytest.raises(UsageError):
            period_of(name, zone, 3600)


def test_revisions_are_named(job: Job) -> None:
    """PERIOD#N is the N-th; what is not there is said with what is."""
    job.close()
    periods = job.world.control.periods
    assert [each.number for each in revisions_of(periods, f"{PERIOD}#1", "UTC")] == [1]
    for text, zone, why in (
        (f"{PERIOD}#2", "UTC", "has 1 revisions"),
        (PERIOD, "Europe/Berlin", "closed in UTC"),
        ("2026-04", "UTC", "is not closed"),
    ):
        with pytest.raises(UnknownNameError, match=why):
            revisions_of(periods, text, zone)
    with pytest.raises(UsageError):
        revisions_of(periods, f"{PERIOD}#x", "UTC")


def test_a_decimal_that_does_not_fit_ends_the_job(job: Job) -> None:
    """The typed column has the same values; one that is too long is named, nothing is closed."""
    job.world.append([event(500, properties={"v": "12345.678", "g": "x"})])
    asyncio.run(job.world.apply())
    with pytest.raises(UsageError, match=r"--decimal 5,2: the value 12345.678 does not fit"):
        job.close(ClosedAs(format="parquet", decimal=(5, 2)))
    assert not job.known
    assert job.close(ClosedAs(format="parquet", decimal=(38, 9)))["rows"] > 10


def test_focus_names_are_names_alone(job: Job) -> None:
    """The same rows under FOCUS' names; rows of a later revision are corrections."""
    job.close(ClosedAs(format="csv", focus=True))
    assert held(job.rows()) != {}
    grown(job.world, range(60, 64))
    job.revise()

    found = []
    for number in (1, 2):
        path = Folder(job.root, PERIOD, "UTC", number).path
        for part in sorted(path.glob("part-*.csv")):
            with part.open(newline="") as text:
                found += [(number, row) for row in csv.DictReader(text)]
    assert {row["ChargeClass"] for number, row in found if number == 1} == {""}
    assert {row["ChargeClass"] for number, row in found if number == 2} == {"Correction"}
    assert {(row["ChargePeriodStart"], row["BillingPeriodStart"]) for _, row in found} == {
        ("2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z")
    }
    assert sorted(row["ConsumedQuantity"] for _, row in found if row["revision"] == "2") == sorted(
        row.value or "" for row in job.rows() if row.revision == 2
    )


# -- corrections ---------------------------------------------------------------------------------


def corrected(world: World, lines: Sequence[dict[str, Any]]) -> None:
    """Corrections come, are applied, and their cells are counted again."""

    async def work() -> None:
        owner = world.owner()
        await owner.open()
        await deliver(owner, world.log.records[0][owner.state.next :])
        mender = world.mender(owner)
        while mender.is_due:
            await mender.step()

    for line in lines:
        world.append([json.dumps(line).encode()])
    asyncio.run(work())


def test_corrections_of_a_closed_period_are_named_by_its_next_revision(job: Job) -> None:
    """Each with its place and reason; those of other days are not, and a recount agrees."""
    grown(job.world, [700])
    job.world.append([event(900, timestamp="2026-03-02T01:00:00Z")])
    asyncio.run(job.world.apply())
    job.close()
    ids = {"customer_id": "c2", "timestamp": "2026-03-01T02:30:00Z"}
    voids = {"transaction_id": "t2", "at": "0@2"}
    instead = {"event_type": "use", "properties": {"v": 77, "g": "x"}}
    other = {"transaction_id": "t900", "at": "0@61"}
    found = json.loads(job.world.log.records[0][61].value or b"")
    corrected(
        job.world,
        [
            {**ids, "kind": "amend", "transaction_id": "a", "amends": voids, "event": instead},
            {**found, "kind": "void", "transaction_id": "v", "voids": other},
        ],
    )

    told = job.revise()
    manifest = Folder(job.root, PERIOD, "UTC", 2).read(job.known[-1])
    named = {"at": "0@62", "kind": "amend", "customer_id": "c2", "transaction_id": "t2"}
    assert told["corrections"] == 1
    assert manifest["corrections"] == [named]
    changed = [row for rows in job.files(2) for row in rows]
    assert told["changed"] == len(changed) > 0
    assert {row.corrections for row in changed} == {'["0@62"]'}  # nothing else happened
    assert {row.customer_id for row in changed} == {"c2"}
    assert held(job.rows()) == live(job)
    assert not job.verified().lines

    again = {"transaction_id": "t2", "at": "0@62"}
    void = {**ids, "kind": "void", "transaction_id": "w", "voids": again, "reason": "a test"}
    corrected(job.world, [void])
    job.revise()
    manifest = Folder(job.root, PERIOD, "UTC", 3).read(job.known[-1])
    assert manifest["corrections"][-1] == {
        **named,
        "at": "0@64",
        "kind": "void",
        "reason": "a test",
    }
    left = {key: told for key, told in held(job.rows()).items() if told != (None, 0)}
    assert left == live(job)
    assert not job.verified().lines


class _Meanwhile:
    """A store beside which an event is taken back, before the third read of customers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._reads = 0
        self.taken: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.store, name)

    async def read_owners(self, *arguments: Any) -> Any:
        """The same."""
        self._reads += 1
        if self._reads == 3:
            customer = arguments[3][0]
            bodies = (json.loads(each.value or b"") for each in self._world.log.records[0])
            offset, found = next(
                (offset, body)
                for offset, body in enumerate(bodies)
                if body["customer_id"] == customer
            )
            self.taken = found
            named = {"transaction_id": found["transaction_id"], "at": f"0@{offset}"}
            void = {**found, "kind": "void", "transaction_id": "v", "voids": named}
            await asyncio.to_thread(corrected, self._world, [void])
        return await self._world.store.read_owners(*arguments)


def test_a_row_names_no_correction_that_it_had_before(tmp_path: Path) -> None:
    """The manifest may name one that came while the revision before was read; rows do not."""
    world = World(metrics={kind: FIVE[kind] for kind in ("COUNT", "SUM")})
    grown(world, range(60))
    meanwhile = _Meanwhile(world)
    Job(world, tmp_path, store=cast("RollupStore", meanwhile)).close()
    job = Job(world, tmp_path)
    assert held(job.rows()) == live(job)
    late = {**meanwhile.taken, "transaction_id": "late"}  # of the same rows
    world.append([json.dumps(late).encode()])
    asyncio.run(world.apply())

    job.revise()

    (named,) = job.folder(2).read(job.known[1])["corrections"]
    rows = [row for rows in job.files(2) for row in rows]
    assert named["at"] == "0@60"
    assert {row.customer_id for row in rows} == {late["customer_id"]}
    assert {row.corrections for row in rows} == {None}
    assert not job.verified().lines


def test_a_closed_period_is_not_changed_without_being_asked(job: Job) -> None:
    """An event of it can be corrected by whoever says so; those of other times by anybody."""
    job.close()
    check_unclosed(job.world.control.periods, NOW.replace(hour=0) - timedelta(seconds=1))
    check_unclosed(job.world.control.periods, NOW.replace(hour=0) + DAY)
    with pytest.raises(ConflictError, match="2026-03-01"):
        check_unclosed(job.world.control.periods, NOW)
