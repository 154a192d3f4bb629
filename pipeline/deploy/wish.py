"""What `recount init` was asked for, and how a deployment that exists differs from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..control.entities import DeploymentRecord
from ..errors import Halt

DAY_MS: Final = 86_400_000
_HOUR_MS: Final = 3_600_000
# member of a Wish → the option that sets it, its unit, and how much of the member one of it is
_OPTIONS: Final = {
    "dedup_window_ms": ("dedup-window-days", " days", DAY_MS),
    "max_age_ms": ("max-age-days", " days", DAY_MS),
    "max_ahead_ms": ("max-ahead-hours", " hours", _HOUR_MS),
    "base_bucket_s": ("base-bucket", " minutes", 60),
    "retention_days": ("retention-days", " days", 1),
    "formats": ("config", "", 1),
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What `init` was asked for; None is not asked, the default where the deployment is new."""

    partitions: int | None = None
    replication_factor: int | None = None
    retention_days: float | None = None
    dedup_window_ms: int | None = None
    max_age_ms: int | None = None
    max_ahead_ms: int | None = None
    base_bucket_s: int | None = None
    keying: str | None = None
    formats: Mapping[str, Any] | None = None
    allow_single_copy: bool | None = None


def refuse_other(name: str, identity: DeploymentRecord, wish: Wish) -> None:
    """Halt where a deployment exists with other settings than were asked for."""
    deployment = identity.deployment
    has = {
        "replication_factor": identity.replication_factor,
        "retention_days": identity.retention_days,
        "dedup_window_ms": deployment.dedup_window_ms,
        "max_age_ms": deployment.max_age_ms,
        "max_ahead_ms": deployment.max_ahead_ms,
        "base_bucket_s": deployment.base_bucket_s,
        "keying": deployment.keying.value,
        "formats": dict(identity.formats),
    }
    wrong = [
        _differs(member, value, getattr(wish, member))
        for member, value in has.items()
        if getattr(wish, member) not in (None, value)
    ]
    if wish.partitions is not None and wish.partitions < len(identity.starts):
        wrong.append(f"--partitions is {len(identity.starts)}; they can only grow")
    if wrong:
        raise Halt(
            f"deployment {name!r} exists with other settings: {'; '.join(wrong)}. They are "
            "fixed when it is made, for numbers depend on them. For other settings make "
            "another deployment (RECOUNT_DEPLOYMENT=NAME recount init …) and send it the events "
            "again (docs/operations.md, Loading history)"
        )


def _differs(member: str, has: Any, wanted: Any) -> str:
    """Say how a setting differs from what was asked for, as its option spells it."""
    option, unit, per = _OPTIONS.get(member, (member.replace("_", "-"), "", 1))
    return f"--{option} is {_spelt(has, per)}{unit}, not {_spelt(wanted, per)}{unit}"


def _spelt(value: Any, per: int) -> str:
    if value is None:
        return "unlimited"
    if isinstance(value, Mapping):
        return json.dumps(value)
    return f"{value / per:g}" if isinstance(value, int | float) else str(value)
