"""What a process says of itself to its operators: every name, declared once (docs/operations.md).

Counts of events are those of Redis for the partitions that the process owns: they move with the
commits, never twice, and go on where another owner takes over.
"""

from typing import Final, Literal, NamedTuple

Name = Literal[
    "recount_events_total",
    "recount_rejected_events_total",
    "recount_misplaced_events_total",
    "recount_next_offset",
    "recount_lag_offsets",
    "recount_remembered_ids",
    "recount_id_index_bytes",
    "recount_cached_cells",
    "recount_cached_cell_bytes",
    "recount_assigned_partitions",
    "recount_halted_partitions",
    "recount_commits_total",
    "recount_refused_commits_total",
    "recount_gaps_total",
    "recount_seeks_total",
    "recount_folded_events_total",
    "recount_native_failures_total",
    "recount_backfilled_events_total",
    "recount_backfill_offsets",
    "recount_backfill_paused",
    "recount_mended_cells_total",
]


ServerName = Literal[
    "recount_requests_total",
    "recount_request_seconds_total",
    "recount_taken_events_total",
    "recount_in_flight_events",
    "recount_left_out_events_total",
]


class TelemetryKind(NamedTuple):
    """A metric: whether it only grows, its labels, and what it tells."""

    is_counter: bool
    labels: tuple[str, ...]
    meaning: str


NAMES: Final[dict[Name, TelemetryKind]] = {
    "recount_events_total": TelemetryKind(
        is_counter=True,
        labels=("partition", "fate"),
        meaning="events by fate: counted, unmatched, duplicate, rejected, corrected",
    ),
    "recount_rejected_events_total": TelemetryKind(
        is_counter=True,
        labels=("partition", "reason"),
        meaning="rejected events by reason (docs/semantics.md)",
    ),
    "recount_misplaced_events_total": TelemetryKind(
        is_counter=True,
        labels=("partition",),
        meaning="events away from their customer's home: producers with another partitioner",
    ),
    "recount_next_offset": TelemetryKind(
        is_counter=False, labels=("partition",), meaning="first offset that is not applied yet"
    ),
    "recount_lag_offsets": TelemetryKind(
        is_counter=False,
        labels=("partition",),
        meaning="offsets between next and the end of the log, as it was looked at last",
    ),
    "recount_remembered_ids": TelemetryKind(
        is_counter=False, labels=("partition",), meaning="identities in the duplicates' index"
    ),
    "recount_id_index_bytes": TelemetryKind(
        is_counter=False, labels=("partition",), meaning="memory of the duplicates' index"
    ),
    "recount_cached_cells": TelemetryKind(
        is_counter=False, labels=("partition",), meaning="cells kept for the next flushes"
    ),
    "recount_cached_cell_bytes": TelemetryKind(
        is_counter=False, labels=("partition",), meaning="memory of these cells, at most"
    ),
    "recount_assigned_partitions": TelemetryKind(
        is_counter=False, labels=(), meaning="partitions this process owns and has opened"
    ),
    "recount_halted_partitions": TelemetryKind(
        is_counter=False,
        labels=(),
        meaning="partitions this process owns that have halted: /readyz and `status` say why",
    ),
    "recount_commits_total": TelemetryKind(
        is_counter=True, labels=(), meaning="commits of this process that were applied"
    ),
    "recount_refused_commits_total": TelemetryKind(
        is_counter=True,
        labels=(),
        meaning="commits the fence refused: another owner moved on, or Redis went back",
    ),
    "recount_gaps_total": TelemetryKind(
        is_counter=True,
        labels=(),
        meaning="holes in the delivered offsets that the log itself confirmed",
    ),
    "recount_seeks_total": TelemetryKind(
        is_counter=True, labels=(), meaning="times a partition was fetched again from next"
    ),
    "recount_folded_events_total": TelemetryKind(
        is_counter=True,
        labels=("path", "reason"),
        meaning="events of this process by who folded them: native, python, or both, and why",
    ),
    "recount_native_failures_total": TelemetryKind(
        is_counter=True,
        labels=(),
        meaning="partitions that go on without native/, because it failed: please report it",
    ),
    "recount_backfilled_events_total": TelemetryKind(
        is_counter=True,
        labels=(),
        meaning="events read again by this process for metrics that were created after them",
    ),
    "recount_backfill_offsets": TelemetryKind(
        is_counter=False,
        labels=("partition",),
        meaning="offsets that are still to be read again for such metrics",
    ),
    "recount_backfill_paused": TelemetryKind(
        is_counter=False,
        labels=(),
        meaning="1 while they are not read, because Redis uses more than 0.8 of its maxmemory",
    ),
    "recount_mended_cells_total": TelemetryKind(
        is_counter=True,
        labels=(),
        meaning="cells that the process counted again after corrections (docs/corrections.md)",
    ),
}
SERVER_NAMES: Final[dict[ServerName, TelemetryKind]] = {
    "recount_requests_total": TelemetryKind(
        is_counter=True,
        labels=("door", "status"),
        meaning="answers of a server by door (metronome, klaviyo, statsig, openmeter, recount or"
        " other) and HTTP status",
    ),
    "recount_request_seconds_total": TelemetryKind(
        is_counter=True, labels=("door",), meaning="how long they took together"
    ),
    "recount_taken_events_total": TelemetryKind(
        is_counter=True, labels=(), meaning="events that a server made durable"
    ),
    "recount_in_flight_events": TelemetryKind(
        is_counter=False, labels=(), meaning="events of a server on their way to Kafka"
    ),
    "recount_left_out_events_total": TelemetryKind(
        is_counter=True,
        labels=(),
        meaning="events that Statsig's door took and left out, by name or environment",
    ),
}
