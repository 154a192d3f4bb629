"""Creating, changing and archiving metrics and keys: what the command line and the doors write."""

import uuid
from datetime import datetime
from typing import Any

from definitions.formats import parse, updated
from definitions.metric import Definition
from definitions.times import parse_timestamp, rfc3339

from ..core.windows import ceil_to_bucket, moment_of, ns_of
from ..errors import ConflictError, UnknownNameError, UsageError
from ..ports import Clock
from .log import ControlLog
from .records import Identity, Metric, digest_of
from .terms import terms_of


class Writer:
    """Writes records of metrics to the control log, and reads them back."""

    def __init__(self, control: ControlLog, identity: Identity, clock: Clock) -> None:
        self._control = control
        self._identity = identity
        self._clock = clock

    def parse(self, format_: str, text: str) -> tuple[str, Definition]:
        """Return the name and the definition of a native create body, in the deployment's terms.

        Raises:
            DefinitionError: every broken rule. ConflictError: the name is taken.
        """
        name, definition = parse(format_, text, terms_of(self._identity.formats))
        if name in self._control.state.names:
            raise ConflictError(f"a metric is named {name!r} already; choose another name")
        return name, definition

    async def create(
        self, name: str, definition: Definition, effective_from: str | None
    ) -> Metric:
        """Register a metric; without an effective time it counts all that the log holds."""
        return await self._write(str(uuid.uuid4()), 1, name, definition, effective_from)

    async def update(self, found: Metric, text: str, effective_from: str) -> Metric:
        """Change a metric by a native update body: a new version, or a rename alone."""
        body = found.latest.body
        if body is None:
            raise UnknownNameError(f"{found.name!r} was written by a release unknown here")
        if found.archived_at is not None:
            raise ConflictError(f"{found.name!r} is archived; make a new metric")
        name, native = updated(body.definition.origin, found.name, text)
        if name != found.name:
            await self.rename(found, name)
        if native is None:
            return self._control.state.metrics[found.id]
        format_ = body.definition.origin.format
        _, definition = parse(format_, native, terms_of(self._identity.formats))
        boundary = self.boundary(effective_from)
        if boundary is None or boundary < rfc3339(self._clock.now()):
            raise UsageError("--effective-from must not lie in the past: nobody counted it")
        return await self._write(found.id, found.latest.number + 1, name, definition, boundary)

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
        await self._control.write(record)
        return self._control.state.metrics[metric_id]

    async def rename(self, found: Metric, name: str) -> Metric:
        """Give a metric another name. No new version: what is counted stays."""
        await self._control.write({"type": "rename", "metric_id": found.id, "name": name})
        return self._control.state.metrics[found.id]

    async def archive(self, found: Metric, at: str) -> Metric:
        """End a metric at a base-bucket boundary. What it counted before stays readable."""
        if found.archived_at is not None:
            raise ConflictError(f"{found.name!r} is archived already ({found.archived_at})")
        await self._control.write(
            {
                "type": "end",
                "metric_id": found.id,
                "version": found.latest.number,
                "effective_to": self.boundary(at),
                "archived": True,
            }
        )
        return self._control.state.metrics[found.id]

    def boundary(self, text: str | None) -> str | None:
        """Return an effective time on a base-bucket boundary; `now` rounds up."""
        bucket_s = self._identity.deployment.base_bucket_s
        if text is None:
            return None
        if text == "now":
            return rfc3339(ceil_to_bucket(self._clock.now(), bucket_s))
        ns = parse_timestamp(text)
        if ns is None:
            raise UsageError(f"{text!r} is not RFC 3339 with an offset, nor `now`")
        moment = moment_of(ns)
        if ns_of(ceil_to_bucket(moment, bucket_s)) != ns:
            raise UsageError(f"{text} is no base-bucket boundary ({bucket_s // 60} minutes)")
        return rfc3339(moment)


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
