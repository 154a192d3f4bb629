"""What a recount of a partition is told: settings that decide numbers, and what counts where."""

from typing import Final

from ..control.entities import DeploymentRecord
from ..control.records import ControlState
from ..core.deployment import Keying
from ..core.past import Past
from ..core.state import PartitionState
from ..recount.ledger import Active, LedgerTerms

_NONE: Final = Past(0, 0, -1, 0)


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
        Active(version.body, activation.offset, state.ended.get(key), pasts.get(key, _NONE)[:2])
        for key, activation in state.active.items()
        if (version := versions.get(key)) is not None and version.body is not None
    ]
