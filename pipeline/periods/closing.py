"""Closing a period, and revising it.

Durable order: **1** every part, each with a note of its checksum; **2** the record on the control
log, which the first writer wins; **3** the manifest. Whoever is killed between two of them runs
again: parts with a good checksum are kept, and a record that is there already is known by its
digest. So there is one revision of each number, and no half of one has a manifest.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from importlib import metadata
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from definitions.times import rfc3339

from ..control.entities import DeploymentRecord, Metric, Revision
from ..control.log import ControlLog
from ..core.windows import Window
from ..errors import ConflictError, NotClosable, UsageError
from ..ports import Clock
from ..reads.owners import Places
from ..reads.query import versions_of
from ..reads.together import Together, TogetherReading
from ..reads.together_query import TogetherQuery
from .causes import Traced, rows_reached
from .changes import Job, changed_rows, first_rows, widen, written
from .folder import Folder, PartFacts, digest_of, manifest_of
from .lacking import lacking
from .period import Period
from .shapes import ClosedAs, closed_as, told_of
from .writing import write_file

CUSTOMERS_PER_PART: Final = 10_000
LACKS_MAX: Final = 10  # that are named
_PART: Final = "part-{:05d}.{}"
_OF_PLAN: Final = (
    "period",
    "timezone",
    "starting_on",
    "ending_before",
    "revision",
    "previous",
    "window_size",
    "groups",
    "format",
)
Progress = Callable[[int], None]
Causing = Callable[[Revision, Window], Awaitable[Traced]]  # see Causes.since()


class Closer:
    """Closes and revises the periods of one deployment. root: the folder of all of them."""

    def __init__(
        self,
        control: ControlLog,
        identity: DeploymentRecord,
        together: Together,
        causes: Causing,
        clock: Clock,
        root: Path,
    ) -> None:
        self._control = control
        self._identity = identity
        self._together = together
        self._causes = causes
        self._clock = clock
        self._root = root

    async def close(
        self,
        period: Period,
        metrics: Sequence[Metric],
        made_as: ClosedAs,
        grace: timedelta,
        progress: Progress,
    ) -> dict[str, Any]:
        """Close a period; return what is said of its first revision.

        Raises:
            NotClosable: it lacks something. ConflictError: another job closed it.
        """
        folder = Folder(self._root, period.name, period.timezone, 1)
        with folder.held():
            known = self._control.state.periods.get((period.name, period.timezone), [])
            if known:
                return self._again(folder, known[0])
            query = self._query(period, metrics, made_as)
            reading = await self._together.opened(query)
            self._check(period, query, reading, grace)
            customers = [len(await reading.at_home(home)) for home in range(reading.homes)]
            per_home = max(-(-max(customers, default=0) // CUSTOMERS_PER_PART), 1)
            plan = self._plan(period, query, made_as, per_home)
            job = Job(period, made_as, folder, folder.begin(plan), reading)
            return await self._finished(job, await self._parts(job, progress))

    async def revise(
        self, period: Period, known: Sequence[Revision], progress: Progress
    ) -> dict[str, Any]:
        """Write what changed since the last revision of a closed period, as the next one.

        Raises:
            NotClosable: something durable is not applied. ConflictError: another job was first,
                or the files of a revision are not what they were. UnknownNameError: they are not
                here.
        """
        folders = [self.folder_of(each) for each in known]
        folders[-1].finish_if(known[-1].digest)
        old = [(at, at.read(each)) for at, each in zip(folders, known, strict=True)]
        folder = Folder(self._root, period.name, period.timezone, len(known) + 1)
        made_as = closed_as(old[0][1])
        closed = known[-1].metric_ids
        metrics = [each for each in self._control.state.metrics.values() if each.id in closed]
        with folder.held():
            query = self._query(period, metrics, made_as)
            reading = await self._together.opened(query)
            self._check(period, query, reading, None)
            causes = await self._causes(known[-1], period.window)
            plan = self._plan(period, query, made_as, old[0][1]["parts"], known[-1]) | causes.told
            rows = await rows_reached(causes, reading)
            job = Job(period, made_as, folder, folder.begin(plan), reading, old, rows)
            parts = await self._parts(job, progress)
            if (await self._causes(known[-1], period.window)).told != causes.told:
                raise taken_back_meanwhile(period)
            if parts:
                return await self._finished(job, parts)
            folder.remove()
        return {**told_of(known[-1]), "changed": 0}

    def folder_of(self, revision: Revision) -> Folder:
        """Where the files of a revision are."""
        return Folder(self._root, revision.period, revision.timezone, revision.number)

    def _again(self, folder: Folder, known: Revision) -> dict[str, Any]:
        """Finish what an earlier run began; a period that another job closed is refused."""
        if folder.finish_if(known.digest):
            return {**told_of(known), "already": True}
        raise ConflictError(
            f"{known.period} ({known.timezone}) was closed at {known.created_at} by another job: "
            f"the record at {known.at} of the control log has the digest {known.digest}, and "
            f"{folder.path} holds nothing that fits it. Use the files of that job; to see what "
            f"changed since, `recount period revise {known.period}`"
        )

    def _query(
        self, period: Period, metrics: Sequence[Metric], made_as: ClosedAs
    ) -> TogetherQuery:
        return TogetherQuery.of(
            metrics,
            groups=made_as.groups,
            starting_on=period.window.starting_on,
            ending_before=period.window.ending_before,
            window_size=made_as.window_size,
            timezone=period.timezone,
            find=self._control.state.find_typed,
        )

    def _check(
        self,
        period: Period,
        query: TogetherQuery,
        reading: TogetherReading,
        grace: timedelta | None,
    ) -> None:
        metrics = {each.metric.id: each.metric for each in query.queries}
        if not metrics:
            raise UsageError(
                "there is no metric that has a value of each customer: "
                + "; ".join(f"{name!r}: {why}" for name, why in query.left_out.items())
            )
        until = period.window.ending_before + (grace or timedelta(0))
        lacks = lacking(reading.stands, metrics.values(), period.window, until)
        if reading.is_stale(period.window):
            lacks.append("cells wait to be counted again, for an event was taken back")
        if lacks:
            more = len(lacks) - LACKS_MAX
            told = "; ".join(lacks[:LACKS_MAX]) + (f"; and {more} more" if more > 0 else "")
            verb = "revised" if grace is None else "closed"
            raise NotClosable(f"{period.name} cannot be {verb} yet: {told}")

    def _plan(
        self,
        period: Period,
        query: TogetherQuery,
        made_as: ClosedAs,
        per_home: int,
        before: Revision | None = None,
    ) -> dict[str, Any]:
        metrics = {each.metric.id: each.metric for each in query.queries}
        return {
            "period": period.name,
            "timezone": period.timezone,
            "starting_on": rfc3339(period.window.starting_on),
            "ending_before": rfc3339(period.window.ending_before),
            "revision": 1 if before is None else before.number + 1,
            "previous": None if before is None else before.digest,
            "store_id": self._identity.deployment.store_id,
            "tool": f"recount {metadata.version('recount')}",
            "homes": self._identity.deployment.homes,
            "parts": per_home,
            "definitions": {
                version.key: {"metric": metric.name, "digest": version.body.digest}
                for metric in metrics.values()
                for version in versions_of(metric, period.window)
                if version.body is not None
            },
            **made_as.told(),
        }

    async def _parts(self, job: Job, progress: Progress) -> list[PartFacts]:
        """Write every part that is not there yet."""
        parts = []
        for home in range(job.reading.homes):
            names = await job.reading.at_home(home)
            for sub in range(job.per_home):
                name = _PART.format(home * job.per_home + sub, job.made_as.format)
                mine = {
                    each: at
                    for each, at in names.items()
                    if job.per_home == 1 or crc32(each.encode()) % job.per_home == sub
                }
                part = job.folder.done(name) or await self._part(job, name, home, mine)
                if part is not None:
                    parts.append(part)
                progress(len(mine))
        return parts

    async def _part(
        self, job: Job, name: str, home: int, names: Mapping[str, Places]
    ) -> PartFacts | None:
        """Write one part; None where it has no rows."""
        rows = changed_rows(job, name, home, names) if job.old else first_rows(job, names)
        # The least offset is where the partition stood when its customers were listed, or before.
        offsets = {home: (job.reading.stands.first[home].state.next,) * 2}
        async with aclosing(rows) as batches:
            first = await anext(batches, None)
            if first is None:
                _check_fresh(job)
                return None
            rows_written = written(job, first, batches, offsets)
            path, columns = job.folder.path / name, job.made_as.columns()
            facts = await write_file(path, job.made_as.format, columns, rows_written)
        _check_fresh(job)
        part = PartFacts(name, facts, offsets)
        job.folder.note(part)
        return part

    async def _finished(self, job: Job, parts: list[PartFacts]) -> dict[str, Any]:
        """Put the revision on the control log, then its manifest into the folder."""
        manifest = manifest_of(job.plan, parts)
        revision = await self._record(job, manifest, parts)
        job.folder.finish(manifest)
        changed = {} if revision.number == 1 else {"changed": revision.rows}
        changed |= (
            {"corrections": len(job.plan["corrections"])} if "corrections" in job.plan else {}
        )
        return {**told_of(revision), **changed, "path": str(job.folder.path)}

    async def _record(self, job: Job, manifest: bytes, parts: Sequence[PartFacts]) -> Revision:
        key, plan = (job.period.name, job.period.timezone), job.plan
        offsets: dict[int, tuple[int, int]] = {}
        for part in parts:
            for at, span in part.offsets.items():
                widen(offsets, at, *span)
        record = {
            "type": "close",
            "store_id": plan["store_id"],
            **{name: plan[name] for name in _OF_PLAN},
            "digest": digest_of(manifest),
            "rows": sum(part.file.rows for part in parts),
            "files": len(parts),
            "offsets": {str(at): list(offsets[at]) for at in sorted(offsets)},
            "definitions": {key: told["digest"] for key, told in plan["definitions"].items()},
            "created_at": rfc3339(self._clock.now()),
        }
        try:
            await self._control.write(record)
        except ConflictError as error:
            won = self._control.state.periods.get(key, [])
            digest = won[job.number - 1].digest if len(won) >= job.number else "unknown"
            raise ConflictError(
                f"another job wrote revision {job.number} of {job.period.name} first (digest "
                f"{digest}): use its files; those in {job.folder.path} are no revision. {error}"
            ) from error
        return self._control.state.periods[key][job.number - 1]


def _check_fresh(job: Job) -> None:
    """Refuse a part that was read while cells waited to be counted again: it is not noted.

    Raises:
        NotClosable: another run reads it again.
    """
    if job.reading.is_stale(job.period.window):
        raise taken_back_meanwhile(job.period)


def taken_back_meanwhile(period: Period) -> NotClosable:
    """Say that another run is needed."""
    return NotClosable(
        f"{period.name}: an event was taken back while it was read; run the command again"
    )
