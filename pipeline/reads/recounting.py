"""What a recount of a partition is told: settings that decide numbers, and what counts where."""

import re
from math import inf

from definitions.times import NS_PER_MS

from ..control.entities import DeploymentRecord
from ..control.records import ControlState
from ..core.deployment import Keying
from ..core.past import Past
from ..core.records import Span
from ..core.state import PartitionState
from ..errors import BadParameter
from ..ports import EventLog
from ..recount.ledger import Active, LedgerTerms, Share


def terms_of(identity: DeploymentRecord) -> LedgerTerms:
    """The settings of a deployment, for a Ledger."""
    settings = identity.deployment
    return LedgerTerms(
        dedup_window_ms=settings.dedup_window_ms,
        max_age_ms=settings.max_age_ms,
        max_ahead_ms=settings.max_ahead_ms,
        bucket_s=settings.base_bucket_s,
        homes=settings.homes,
        strict=settings.keying is Keying.STRICT,
        generations=settings.generations,
    )


def active_of(control: ControlState, state: PartitionState) -> list[Active]:
    """The versions that count in a partition, in its own offsets."""
    versions, pasts = control.versions, state.hist.by_version
    return [
        Active(version.body, activation.offset, state.ended.get(key), _span_of(pasts.get(key)))
        for key, activation in state.active.items()
        if (version := versions.get(key)) is not None and version.body is not None
    ]


def _span_of(past: Past | None) -> tuple[int, int] | None:
    return None if past is None else (past.start, past.next)


def share_of(parameter: str, text: str) -> Share:
    """Read K/N, the K-th of N shares of the customers.

    Raises:
        BadParameter: it is none.
    """
    match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        why = f"{text[:80]!r} is no share such as 1/50, the first of fifty"
        raise BadParameter(parameter, why)
    return Share(int(match[1]) - 1, int(match[2]))


async def verifiable_since(
    log: EventLog, partition: int, span: Span, state: PartitionState, terms: LedgerTerms
) -> float | None:
    """From which event time on (ns) no event that is gone can lie; None is all.

    An event is at most max_ahead before its time on the log. Which of the events that are left
    repeat one that is gone, the store's kept verdicts say.
    """
    if span.start <= state.start:
        return None
    first = await log.probe(partition, span.start)
    if first is None:
        return inf
    return (first.timestamp + terms.max_ahead_ms) * NS_PER_MS + 1
