"""Why a record is no usage event: one closed list for header, telemetry label, docs heading."""

from enum import StrEnum
from typing import ClassVar, Final

import msgspec


class Reason(StrEnum):
    """The reason of a dead letter (docs/semantics.md, "Rejected events")."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    NOT_JSON = "not_json"
    TOO_DEEP = "too_deep"
    NOT_AN_EVENT = "not_an_event"
    INVALID_TIMESTAMP = "invalid_timestamp"
    UNKNOWN_KIND = "unknown_kind"
    TOO_OLD = "too_old"
    TOO_FAR_AHEAD = "too_far_ahead"
    MISPLACED = "misplaced"
    NOTHING_TO_VOID = "nothing_to_void"
    ALREADY_VOIDED = "already_voided"
    VOIDS_A_DUPLICATE = "voids_a_duplicate"


# Of corrections: whoever sends one that takes nothing back must never stop a stream.
OF_CORRECTIONS: Final = frozenset(
    {Reason.NOTHING_TO_VOID, Reason.ALREADY_VOIDED, Reason.VOIDS_A_DUPLICATE}
)
# What another try can make countable: it was sent to the wrong place, too early, or to a release
# that did not know it yet. Any other reason would only repeat.
REDRIVABLE: Final = frozenset({Reason.MISPLACED, Reason.TOO_FAR_AHEAD, Reason.UNKNOWN_KIND})


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """Why a record is no usage event. detail: what was wrong, bounded, for people.

    nearly: whether it is too old by so little that its way to the log may have made it so.
    event_type: empty, which no event's is.
    """

    reason: Reason
    detail: str
    nearly: bool = False
    event_type: ClassVar[str] = ""
