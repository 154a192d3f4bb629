"""Plan + what Redis holds → Commit: final values only, nothing to compute in Lua (DESIGN 3)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from definitions.metric import MetricVersion

from .aggregations import Partial, encode_partial, merge_partials
from .dedup import GENERATIONS_PER_WINDOW
from .fold import Plan, id_count
from .state import Activation, PartitionState, changed_fields, fence_of
from .tally import CellKey


@dataclass(frozen=True, slots=True)
class Commit:
    """One fenced write of [before.next, after.next). before == what the script must find."""

    partition: int
    before: PartitionState
    after: PartitionState
    cells: Mapping[CellKey, str] = field(default_factory=dict)
    elements: Mapping[CellKey, Iterable[str]] = field(default_factory=dict)
    new_cells: Iterable[CellKey] = ()
    new_ids: bytes = b""
    generation: int | None = None
    learned: Mapping[str, str] = field(default_factory=dict)

    @property
    def fence(self) -> tuple[str, ...]:
        """What must be stored, as text."""
        return fence_of(self.before)

    @property
    def writes(self) -> dict[str, str]:
        """The fields of the partition's hash that change."""
        return changed_fields(self.before, self.after)

    @property
    def dropped(self) -> list[int]:
        """Generations whose id lists end with this commit."""
        return sorted(set(self.before.id_counts) - set(self.after.id_counts))


class Answer(StrEnum):
    """What the store says to a commit. Anything but the first two drops the caches."""

    APPLIED = "applied"
    ALREADY = "already"
    REFUSED = "refused"


def transitions(
    state: PartitionState,
    versions: Iterable[MetricVersion],
    *,
    ends_ms: Mapping[str, int],
    max_age_ms: int,
) -> PartitionState:
    """Return the state with every version activated and ended that the log clock says.

    A version that was ended before it was ever active here, and that no event in time can reach
    any more, is not activated. An owner may stop only when the log clock has passed
    effective_to + max_age; without an age limit it never stops (DESIGN 6, Activation).

    Args:
        versions: Every version known and foldable here that may not be active yet.
        ends_ms: effective_to of the versions that have one, milliseconds since 1970.
    """

    def is_over(key: str) -> bool:
        return bool(max_age_ms) and key in ends_ms and state.clock_ms > ends_ms[key] + max_age_ms

    fresh = {
        version.key: Activation(state.next, state.clock_ms, version.digest)
        for version in versions
        if version.key not in state.active and not is_over(version.key)
    }
    over = {
        key: state.next
        for key in ends_ms
        if key in state.active and key not in state.ended and is_over(key)
    }
    if not fresh and not over:
        return state
    return replace(state, active={**state.active, **fresh}, ended={**state.ended, **over})


def advance(state: PartitionState, plan: Plan) -> PartitionState:
    """Return the state after a plan."""
    counts = dict(state.id_counts)
    if plan.generation is not None:
        oldest = plan.generation - GENERATIONS_PER_WINDOW
        counts = {living: count for living, count in counts.items() if living >= oldest}
        if plan.new_ids:
            counts[plan.generation] = counts.get(plan.generation, 0) + id_count(plan.new_ids)
    counters = {name: count + plan.counters.get(name, 0) for name, count in state.counters.items()}
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
    commit = Commit(
        partition=partition,
        before=before,
        after=advance(active, plan),
        cells=texts,
        elements=plan.elements,
        new_cells=[*fresh, *(key for key in plan.elements if stored.get(key) is None)],
        new_ids=plan.new_ids,
        generation=plan.generation,
        learned=plan.learned,
    )
    return commit, finals
