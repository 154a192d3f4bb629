"""What the control log tells of: the deployment, its metrics, its keys."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from definitions.matcher import compile_version
from definitions.metric import MetricVersion, Origin

from ..core.deployment import Deployment

SERVER_KEY: Final = "statsig-server"
CLIENT_KEY: Final = "statsig-client"


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """The deployment as `recount init` wrote it.

    topics: role → (name, topic id). starts: partition → first offset at registration. tags:
    partition → suffix of its hash tag in Redis (deploy/tags.py). allow_single_copy: whether one
    copy in Kafka may acknowledge a record, though there are three. text: the record as JSON, with
    what later records said of the same members.
    """

    deployment: Deployment
    rules: int
    format_version: int
    id_hash: str
    topics: Mapping[str, tuple[str, str]]
    starts: Mapping[int, int]
    tags: Mapping[int, str]
    retention_days: float | None
    replication_factor: int
    formats: Mapping[str, Any]
    allow_single_copy: bool
    text: bytes

    def retold(self) -> "DeploymentRecord":
        """Return the same with the text that fits it: a later record changed some members."""
        told = json.loads(self.text)
        told["starts"] = {str(number): at for number, at in self.starts.items()}
        told["tags"] = {str(number): suffix for number, suffix in self.tags.items()}
        told["topics"] = {role: {"name": on, "id": at} for role, (on, at) in self.topics.items()}
        told |= {"rules": self.rules, "format_version": self.format_version}
        told["allow_single_copy"] = self.allow_single_copy
        return replace(self, text=json.dumps(told, sort_keys=True).encode())


@dataclass(slots=True)
class Version:
    """A version on the log. body is None where this release cannot read it.

    drops_history: whether what is not counted of its past never will be. judged: what foldable
    found, once somebody asked.
    """

    metric_id: str
    number: int
    body: MetricVersion | None
    created_at: str
    effective_to: datetime | None = None
    drops_history: bool = False
    judged: bool | None = field(default=None, repr=False, compare=False)

    @property
    def key(self) -> str:
        """`metric_id#version`."""
        return f"{self.metric_id}#{self.number}"

    @property
    def foldable(self) -> bool:
        """Whether this release can compile it. Judged when first asked: a read asks of few."""
        if self.judged is None:
            self.judged = _compiles(self.body)
        return self.judged


def _compiles(body: MetricVersion | None) -> bool:
    if body is None:
        return False
    try:
        compile_version(body)
    except ValueError:
        return False
    return True


@dataclass(slots=True)
class Metric:
    """A metric with its versions, oldest first.

    named: whether its name is still its own; a deleted metric is found by its id alone.
    changed_at: when anything of it changed last, as its writer said. annotated: the native body
    shown instead of the latest version's own: it counts the same. replaced: the id of the metric
    whose name it took over, as long as it has that name.
    """

    id: str
    name: str
    versions: list[Version]
    archived_at: str | None = None
    named: bool = True
    changed_at: str = ""
    annotated: str | None = None
    replaced: str | None = None

    @property
    def latest(self) -> Version:
        """The version that counts from now on."""
        return self.versions[-1]

    @property
    def format(self) -> str | None:
        """Whose words it was given in; None where this release cannot read it."""
        body = self.latest.body
        return None if body is None else body.definition.origin.format

    @property
    def origin(self) -> Origin:
        """The native body that is shown. Raises ValueError where this release cannot read it."""
        if self.latest.body is None:
            raise ValueError(f"{self.latest.key} was written by a release unknown here")
        origin = self.latest.body.definition.origin
        if self.annotated is None:
            return origin
        return Origin(format=origin.format, text=self.annotated)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the HTTP doors. hashed: hex sha256 of the whole key, which nobody keeps.

    like: whose form it has, SERVER_KEY or CLIENT_KEY; None is our own.
    """

    id: str
    name: str
    roles: frozenset[str]
    hashed: str
    created_at: str
    like: str | None = None

    @property
    def is_public(self) -> bool:
        """Whether it stands in web pages and apps, where anybody can read it."""
        return self.like == CLIENT_KEY


@dataclass(frozen=True, slots=True)
class Revision:
    """One revision of a closed period; the first one is the close itself (docs/billing.md).

    period: 2026-11, of the zone. window_size, groups, format: of its rows and files. digest: hex
    sha256 of its manifest. offsets: partition → the least and the greatest offset at which a row
    stands. definitions: version → digest. at: offset of its record.
    """

    period: str
    timezone: str
    number: int
    starting_on: datetime
    ending_before: datetime
    window_size: str
    groups: bool
    format: str
    digest: str
    rows: int
    files: int
    offsets: Mapping[int, tuple[int, int]]
    definitions: Mapping[str, str]
    created_at: str
    at: int

    @property
    def metric_ids(self) -> frozenset[str]:
        """The metrics that are closed."""
        return frozenset(key.rpartition("#")[0] for key in self.definitions)


@dataclass(frozen=True, slots=True)
class Ignored:
    """A record that changed nothing, and why."""

    offset: int
    why: str
