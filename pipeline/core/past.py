"""How far the past of metric versions is counted in a partition.

A version that is activated at an offset counts from there on. What lies before it is its past. It
is counted afterwards, slice by slice, into the same cells (core/backfill.py): so a version's cells
hold [start, next) and everything from its activation on. Once `next` is the activation's offset,
the version is ready here.

Rule: a version has a past exactly where its activation is not at the partition's first offset.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from .activation import Activation
from .deployment import Deployment


class Past(NamedTuple):
    """The past of one version in a partition.

    start: the first offset that belongs to it. next: the first one not counted yet. clock_ms: the
    log clock before `next` as far as it follows from the past, -1 at the start. exact_from_ms:
    base buckets that begin before it lack events that the log no longer held; 0 is none.
    """

    start: int
    next: int
    clock_ms: int
    exact_from_ms: int

    @property
    def text(self) -> str:
        """What is stored of it."""
        return f"{self.start}:{self.next}:{self.clock_ms}:{self.exact_from_ms}"


def past_of(text: str) -> Past:
    """Read a stored text. Raises ValueError: it is not ours."""
    start, next_, clock_ms, exact_from_ms = map(int, text.split(":"))
    found = Past(start, next_, clock_ms, exact_from_ms)
    if found.text != text or not 0 <= start <= next_:
        raise ValueError(f"not a past of ours: {text[:80]!r}")
    return found


@dataclass(frozen=True, slots=True)
class Pasts:
    """The pasts of the versions in a partition. Never changed: states share it.

    digest: over all of them, which is what the fence compares. fields: as they are stored.
    """

    by_version: Mapping[str, Past] = field(default_factory=dict)
    digest: str = field(init=False, compare=False)
    fields: Mapping[str, str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        digest, fields = hashlib.blake2b(digest_size=16), {}
        for version, past in sorted(self.by_version.items()):
            digest.update(f"{version}\n{past.text}\n".encode())
            fields[f"hist:{version}"] = past.text
        object.__setattr__(self, "digest", digest.hexdigest() if fields else "")
        object.__setattr__(self, "fields", fields)

    def having(self, changed: Mapping[str, Past]) -> "Pasts":
        """The same with other pasts."""
        return Pasts({**self.by_version, **changed}) if changed else self

    @property
    def reached(self) -> int:
        """Grows whenever some of the past is counted."""
        return sum(past.next for past in self.by_version.values())


NO_PASTS: Final = Pasts()


def lacking(active: Mapping[str, Activation], pasts: Pasts, start: int) -> dict[str, Activation]:
    """Return the activations that must have a past, and have none yet."""
    return {
        version: activation
        for version, activation in active.items()
        if activation.offset > start and version not in pasts.by_version
    }


def exact_from(clock_ms: int, deployment: Deployment) -> int:
    """Return from which base bucket on no event can lie that was appended up to a log clock.

    An event is at most max_ahead before its time on the log.
    """
    bucket_ms = deployment.base_bucket_s * 1000
    after = clock_ms + deployment.max_ahead_ms + 1
    return -(-after // bucket_ms) * bucket_ms
