"""Jobs that close and revise a period, over the twins, with files in a folder; and their ends."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

from pipeline.control.entities import Revision
from pipeline.control.log import ControlLog
from pipeline.control.members import claim_of
from pipeline.control.records import ControlState
from pipeline.edges.clock import SetClock
from pipeline.errors import ConflictError
from pipeline.periods.causes import Causes
from pipeline.periods.closing import Closer
from pipeline.periods.folder import Folder
from pipeline.periods.period import Period, period_of
from pipeline.periods.reading import ClosedRow, rows_in, standing_rows
from pipeline.periods.shapes import ClosedAs
from pipeline.periods.verifying import Verdict, Verifier
from pipeline.ports import RollupStore
from pipeline.reads.marks import Patience
from pipeline.reads.together import Together
from pipeline.reads.together_query import TogetherQuery
from pipeline.reads.usage import Reader

from .world import NOW, World

DAY = timedelta(days=1)
PERIOD = "2026-03-01"
LATER = NOW + 3 * DAY
AS = ClosedAs(format="jsonl", window_size="hour")


class Control:
    """A control log in memory; what the real one does with records, without Kafka."""

    def __init__(self, state: ControlState) -> None:
        self.state = state

    async def write(self, record: Mapping[str, Any]) -> int:
        """Write a record and read it back."""
        body = {"schema_version": 1, "nonce": "n", **record}
        offset = self.state.next
        self.state.apply(offset, json.dumps(body).encode())
        if self.state.won.get(claim_of(body)) != offset:
            raise ConflictError(self.state.ignored[-1].why)
        return offset


class Job:
    """Closes and revises a period in a world, with files in a folder.

    store: how it reads the world's; None: as everybody does.
    """

    def __init__(
        self,
        world: World,
        root: Path,
        *,
        name: str = PERIOD,
        store: RollupStore | None = None,
        clock: SetClock | None = None,
    ) -> None:
        self.world = world
        self.root = root
        self.name = name
        self.store = world.store if store is None else store
        self.control = Control(world.control)
        self.clock = clock or SetClock(LATER)

    @property
    def period(self) -> Period:
        """Which it is."""
        return period_of(self.name, "UTC", 3600)

    @property
    def together(self) -> Together:
        """A reader of all metrics."""
        world = self.world
        patience = Patience(0, self.clock)
        reader = Reader(
            world.identity,
            self.store,
            world.log,
            self.clock,
            timedelta(hours=1),
            patience=patience,
        )
        return Together(reader, self.store, 1)

    @property
    def closer(self) -> Closer:
        """A new process."""
        control = cast("ControlLog", self.control)
        world = self.world
        causes = Causes(world.identity, world.control, self.store, world.log).since
        return Closer(control, world.identity, self.together, causes, self.clock, self.root)

    @property
    def known(self) -> list[Revision]:
        """The revisions that the control log knows."""
        return self.world.control.periods.get((self.name, "UTC"), [])

    async def closing(self, made_as: ClosedAs = AS, grace: timedelta = DAY) -> dict[str, Any]:
        """Close the period."""
        metrics = list(self.world.control.metrics.values())
        return await self.closer.close(self.period, metrics, made_as, grace, lambda _: None)

    async def revising(self) -> dict[str, Any]:
        """Revise it."""
        return await self.closer.revise(self.period, self.known, lambda _: None)

    def close(self, made_as: ClosedAs = AS, grace: timedelta = DAY) -> dict[str, Any]:
        """Close the period, and nothing else happens meanwhile."""
        return asyncio.run(self.closing(made_as, grace))

    def revise(self) -> dict[str, Any]:
        """Revise it, likewise."""
        return asyncio.run(self.revising())

    def folder(self, number: int) -> Folder:
        """Where the files of a revision are."""
        return Folder(self.root, self.name, "UTC", number)

    def files(self, number: int) -> list[list[ClosedRow]]:
        """The rows of the files of one revision, file by file; they are whole."""
        manifest = self.folder(number).read(self.known[number - 1])
        paths = [self.folder(number).part(part) for part in manifest["files"]]
        return [list(rows_in(path, manifest["format"])) for path in paths]

    def rows(self, number: int | None = None) -> list[ClosedRow]:
        """The rows as they stand after a revision; their files are whole."""
        numbers = range(1, 1 + len(self.known[:number]))
        return list(standing_rows([rows for each in numbers for rows in self.files(each)]))

    def verified(self) -> Verdict:
        """Every revision, recounted from the log."""
        return asyncio.run(self._verified())

    async def _verified(self) -> Verdict:
        world, known = self.world, self.known
        query = TogetherQuery.of(
            [world.control.metrics[name] for name in known[0].metric_ids],
            groups=known[0].groups,
            starting_on=known[0].starting_on,
            ending_before=known[0].ending_before,
            window_size=known[0].window_size,
        )
        reading = await self.together.opened(query)
        verifier = Verifier(world.identity, world.control, world.store, world.log, reading)
        await verifier.look()
        whole = [(each, self.folder(each.number)) for each in known]
        read = [(each, folder, folder.read(each)) for each, folder in whole]
        for at, each in enumerate(read):
            await verifier.verify(each, read[:at], lambda _: None)
        return verifier.found


def held(rows: Sequence[ClosedRow]) -> dict[Any, tuple[str | None, int]]:
    """Key → value and unreadable, of rows of files."""
    return {row.key: (row.value, row.unreadable) for row in rows}


# -- kills ---------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


class _Killer:
    """Ends a process at the n-th durable step, before or after it is done."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.left = at
        self.after = after

    def check(self) -> None:
        """Nobody does anything after his end."""
        if self.left <= 0:
            raise Killed

    def is_before(self) -> bool:
        """Whether the next step is the last one, and never done."""
        return self.left == 1 and not self.after

    def step(self, work: Callable[[], Any]) -> Any:
        """Do a step, or end before or behind it."""
        self.check()
        self.left -= 1
        if self.left == 0 and not self.after:
            raise Killed
        done = work()
        if self.left == 0:
            raise Killed
        return done


@contextmanager
def killed_at(job: Job, at: int, *, after: bool) -> Iterator[None]:
    """A job's process ends at a step: a rename, or the record. Whoever works elsewhere goes on.

    A file that it was about to rename is there by half; nobody tidies up behind it.
    """
    killer = _Killer(at, after=after)
    replace_, unlink, write = Path.replace, Path.unlink, job.control.write

    def renamed(self: Path, target: Any) -> Path:
        if job.root not in self.parents:
            return replace_(self, target)
        if killer.is_before():
            content = self.read_bytes()
            self.write_bytes(content[: len(content) // 2])
        found: Path = killer.step(lambda: replace_(self, target))
        return found

    def unlinked(self: Path, *, missing_ok: bool = False) -> None:
        if job.root in self.parents:
            killer.check()
        unlink(self, missing_ok=missing_ok)

    async def written(record: Mapping[str, Any]) -> int:
        killer.check()
        if killer.is_before():
            killer.left = 0
            raise Killed
        offset = await write(record)
        killer.step(lambda: None)
        return offset

    with (
        patch.object(Path, "replace", renamed),
        patch.object(Path, "unlink", unlinked),
        patch.object(job.control, "write", written),
        suppress(Killed),
    ):
        yield
