"""The deployment's identity on the control log."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..core.deployment import GENERATIONS, Deployment, Keying
from .entities import DeploymentRecord
from .members import (
    InvalidRecord,
    bucket_of,
    number_in,
    starts_of,
    tags_of,
    text_in,
    truth_in,
)
from .terms import terms_of


def identity_in(record: Mapping[str, Any]) -> DeploymentRecord:
    """Return the deployment that an identity record tells of.

    Raises:
        InvalidRecord: a member is not what a reader relies on.
    """
    settings = record["settings"]
    days = record["retention_days"]
    if days is not None and (type(days) not in {int, float} or days < 0):
        raise InvalidRecord("retention_days must be a number or null")
    formats = record.get("formats") or {}
    terms_of(formats)
    return DeploymentRecord(
        deployment=Deployment(
            store_id=text_in(record, "store_id"),
            homes=number_in(settings, "homes", 1),
            dedup_window_ms=number_in(settings, "dedup_window_ms", 1),
            max_age_ms=number_in(settings, "max_age_ms"),
            max_ahead_ms=number_in(settings, "max_ahead_ms"),
            base_bucket_s=bucket_of(settings),
            keying=Keying(settings["keying"]),
            generations=number_in({"generations": GENERATIONS, **settings}, "generations", 1),
        ),
        rules=number_in(record, "rules"),
        format_version=number_in(record, "format_version"),
        id_hash=text_in(record, "id_hash"),
        topics={
            role: (text_in(topic, "name"), text_in(topic, "id"))
            for role, topic in record["topics"].items()
        },
        starts=starts_of(record),
        tags=tags_of(record),
        retention_days=days,
        replication_factor=number_in(record, "replication_factor", 1),
        formats=formats,
        allow_single_copy=truth_in(record, "allow_single_copy", default=False),
        text=json.dumps(record, sort_keys=True).encode(),
    )


def rebuilt(known: DeploymentRecord, record: Mapping[str, Any]) -> DeploymentRecord:
    """Return the deployment after a rebuild: maybe on another topic, or judged by other rules.

    Raises:
        InvalidRecord: a partition has no start, or a member is not what a reader relies on.
    """
    starts = starts_of(record)
    if set(known.starts) - set(starts):
        raise InvalidRecord("a rebuild must name the start of every partition")
    topic, _ = known.topics["events"]
    rules, format_version = record["rules"], record["format_version"]
    if type(rules) is not int or type(format_version) is not int:
        raise InvalidRecord("rules and format_version must be integers")
    moved = replace(
        known,
        topics={**known.topics, "events": (topic, text_in(record, "events_topic_id"))},
        rules=rules,
        format_version=format_version,
        starts=dict(sorted(starts.items())),
        tags={**known.tags, **tags_of(record)},
    )
    return moved.retold()


def restored(known: DeploymentRecord, record: Mapping[str, Any]) -> DeploymentRecord:
    """Return the deployment after its control log was restored to another topic.

    Raises:
        InvalidRecord: the topic has no id.
    """
    name, _ = known.topics["control"]
    at = (name, text_in(record, "control_topic_id"))
    return replace(known, topics={**known.topics, "control": at}).retold()
