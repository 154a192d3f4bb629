"""The records of `metrics.control`, and what they add up to (docs/control-log.md).

Rule 1: the first valid record for `metric_id#version`, and for a name, wins; later ones are
ignored and reported. So every process that reads to the same offset knows the same.
Rule 2: validity never depends on the release: a record of an unknown schema_version holds its
version and its name, cannot be folded here, and nothing later replaces it.
"""

import json
import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from definitions.formats.shown import check_shown
from definitions.metric import Definition, MetricVersion, Origin
from definitions.times import NS_PER_S, parse_timestamp

from ..core.buckets import moment_of
from ..errors import PipelineError
from .customers import Customers
from .entities import ApiKey, DeploymentRecord, Ignored, Metric, Revision, Version
from .identities import identity_in, rebuilt, restored
from .members import (
    InvalidRecord,
    check_answerable,
    claim_of,
    digest_of,
    like_in,
    number_in,
    starts_of,
    tags_of,
    text_in,
    truth_in,
)
from .names import Finder, check_free, exchanged, find_typed, freed, renamed
from .revisions import revision_in

SCHEMA_VERSION: Final = 1
_METRIC_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HASHED: Final = re.compile(r"[0-9a-f]{64}")
RESUMED_WITHIN: Final = timedelta(hours=24)  # docs/formats.md 2.1
ROLES: Final = frozenset({"ingest", "read", "manage"})


@dataclass(slots=True)
class ControlState:
    """What the control log says up to an offset.

    requests: topic id of the requests → the first offset that has no outcome yet. answered_at:
    where the last outcome lies. request_seals: of requests, each of which counts once. vouched:
    somebody has obeyed all of these records already; what they say of themselves is right.
    """

    identity: DeploymentRecord | None = None
    metrics: dict[str, Metric] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    keys: dict[str, ApiKey] = field(default_factory=dict)
    customers: Customers = field(default_factory=Customers)
    periods: dict[tuple[str, str], list[Revision]] = field(default_factory=dict)
    ignored: list[Ignored] = field(default_factory=list)
    won: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    request_seals: set[str] = field(default_factory=set)
    answered_at: int = -1
    next: int = 0
    vouched: bool = False

    @property
    def versions(self) -> dict[str, Version]:
        """Every version by its key."""
        return {
            version.key: version for metric in self.metrics.values() for version in metric.versions
        }

    def pass_over(self, offset: int, why: str) -> None:
        """Take a record for one that changes nothing."""
        self.next = offset + 1
        self.ignored.append(Ignored(offset, why))

    def apply(self, offset: int, value: bytes | None) -> None:
        """Take one record. Nothing that lies on the log can raise."""
        self.next = offset + 1
        try:
            record = json.loads(value or b"")
            if not isinstance(record, dict):
                raise TypeError("not an object")
            if not self.vouched:
                check_answerable(record, value or b"")
            kind = record["type"]
            if record.get("schema_version") != SCHEMA_VERSION:
                self._hold(record)
            else:
                _KINDS[kind](self, record)
            # Who wrote `claim` first: a writer looks its own offset up here.
            self.won.setdefault(claim_of(record), offset)
        except INVALID as error:
            why = f"{type(error).__name__}: {str(error)[:300]}"
            # The message may quote the record, lone surrogates and all.
            self.ignored.append(Ignored(offset, why.encode(errors="replace").decode()))

    def find(self, name_or_id: str) -> Metric | None:
        """Return a metric by id or by its present name."""
        return self.metrics.get(name_or_id) or self.metrics.get(self.names.get(name_or_id, ""))

    @property
    def find_typed(self) -> Finder:
        """What finds a Statsig metric by its own name and type, by the names as they are now.

        A question that has it goes on by these names, whatever records come meanwhile.
        """
        return partial(find_typed, self.metrics, self.names)

    def _boundary(self, text: str) -> datetime:
        """Read a time that must lie on a base-bucket boundary (docs/design.md 6)."""
        ns = parse_timestamp(text)
        if self.identity is None or ns is None:
            raise InvalidRecord(
                "an effective time must be RFC 3339, and the deployment must exist"
            )
        if ns % (self.identity.deployment.base_bucket_s * NS_PER_S):
            raise InvalidRecord("an effective time must be the start of a base bucket")
        return moment_of(ns)

    # -- the kinds of record ---------------------------------------------------------------------

    def take_identity(self, record: dict[str, Any]) -> None:
        """The deployment, once."""
        if self.identity is not None:
            raise InvalidRecord("the deployment has an identity already")
        self.identity = identity_in(record)

    def take_partitions(self, record: dict[str, Any]) -> None:
        """Partitions that were added."""
        known = self.own(record)
        starts = starts_of(record)
        merged = {**starts, **known.starts}
        tags = {**tags_of(record), **known.tags}
        grown = replace(known, starts=dict(sorted(merged.items())), tags=tags)
        self.identity = grown.retold()

    def take_single_copy(self, record: dict[str, Any]) -> None:
        """Whether one copy in Kafka may acknowledge a record from now on."""
        allowed = truth_in(record, "allowed")
        self.identity = replace(self.own(record), allow_single_copy=allowed).retold()

    def take_rebuild(self, record: dict[str, Any]) -> None:
        """Every partition applied again from `starts`: maybe another topic, or other rules."""
        self.identity = rebuilt(self.own(record), record)

    def own(self, record: dict[str, Any]) -> DeploymentRecord:
        """The deployment, which a record must name."""
        if self.identity is None or record["store_id"] != self.identity.deployment.store_id:
            raise InvalidRecord("the store id is not that of this deployment")
        return self.identity

    def take_request(self, record: dict[str, Any]) -> None:
        """What became of a request: all of its records, or none (control/requests.py)."""
        topic_id, offset = text_in(record, "topic_id"), number_in(record, "offset")
        if offset < self.requests.get(topic_id, 0):
            raise InvalidRecord(f"the request at {offset} has an outcome already")
        draft = drafted(self)
        for part in record["records"]:
            take_part(draft, part)
        if not isinstance(record["outcome"], dict):
            raise InvalidRecord("outcome must be an object")
        self.request_seals.update([text_in(record, "seal")] if "seal" in record else [])
        self.metrics, self.names, self.won = draft.metrics, draft.names, draft.won
        self.requests[topic_id], self.answered_at = offset + 1, self.next - 1

    def take_definition(self, record: dict[str, Any]) -> None:
        """A version of a metric."""
        metric_id, number, name = record["metric_id"], record["version"], record["name"]
        starts = record["effective_from"]
        body = MetricVersion(
            metric_id=metric_id,
            version=number,
            effective_from=None if starts is None else self._boundary(starts),
            definition=Definition.model_validate(record["definition"]),
            digest=record["digest"],
        )
        if not self.vouched:
            if digest_of(record) != record["digest"]:
                raise InvalidRecord("the digest does not fit the definition")
            check_shown(body.definition.origin)
        self._admit(metric_id, number, name, body, text_in(record, "created_at"))

    def _hold(self, record: dict[str, Any]) -> None:
        """A record of another release: it holds its version and its name, and cannot be folded."""
        if record["type"] != "definition":
            raise InvalidRecord("this release does not know the schema_version")
        self._admit(record["metric_id"], record["version"], record["name"], None, "")

    def _admit(
        self, metric_id: str, number: int, name: str, body: MetricVersion | None, created_at: str
    ) -> None:
        if not _METRIC_ID.fullmatch(metric_id) or type(number) is not int:
            raise InvalidRecord(
                "a metric id has 1 to 64 of A-Z a-z 0-9 _ . -, a version is a number"
            )
        metric = self.metrics.get(metric_id)
        expected = 1 if metric is None else metric.latest.number + 1
        if number != expected:
            raise InvalidRecord(
                f"version {number} of {metric_id}: the next version must be {expected}"
            )
        version = Version(metric_id, number, body, created_at)
        if metric is None:
            check_free(self.names, name)
            self.names[name] = metric_id
            self.metrics[metric_id] = Metric(metric_id, name, [version], changed_at=created_at)
            return
        if body is not None:
            _hand_over(metric.latest, body)
        metric.versions.append(version)
        metric.changed_at, metric.annotated = created_at, None

    def take_rename(self, record: dict[str, Any]) -> None:
        """Another name for a metric."""
        metric = self.metrics[record["metric_id"]]
        at = text_in(record, "at") if "at" in record else metric.changed_at
        self.names = renamed(self.names, metric, record, at)

    def take_replace(self, record: dict[str, Any]) -> None:
        """A metric takes over the name of another one, which gets its own."""
        new, old = self.metrics[record["metric_id"]], self.metrics[record["replaces"]]
        self.names = exchanged(self.names, new, old, record, text_in(record, "at"))

    def take_annotation(self, record: dict[str, Any]) -> None:
        """Another native body for what is counted as before."""
        metric = self.metrics[record["metric_id"]]
        if record["version"] != metric.latest.number or not isinstance(record["text"], str):
            raise InvalidRecord("an annotation must be a string for the latest version")
        if metric.format is None:
            raise InvalidRecord(f"{metric.latest.key} was written by a later release")
        check_shown(Origin(format=metric.format, text=record["text"]))
        metric.annotated, metric.changed_at = record["text"], text_in(record, "at")

    def take_free_name(self, record: dict[str, Any]) -> None:
        """An archived metric's name may be another's; the metric is found by its id alone."""
        self.names = freed(self.names, self.metrics[record["metric_id"]])

    def take_end(self, record: dict[str, Any]) -> None:
        """The end of a version."""
        metric = self.metrics[record["metric_id"]]
        version = {item.number: item for item in metric.versions}[record["version"]]
        if version.effective_to is not None:
            raise InvalidRecord(f"{version.key} has an end already")
        archived, ends = truth_in(record, "archived"), self._boundary(record["effective_to"])
        version.drops_history = truth_in(record, "drop_history", default=False)
        version.effective_to = ends
        if archived:
            metric.archived_at = record["effective_to"]

    def take_resume(self, record: dict[str, Any]) -> None:
        """The end of an archived metric never was. Nothing is missing: see resumable_until()."""
        metric, at = self.metrics[record["metric_id"]], parse_timestamp(record["resumed_at"])
        until = self.resumable_until(metric)
        if record["version"] != metric.latest.number or until is None:
            raise InvalidRecord("only an archived metric with its own name can be taken back")
        if at is None or moment_of(at) >= until:
            raise InvalidRecord(f"it could be taken back until {until.isoformat()}")
        metric.latest.effective_to = metric.archived_at = None
        metric.latest.drops_history = False
        self.won.pop(f"end {metric.latest.key}", None)  # it may end again

    def resumable_until(self, metric: Metric) -> datetime | None:
        """When an archived metric can be resumed at the latest; None where it cannot.

        Rule: a version is folded, whatever an event's time, until the log clock has passed
        effective_to + max_age. Until half of that no worker may have stopped (docs/design.md 6).
        """
        ends = metric.latest.effective_to
        if metric.archived_at is None or not metric.named or ends is None or self.identity is None:
            return None
        most = RESUMED_WITHIN
        if self.identity.deployment.max_age_ms:
            half = timedelta(milliseconds=self.identity.deployment.max_age_ms // 2)
            most = min(most, half)
        try:
            return ends + most
        except OverflowError:  # it ends in the last year there is
            return ends

    def take_key(self, record: dict[str, Any]) -> None:
        """A key of the HTTP doors."""
        key_id, hashed = record["key_id"], record["hashed"]
        if key_id in self.keys or not isinstance(key_id, str):
            raise InvalidRecord(f"there is a key {key_id!r} already")
        if not isinstance(hashed, str) or not _HASHED.fullmatch(hashed):
            raise InvalidRecord("hashed must be 64 hex digits")
        roles = frozenset(record["roles"])
        if not roles or roles - ROLES:
            raise InvalidRecord(f"roles must be some of {', '.join(sorted(ROLES))}")
        name, created_at = text_in(record, "name"), text_in(record, "created_at")
        like = like_in(record, roles)
        self.keys[key_id] = ApiKey(key_id, name, roles, hashed, created_at, like)

    def take_key_end(self, record: dict[str, Any]) -> None:
        """A key is worth nothing from now on."""
        del self.keys[record["key_id"]]

    def take_close(self, record: dict[str, Any]) -> None:
        """A closed period, or the next revision of one."""
        self.own(record)
        key = record["period"], record["timezone"]
        known = self.periods.get(key, [])
        revision = revision_in(record, known[-1] if known else None, self.next - 1)
        self.periods[key] = [*known, revision]


def drafted(state: ControlState) -> ControlState:
    """Return a state like another one; what records change of it the other does not see."""
    metrics, names, won = dict(state.metrics), dict(state.names), dict(state.won)
    return replace(state, metrics=metrics, names=names, won=won)


def take_part(draft: ControlState, record: dict[str, Any]) -> None:
    """Take a record of a metric on a draft.

    Raises:
        any of INVALID: it is not valid here; the draft is worth nothing any more.
    """
    held = draft.metrics.get(record["metric_id"])
    if held is not None:  # the metric of the state behind the draft stays as it is
        versions = [replace(each) for each in held.versions]
        draft.metrics[held.id] = replace(held, versions=versions)
    if record["schema_version"] != SCHEMA_VERSION:
        raise InvalidRecord("this release does not know the schema_version")
    PARTS[record["type"]](draft, record)


def _hand_over(before: Version, body: MetricVersion) -> None:
    """A later version ends the one before it: one record, so there is no gap and no overlap."""
    starts = body.effective_from
    if starts is None:
        raise InvalidRecord("a later version must have an effective_from")
    if before.effective_to is not None:
        raise InvalidRecord(f"{before.key} has an end already")
    began = None if before.body is None else before.body.effective_from
    if began is not None and starts <= began:
        raise InvalidRecord("a later version must begin after the one before it")
    before.effective_to = starts


def _take_restore(state: ControlState, record: dict[str, Any]) -> None:
    """These records were restored to another topic (deploy/restoring.py)."""
    state.identity = restored(state.own(record), record)


def _take_customer(state: ControlState, record: dict[str, Any]) -> None:
    state.customers.take(record)


# What a foreign record can make the readers above raise. ValidationError is a ValueError.
INVALID: Final = (
    InvalidRecord,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    PipelineError,  # a configuration that terms_of() refuses
)

PARTS: Final = {  # records of metrics, which a request may be made of
    "definition": ControlState.take_definition,
    "rename": ControlState.take_rename,
    "annotation": ControlState.take_annotation,
    "free_name": ControlState.take_free_name,
    "end": ControlState.take_end,
    "resume": ControlState.take_resume,
}
_KINDS: Final = {
    **PARTS,
    "replace": ControlState.take_replace,
    "identity": ControlState.take_identity,
    "partitions": ControlState.take_partitions,
    "single_copy": ControlState.take_single_copy,
    "rebuild": ControlState.take_rebuild,
    "restore": _take_restore,
    "request": ControlState.take_request,
    "key": ControlState.take_key,
    "key_end": ControlState.take_key_end,
    "close": ControlState.take_close,
    "customer": _take_customer,
}
