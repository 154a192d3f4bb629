"""What a worker process says of itself.

Everything is read from what the worker stands on already: nothing is counted for each event.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..core.fold.spelled import PATHS, path_of
from ..core.state import FATES, PartitionState
from ..telemetry.answer import Sample, Sampled, answer
from ..telemetry.names import NAMES
from .opening import Footprint


@dataclass(frozen=True, slots=True)
class Owned:
    """A partition that the process owns and has opened.

    end: of its log, -1 not looked at yet. behind: offsets of the past of metrics to be counted.
    """

    state: PartitionState
    kept: Footprint
    end: int
    behind: int


@dataclass(frozen=True, slots=True)
class WorkerVitals:
    """What is asked at every request.

    owned: by partition. halted: why, by partition. done: counters of the process.
    is_paused: whether no past is counted, because Redis is too full.
    """

    owned: Callable[[], dict[int, Owned]]
    halted: Callable[[], dict[int, str]]
    done: Callable[[], Counter[str]]
    is_alive: Callable[[], bool]
    is_paused: Callable[[], bool]


def samples(vital: WorkerVitals) -> Iterator[Sample]:
    """Give every value of a worker's telemetry as it is now."""
    owned, done = vital.owned(), vital.done()
    yield "recount_assigned_partitions", [], len(owned)
    yield "recount_halted_partitions", [], len(vital.halted())
    yield "recount_commits_total", [], done["commits"]
    yield "recount_refused_commits_total", [], done["refused"]
    yield "recount_gaps_total", [], done["gaps"]
    yield "recount_seeks_total", [], done["seeks"]
    for path, reasons in PATHS.items():
        for reason in reasons:
            yield "recount_folded_events_total", [path, reason], done[path_of(path, reason)]
    yield "recount_native_failures_total", [], done["broken"]
    yield "recount_backfilled_events_total", [], done["backfilled"]
    yield "recount_backfill_paused", [], int(vital.is_paused())
    yield "recount_mended_cells_total", [], done["mended"]
    for number, each in owned.items():
        state, label = each.state, str(number)
        for fate in FATES:
            yield "recount_events_total", [label, fate], state.counters[fate]
        for reason, count in state.rejected.items():
            yield "recount_rejected_events_total", [label, reason], count
        yield "recount_misplaced_events_total", [label], state.counters["misplaced"]
        yield "recount_next_offset", [label], state.next
        if each.end >= 0:
            yield "recount_lag_offsets", [label], max(each.end - state.next, 0)
        yield "recount_backfill_offsets", [label], each.behind
        yield "recount_remembered_ids", [label], each.kept.ids
        yield "recount_id_index_bytes", [label], each.kept.id_bytes
        yield "recount_cached_cells", [label], each.kept.cells
        yield "recount_cached_cell_bytes", [label], each.kept.cell_bytes


def serve(host: str, port: int, vital: WorkerVitals) -> None:
    """Answer on an address and a port, until the process ends. Raises OSError: see answer()."""
    answer(
        host,
        port,
        Sampled(NAMES, lambda: samples(vital)),
        is_alive=vital.is_alive,
        readiness=lambda: _readiness(vital),
    )


def _readiness(vital: WorkerVitals) -> tuple[bool, str]:
    """Ready is a process that counts something; what it does not count is named all the same."""
    is_ready = bool(vital.owned())
    lines = ["ready" if is_ready else "no partition is open"]
    lines += [f"halted: {why}" for why in vital.halted().values()]
    return is_ready, "\n".join(lines)
