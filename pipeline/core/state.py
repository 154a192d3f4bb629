"""What a partition stands on, and its canonical texts in the partition's hash.

Everything here moves in the one atomic commit; two workers that read the same log have the same
state, byte for byte.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from .activation import Activation, Acts, activation_of, acts_of, check_numbers
from .cells import group_number
from .deployment import FORMAT_VERSION, RULES
from .past import NO_PASTS, Past, Pasts, past_of
from .stale import Stale, stale_in_text, stale_text

FATES: Final = ("counted", "unmatched", "duplicate", "rejected", "corrected")
NO_RECORD: Final = (-1, -1)
_REASON_CHARS_MAX: Final = 2_000
_EPOCH: Final = re.compile(r"[1-9][0-9]{0,14}", re.ASCII)
COUNTERS: Final = ("consumed", *FATES, "misplaced")


class Trimmed(NamedTuple):
    """What was let go of a list that is kept: of so many records, all of them below this offset.

    These are gone from the log, so nobody can ask for them (core/verdicts.py, core/voids.py).
    """

    records: int
    below: int

    @property
    def text(self) -> str:
        """What is stored of it."""
        return f"{self.records}:{self.below}"


NOTHING_TRIMMED: Final = Trimmed(0, 0)


def trimmed_of(text: str) -> Trimmed:
    """Read a stored text. Raises ValueError: it is not ours."""
    records, below = text.split(":")
    return Trimmed(int(records), int(below))


class Halted(NamedTuple):
    """Why the owner of a partition does not go on, and when it looked last.

    at: where the partition stood. Once it stands elsewhere, this says nothing any more: whoever
    moved it goes on. reason: for people, with what to do. looked_ms: milliseconds since 1970.
    """

    at: int
    looked_ms: int
    reason: str

    @property
    def text(self) -> str:
        """What is stored of it."""
        return f"{self.at} {self.looked_ms} {self.reason[:_REASON_CHARS_MAX]}"


def halted_of(text: str, at: int) -> Halted | None:
    """Read a stored text, where the partition stands at an offset; None: it goes on.

    Raises ValueError: it is not ours.
    """
    if not text:
        return None
    stood, looked_ms, reason = text.split(" ", 2)
    return Halted(at, int(looked_ms), reason) if int(stood) == at else None


def epoch_in(text: str) -> tuple[str, int]:
    """Read the stored text of a store id: the id, and the epoch of the partition.

    Raises:
        ValueError: it is not ours.
    """
    store_id, dot, epoch = text.partition(".")
    if not dot:
        return store_id, 0
    if not _EPOCH.fullmatch(epoch):
        raise ValueError(f"not an epoch: {epoch[:80]!r}")
    return store_id, int(epoch)


@dataclass(frozen=True, slots=True)
class PartitionState:
    """One partition of a deployment, as Redis holds it.

    epoch: raised by every rebuild. It is stored with the store id, so it is part of the fence:
    what was computed on the numbers of one epoch is never written to those of another.
    next: first offset not yet applied. start: first offset at registration. clock_ms: the log
    clock, -1 before the first record. last: offset and append time of the last applied record,
    (-1, -1) if none. id_counts: ids in the log of each living generation. rejected: by reason.
    ended: offset at which a version stopped counting. hist: how far the past of versions is
    counted. trimmed: see Trimmed. voids_trimmed: the same of the kept corrections (core/voids.py).
    mended, stale: the cells of every correction before the offset `mended` are right; of later
    ones those outside of `stale` are (core/mending.py). unmended: where cells are that cannot be
    counted again, because the log lost what they were counted from. rebuilt_to: end of the log
    when a rebuild emptied the partition; it is no part of the fence, and workers do not look at
    it. halted: what its owner says beside it; no part of the fence either, and two states that
    differ in nothing else are equal.
    """

    store_id: str
    topic_id: str
    start: int
    next: int
    clock_ms: int = -1
    last: tuple[int, int] = NO_RECORD
    format_version: int = FORMAT_VERSION
    rules: int = RULES
    id_counts: Mapping[int, int] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    rejected: Mapping[str, int] = field(default_factory=dict)
    active: Mapping[str, Activation] = field(default_factory=dict)
    ended: Mapping[str, int] = field(default_factory=dict)
    hist: Pasts = NO_PASTS
    trimmed: Trimmed = NOTHING_TRIMMED
    voids_trimmed: Trimmed = NOTHING_TRIMMED
    mended: int = 0
    stale: Stale = field(default_factory=dict)
    unmended: Stale = field(default_factory=dict)
    rebuilt_to: int = 0
    halted: Halted | None = field(default=None, compare=False)
    epoch: int = 0

    @property
    def is_open(self) -> bool:
        """Whether a rebuild has applied again what the log held; until then numbers are parts."""
        return self.next >= self.rebuilt_to

    @property
    def worked_out(self) -> Acts:
        """What follows from the activations and ends."""
        return acts_of(self.active, self.ended)

    def number_of(self, measure: str) -> int | None:
        """Return the number of a measure (`metric_id#version.n`) here; None where it has none."""
        version, _, place = measure.rpartition(".")
        activation = self.active.get(version)
        return None if activation is None else activation.first + int(place)

    def groups_of(self, measures: Iterable[str]) -> list[int]:
        """Return the groups that the cells of these measures lie in, ascending."""
        numbers = map(self.number_of, measures)
        return sorted({group_number(number) for number in numbers if number is not None})

    @property
    def acts(self) -> str:
        """Digest over every version ever activated here, with its offsets (docs/design.md 3)."""
        return self.worked_out.digest

    @property
    def folded(self) -> tuple[str, ...]:
        """Keys of the versions that the next flush must fold."""
        return tuple(version for version in self.active if version not in self.ended)

    @property
    def moment(self) -> tuple[int, int, int]:
        """Grows with every commit that changes cells; smaller than before: Redis went back."""
        return self.next, self.hist.reached, self.mended

    @property
    def hist_text(self) -> str:
        """What the fence compares of all that changes cells and leaves `next` where it is.

        That is the pasts, and how far cells are mended.
        """
        return f"{self.hist.digest}/{self.mended}" if self.mended else self.hist.digest

    def is_ready(self, version: str) -> bool:
        """Whether a version counts here, and all of its past is counted too."""
        activation, past = self.active.get(version), self.hist.by_version.get(version)
        if activation is None:
            return self.next <= self.start  # nothing was applied: it will be there from the first
        return past.next >= activation.offset if past else activation.offset <= self.start

    def is_stale(self, version: str, first: int, last: int) -> bool:
        """Whether some cell of a version, in base buckets from first to last, is not right yet."""
        spans = self.stale.get(version), self.unmended.get(version)
        return any(span and span.first <= last and first <= span.last for span in spans)

    @property
    def balanced(self) -> bool:
        """Whether every consumed event has exactly one fate (docs/design.md 1)."""
        return self.counters["consumed"] == sum(self.counters[fate] for fate in FATES)


def changed_fields(before: PartitionState, after: PartitionState) -> dict[str, str]:
    """Return the fields of a partition's hash that differ after a commit."""
    old, new = _own_fields(before), _own_fields(after)
    acts = acts_of(before.active, before.ended), acts_of(after.active, after.ended)
    if acts[0] is not acts[1]:
        old, new = {**old, **acts[0].fields}, {**new, **acts[1].fields}
    if before.hist is not after.hist:
        old, new = {**old, **before.hist.fields}, {**new, **after.hist.fields}
    return {name: text for name, text in new.items() if old.get(name) != text}


# The fields of a partition's hash that tell one state from another.
FENCE: Final = ("store_id", "rules", "next", "acts", "ids", "hist")


def fence_of(state: PartitionState) -> tuple[str, ...]:
    """Return the texts of FENCE: each must equal what is stored."""
    return (
        store_text(state.store_id, state.epoch),
        str(state.rules),
        str(state.next),
        state.acts,
        id_counts_text(state.id_counts),
        state.hist_text,
    )


def store_text(store_id: str, epoch: int) -> str:
    """Return the stored text of a store id and an epoch; of the first one the id alone."""
    return f"{store_id}.{epoch}" if epoch else store_id


def id_counts_text(counts: Mapping[int, int]) -> str:
    """Return the fence's text of the id counts: `generation=count`, sorted."""
    return ",".join(f"{generation}={count}" for generation, count in sorted(counts.items()))


def encode_state(state: PartitionState) -> dict[str, str]:
    """Return the fields of a partition's hash."""
    return {
        **_own_fields(state),
        **acts_of(state.active, state.ended).fields,
        **state.hist.fields,
    }


def _own_fields(state: PartitionState) -> dict[str, str]:
    fields = {
        "store_id": store_text(state.store_id, state.epoch),
        "topic_id": state.topic_id,
        "format": str(state.format_version),
        "rules": str(state.rules),
        "start": str(state.start),
        "next": str(state.next),
        "clock": str(state.clock_ms),
        "last": f"{state.last[0]}:{state.last[1]}",
        "acts": state.acts,
        "ids": id_counts_text(state.id_counts),
        "hist": state.hist_text,
        "begun": state.hist_text,
        "trimmed": state.trimmed.text,
        "voids_trimmed": state.voids_trimmed.text,
        "mended": str(state.mended),
        "stale": stale_text(state.stale),
        "unmended": stale_text(state.unmended),
    }
    if state.rebuilt_to:
        fields["rebuilt_to"] = str(state.rebuilt_to)
    fields |= {name: str(state.counters[name]) for name in COUNTERS}
    fields |= {f"rejected:{reason}": str(count) for reason, count in state.rejected.items()}
    return fields


def decode_state(fields: Mapping[str, str]) -> PartitionState:
    """Read a partition's hash.

    Raises:
        KeyError, ValueError: a field is missing or foreign: the hash is not ours.
    """
    if fields["format"] != str(FORMAT_VERSION):
        return _foreign(fields)
    active: dict[str, Activation] = {}
    for name, version in _prefixed(fields, "act:"):
        active[version] = activation_of(fields[name])
    check_numbers(active)
    hist, mended = _hist_of(fields)
    last_offset, last_ms = fields["last"].split(":")
    pairs = (pair.split("=") for pair in fields["ids"].split(",") if pair)
    store_id, epoch = epoch_in(fields["store_id"])
    return PartitionState(
        store_id=store_id,
        topic_id=fields["topic_id"],
        format_version=int(fields["format"]),
        rules=int(fields["rules"]),
        start=int(fields["start"]),
        next=int(fields["next"]),
        clock_ms=int(fields["clock"]),
        last=(int(last_offset), int(last_ms)),
        id_counts={int(generation): int(count) for generation, count in pairs},
        counters={name: int(fields[name]) for name in COUNTERS},
        rejected={reason: int(fields[name]) for name, reason in _prefixed(fields, "rejected:")},
        active=active,
        ended={version: int(fields[name]) for name, version in _prefixed(fields, "end:")},
        hist=hist,
        trimmed=trimmed_of(fields["trimmed"]),
        voids_trimmed=trimmed_of(fields["voids_trimmed"]),
        mended=mended,
        stale=stale_in_text(fields["stale"]),
        unmended=stale_in_text(fields["unmended"]),
        rebuilt_to=int(fields.get("rebuilt_to", 0)),
        halted=halted_of(fields.get("halted", ""), int(fields["next"])),
        epoch=epoch,
    )


def _hist_of(fields: Mapping[str, str]) -> tuple[Pasts, int]:
    """Read the pasts, and how far cells are mended.

    begun: the text that the last commit which changed either wrote first. Half of such a commit
    may run later (docs/reliability.md): then it is not the stored one.
    """
    found: dict[str, Past] = {
        version: past_of(fields[name]) for name, version in _prefixed(fields, "hist:")
    }
    hist, mended = Pasts(found), int(fields["mended"])
    text = f"{hist.digest}/{mended}" if mended else hist.digest
    if text != fields["hist"] or fields.get("begun", "") != fields["hist"]:
        raise ValueError(
            "the past of a metric was counted half, cells were mended half, or the fields of both "
            "were changed"
        )
    return hist, mended


def _foreign(fields: Mapping[str, str]) -> PartitionState:
    """What every format says of itself: enough to refuse it (deploy/checks.py)."""
    store_id, epoch = epoch_in(fields["store_id"])
    return PartitionState(
        store_id=store_id,
        topic_id=fields["topic_id"],
        format_version=int(fields["format"]),
        rules=int(fields["rules"]),
        start=int(fields["start"]),
        next=int(fields["next"]),
        epoch=epoch,
    )


_FIELDS: Final = frozenset(
    (
        "store_id",
        "topic_id",
        "format",
        "rules",
        "start",
        "next",
        "clock",
        "last",
        "acts",
        "ids",
        "hist",
        "begun",
        "trimmed",
        "voids_trimmed",
        "mended",
        "stale",
        "unmended",
        "rebuilt_to",
        "halted",
    )
) | frozenset(COUNTERS)


def is_state_field(name: str) -> bool:
    """Whether a field of a partition's hash is one that encode_state() writes."""
    return name in _FIELDS or name.startswith(("act:", "end:", "hist:", "rejected:"))


def _prefixed(fields: Mapping[str, str], prefix: str) -> Iterable[tuple[str, str]]:
    return ((name, name[len(prefix) :]) for name in sorted(fields) if name.startswith(prefix))
