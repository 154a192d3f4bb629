"""A metric as operators see it: its version, its status, and how much of the log it has seen."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from definitions.formats import native_body
from definitions.formats.statsig_warehouse import only_kept
from definitions.times import rfc3339

from ..control.entities import Metric, Version
from ..control.writer import status_of
from ..core.fold.spelled import SLOW_TESTS, slow_tests
from .history import COMPLETE, FROM, History
from .standing import UNREACHABLE, Standing


def summary_of(
    metric: Metric,
    history: History | None,
    standings: Mapping[int, Standing],
    now: datetime,
    unresolved: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a metric's line.

    history: None while a partition is not open. ready: whether every partition
    counts its latest version with all of the past, and every name in it has a meaning.
    unresolved: which have none (Reader.unresolved). fast_path: whether native/, where workers
    have it, evaluates all of the latest version; else slow_because says what Python does.
    """
    body, latest = metric.latest.body, metric.latest
    starts = None if body is None else body.effective_from
    slow = slow_because(latest)
    ends = latest.effective_to
    return {
        "id": metric.id,
        "version": latest.number,
        "name": metric.name,
        "status": status_of(metric, now),
        "format": metric.format,
        "effective_from": None if starts is None else rfc3339(starts),
        "effective_to": None if ends is None else rfc3339(ends),
        "archived_at": metric.archived_at,
        "created_at": latest.created_at,
        "ready": not unresolved
        and all(
            latest.key in item.state.active and item.closed is None for item in standings.values()
        )
        and history is not None
        and history.word in {COMPLETE, FROM},
        **({"history": None} if history is None else history.members),
        "fast_path": not slow,
        "slow_because": slow,
        **kept_of(metric),
        "reasons": [*(() if body is None else body.definition.reasons), *unresolved],
        **(UNREACHABLE if any(each.span is None for each in standings.values()) else {}),
    }


def slow_because(version: Version) -> list[str]:
    """Say what of a version Python evaluates, event by event; nothing where native/ does all."""
    if version.body is None or not version.foldable:
        return ["this release folds none of it"]
    definition = version.body.definition
    if not definition.computable:
        return ["a stream does not compute it"]
    found = frozenset[str]().union(*map(slow_tests, definition.measures))
    return [said for word, said in SLOW_TESTS.items() if word in found]


def kept_of(metric: Metric) -> dict[str, Any]:
    """Name the members of a Statsig metric that are shown and change no number here."""
    body = native_of(metric) if metric.format == "statsig" else None
    names = [] if body is None else only_kept(body)
    return {"only_kept": names} if names else {}


def native_of(metric: Metric) -> dict[str, Any] | None:
    """Return the native body of a metric; None where this release cannot read it."""
    return None if metric.latest.body is None else native_body(metric.origin, metric.name)
