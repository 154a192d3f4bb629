"""The settings that decide numbers: they belong to a deployment, not to a process."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FORMAT_VERSION: Final = 4  # the keys in Redis and their texts
RULES: Final = 3  # raised by any change of code that can alter a fate, a match or a value
GENERATIONS: Final = 4  # of a new deployment
_GENERATIONS_MAX: Final = 64  # with the running one they have tags of their own (core/dedup.py)
BASE_BUCKETS_S: Final = {"1h": 3600, "15m": 900}


class Keying(StrEnum):
    """What happens to an event away from its customer's home partition (docs/design.md 2)."""

    TRUST = "trust"
    STRICT = "strict"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment's identity as the fold needs it.

    store_id: 32 hex digits; also the seed of the id hash. homes: partitions at init, for ever.
    max_age_ms: 0 is no limit. generations: how many a dedup window has (docs/design.md 5); with
    the running one, so many and one more can still be asked for.
    """

    store_id: str
    homes: int
    dedup_window_ms: int
    max_age_ms: int
    max_ahead_ms: int
    base_bucket_s: int
    keying: Keying = Keying.TRUST
    generations: int = GENERATIONS

    def __post_init__(self) -> None:
        if self.max_age_ms and self.dedup_window_ms < self.max_age_ms + self.max_ahead_ms:
            raise ValueError(
                "the dedup window must be at least max age + max ahead, or a forgotten event "
                "could count again; raise --dedup-window-days or lower the age limits"
            )
        if not 1 <= self.generations <= _GENERATIONS_MAX:
            raise ValueError(f"a dedup window has 1 to {_GENERATIONS_MAX} generations")
        if self.dedup_window_ms < self.generations or self.max_age_ms < 0 or self.max_ahead_ms < 0:
            raise ValueError(
                "the dedup window must be positive (a millisecond or more for each generation), "
                "max age and max ahead not negative"
            )
        if self.base_bucket_s not in BASE_BUCKETS_S.values():
            raise ValueError("the base bucket must be 1h or 15m")
        if self.homes < 1:
            raise ValueError("a deployment has at least one partition")
