"""Creating, changing and archiving metrics and keys: what the command line and the doors write."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from definitions.errors import DefinitionError, Problem
from definitions.formats import native_body, parse, registered_name, updated
from definitions.formats.bodies import Terms, dump_json, parse_json
from definitions.limits import NAME_CHARS_MAX
from definitions.metric import Definition, Origin
from definitions.times import parse_timestamp, rfc3339, why_no_time

from ..core.buckets import ceil_to_bucket, moment_of, ns_of, why_no_start
from ..errors import ConflictError, UnknownNameError, UsageError
from ..ports import Clock
from .draft import Draft
from .entities import DeploymentRecord, Metric, Version
from .fresh_ids import fresh_id
from .log import ControlLog
from .members import digest_of
from .names import Exchange
from .terms import terms_of

RECORD_BYTES_MAX: Final = 900_000  # a topic takes 1 MiB, envelope included
METRICS_MAX: Final = 10_000  # of a deployment: every process holds them all
VERSIONS_MAX: Final = 1_000  # of a metric: a reader may read each of them


class Writer:
    """Writes records of metrics to the control log, and reads them back; or to a draft of it."""

    def __init__(
        self, control: ControlLog | Draft, identity: DeploymentRecord, clock: Clock
    ) -> None:
        self._control = control
        self._identity = identity
        self._clock = clock

    def parse(self, format_: str, text: str, *, reuse: bool = False) -> tuple[str, Definition]:
        """Return the name and the definition of a native create body, in the deployment's terms.

        reuse: an archived metric's name may be taken.

        Raises:
            DefinitionError: every broken rule. ConflictError: the name is taken.
        """
        name, definition = parse(format_, text, self._terms)
        registered = self._registered(format_, name, text)
        held = self._control.state.metrics.get(self._names.get(registered, ""))
        if held is not None and not (reuse and held.archived_at is not None):
            raise ConflictError(
                f"another metric has the name {name!r} already; choose another name"
            )
        return registered, definition

    def candidate(self, format_: str, text: str) -> tuple[str, Definition]:
        """Return the same of a body that nobody registers: its name may be taken.

        Raises:
            DefinitionError: every broken rule.
        """
        return parse(format_, text, self._terms)

    @property
    def _terms(self) -> Terms:
        """What names stand for, now: it is written into a version, so no worker looks it up."""

        def typed(name: str, type_: str) -> Definition | None:
            found = self._control.state.find_typed(name, type_)
            body = None if found is None else found.latest.body
            return None if body is None else body.definition

        return replace(terms_of(self._identity.formats), statsig_metric=typed)

    def _registered(self, format_: str, name: str, text: str) -> str:
        """The name to register a metric by; one of Statsig's own twice is a conflict (CS16)."""
        if format_ == "statsig":
            type_ = parse_json(text)["type"]
            if self._control.state.find_typed(name, type_) is not None:
                raise ConflictError(f"there is a metric {name}::{type_} already")
        return registered_name(format_, name, text, self._names)

    @property
    def _names(self) -> Mapping[str, str]:
        return self._control.state.names

    async def create(
        self,
        name: str,
        definition: Definition,
        effective_from: str | None,
        *,
        metric_id: str | None = None,
    ) -> Metric:
        """Register a metric, which counts from its activation in each partition on.

        effective_from: Older events are left out; None is no such bound.

        An archived metric that has the name, where parse() let it, gives it away first.

        Raises:
            DefinitionError: LIMIT-METRICS.
        """
        if len(self._control.state.metrics) >= METRICS_MAX:
            message = (
                f"a deployment has at most {METRICS_MAX:,} metrics, archived ones included; use "
                "group keys instead of a metric for each value"
            )
            raise DefinitionError([Problem("LIMIT-METRICS", "", message)])
        held = self._names.get(name)
        if held is not None:
            await self._control.write({"type": "free_name", "metric_id": held})
        id_ = metric_id or fresh_id(definition.origin.format, self._clock.now())
        return await self._write(id_, 1, name, definition, effective_from)

    async def update(
        self, found: Metric, text: str, effective_from: str, *, dry_run: bool = False
    ) -> Metric:
        """Change a metric by a native update body: a new version, or what counts nothing new.

        Args:
            effective_from: Where the new version begins; `now` is the next base-bucket boundary
                at which it can. A time is obeyed exactly, or refused.
            dry_run: Only check it.

        Raises:
            UsageError: the time cannot be obeyed.
        """
        body = found.latest.body
        if body is None:
            raise UnknownNameError(f"{found.name!r} was written by a later release")
        if found.archived_at is not None:
            raise ConflictError(f"{found.name!r} is archived; create a new metric")
        origin, format_ = found.origin, body.definition.origin.format
        name, native = updated(origin, found.name, text)
        definition = None
        if native is not None:  # SQL takes time to read
            definition = await asyncio.to_thread(self._definition_of, format_, native)
        if dry_run:
            return found
        counts = definition is not None and _counts(definition) != _counts(body.definition)
        if counts and found.latest.number >= VERSIONS_MAX:
            message = f"a metric has at most {VERSIONS_MAX:,} versions; create another one"
            raise DefinitionError([Problem("LIMIT-VERSIONS", "", message)])
        if counts:
            starts = self._next_start(effective_from, found.latest)
        else:
            starts = None
            self._refuse_idle(effective_from, found)
        # Everything is checked: from here on records are written.
        if name != native_name(origin, found.name):
            found = await self.rename(found, name)
        if native is None or definition is None:
            return found
        if not counts:
            return await self._annotate(found, native)
        return await self._write(found.id, found.latest.number + 1, found.name, definition, starts)

    def _next_start(self, text: str, before: Version) -> str:
        """Where the version after another one begins."""
        boundary = self.boundary(text)
        if boundary is None or boundary < rfc3339(self._clock.now()):
            raise UsageError(
                "--effective-from must not be in the past: a base bucket has the numbers of one "
                "version. To correct the past, create a metric with the new definition, which "
                "counts all that the log holds, and let it take over: "
                f"recount metrics replace {before.metric_id} NEW --wait"
            )
        began = None if before.body is None else before.body.effective_from
        if began is None:
            return boundary
        # A version is at least a bucket long, however often a metric is changed.
        first = rfc3339(began + timedelta(seconds=self._identity.deployment.base_bucket_s))
        if text != "now" and boundary < first:
            raise UsageError(
                f"--effective-from {text}: version {before.number} begins on {rfc3339(began)}, so "
                f"the next one can begin on {first} or later"
            )
        return max(boundary, first)

    def _refuse_idle(self, text: str, found: Metric) -> None:
        """Refuse a time for an update that counts what the latest version counts already."""
        version = found.latest
        began = None if version.body is None else version.body.effective_from
        since = None if began is None else rfc3339(began)
        if text != "now" and self.boundary(text) != since:
            when = "since its activation" if since is None else f"from {since} on"
            raise UsageError(
                f"--effective-from {text}: version {version.number} of {found.name!r} counts just "
                f"this already, {when}; there is no new version to begin then. Leave "
                "--effective-from out"
            )

    def _definition_of(
        self, format_: Literal["klaviyo", "statsig", "metronome"], native: str
    ) -> Definition:
        """The definition of a body that an update made."""
        counted = parse_json(native)
        if format_ == "statsig":
            counted.pop("owner", None)  # Statsig's updates take it, its creates do not
        _, definition = parse(format_, dump_json(counted), self._terms)
        kept = Origin(format=format_, text=native)
        return definition.model_copy(update={"origin": kept})

    async def _annotate(self, found: Metric, native: str) -> Metric:
        """Show another native body for what is counted as before."""
        if native != found.origin.text:
            record = {"type": "annotation", "metric_id": found.id, "text": native}
            at = {"version": found.latest.number, "at": rfc3339(self._clock.now())}
            await self._control.write({**record, **at})
        return self._control.state.metrics[found.id]

    async def _write(
        self,
        metric_id: str,
        version: int,
        name: str,
        definition: Definition,
        effective_from: str | None,
    ) -> Metric:
        record: dict[str, Any] = {
            "type": "definition",
            "metric_id": metric_id,
            "version": version,
            "name": name,
            "effective_from": effective_from,
            "definition": definition.model_dump(mode="json"),
            "created_at": rfc3339(self._clock.now()),
        }
        record["digest"] = digest_of(record)
        given = len(json.dumps(record))
        if given > RECORD_BYTES_MAX:
            message = f"its record has at most {RECORD_BYTES_MAX:,} bytes, not {given:,}; "
            message += "give fewer or shorter values, or make several metrics"
            raise DefinitionError([Problem("LIMIT-RECORD", "", message)])
        await self._control.write(record)
        return self._control.state.metrics[metric_id]

    async def rename(self, found: Metric, name: str) -> Metric:
        """Give a metric another name. No new version: what is counted stays."""
        if len(name) > NAME_CHARS_MAX:
            message = f"a name has at most {NAME_CHARS_MAX:,} characters, not {len(name):,}"
            raise DefinitionError([Problem("LIMIT-NAME", "/name", message)])
        if found.format is not None:
            name = self._registered(found.format, name, found.origin.text)
        holder = self._names.get(name)
        if holder is not None and holder != found.id:
            raise ConflictError(
                f"metric {holder} has the name {name!r} already; choose another name"
            )
        record = {"type": "rename", "metric_id": found.id, "name": name}
        await self._control.write({**record, "at": rfc3339(self._clock.now())})
        return self._control.state.metrics[found.id]

    async def replace(self, asked: Exchange) -> None:
        """Let a metric take over the name of another one, which gets its name.

        Raises:
            ConflictError: they cannot exchange their names, or have other ones by now.
        """
        if asked.is_done:
            return
        asked.check()
        record = {"type": "replace", "metric_id": asked.new.id, "gives": asked.gives}
        taken = {"replaces": asked.old.id, "name": asked.name, "at": rfc3339(self._clock.now())}
        await self._control.write({**record, **taken})

    async def archive(self, found: Metric, at: str, *, drop_history: bool = False) -> Metric:
        """End a metric at a base-bucket boundary. What it counted before stays readable.

        Args:
            drop_history: What is not counted yet of its past never will be.
        """
        if found.archived_at is not None:
            raise ConflictError(f"{found.name!r} is archived already ({found.archived_at})")
        await self._control.write(
            {
                "type": "end",
                "metric_id": found.id,
                "version": found.latest.number,
                "effective_to": self._end_of(found.latest, at),
                "archived": True,
                **({"drop_history": True} if drop_history else {}),
            }
        )
        return self._control.state.metrics[found.id]

    def _end_of(self, version: Version, text: str) -> str | None:
        """Where a version ends: never before it began, for until then the one before it counts."""
        boundary = self.boundary(text)
        began = None if version.body is None else version.body.effective_from
        if boundary is None or began is None or boundary >= rfc3339(began):
            return boundary
        if text == "now":
            return rfc3339(began)
        raise UsageError(
            f"--at {text}: version {version.number} begins on {rfc3339(began)}, and until then "
            f"the version before it counts; archive the metric at {rfc3339(began)} or later"
        )

    async def archive_after(self, found: Metric, wait: timedelta) -> Metric:
        """Archive a metric that long from now, at the next base-bucket boundary."""
        bucket_s = self._identity.deployment.base_bucket_s
        return await self.archive(
            found, rfc3339(ceil_to_bucket(self._clock.now() + wait, bucket_s))
        )

    async def resume(self, found: Metric) -> Metric:
        """Take the end of an archived metric back, without a gap in what it counts."""
        record = {"type": "resume", "metric_id": found.id, "version": found.latest.number}
        await self._control.write({**record, "resumed_at": rfc3339(self._clock.now())})
        return self._control.state.metrics[found.id]

    async def delete(self, found: Metric) -> None:
        """Archive a metric and give its name away; its numbers stay readable by its id."""
        if found.archived_at is None:
            await self.archive(found, "now")
        await self._control.write({"type": "free_name", "metric_id": found.id})

    async def supersede(
        self, found: Metric, format_: str, text: str, effective_from: str
    ) -> Metric:
        """End a metric and begin another one of any format at the same moment.

        The old one keeps its numbers, which are found by its id; its name is free for the new one.

        Raises:
            UsageError: the moment has passed. DefinitionError, ConflictError: see parse().
        """
        starts = self.boundary(effective_from)
        if starts is None or starts < rfc3339(self._clock.now()):
            raise UsageError(
                "effective_from must not be in the past: no worker counted that time with the "
                "new metric"
            )
        ended = await self.archive(found, effective_from)
        await self._control.write({"type": "free_name", "metric_id": found.id})
        name, definition = await asyncio.to_thread(self.parse, format_, text, reuse=True)
        return await self.create(name, definition, ended.archived_at)

    def boundary(self, text: str | None) -> str | None:
        """Return an effective time on a base-bucket boundary; `now` rounds up."""
        bucket_s = self._identity.deployment.base_bucket_s
        if text is None:
            return None
        if text == "now":
            return rfc3339(ceil_to_bucket(self._clock.now(), bucket_s))
        ns = parse_timestamp(text)
        if ns is None:
            raise UsageError(f"{why_no_time(text)}; or `now`")
        moment = moment_of(ns)
        if ns_of(ceil_to_bucket(moment, bucket_s)) != ns:
            raise UsageError(f"{text} {why_no_start(ns, bucket_s)}")
        return rfc3339(moment)


def native_name(origin: Origin, registered: str) -> str:
    """Return the name that a metric's own system knows it by."""
    body = native_body(origin, registered)
    name: str = body["data"]["attributes"]["name"] if "data" in body else body["name"]
    return name


def _counts(definition: Definition) -> dict[str, Any]:
    """What a definition counts, whatever its native body says besides."""
    return definition.model_dump(mode="json", exclude={"origin"})


def status_of(metric: Metric, now: datetime) -> str:
    """active, unsupported or archived."""
    body = metric.latest.body
    if metric.archived_at is not None:
        ends = metric.latest.effective_to
        if ends is None or ends <= now or body is None:
            return "archived"
    if body is None or not body.definition.computable:
        return "unsupported"
    return "archived" if metric.archived_at is not None else "active"
