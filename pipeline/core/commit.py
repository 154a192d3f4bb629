"""Plan + what Redis holds → Commit: final values only, nothing to compute in Lua.

A plan says what a span of the log adds to each cell. A commit says what each cell is afterwards.
Between the two lies one merge for each cell, in exact decimals, here and not in Redis: Lua's
numbers are doubles, and a script that computes can fail half way, with no way back. A commit of
final values can be sent twice, or by two workers, and leave the same bytes.

What a commit stands on. `before` is the state that the plan was folded on; its fence (store id,
rules, next, acts, id counts) must be stored, text by text, or the script refuses the whole
commit. `after` is the state with the plan's counters, clock, last record and id counts. The
answer APPLIED or ALREADY means that the store now equals `after`; only then may the owner keep
what it computed.

Activations and ends travel with the flush that begins with them. transitions() adds every version
that is known and not yet active, at the offset where the flush begins, and ends those that no
event in time can reach any more. They change `acts`, and with it the fence of every later commit:
a worker that does not know a version cannot write beside one that does.

Identities are only appended. The commit names the generation they belong to and the generations
that end with it; nothing is ever removed by time alone, so a replay deletes the same lists.

Rule 1: a commit is a value; this module reads no store and no clock (docs/design.md 3).
Rule 2: the texts are canonical: equal partials have equal bytes, whoever encoded them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from definitions.metric import MetricVersion

from .activation import Activation, next_number
from .aggregations import Partial, encode_partial, merge_partials
from .cell_cache import RustCells
from .cells import CellKey
from .correction import TakenBack
from .dedup import element_at
from .mending import stale_of
from .plan import Plan, id_count
from .stale import joined_stale
from .state import PartitionState, changed_fields, fence_of


@dataclass(frozen=True, slots=True)
class Commit:
    """One fenced write of [before.next, after.next). before == what the script must find.

    are_known: whether every key of `cells` was read, or written, since the partition was opened;
    otherwise the store looks first whether one is of a foreign type. rust: where native/ has the
    cells, all of them and the elements are there, and none here.
    """

    partition: int
    before: PartitionState
    after: PartitionState
    cells: Mapping[CellKey, str] = field(default_factory=dict)
    elements: Mapping[CellKey, Iterable[str]] = field(default_factory=dict)
    new_cells: Iterable[CellKey] = ()
    are_known: bool = False
    new_ids: bytes = b""
    duplicates: Sequence[int] = ()
    taken_back: TakenBack | None = None
    generation: int | None = None
    learned: Mapping[str, str] = field(default_factory=dict)
    rust: RustCells | None = None

    @property
    def fence(self) -> tuple[str, ...]:
        """What must be stored, as text."""
        return fence_of(self.before)

    @property
    def writes(self) -> dict[str, str]:
        """The fields of the partition's hash that change."""
        return changed_fields(self.before, self.after)

    @property
    def ids(self) -> bytes:
        """What the id log of the generation gains; empty is nothing."""
        return element_at(self.before.next, self.new_ids) if self.new_ids else b""

    @property
    def verdicts(self) -> list[bytes]:
        """What the list of kept verdicts gains."""
        from .verdicts import pack  # noqa: PLC0415  numpy, which a process that reads does without

        return pack(self.duplicates)

    @property
    def corrections(self) -> list[bytes]:
        """What the list of kept corrections gains: such a commit has no verdicts."""
        return [] if self.taken_back is None else [self.taken_back.element]

    @property
    def dropped(self) -> list[int]:
        """Generations whose id lists end with this commit."""
        return sorted(set(self.before.id_counts) - set(self.after.id_counts))


class Answer(StrEnum):
    """What the store says to a commit. Anything but the first two drops the caches."""

    APPLIED = "applied"
    ALREADY = "already"
    REFUSED = "refused"


class Switch(StrEnum):
    """What the store says to a switch of epochs. BEHIND: what was built has to go on first."""

    SWITCHED = "switched"
    BEHIND = "behind"
    GONE = "gone"


def transitions(
    state: PartitionState,
    versions: Iterable[MetricVersion],
    *,
    ends_ms: Mapping[str, int],
    max_age_ms: int,
) -> PartitionState:
    """Return the state with every version activated and ended that the log clock says.

    A version that was ended before it was ever active here, and that no event in time can reach
    any more, is ended where it is activated: only its past counts. An owner may stop only when the
    log clock has passed effective_to + max_age; without an age limit it never stops
    (docs/design.md 6, Activation).

    Args:
        versions: Every version known and foldable here that may not be active yet.
        ends_ms: effective_to of the versions that have one, milliseconds since 1970.
    """

    def is_over(key: str) -> bool:
        return bool(max_age_ms) and key in ends_ms and state.clock_ms > ends_ms[key] + max_age_ms

    fresh: dict[str, Activation] = {}
    number = next_number(state.active)
    for version in versions:
        if version.key in state.active:
            continue
        measures = len(version.definition.measures)
        fresh[version.key] = Activation(
            state.next, state.clock_ms, version.digest, number, measures
        )
        number += measures
    active = {**state.active, **fresh}
    over = {
        key: state.next
        for key in ends_ms
        if key in active and key not in state.ended and is_over(key)
    }
    if not fresh and not over:
        return state
    return replace(state, active=active, ended={**state.ended, **over})


def advance(state: PartitionState, plan: Plan) -> PartitionState:
    counts = dict(state.id_counts)
    if plan.generation is not None:
        oldest = plan.oldest
        counts = {living: count for living, count in counts.items() if living >= oldest}
        if plan.new_ids:
            counts[plan.generation] = counts.get(plan.generation, 0) + id_count(plan.new_ids)
    counters = {name: count + plan.counters.get(name, 0) for name, count in state.counters.items()}
    stale = joined_stale(state.stale, stale_of(plan.stale)) if plan.stale else state.stale
    # Nothing waits to be mended: what comes later is counted from here.
    mended = plan.hi if plan.taken_back is not None and not stale else state.mended
    rejected = dict(state.rejected)
    for reason, count in plan.rejected.items():
        rejected[reason] = rejected.get(reason, 0) + count
    return replace(
        state,
        next=plan.hi,
        clock_ms=plan.clock_ms,
        last=plan.last,
        id_counts=counts,
        counters=counters,
        rejected=rejected,
        stale=stale,
        mended=mended,
    )


def commit_of(
    partition: int, before: PartitionState, active: PartitionState, plan: Plan, **cells: Any
) -> Commit:
    """Return the commit of a plan with these cells: members of a Commit."""
    return Commit(
        partition=partition,
        before=before,
        after=advance(active, plan),
        # A version that starts with this flush may bring keys that no load has asked for.
        are_known=active.active is before.active,
        new_ids=plan.new_ids,
        duplicates=plan.duplicates,
        taken_back=plan.taken_back,
        generation=plan.generation,
        learned=plan.learned,
        **cells,
    )


def settle(
    partition: int,
    before: PartitionState,
    active: PartitionState,
    plan: Plan,
    stored: Mapping[CellKey, Partial | None],
) -> tuple[Commit, dict[CellKey, Partial]]:
    """Return the commit of a plan, and the cells as they are after it.

    Args:
        before: What Redis holds. active: the same with this flush's activations and ends.
        stored: What every cell of plan.cells holds at present; None is absent.
    """
    texts, finals, fresh = {}, {}, []
    for key, (aggregation, change) in plan.cells.items():
        present, final = stored[key], change
        if present is None:
            fresh.append(key)
        else:
            final = merge_partials(aggregation, present, change)
        finals[key] = final
        texts[key] = encode_partial(aggregation, final)
    return commit_of(
        partition,
        before,
        active,
        plan,
        cells=texts,
        elements=plan.elements,
        new_cells=[*fresh, *(key for key in plan.elements if stored.get(key) is None)],
    ), finals


def in_python(commit: Commit) -> Commit:
    """Return a commit with the cells that native/ has as Python has them."""
    if commit.rust is None:
        return commit
    cells, elements = commit.rust.cells(), commit.rust.elements()
    sets: dict[CellKey, set[str]] = {}
    for cell, element, _ in elements:
        sets.setdefault(cell, set()).add(element)
    return replace(
        commit,
        cells={cell: text for cell, text, _ in cells},
        elements=sets,
        new_cells=[cell for cell, _, is_new in (*cells, *elements) if is_new],
        rust=None,
    )
